//! The stage of a worker with its processes and deadlines: the command in its terminal, the checks of its work, the fetch
//! of its branch. After each stage it ends the processes that are left: SIGTERM to every one of them, two seconds later
//! SIGKILL until none is left.

use std::fs::File;
use std::time::Duration;

use super::output::{TAIL_BYTES, exit_of, keep_tail, plain};
use super::programs;
use super::record::Record;
use super::refusal::RequestRefusal;
use crate::os::clock::Deadline;
use crate::os::process::{GRACE_MS, ProcessExit, tree};
use crate::rules::json::clip;
use crate::rules::sandbox::Level;
use crate::rules::worker::leftovers::Leftovers;
use crate::rules::worker::lifecycle::{self, Stage, WorkerEffect, WorkerEvent, WorkerLife};
use crate::rules::worker::{CheckResult, Spec, WorkerExit};
use crate::vcs::clone::Collected;

/// The timeout for fetching the branch, in milliseconds.
const FETCH_MS: i64 = 10 * 60_000;
/// The timeout for finding out what a clone holds, in milliseconds.
const SEARCH_MS: i64 = 30_000;
/// How much of the messages about a clone is kept, in bytes: each name in them may be long.
const FETCH_BYTES: usize = 256 * 1024;
/// The longest reason of a failed fetch that is kept, in characters.
const MAX_WHY_CHARS: usize = 500;
/// How long an unwritten last state keeps the supervisor of an ended worker alive, in milliseconds.
const LAST_MS: i64 = 10 * 60_000;
/// How often the tree is checked while it ends, in milliseconds.
const STEP_MS: i64 = 20;
/// After how long a process that survives SIGKILL is left alone, in milliseconds: it may hang in the kernel.
const GIVE_UP_MS: i64 = 30_000;

/// The tree below this process while it is being ended.
struct Ending {
    asked: bool,
    grace: Deadline,
    give_up: Deadline,
    poll: Deadline,
}

impl Ending {
    /// Begins to end everything that is left.
    fn begin() -> Ending {
        Ending {
            asked: false,
            grace: Deadline::after_ms(GRACE_MS),
            give_up: Deadline::after_ms(GIVE_UP_MS),
            poll: Deadline::after_ms(0),
        }
    }

    fn due(&self) -> Duration {
        self.poll.left()
    }

    /// Checks what is left besides these processes; returns true if nothing is. The outer process of a sandbox would
    /// kill the sandboxed program at once, so it is not signalled; it ends with that program.
    fn is_over(&mut self, excluded: &[u32], outer: Option<u32>) -> bool {
        let left = tree::below(std::process::id(), excluded);
        if left.is_empty() || self.give_up.passed() {
            return true;
        }
        if !self.asked || self.grace.passed() {
            let notified = left.into_iter().filter(|(pid, _)| self.asked || Some(*pid) != outer);
            tree::signal_all(&notified.collect::<Vec<_>>(), self.asked);
            self.asked = true;
        }
        self.poll = Deadline::after_ms(STEP_MS);
        false
    }
}

/// A process whose output comes through a pipe.
struct Piped {
    /// Its output; `None` once it has closed the pipe.
    out: Option<File>,
    tail: Vec<u8>,
    max_bytes: usize,
    deadline: Deadline,
    began: Deadline,
}

/// A worker's stage with what belongs to it.
pub(super) struct Lifecycle {
    life: WorkerLife,
    /// The main process of the stage.
    main: Option<u32>,
    /// The outer process of the current sandbox, if there is one.
    outer: Option<u32>,
    /// The main process of a stage without terminal.
    piped: Option<Piped>,
    ending: Option<Ending>,
    /// When the worker is ended, and after its end: when its last state is given up.
    wall: Option<Deadline>,
    /// The time that is left of its longest life, while it waits for the end of a usage limit.
    rest: Option<Duration>,
}

impl Lifecycle {
    pub(super) fn new(spec: &Spec) -> Lifecycle {
        let life = WorkerLife::new(spec.verify.len(), spec.repo.is_some());
        let wall = Some(Deadline::after_ms(spec.limits.wall_ms));
        Lifecycle { life, main: None, outer: None, piped: None, ending: None, wall, rest: None }
    }

    pub(super) fn stage(&self) -> Stage {
        self.life.stage()
    }

