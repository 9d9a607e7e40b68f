//! A worker at a usage limit: it waits with its leases, its clone and its time, and goes on when the limit ends.
//!
//! An agent that still lives gets a line typed; many go on by themselves. One that ended is started again with its own way
//! of continuing a session. What the user types meanwhile counts: looop types nothing then.

use std::time::Duration;

use anyhow::Result;

use super::Supervisor;
use super::programs;
use super::record::Record;
use crate::agents::classify;
use crate::os::clock::{self, Deadline};
use crate::rules::beat::failing::Class;
use crate::rules::beat::limit_end::reset_at_ms;
use crate::rules::worker::lifecycle::{EndCause, Stage, WorkerEvent};
use crate::rules::worker::limit::{RunnerLimit, UsageLimit};
use crate::rules::worker::{Phase, WorkerExit};
use crate::store::file::{self, Durability};
use crate::store::user_files::MAX_TEXT_BYTES;
use crate::store::{runner_limits, state_files, workers};

/// The longest time between two looks at the clock, in milliseconds: it can be set, and the machine can sleep.
const POLL_MS: i64 = 10_000;
/// What is typed to an agent that still lives: Enter for a dialog that it may show, a text, and Enter to send it.
const GO_ON: [&[u8]; 3] = [b"\r", b"\x1b[200~The usage limit has ended. Continue your work.\x1b[201~", b"\r"];
/// How long the agent takes to read each of them, in milliseconds.
const READ_MS: i64 = 500;
/// What the brief says to an agent that cannot continue its session.
const AGAIN: &str = "\n\nYou were interrupted while you worked on this. Your work so far is in this folder: read `git log`, \
                     `git status` and `git diff` first, and continue from there.\n";

/// Returns true if the runner of a starting worker is at its usage limit. Its state says so then.
pub(super) fn holds_start(record: &mut Record) -> bool {
    let limit = record.spec.runner.as_ref().and_then(|runner| {
        let limit = runner_limits::active(&record.layout, runner, clock::unix_ms())?;
        Some(UsageLimit::new(limit, waiting(record, runner), &record.spec.limits))
    });
    record.state.limit = limit;
    record.state.limit.is_some()
}

/// Returns how many other workers wait for the same limit.
fn waiting(record: &Record, runner: &str) -> usize {
    // A worker that cannot be read does not count; the others start a few seconds earlier then.
    let all = workers::list(&record.layout).map(|(all, _)| all).unwrap_or_default();
    let waits = |limit: &UsageLimit| limit.runner == runner;
    all.iter()
        .filter(|worker| worker.spec.id != record.spec.id && worker.state.limit.as_ref().is_some_and(waits))
        .count()
}

/// Returns the time until the limit must be checked.
pub(super) fn due(record: &Record) -> Option<Duration> {
    let limit = record.state.limit.as_ref()?;
    let left_ms = limit.until_ms.saturating_sub(clock::unix_ms()).clamp(0, POLL_MS);
    // A pause of the loop is checked at intervals.
    let left_ms = if left_ms == 0 { POLL_MS } else { left_ms };
    Some(Duration::from_millis(left_ms.unsigned_abs()))
}

impl Supervisor {
    /// Handles an error that the agent reported, with its words, which may be missing.
    pub(super) fn failed(&mut self, why: &str) {
        let is_limit = classify::by_words(why) == Class::Limit;
        if !(is_limit && self.hit_limit(why, reset_at_ms(why, clock::now()))) {
            self.attention.failed(&mut self.record, why);
        }
    }

    /// Returns true if the command ended at a usage limit: it reported one before, or the events in its output do.
    pub(super) fn ended_at_limit(&mut self, exit: WorkerExit) -> bool {
        if self.lifecycle.stage() != Stage::Running || exit == WorkerExit::Code(0) {
            return false;
        }
        let is_known = self.record.state.phase == Phase::Limited;
        let events = self.meter.usage_limit();
        let is_limited = is_known
            || events.is_some_and(|(why, resets_ms)| {
                let resets_ms = resets_ms.or_else(|| reset_at_ms(&why, clock::now()));
                self.hit_limit(&why, resets_ms)
            });
        if is_limited {
            self.record.state.exit = Some(exit);
        }
        is_limited
    }

