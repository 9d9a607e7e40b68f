//! `looop doctor`: checks the installation and says how to fix each problem.

mod runner;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use strum::IntoEnumIterator;

use super::json_output::{CheckStatus, Finding};
use super::{App, Fault, human_ms, print, visible};
use crate::config::Config;
use crate::os::{disk, program};
use crate::rules::beat::state::LastResult;
use crate::rules::sandbox::{Level, NetworkAccess, SandboxMode, SandboxSubject};
use crate::rules::text::quote_argv;
use crate::rules::time::{Now, clock_flaw};
use crate::rules::worker::Phase;
use crate::store::sandboxes::SandboxBuilder;
use crate::store::{file, lock, state_files, user_files, workers};
use crate::tick::observe;
use crate::vcs::history::{Blocked, History, locks};
use crate::vcs::{commits, seed};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop doctor\n  looop doctor --ask")]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Ask the runner one real question, which may cost money.
    #[arg(long)]
    ask: bool,
    /// Check one thing in detail.
    #[command(subcommand)]
    what: Option<DoctorCheck>,
}

#[derive(Debug, clap::Subcommand)]
enum DoctorCheck {
    /// Test a runner that decides: version, login, what keeps it from using tools, and one small real decision.
    Runner(runner::Args),
}

/// With less free space than this, a beat may fail to write its records.
const LEAST_FREE_BYTES: u64 = 64 << 20;
/// How far in the future the last beat may be before the clock is reported as wrong, in milliseconds.
const CLOCK_MS: i64 = 60_000;
/// The fix for a wrong clock.
const SET_CLOCK: &str = "set the clock; `timedatectl` shows whether it is kept";
/// A file of keys beside the config, which a service gets as its environment.
const KEYS_FILE: &str = "looop.env";

/// The findings so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, what: &str, found: impl Into<String>) {
        self.add(CheckStatus::Good, what, found, &[]);
    }

    fn odd(&mut self, what: &str, found: impl Into<String>, fix: &[&str]) {
        self.add(CheckStatus::Odd, what, found, fix);
    }

    fn bad(&mut self, what: &str, found: impl Into<String>, fix: &[&str]) {
        self.add(CheckStatus::Bad, what, found, fix);
    }

    /// The value of a check. Adds its error with the error's hints as the fixes, or with this fix if it has none.
    fn ok<T>(&mut self, what: &str, checked: Result<T>, fix: &[&str]) -> Option<T> {
        let add = |error: &anyhow::Error| {
            let hints = error.downcast_ref::<Fault>().into_iter().flat_map(|fault| &fault.hints);
            let hints: Vec<&str> = hints.map(String::as_str).collect();
            self.bad(what, format!("{error:#}"), if hints.is_empty() { fix } else { &hints });
        };
        checked.inspect_err(add).ok()
    }

    fn add(&mut self, health: CheckStatus, what: &str, found: impl Into<String>, fix: &[&str]) {
        let fix = fix.iter().map(|fix| (*fix).to_owned()).collect();
        self.0.push(Finding { health, what: what.to_owned(), found: found.into(), fix });
    }
}

/// Finds a program that the config names.
///
/// # Errors
/// Says that the program is missing.
fn program_of(config: &Config, name: &str) -> Result<PathBuf, String> {
    let (path, here) = (&config.settings.path, config.path.parent().unwrap_or(&config.path));
    program::find_program(name, path, here)
        .ok_or_else(|| format!("`{name}` is not on the configured PATH ({path})"))
}

/// Runs all checks; exit status 1 if a finding is bad. Only `--ask` writes something: the prompt, the reply and
/// the cost.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    if let Some(DoctorCheck::Runner(runner)) = &args.what {
        return runner::run(app, runner);
    }
    let mut found = Findings::default();
    clock_range(app.now, &mut found);
    config(app, args, &mut found);
    data_dir(app, &mut found);
    tools(app, &mut found);
    let Findings(found) = found;
    if args.json {
        print::answer("findings", &found)?;
    } else {
        let style = app.style;
        for f in &found {
            let mark = match f.health {
                CheckStatus::Good => style.green("ok  "),
                CheckStatus::Odd => style.yellow("odd "),
                CheckStatus::Bad => style.red("BAD "),
            };
            print::line(&format!("{mark} {}: {}", f.what, f.found));
            f.fix.iter().for_each(|fix| print::line(&format!("     fix: {fix}")));
        }
    }
    Ok(u8::from(found.iter().any(|f| f.health == CheckStatus::Bad)))
}