    /// Asks the rule what follows from an event.
    pub(super) fn next(&mut self, event: WorkerEvent) -> Vec<WorkerEffect> {
        let (life, effects) = lifecycle::next(self.life.clone(), event);
        self.life = life;
        effects
    }

    /// Notes the process of the command.
    pub(super) fn started(&mut self, record: &Record) {
        self.main = record.state.child.as_ref().map(|child| child.pid);
        self.outer = self.main.filter(|_| record.spec.level() == Level::Full);
    }

    pub(super) fn end_processes(&mut self) {
        (self.main, self.piped, self.ending) = (None, None, Some(Ending::begin()));
    }

    /// Ends what is left of the stage besides the helpers. Returns true once nothing is.
    pub(super) fn processes_gone(&mut self, helpers: &[u32]) -> bool {
        self.ending.take_if(|ending| ending.is_over(helpers, self.outer)).is_some()
    }

    /// Starts the check with this number.
    ///
    /// # Errors
    /// Says why it could not be started; the record has the result.
    pub(super) fn start_check(&mut self, index: usize, record: &mut Record) -> Result<(), String> {
        let check = &record.spec.verify[index];
        match programs::start_check(record, check) {
            Ok(started) => {
                self.pipe(started, record.spec.limits.verify_ms, TAIL_BYTES);
                let sandbox = record.spec.checks_sandbox.as_ref();
                self.outer = self.main.filter(|_| sandbox.is_some_and(|sandbox| sandbox.engine.is_some()));
                Ok(())
            }
            Err(error) => {
                let (name, status) = (check.name.clone(), format!("it could not be started: {error}"));
                keep_result(record, CheckResult { ok: false, name, status, tail: String::new(), took_ms: 0 })
            }
        }
    }

    /// Starts the fetch of the branch, if the leases are still held.
    ///
    /// # Errors
    /// Says why it could not be started.
    pub(super) fn start_fetch(&mut self, record: &Record) -> Result<(), String> {
        match record.fenced(|| Ok(programs::start_fetch(record, false)?)) {
            Ok(started) => {
                self.pipe(started, FETCH_MS, FETCH_BYTES);
                Ok(())
            }
            Err(RequestRefusal::LeaseLost(lost)) => Err(format!("its branch was not fetched: {lost}")),
            Err(refusal) => Err(not_fetched(&refusal.to_string())),
        }
    }

    /// Starts the search of the clone.
    ///
    /// # Errors
    /// Says why it could not be started; the record says that the clone was not searched.
    pub(super) fn start_search(&mut self, record: &mut Record) -> Result<(), String> {
        let started = programs::start_fetch(record, true).map_err(|error| error.to_string());
        self.pipe(started.inspect_err(|why| not_searched(why, record))?, SEARCH_MS, FETCH_BYTES);
        Ok(())
    }

    fn pipe(&mut self, (out, pid): (File, u32), timeout_ms: i64, max_bytes: usize) {
        let (deadline, began) = (Deadline::after_ms(timeout_ms), Deadline::after_ms(0));
        self.main = Some(pid);
        self.piped = Some(Piped { out: Some(out), tail: Vec::new(), max_bytes, deadline, began });
    }

    /// Returns the pipe of the current stage, or `None` if the stage uses the terminal. An inner `None` is a closed pipe.
    pub(super) fn pipe_file(&self) -> Option<Option<&File>> {
        self.piped.as_ref().map(|piped| piped.out.as_ref())
    }

    /// Notes the end of the output of this stage. Returns false if it has no pipe.
    pub(super) fn close_pipe(&mut self) -> bool {
        self.piped.as_mut().map(|piped| piped.out = None).is_some()
    }

