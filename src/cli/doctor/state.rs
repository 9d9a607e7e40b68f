//! The checks of `looop doctor` around the data dir: disk, clock, timers, asks, workers, and the programs that
//! the config names.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Findings, program_of};
use crate::cli::App;
use crate::config::Config;
use crate::os::disk;
use crate::rules::beat::state::LastResult;
use crate::rules::text::{quote_argv, visible};
use crate::rules::time::{Now, clock_flaw, human_ms};
use crate::rules::worker::Phase;
use crate::store::file;
use crate::store::state_files;
use crate::store::user_files;
use crate::store::workers;
use crate::tick::observe;
use crate::vcs::history::History;
use crate::vcs::seed;

/// With less free space than this, a beat may fail to write its records.
const LEAST_FREE_BYTES: u64 = 64 << 20;
/// How far in the future the last beat may be before the clock is reported as wrong, in milliseconds.
const CLOCK_MS: i64 = 60_000;
/// The fix for a wrong clock.
const SET_CLOCK: &str = "set the clock; `timedatectl` shows whether it is kept";
/// A file of keys beside the config, which a service gets as its environment.
const KEYS_FILE: &str = "looop.env";

/// Checks the disk that holds the data dir.
pub(super) fn disk(app: &App, found: &mut Findings) {
    let root = app.layout.root();
    let disk = match disk::space(root) {
        Ok(disk) => disk,
        Err(error) => {
            let what = format!("could not inspect it: {error}");
            return found.bad("disk", what, &["make sure that the disk is mounted"]);
        }
    };
    if let Some(kind) = disk.remote {
        let what =
            format!("the data dir is on {kind}: its locks and syncs depend on another machine or program");
        let fix = "keep it on a local disk; LOOOP_DATA_DIR sets the place";
        found.odd("disk", what, &[fix]);
    }
    let free = format!("{} MiB are free", disk.free_bytes >> 20);
    if disk.is_read_only {
        let fix = "mount it writable, or set LOOOP_DATA_DIR to another data dir";
        found.bad("disk", "the data dir cannot be written: its disk is mounted read-only", &[fix]);
    } else if disk.free_bytes < LEAST_FREE_BYTES || !disk.has_inodes {
        let what = match disk.has_inodes {
            true => format!("nearly full: {free}"),
            false => "full: no file can be created".to_owned(),
        };
        found.bad("disk", what, &["free some space: `looop prune` deletes the data of ended workers"]);
    } else {
        found.good("disk", free);
    }
    let mode = std::fs::metadata(root).map_or(0o700, |meta| meta.mode());
    if mode & 0o700 != 0o700 {
        let what = format!("you cannot write it (mode {:o})", mode & 0o777);
        found.bad("data dir", what, &[&format!("chmod 700 {}", root.display())]);
    }
}

/// Reports a clock that is before 1970 or after the year 9999.
pub(super) fn clock_range(now: Now, found: &mut Findings) {
    clock_flaw(now).into_iter().for_each(|flaw| found.bad("clock", flaw, &[SET_CLOCK]));
}

/// Compares the clock with the time of the last move.
pub(super) fn clock(app: &App, last: Option<&LastResult>, found: &mut Findings) {
    let ahead_ms = last.map_or(0, |last| last.at_ms).saturating_sub(app.now.unix_ms);
    if ahead_ms > CLOCK_MS {
        let (now, ahead) = (app.now.stamp(), human_ms(ahead_ms));
        let what = format!("it is {now}, and the last move was made {ahead} later");
        found.bad("clock", format!("{what}: the clock was set back, or was ahead then"), &[SET_CLOCK]);
    }
}

/// Reports private files in the git history. A push publishes their content with the history.
pub(super) fn private_in_git(app: &App, found: &mut Findings) {
    let root = app.layout.root();
    let tracked = History::open(root).and_then(|history| history.tracked()).unwrap_or_default();
    let private: Vec<&String> = tracked.iter().filter(|path| seed::is_private(path)).collect();
    let Some(first) = private.first() else { return };
    let mut tops: Vec<&str> = private.iter().filter_map(|path| path.split('/').next()).collect();
    tops.dedup();
    let more = match private.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let git = ["git", "-C", &root.display().to_string()].map(str::to_owned);
    let line = |args: &[&str]| {
        quote_argv(&[&git[..], &args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()].concat())
    };
    let remove = line(&[&["rm", "-r", "-q", "--cached", "--"], &tops[..]].concat());
    let commit = line(&["commit", "-q", "-m", "human: private files leave git"]);
    let what = format!("git holds private files: `{}`{more}", visible(first, false));
    let old = "older commits still hold them: do not push this history to a place that others can read";
    found.bad("private files", what, &[&format!("{remove} && {commit}"), old]);
}

