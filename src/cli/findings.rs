//! What is wrong with a profile, as far as its files show it. `looop status` begins with it, and `looop doctor` checks more.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::Result;

use super::json_output::{CheckStatus, Finding};
use super::{App, Fault, human_ms, visible};
use crate::config::Config;
use crate::os::{disk, program};
use crate::rules::beat::state::{LastResult, LoopState};
use crate::rules::time::{Now, clock_flaw};
use crate::rules::worker::Phase;
use crate::rules::world::Goal;
use crate::store::{lock, state_files, user_files, workers};
use crate::tick::observe;

/// With less free space than this, a beat may fail to write its records.
const LEAST_FREE_BYTES: u64 = 64 << 20;
/// How far in the future the last beat may be before the clock is reported as wrong, in milliseconds.
const CLOCK_MS: i64 = 60_000;
/// The fix for a wrong clock.
const SET_CLOCK: &str = "set the clock; `timedatectl` shows whether it is kept";

/// The findings so far.
#[derive(Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    pub fn good(&mut self, what: &str, found: impl Into<String>) {
        self.add(CheckStatus::Good, what, found, &[]);
    }

    pub fn odd(&mut self, what: &str, found: impl Into<String>, fix: &[&str]) {
        self.add(CheckStatus::Odd, what, found, fix);
    }

    pub fn bad(&mut self, what: &str, found: impl Into<String>, fix: &[&str]) {
        self.add(CheckStatus::Bad, what, found, fix);
    }

    /// The value of a check. Adds its error with the error's hints as the fixes, or with this fix if it has none.
    pub fn ok<T>(&mut self, what: &str, checked: Result<T>, fix: &[&str]) -> Option<T> {
        let add = |error: &anyhow::Error| {
            let hints = error.downcast_ref::<Fault>().into_iter().flat_map(|fault| &fault.hints);
            let hints: Vec<&str> = hints.map(String::as_str).collect();
            self.bad(what, format!("{error:#}"), if hints.is_empty() { fix } else { &hints });
        };
        checked.inspect_err(add).ok()
    }

    /// Adds what was wrong and how it was mended, or why it could not be.
    pub fn mended(&mut self, what: &str, found: String, how: &str, done: Result<()>) {
        match done {
            Ok(()) => self.add(CheckStatus::Mended, what, found, &[how]),
            Err(error) => self.bad(what, format!("{error:#}"), &[]),
        }
    }

    pub fn add(&mut self, health: CheckStatus, what: &str, found: impl Into<String>, fix: &[&str]) {
        let fix = fix.iter().map(|fix| (*fix).to_owned()).collect();
        self.0.push(Finding { health, what: what.to_owned(), found: found.into(), fix });
    }
}

/// Checks what can be checked without a program, the network or a write.
pub fn look(app: &App) -> Findings {
    let mut found = Findings::default();
    clock_range(app.now, &mut found);
    config(app, &mut found);
    profile(app, &mut found);
    found
}

fn config(app: &App, found: &mut Findings) {
    let Some(config) = found.ok("config", app.config(), &[]) else { return };
    let path = config.path.display().to_string();
    match config.path.exists() {
        true => found.good("config", path),
        false => {
            found.odd("config", format!("{path} does not exist; defaults are used"), &["looop init"]);
        }
    }
    let Some(runner) = found.ok("runner", config.decider(), &[]) else { return };
    if runner.program().is_empty() {
        return found.good("runner", format!("{} is an endpoint", runner.name()));
    }
    match program_of(&config, runner.program()) {
        Ok(program) => found.good("runner", format!("{} is {}", runner.name(), program.display())),
        Err(missing) => {
            let install = "install it, or name another runner with \"decide\" in the config";
            found.bad("runner", missing, &[install, "try `looop demo`, which needs no runner"]);
        }
    }
}

fn profile(app: &App, found: &mut Findings) {
    let layout = &app.layout;
    if found.ok("data dir", app.check_profile(), &[]).is_none() {
        return;
    }
    found.good("data dir", layout.root().display().to_string());
    disk(app, found);
    records(app, found);
    found.ok("playbook", user_files::playbook(layout), &[]);
    if let Some(beat) = found.ok("memory", state_files::peek_beat(layout), &[]) {
        clock(app, beat.last.as_ref(), found);
        failing(app, &beat, found);
        beat.halted.into_iter().for_each(|why| found.bad("memory", why, &["looop resume"]));
    }
    pulse(app, found);
    let Some((sensors, problems)) = found.ok("sensors", user_files::sensors(layout), &[]) else { return };
    let fix = format!("fix or remove it: {}", layout.sensors().display());
    for (sensor, unfit) in sensors.iter().filter_map(|sensor| Some((sensor, sensor.header.as_ref().err()?))) {
        found.bad(&format!("sensor {}", sensor.name), unfit.why.clone(), &[&fix]);
    }
    problems.iter().for_each(|problem| found.odd("sensors", problem.clone(), &[]));
    let fit = sensors.iter().filter(|sensor| sensor.header.is_ok()).count();
    found.good("sensors", format!("{fit} can be run; `looop sensor test` runs them"));
}

/// Reports decisions that fail one after another.
fn failing(app: &App, beat: &LoopState, found: &mut Findings) {
    let (Some(backoff), Some(failure)) = (&beat.backoff, &beat.failure) else { return };
    let since_ms = backoff.since_ms.unwrap_or(backoff.at_ms);
    let what = format!("failing since {}: {}", app.now.at(since_ms).stamp(), failure.words());
    let remedy = Some(failure.class.remedy()).filter(|remedy| !remedy.is_empty());
    found.bad("decisions", what, remedy.as_slice());
}

/// Reports a pulse that died. One that was never started, or that ended when it was told to, is not missed.
fn pulse(app: &App, found: &mut Findings) {
    let Some(began_ms) = state_files::pulse_run(&app.layout) else { return };
    if lock::holder(&app.layout.pulse_lock()).is_none() {
        let began = app.now.at(began_ms).stamp();
        let what = format!("it is down: the one that began at {began} died, or the machine was restarted");
        let fix = "start it with `looop`, or let a service keep it: `looop service install`";
        found.bad("pulse", what, &[fix]);
    }
}

/// Finds a program that the config names.
///
/// # Errors
/// Says that the program is missing.
pub fn program_of(config: &Config, name: &str) -> Result<PathBuf, String> {
    let (path, here) = (&config.settings.path, config.path.parent().unwrap_or(&config.path));
    program::find_program(name, path, here)
        .ok_or_else(|| format!("`{name}` is not on the configured PATH ({path})"))
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

/// Reports files of users and moves that cannot be used.
fn records(app: &App, found: &mut Findings) {
    let layout = &app.layout;
    let goals = user_files::goals(layout).map(|(goals, mut problems)| {
        problems.extend(observe::goal_problems(&goals));
        problems.extend(goals.iter().filter_map(|(id, goal)| match goal {
            Goal::Unreadable(why) => Some(format!("goals/{id}.md cannot be read: {why}")),
            Goal::Text(_) => None,
        }));
        problems
    });
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
