//! Pure. The life of a worker: its stages, and what its supervisor does at each event.
//!
//! The supervisor reports each event to [`next`] and performs the returned effects in order. A worker runs its command,
//! then the checks of its work, then the fetch of its branch. What a stage leaves running is ended before the next stage
//! begins. A request to end the worker skips the stages that are left; only its clone is still searched. At the very end
//! the supervisor reads the fence, releases the leases and writes the end.

use crate::rules::time::human_ms;
use crate::rules::worker::{Phase, WorkerExit};

/// The stage of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Its command is being started.
    #[default]
    Starting,
    /// Its command runs.
    Running,
    /// Its command does not run until a usage limit ends.
    Limited,
    /// The check with this number runs.
    Checking(usize),
    /// Its branch is being fetched.
    Fetching,
    /// Its clone is searched for work that exists nowhere else.
    Searching,
    /// What is left of its processes is being ended.
    Ending,
    /// Its processes have ended, and the fence is being read.
    Closing,
    /// Its end is written.
    Ended,
}

/// Why a worker is ended before its work is finished.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EndCause {
    #[error("the user or a move ended it")]
    User,
    #[error("the supervisor was asked to end")]
    Signal,
    /// It ran for so long, in milliseconds.
    #[error("it ran for {}", human_ms(*.0))]
    WallTime(i64),
    /// It printed more than so many bytes.
    #[error("it printed more than {} MiB", .0 >> 20)]
    Output(u64),
    #[error("it lost its lease: {0}")]
    Leases(String),
    /// It may spend no more.
    #[error("{0}")]
    Spending(String),
    /// It does not wait for a usage limit.
    #[error("{0}")]
    UsageLimit(String),
}

impl EndCause {
    fn phase(&self) -> Phase {
        match self {
            EndCause::User | EndCause::Signal => Phase::Killed,
            _ => Phase::Failed,
        }
    }
}

/// What a supervisor observes about its worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WorkerEvent {
    /// Its command was started.
    Started,
    /// The process of this stage could not be started.
    NotStarted(String),
    /// Its command ended; the text says why it never began.
    ProgramEnded(WorkerExit, Option<String>),
    /// A usage limit keeps its command from starting, or ended it.
    Limited,
    /// That limit has ended.
    LimitEnded,
    /// It reported that its work is done.
    DoneCalled,
    /// The check, the fetch or the search of this stage ended; the text says how it failed.
    TaskEnded(Result<(), String>),
    /// None of its processes is left.
    ProcessesGone,
    EndRequested(EndCause),
    /// The fence was read; the text names a lost lease.
    FenceRead(Option<String>),
}

/// What a supervisor must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WorkerEffect {
    /// Write this phase.
    Enter(Phase),
    /// Withdraw the flag and the question of the ended command.
    Withdraw,
    /// End all processes of the worker, however long that takes.
    EndProcesses,
    /// Start the command, or the one that continues it.
    StartCommand,
    StartCheck(usize),
    StartFetch,
    StartSearch,
    ReadFence,
    /// Forget the result of the checks: it does not count.
    DropResult,
    ReleaseLeases,
    WriteEnd(WorkerOutcome),
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkerOutcome {
    pub phase: Phase,
    /// Why, if the exit status does not say it.
    pub why: Option<String>,
}

impl WorkerOutcome {
    fn failed(why: String) -> WorkerOutcome {
        WorkerOutcome { phase: Phase::Failed, why: Some(why) }
    }
}

/// What the rule remembers of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WorkerLife {
    /// How many checks its work has.
    checks: usize,
    stage: Stage,
    /// How its command ended.
    exit: Option<WorkerExit>,
    passed: usize,
    /// How a check failed.
    failed: Option<String>,
    /// True if its clone needs no search, or no further one.
    searched: bool,
    fetched: bool,
    /// True if its command waits for the end of a usage limit once its processes have ended.
    is_limited: bool,
    /// The end that was decided before its work was finished.
    decided: Option<WorkerOutcome>,
}