    /// Notes the limit of the worker's runner. The worker waits for its end, or ends. Returns false for a command of the
    /// user's, which has no runner.
    fn hit_limit(&mut self, why: &str, resets_ms: Option<i64>) -> bool {
        let now = clock::now();
        let record = &mut self.record;
        let Some(runner) = record.spec.runner.clone() else { return false };
        let ahead = waiting(record, &runner);
        let limits = &record.spec.limits;
        let limit = RunnerLimit::new(&runner, &record.clean(why), resets_ms, limits, now);
        if let Err(error) = runner_limits::note(&record.layout, limit.clone(), now) {
            record.log("limit_not_noted", &format!("{error:#}"));
        }
        // A limit that moves is the same limit.
        let waits = record.state.waits.saturating_sub(u32::from(record.state.phase == Phase::Limited));
        let limit = UsageLimit::new(limit, ahead, limits);
        if let Some(why) = limit.refusal(limits, waits, now) {
            self.end(EndCause::UsageLimit(why));
            return true;
        }
        record.state.waits = waits + 1;
        record.state.limit = Some(limit);
        self.wait_for_limit();
        true
    }

    /// Begins to wait for the end of the limit in the state.
    pub(super) fn wait_for_limit(&mut self) {
        self.lifecycle.set_wall(false);
        self.attention.lower(&mut self.record);
        self.record.enter(Phase::Limited);
        if let Some(limit) = &self.record.state.limit {
            self.record.journal(&limit.words(clock::now()));
        }
        self.attention.sync_alerts(&self.record);
    }

    /// Leaves the limit, because the agent works again.
    pub(super) fn goes_on_by_itself(&mut self) {
        if self.record.state.phase == Phase::Limited {
            self.leave_limit();
        }
    }

    fn leave_limit(&mut self) {
        self.lifecycle.set_wall(true);
        self.record.journal("continues after its usage limit");
        self.record.enter(Phase::Running);
    }

    /// Lets the worker go on if its limit has ended.
    pub(super) fn look_at_limit(&mut self) {
        self.type_next();
        let stage = self.lifecycle.stage();
        let Some(limit) = &mut self.record.state.limit else { return };
        // Without the time zone, which an idle supervisor does not load.
        let now_ms = clock::unix_ms();
        if limit.until_ms > now_ms || !matches!(stage, Stage::Running | Stage::Limited) {
            return;
        }
        // Another call of the runner may have found that the limit moved.
        if let Some(moved) = runner_limits::active(&self.record.layout, &limit.runner, now_ms) {
            limit.until_ms = moved.until_ms;
            return self.record.save();
        }
        // If that cannot be read, the loop may be paused.
        if !matches!(state_files::paused(&self.record.layout), Ok(None)) {
            return;
        }
        let touched = limit.touched;
        if stage == Stage::Limited {
            self.record.journal("continues after its usage limit");
            return self.happen(WorkerEvent::LimitEnded);
        }
        self.leave_limit();
        match touched {
            true => {
                let text = "its usage limit has ended; you typed to it meanwhile, so looop typed nothing";
                self.attention.raise(&mut self.record, text, false);
            }
            false => self.typing = Some((0, Deadline::after_ms(0))),
        }
    }

    /// Types the next part of what tells the agent to go on, when its time has come.
    fn type_next(&mut self) {
        let Some((nth, _)) = self.typing.take_if(|(_, due)| due.passed()) else { return };
        if let Some(keys) = GO_ON.get(nth).filter(|_| self.lifecycle.stage() == Stage::Running) {
            self.tty.press(keys);
            self.typing = Some((nth + 1, Deadline::after_ms(READ_MS)));
        }
    }

    /// Starts the command, or the one that continues it.
    ///
    /// # Errors
    /// When it could not be started.
    pub(super) fn start_again(&mut self) -> Result<()> {
        let argv = next_argv(&mut self.record)?;
        let terminal = programs::start_command(&mut self.record, &argv, self.tty.size)?;
        self.record.state.exit = None;
        self.record.save();
        self.tty.open(terminal);
        self.lifecycle.started(&self.record);
        self.attention.restart(&self.record);
        self.meter.restart(&argv);
        Ok(())
    }
}

/// Returns the command to start next: the first one, the one that continues the session, or the first one again with a
/// brief that says so.
pub(super) fn next_argv(record: &mut Record) -> Result<Vec<String>> {
    let spec = &record.spec;
    match (&record.state.child, spec.resume.is_empty()) {
        (Some(_), false) => Ok(spec.resume.clone()),
        (Some(_), true) => {
            let path = record.dir.brief();
            let brief = file::read_text(&path, MAX_TEXT_BYTES)?.unwrap_or_default();
            if !brief.ends_with(AGAIN) {
                file::write(&path, (brief + AGAIN).as_bytes(), 0o600, Durability::Atomic)?;
            }
            Ok(spec.argv.clone())
        }
        (None, _) => Ok(spec.argv.clone()),
    }
}
