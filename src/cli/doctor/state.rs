//! The checks of `looop doctor` around the data dir: disk, clock, timers, asks, workers, and the programs that
//! the config names.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Finding, from_error};
use crate::cli::App;
use crate::config::Config;
use crate::os::disk;
use crate::os::program;
use crate::rules::beat::state::LoopState;
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
/// A file of keys beside the config, which a service gets as its environment.
const KEYS_FILE: &str = "looop.env";

/// Checks the disk that holds the data dir.
pub(super) fn disk(app: &App, found: &mut Vec<Finding>) {
    let root = app.layout.root();
    let disk = match disk::look(root) {
        Ok(disk) => disk,
        Err(error) => {
            let what = format!("could not inspect it: {error}");
            return found.push(Finding::bad("disk", what, &["make sure that the disk is mounted"]));
        }
    };
    if let Some(kind) = disk.remote {
        let what =
            format!("the data dir is on {kind}: its locks and syncs depend on another machine or program");
        let fix = "keep it on a local disk; LOOOP_DATA_DIR sets the place";
        found.push(Finding::odd("disk", what, &[fix]));
    }
    let free = format!("{} MiB are free", disk.free_bytes >> 20);
    found.push(if disk.is_read_only {
        let fix = "mount it writable, or set LOOOP_DATA_DIR to another data dir";
        Finding::bad("disk", "the data dir cannot be written: its disk is mounted read-only", &[fix])
    } else if disk.free_bytes < LEAST_FREE_BYTES || !disk.has_inodes {
        let what = match disk.has_inodes {
            true => format!("nearly full: {free}"),
            false => "full: no file can be created".to_owned(),
        };
        let fix = "free some space: `looop prune` deletes the data of ended workers";
        Finding::bad("disk", what, &[fix])
    } else {
        Finding::good("disk", free)
    });
    let mode = std::fs::metadata(root).map_or(0o700, |meta| meta.mode());
    if mode & 0o700 != 0o700 {
        let what = format!("you cannot write it (mode {:o})", mode & 0o777);
        found.push(Finding::bad("data dir", what, &[&format!("chmod 700 {}", root.display())]));
    }
}

/// The finding for a clock that is before 1970 or after the year 9999.
pub(super) fn clock_flaw_finding(now: Now) -> Option<Finding> {
    let fix = "set the clock; `timedatectl` shows whether it is kept";
    clock_flaw(now).map(|flaw| Finding::bad("clock", flaw, &[fix]))
}

/// Compares the clock with the time of the last move.
pub(super) fn clock(app: &App, beat: &LoopState, found: &mut Vec<Finding>) {
    let last = beat.last.as_ref().map_or(0, |last| last.at_ms);
    let ahead_ms = last.saturating_sub(app.now.unix_ms);
    if ahead_ms > CLOCK_MS {
        let what = format!(
            "it is {}, and the last move was made {} later: the clock was set back, or was ahead then",
            app.now.stamp(),
            human_ms(ahead_ms)
        );
        found.push(Finding::bad("clock", what, &["set the clock; `timedatectl` shows whether it is kept"]));
    }
}

/// Reports private files in the git history. A push publishes their content with the history.
pub(super) fn private_in_git(app: &App, found: &mut Vec<Finding>) {
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
    found.push(Finding::bad("private files", what, &[&format!("{remove} && {commit}"), old]));
}

/// Reports files of users and moves that cannot be used.
pub(super) fn records(app: &App, found: &mut Vec<Finding>) {
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
            Err(error) => found.push(from_error(what, &error)),
            Ok(problems) => found.extend(problems.iter().map(|problem| {
                let fix = format!("fix or remove it, in {}", layout.root().join(what).display());
                Finding::bad(what, visible(problem, false), &[&fix])
            })),
        }
    }
    match workers::list(layout) {
        Err(error) => found.push(from_error("workers", &error)),
        Ok((all, problems)) => {
            for problem in problems {
                let fix = format!("move it out of {}", layout.workers().display());
                found.push(Finding::bad("workers", visible(&problem, false), &[&fix]));
            }
            for worker in all.iter().filter(|worker| worker.state.phase == Phase::Lost) {
                let id = &worker.spec.id;
                let logs = format!("`looop logs {id}` prints its output; nothing is lost");
                found.push(Finding::bad(
                    &format!("worker {id}"),
                    "its supervisor died without recording the worker's end",
                    &["`looop tick` ends its remaining processes, and the next decision sees it", &logs],
                ));
            }
        }
    }
}

/// Reports programs that the config names, besides runners, and that are missing.
pub(super) fn commands(config: &Config, found: &mut Vec<Finding>) {
    let settings = &config.settings;
    let here = config.path.parent().unwrap_or(&config.path);
    let is_missing = |name: &str| program::find_program(name, &settings.path, here).is_none();
    let mut missing = |what: &str, name: &str, fix: &str| {
        let why = format!("`{name}` is not on the configured PATH ({})", settings.path);
        found.push(Finding::bad(what, why, &[fix]));
    };
    if let Some(name) = settings.workers.notify.first().filter(|name| is_missing(name)) {
        missing(
            "notify",
            name,
            "install it, or correct \"notify\" in the config: without it you are not notified of flags and asks",
        );
    }
    for (entry, checks) in &settings.workers.verify {
        // A name with a slash is relative to the worker's clone, so it cannot be checked here.
        let programs = checks.iter().filter_map(|check| check.first()).filter(|name| !name.contains('/'));
        for name in programs.filter(|name| is_missing(name)) {
            let fix =
                "install it, or correct it in the config: without it, work that it checks cannot be accepted";
            missing(&format!("verify.{entry}"), name, fix);
        }
    }
}

/// Reports files with keys that other users can read.
pub(super) fn keys(config: &Config, found: &mut Vec<Finding>) {
    let path = config.path.parent().unwrap_or(Path::new("/")).join(KEYS_FILE);
    let mode = std::fs::metadata(&path).map_or(0, |meta| meta.mode());
    if mode & 0o077 != 0 && file::read(&path, 1 << 20).is_ok_and(|bytes| bytes.is_some()) {
        let what = format!("others can read `{}` (mode {:o})", path.display(), mode & 0o777);
        found.push(Finding::bad("keys", what, &[&format!("chmod 600 {}", path.display())]));
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    #[test]
    fn a_clock_outside_of_1970_to_9999_is_a_bad_finding() {
        for (seconds, flaw) in [(-1, "before 1970"), (8_210_298_412_800, "after the year 9999")] {
            let found = clock_flaw_finding(Now::from_clock(seconds, 0, 0)).unwrap();
            assert!(found.health == CheckStatus::Bad && found.found.contains(flaw), "{}", found.found);
        }
        assert!(clock_flaw_finding(Now::from_clock(1_795_218_410, 0, 0)).is_none());
    }
}