/// Reports files of users and moves that cannot be used.
pub(super) fn records(app: &App, found: &mut Findings) {
    let layout = &app.layout;
    let looks = [
        (
            "goals",
            user_files::goals(layout).map(|(goals, mut problems)| {
                problems.extend(observe::goal_problems(&goals));
                problems
            }),
        ),
        ("asks", state_files::asks(layout).map(|(_, problems)| problems)),
        ("schedules", state_files::schedules(layout).map(|(_, problems)| problems)),
    ];
    for (what, looked) in looks {
        match looked {
            Err(error) => found.error(what, &error),
            Ok(problems) => {
                let fix = format!("fix or remove it, in {}", layout.root().join(what).display());
                problems.iter().for_each(|problem| found.bad(what, visible(problem, false), &[&fix]));
            }
        }
    }
    match workers::list(layout) {
        Err(error) => found.error("workers", &error),
        Ok((all, problems)) => {
            let fix = format!("move it out of {}", layout.workers().display());
            problems.iter().for_each(|problem| found.bad("workers", visible(problem, false), &[&fix]));
            for worker in all.iter().filter(|worker| worker.state.phase == Phase::Lost) {
                let id = &worker.spec.id;
                let what = "its supervisor died without recording the worker's end";
                let tick = "`looop tick` ends its remaining processes, and the next decision sees it";
                let logs = format!("`looop logs {id}` prints its output; nothing is lost");
                found.bad(&format!("worker {id}"), what, &[tick, &logs]);
            }
        }
    }
}

/// Reports programs that the config names, besides runners, and that are missing.
pub(super) fn commands(config: &Config, found: &mut Findings) {
    let workers = &config.settings.workers;
    if let Some(missing) = workers.notify.first().and_then(|name| program_of(config, name).err()) {
        let fix = "install it, or correct \"notify\" in the config: without it you are not notified of flags and asks";
        found.bad("notify", missing, &[fix]);
    }
    for (entry, checks) in &workers.verify {
        // A name with a slash is relative to the worker's clone, so it cannot be checked here.
        let programs = checks.iter().filter_map(|check| check.first()).filter(|name| !name.contains('/'));
        for missing in programs.filter_map(|name| program_of(config, name).err()) {
            let fix =
                "install it, or correct it in the config: without it, work that it checks cannot be accepted";
            found.bad(&format!("verify.{entry}"), missing, &[fix]);
        }
    }
}

/// Reports files with keys that other users can read.
pub(super) fn keys(config: &Config, found: &mut Findings) {
    let path = config.path.parent().unwrap_or(Path::new("/")).join(KEYS_FILE);
    let mode = std::fs::metadata(&path).map_or(0, |meta| meta.mode());
    if mode & 0o077 != 0 && file::read(&path, 1 << 20).is_ok_and(|bytes| bytes.is_some()) {
        let what = format!("others can read `{}` (mode {:o})", path.display(), mode & 0o777);
        found.bad("keys", what, &[&format!("chmod 600 {}", path.display())]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    #[test]
    fn a_clock_outside_of_1970_to_9999_is_a_bad_finding() {
        for (seconds, flaw) in [(-1, "before 1970"), (8_210_298_412_800, "after the year 9999")] {
            let mut found = Findings::default();
            clock_range(Now::from_clock(seconds, 0, 0), &mut found);
            let [found] = found.0.try_into().ok().unwrap();
            assert!(found.health == CheckStatus::Bad && found.found.contains(flaw), "{}", found.found);
        }
        let mut found = Findings::default();
        clock_range(Now::from_clock(1_795_218_410, 0, 0), &mut found);
        assert!(found.0.is_empty());
    }
}