fn config(app: &App, args: &Args, found: &mut Findings) {
    let Some(config) = found.ok("config", app.config(), &[]) else { return };
    let path = config.path.display().to_string();
    match config.path.exists() {
        true => found.good("config", path),
        false => {
            found.odd("config", format!("{path} does not exist; defaults are used"), &["looop init"]);
        }
    }
    worker(&config, found);
    commands(&config, found);
    keys(&config, found);
    let Some(runner) = found.ok("runner", config.decider(), &[]) else { return };
    if runner.program().is_empty() {
        return found.good("runner", format!("{} is an endpoint", runner.name()));
    }
    match program_of(&config, runner.program()) {
        Ok(program) => found.good("runner", format!("{} is {}", runner.name(), program.display())),
        Err(missing) => {
            let install = "install it, or name another runner with \"decide\" in the config";
            return found.bad("runner", missing, &[install, "try `looop demo`, which needs no runner"]);
        }
    }
    if args.ask {
        let answer = runner::ask(app, &config, runner.as_ref()).and_then(|(_, words)| Ok(words?));
        let fix = format!("fix the cause; `looop doctor runner {}` tests it again", runner.name());
        if let Some(words) = found.ok("runner answers", answer, &[&fix]) {
            found.good("runner answers", words);
        }
    }
}

fn data_dir(app: &App, found: &mut Findings) {
    let layout = &app.layout;
    if found.ok("data dir", app.check_profile(), &[]).is_none() {
        return;
    }
    found.good("data dir", layout.root().display().to_string());
    disk(app, found);
    records(app, found);
    if let Err(error) = history(app, found) {
        let fix = "restore the `.git` directory, or move its replacement away and run `looop init`";
        found.bad("history", format!("{error:#}"), &[fix]);
    }
    found.ok("playbook", user_files::playbook(layout), &[]);
    if let Some(beat) = found.ok("memory", state_files::peek_beat(layout), &[]) {
        match beat.halted {
            Some(why) => found.bad("memory", why, &["looop resume"]),
            None => clock(app, beat.last.as_ref(), found),
        }
    }
    let Some((sensors, problems)) = found.ok("sensors", user_files::sensors(layout), &[]) else { return };
    let fix = format!("fix or remove it: {}", layout.sensors().display());
    for (sensor, unfit) in sensors.iter().filter_map(|sensor| Some((sensor, sensor.header.as_ref().err()?))) {
        found.bad(&format!("sensor {}", sensor.name), unfit.why.clone(), &[&fix]);
    }
    problems.iter().for_each(|problem| found.odd("sensors", problem.clone(), &[]));
    let fit = sensors.iter().filter(|sensor| sensor.header.is_ok()).count();
    found.good("sensors", format!("{fit} can be run; `looop sensor test` runs them"));
}

/// Checks the git history of the data dir.
///
/// # Errors
/// The history cannot be opened or read.
fn history(app: &App, found: &mut Findings) -> Result<()> {
    let history = History::open(app.layout.root())?;
    let mut tried = Findings::default();
    try_commit(app, &history, &mut tried)?;
    if let Err(error) = history.check_tip() {
        let fix = "`looop run` returns to the newest readable commit; no file is lost";
        found.bad("history", format!("{error:#}"), &[fix]);
        return Ok(());
    }
    found.0.append(&mut tried.0);
    private_in_git(app, &history, found);
    for lock in locks::in_words(app.layout.root()) {
        let fix = "let the program end; a lock that no process holds is removed after a minute";
        found.odd("lock", lock, &[fix]);
    }
    Ok(())
}

/// Makes a test commit and removes it again, unless a beat is committing.
fn try_commit(app: &App, history: &History, found: &mut Findings) -> Result<()> {
    if let Some(blocked) = history.blocked()? {
        found.bad("history", blocked.to_string(), &[&blocked.hint()]);
        return Ok(());
    }
    let _held = match lock::tick(&app.layout.tick_lock()) {
        Err(error) if lock::is_busy(&error) => {
            found.good("history", "a beat is making its commits");
            return Ok(());
        }
        held => held?,
    };
    match history.try_commit(&commits::looop_signature(app.now)) {
        Ok(()) => found.good("history", "commits work: a test commit was made and removed"),
        Err(error) => {
            let writable = "make sure that the data dir is writable and its disk has free space";
            let hint = error.downcast_ref::<Blocked>().map_or(writable.to_owned(), Blocked::hint);
            found.bad("history", format!("{error:#}"), &[&hint]);
        }
    }
    Ok(())
}