impl WorkerLife {
    /// Makes the life of a worker whose command is about to start.
    pub fn new(checks: usize, has_clone: bool) -> WorkerLife {
        WorkerLife { checks, searched: !has_clone, fetched: !has_clone, ..WorkerLife::default() }
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    fn program_ended(&mut self, exit: WorkerExit, not_begun: Option<String>) -> Vec<WorkerEffect> {
        self.exit = Some(exit);
        self.decided = not_begun.map(WorkerOutcome::failed);
        self.stage = Stage::Ending;
        vec![WorkerEffect::Withdraw, WorkerEffect::EndProcesses]
    }

    fn end_processes(&mut self) -> Vec<WorkerEffect> {
        self.stage = Stage::Ending;
        vec![WorkerEffect::EndProcesses]
    }

    /// Begins the next stage of the work, or closes it.
    fn advance(&mut self) -> Vec<WorkerEffect> {
        if std::mem::take(&mut self.is_limited) && self.decided.is_none() {
            self.stage = Stage::Limited;
            return Vec::new();
        }
        let is_well = self.exit == Some(WorkerExit::Code(0)) && self.failed.is_none();
        match self.decided {
            None if is_well && self.passed < self.checks => {
                self.stage = Stage::Checking(self.passed);
                vec![WorkerEffect::Enter(Phase::Verifying), WorkerEffect::StartCheck(self.passed)]
            }
            None if is_well && !self.fetched => {
                self.stage = Stage::Fetching;
                vec![WorkerEffect::StartFetch]
            }
            _ => self.close(),
        }
    }

    fn close(&mut self) -> Vec<WorkerEffect> {
        if std::mem::replace(&mut self.searched, true) {
            self.stage = Stage::Closing;
            return vec![WorkerEffect::ReadFence];
        }
        self.stage = Stage::Searching;
        vec![WorkerEffect::StartSearch]
    }

    fn finish(&mut self, outcome: WorkerOutcome) -> Vec<WorkerEffect> {
        self.stage = Stage::Ended;
        vec![WorkerEffect::ReleaseLeases, WorkerEffect::WriteEnd(outcome)]
    }

    /// Returns how it ends, whatever the fence says.
    fn outcome(&mut self) -> WorkerOutcome {
        if let Some(end) = self.decided.take() {
            return end;
        }
        match (self.exit, self.failed.take()) {
            (None, _) => WorkerOutcome::failed("its end was not observed".to_owned()),
            (Some(WorkerExit::Code(0)), Some(why)) => WorkerOutcome::failed(why),
            (Some(WorkerExit::Code(0)), None) => {
                WorkerOutcome { phase: if self.checks == 0 { Phase::Exited } else { Phase::Done }, why: None }
            }
            (Some(exit), _) => WorkerOutcome::failed(exit.to_string()),
        }
    }
}

/// Returns the life after an event, and what the supervisor must do, in order. Events that do not fit the stage, such
/// as a second request to end, change nothing.
pub fn next(mut life: WorkerLife, event: WorkerEvent) -> (WorkerLife, Vec<WorkerEffect>) {
    let effects = match (life.stage, event) {
        (Stage::Starting, WorkerEvent::Started) => {
            life.stage = Stage::Running;
            vec![WorkerEffect::Enter(Phase::Running)]
        }
        (Stage::Starting, WorkerEvent::NotStarted(why)) => life.finish(WorkerOutcome::failed(why)),
        (Stage::Starting, WorkerEvent::Limited) => {
            life.stage = Stage::Limited;
            Vec::new()
        }
        (Stage::Running, WorkerEvent::Limited) => {
            life.is_limited = true;
            life.stage = Stage::Ending;
            vec![WorkerEffect::Withdraw, WorkerEffect::EndProcesses]
        }
        (Stage::Limited, WorkerEvent::LimitEnded) => {
            life.stage = Stage::Running;
            vec![WorkerEffect::Enter(Phase::Running), WorkerEffect::StartCommand]
        }
        (Stage::Running, WorkerEvent::NotStarted(why)) => {
            life.decided = Some(WorkerOutcome::failed(why));
            life.end_processes()
        }
        (Stage::Running, WorkerEvent::ProgramEnded(exit, not_begun)) => life.program_ended(exit, not_begun),
        // The end of the program is not a failure then.
        (Stage::Running, WorkerEvent::DoneCalled) => life.program_ended(WorkerExit::Code(0), None),
        (Stage::Checking(_), WorkerEvent::TaskEnded(result)) => {
            life.passed += usize::from(result.is_ok());
            life.failed = result.err();
            life.end_processes()
        }
        (Stage::Checking(_), WorkerEvent::NotStarted(why)) => {
            life.failed = Some(why);
            life.close()
        }
        (Stage::Fetching, WorkerEvent::TaskEnded(result)) => {
            (life.fetched, life.searched) = (true, result.is_ok());
            life.decided = result.err().map(WorkerOutcome::failed);
            life.end_processes()
        }
        (Stage::Fetching, WorkerEvent::NotStarted(why)) => {
            life.decided = Some(WorkerOutcome::failed(why));
            life.close()
        }
        (Stage::Searching, WorkerEvent::TaskEnded(_)) => life.end_processes(),
        (Stage::Searching, WorkerEvent::NotStarted(_)) => life.close(),
        (Stage::Ending, WorkerEvent::ProcessesGone) => life.advance(),
        (Stage::Closing, WorkerEvent::FenceRead(lost)) => {
            let outcome = life.outcome();
            match lost.filter(|_| outcome.phase != Phase::Killed && outcome.phase != Phase::Failed) {
                None => life.finish(outcome),
                // The result of its work does not count, because another holder has a lease by now.
                Some(lost) => {
                    let why = format!("its end does not count: {lost}");
                    [vec![WorkerEffect::DropResult], life.finish(WorkerOutcome::failed(why))].concat()
                }
            }
        }
        (Stage::Starting | Stage::Closing | Stage::Ended, _) => Vec::new(),
        (_, WorkerEvent::EndRequested(cause)) if life.decided.is_none() => {
            life.decided = Some(WorkerOutcome { phase: cause.phase(), why: Some(cause.to_string()) });
            life.end_processes()
        }
        _ => Vec::new(),
    };
    (life, effects)
}

#[cfg(test)]
#[path = "lifecycle_model_tests.rs"]
mod model_tests;