    /// Keeps the end of the output of this stage.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if let Some(piped) = &mut self.piped {
            keep_tail(&mut piped.tail, bytes, piped.max_bytes);
        }
    }

    /// Returns how a process ended, and true if it is the main one of the stage.
    pub(super) fn exit_of(&self, pid: u32, exit: ProcessExit) -> (WorkerExit, bool) {
        (exit_of(exit, self.outer == Some(pid)), self.main == Some(pid))
    }

    /// Handles the end of the main process of the stage.
    pub(super) fn main_ended(&mut self, exit: WorkerExit, record: &mut Record) -> Option<WorkerEvent> {
        if self.stage() == Stage::Running {
            record.state.exit = Some(exit);
            return Some(WorkerEvent::ProgramEnded(exit, programs::command_not_begun(record, exit)));
        }
        let piped = self.piped.take()?;
        let result = match self.stage() {
            Stage::Checking(index) => check_ended(index, &piped, exit, record),
            Stage::Fetching => collected(&piped, exit, record).map_err(|why| {
                record.state.unfetched = Some(why.clone());
                not_fetched(&why)
            }),
            _ => collected(&piped, exit, record).inspect_err(|why| not_searched(why, record)),
        };
        Some(WorkerEvent::TaskEnded(result))
    }

    /// Returns true if the main process is over its own deadline. It is ended with everything else that is left.
    pub(super) fn is_late(&self) -> bool {
        self.piped.as_ref().is_some_and(|piped| piped.deadline.passed())
    }

    /// Returns true, once, when the worker ran for too long.
    pub(super) fn wall_passed(&mut self) -> bool {
        self.wall.take_if(|wall| wall.passed()).is_some()
    }

    /// Stops the time of the worker's longest life, or lets it go on.
    pub(super) fn set_wall(&mut self, goes_on: bool) {
        match (goes_on, self.rest.take()) {
            (false, rest) => self.rest = rest.or(self.wall.take().map(|wall| wall.left())),
            (true, Some(rest)) => {
                self.wall = Some(Deadline::after_ms(i64::try_from(rest.as_millis()).unwrap_or(i64::MAX)));
            }
            (true, None) => {}
        }
    }

    /// Gives the last state some time to be written.
    pub(super) fn wait_for_last_state(&mut self) {
        self.wall = Some(Deadline::after_ms(LAST_MS));
    }

    /// Returns the time until the next deadline.
    pub(super) fn due(&self) -> Option<Duration> {
        let wall = self.wall.as_ref().map(Deadline::left);
        let piped = self.piped.as_ref().map(|piped| piped.deadline.left());
        [wall, piped, self.ending.as_ref().map(Ending::due)].into_iter().flatten().min()
    }
}

fn not_fetched(why: &str) -> String {
    format!("its branch could not be fetched: {why}")
}

fn not_searched(why: &str, record: &mut Record) {
    record.state.left = Some(Leftovers { unclear: Some(why.to_owned()), ..Leftovers::default() });
}

fn check_ended(index: usize, piped: &Piped, exit: WorkerExit, record: &mut Record) -> Result<(), String> {
    let is_late = piped.deadline.passed();
    let status = match programs::not_begun(record.spec.checks_sandbox.as_ref(), exit, &piped.tail) {
        _ if is_late => "ended at its deadline".to_owned(),
        Some(why) => format!("it could not be started: {why}"),
        None => exit.to_string(),
    };
    let from = piped.tail.len().saturating_sub(TAIL_BYTES);
    let before = record.state.verdict.as_ref().map_or(0, |verdict| verdict.took_ms);
    let result = CheckResult {
        ok: exit == WorkerExit::Code(0) && !is_late,
        name: record.spec.verify[index].name.clone(),
        status,
        tail: record.clean(&plain(&piped.tail[from..])),
        took_ms: before.saturating_add(piped.began.spent_ms()),
    };
    keep_result(record, result)
}

fn keep_result(record: &mut Record, result: CheckResult) -> Result<(), String> {
    let end = if result.ok { Ok(()) } else { Err(result.words()) };
    record.state.verdict = Some(result);
    end
}

/// Notes what a fetch or a search reported, or returns why it failed.
fn collected(piped: &Piped, exit: WorkerExit, record: &mut Record) -> Result<(), String> {
    let stated = record.clean(&String::from_utf8_lossy(&piped.tail));
    let stated: serde_json::Value = serde_json::from_str(stated.trim()).unwrap_or(stated.trim().into());
    let found = serde_json::from_value::<Collected>(stated["collected"].clone()).ok();
    if let (WorkerExit::Code(0), Some(found)) = (exit, found) {
        if found.branch.is_some() {
            (record.state.branch, record.state.user_side) = (found.branch, found.user_side);
        }
        record.state.left = Some(found.left);
        return Ok(());
    }
    let notified = stated["error"].as_str().or(stated.as_str()).filter(|notified| !notified.is_empty());
    Err(match (piped.deadline.passed(), notified) {
        (true, _) => "it ran into its timeout".to_owned(),
        (false, Some(notified)) => clip(notified, MAX_WHY_CHARS),
        (false, None) => exit.to_string(),
    })
}