/// Checks the runner of workers. A missing default runner is not a fault.
fn worker(config: &Config, found: &mut Findings) {
    let workers = &config.settings.workers;
    let program = workers.runner(None).and_then(|(name, runner)| {
        let program = runner.argv.first().map_or("", String::as_str);
        let path = program_of(config, program)?;
        Ok(format!("{name} is {}{}", path.display(), unknown_model(config, name, program)))
    });
    match program {
        Ok(program) => found.good("worker runner", program),
        Err(why) => {
            let health = if workers.runner.is_some() { CheckStatus::Bad } else { CheckStatus::Odd };
            let fix = "install it, or name another runner with \"worker\" in the config";
            found.add(health, "worker runner", why, &[fix]);
        }
    }
}

/// A hint if looop does not know the address of a worker's model: the sandbox blocks the loopback of this machine.
fn unknown_model(config: &Config, name: &str, program: &str) -> String {
    let sandboxes = &config.settings.sandbox;
    let program = program.rsplit('/').next().unwrap_or_default();
    let worker = sandboxes.request(SandboxSubject::Worker);
    let has_loopback = worker.mode == SandboxMode::None || worker.net == NetworkAccess::On;
    match has_loopback || sandboxes.endpoint(&[name, program]).is_some() {
        true => String::new(),
        false => format!(
            "; looop does not know the address of its model. If the model runs on this machine, set \
             `runners.{name}.base_url`, even if a variable or a file of the runner names the address"
        ),
    }
}

fn tools(app: &App, found: &mut Findings) {
    let path = app.config().map_or_else(|_| app.env.path(), |config| config.settings.path);
    let has = |name: &str| program::find_program(name, &path, app.layout.root()).is_some();
    match has("git") {
        true => found.good("git", "is installed, for workers in a repository and for the history"),
        false => {
            let what = "is not on the PATH; workers cannot get a repository, everything else works";
            found.odd("git", what, &["install git"]);
        }
    }
    match has("tmux") {
        true => found.good("tmux", "is installed, to show workers that wait for you"),
        false => {
            let what = "is not on the PATH; the pulse rings and prints who waits for you instead";
            found.odd("tmux", what, &["install tmux to get a window for each of them"]);
        }
    }
    sandbox(app, found);
}

/// Tests which sandbox this machine can make, and reports the level of each kind of child.
fn sandbox(app: &App, found: &mut Findings) {
    if !program::finds_itself() {
        let what = "is not mounted: without it looop can neither make a sandbox, nor start a worker, nor see which processes run";
        found.bad("/proc", what, &["mount it: mount -t proc proc /proc"]);
    }
    if rustix::process::geteuid().is_root() {
        let what = "root, against whom file modes do not protect: a child without a full sandbox can do more";
        found.odd("user", what, &["run looop as an ordinary user"]);
    }
    // The config check has reported why it cannot be read.
    let Ok(config) = app.config() else { return };
    let keep = seed::is_set_up(&app.layout);
    let capabilities = SandboxBuilder::new(&app.layout, &config.settings, keep).probe_again();
    let sandboxes = SandboxBuilder::with(&app.layout, &config.settings, capabilities.clone());
    let fixes: Vec<&str> = capabilities.fixes.iter().map(String::as_str).collect();
    let (level, engine) = (capabilities.level(), sandboxes.engine());
    let had = format!("{level} is available (Landlock {}, {engine})", capabilities.landlock);
    match level {
        Level::Full if capabilities.missing.is_empty() => found.good("sandbox", had),
        _ => found.odd("sandbox", format!("{had}: {}", capabilities.missing.join("; ")), &fixes),
    }
    if let Some(lost) = sandboxes.downgrade() {
        found.odd("sandbox before", lost, &fixes);
    }
    if keep && level == Level::Full && !capabilities.overlays {
        let found_so = "are read-only in a sandbox: overlays are not available here";
        let fix = "move the data dir and the cache to a file system that overlayfs can write to";
        found.odd("caches of builds", found_so, &[fix]);
    }
    for kind in SandboxSubject::iter() {
        let what = format!("sandbox of {kind}");
        match sandboxes.level(kind) {
            Ok(Level::None) => found.odd(&what, "none: it runs as you", &[]),
            Ok(level) => found.good(&what, level.as_ref()),
            Err(why) => found.bad(&what, why, &fixes),
        }
    }
}

/// Checks the disk that holds the data dir.
fn disk(app: &App, found: &mut Findings) {
    let root = app.layout.root();
    let disk = match disk::space(root) {
        Ok(disk) => disk,
        Err(error) => {
            let what = format!("could not inspect it: {error}");
            return found.bad("disk", what, &["make sure that the disk is mounted"]);
        }
    };
    if let Some(kind) = disk.remote {
        let why = "its locks and syncs depend on another machine or program";
        let fix = "keep it on a local disk; LOOOP_DATA_DIR sets the place";
        found.odd("disk", format!("the data dir is on {kind}: {why}"), &[fix]);
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
fn clock_range(now: Now, found: &mut Findings) {
    clock_flaw(now).into_iter().for_each(|flaw| found.bad("clock", flaw, &[SET_CLOCK]));
}

/// Compares the clock with the time of the last move.
fn clock(app: &App, last: Option<&LastResult>, found: &mut Findings) {
    let ahead_ms = last.map_or(0, |last| last.at_ms).saturating_sub(app.now.unix_ms);
    if ahead_ms > CLOCK_MS {
        let (now, ahead) = (app.now.stamp(), human_ms(ahead_ms));
        let what = format!("it is {now}, and the last move was made {ahead} later");
        found.bad("clock", format!("{what}: the clock was set back, or was ahead then"), &[SET_CLOCK]);
    }
}

/// Reports private files in the git history. A push publishes their content with the history.
fn private_in_git(app: &App, history: &History, found: &mut Findings) {
    let tracked = history.tracked().unwrap_or_default();
    let private: Vec<&String> = tracked.iter().filter(|path| seed::is_private(path)).collect();
    let Some(first) = private.first() else { return };
    let mut tops: Vec<&str> = private.iter().filter_map(|path| path.split('/').next()).collect();
    tops.dedup();
    let more = match private.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let root = app.layout.root().display().to_string();
    let line = |args: &[&str]| {
        let argv = [&["git", "-C", &root], args].concat();
        quote_argv(&argv.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let remove = line(&[&["rm", "-r", "-q", "--cached", "--"], &tops[..]].concat());
    let commit = line(&["commit", "-q", "-m", "human: private files leave git"]);
    let what = format!("git holds private files: `{}`{more}", visible(first, false));
    let old = "older commits still hold them: do not push this history to a place that others can read";
    found.bad("private files", what, &[&format!("{remove} && {commit}"), old]);
}

/// Reports files of users and moves that cannot be used.
fn records(app: &App, found: &mut Findings) {
    let layout = &app.layout;
    let goals = user_files::goals(layout)
        .map(|(goals, problems)| problems.into_iter().chain(observe::goal_problems(&goals)).collect());
    let looks: [(&str, Result<Vec<String>>); 3] = [
        ("goals", goals),
        ("asks", state_files::asks(layout).map(|(_, problems)| problems)),
        ("schedules", state_files::schedules(layout).map(|(_, problems)| problems)),
    ];
    for (what, looked) in looks {
        let fix = format!("fix or remove it, in {}", layout.root().join(what).display());
        let problems = found.ok(what, looked, &[]).unwrap_or_default();
        problems.iter().for_each(|problem| found.bad(what, visible(problem, false), &[&fix]));
    }
    let (all, problems) = found.ok("workers", workers::list(layout), &[]).unwrap_or_default();
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

/// Reports programs that the config names, besides runners, and that are missing.
fn commands(config: &Config, found: &mut Findings) {
    let workers = &config.settings.workers;
    if let Some(missing) = workers.notify.first().and_then(|name| program_of(config, name).err()) {
        let fix = "install it, or correct \"notify\" in the config: without it you are not notified of flags and asks";
        found.bad("notify", missing, &[fix]);
    }
    for (entry, checks) in &workers.verify {
        // A name with a slash is relative to the worker's clone, so it cannot be checked here.
        let programs = checks.iter().filter_map(|check| check.first()).filter(|name| !name.contains('/'));
        for missing in programs.filter_map(|name| program_of(config, name).err()) {
            let why = "without it, work that it checks cannot be accepted";
            let fix = format!("install it, or correct it in the config: {why}");
            found.bad(&format!("verify.{entry}"), missing, &[&fix]);
        }
    }
}

/// Reports files with keys that other users can read.
fn keys(config: &Config, found: &mut Findings) {
    let path = config.path.parent().unwrap_or(Path::new("/")).join(KEYS_FILE);
    let mode = std::fs::metadata(&path).map_or(0, |meta| meta.mode());
    if mode & 0o077 != 0 && file::read(&path, 1 << 20).is_ok_and(|bytes| bytes.is_some()) {
        let what = format!("others can read `{}` (mode {:o})", path.display(), mode & 0o777);
        found.bad("keys", what, &[&format!("chmod 600 {}", path.display())]);
    }
}

#[cfg(test)]
mod tests {
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
