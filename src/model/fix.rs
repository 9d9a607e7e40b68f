//! Pure. A fix in progress: one project, its tasks in order, and where they stand.

use serde::{Deserialize, Serialize};

use super::name::Name;
use super::signature::Report;

/// The form of `run.json`. Replaced as a whole at each step, so that a killed fix goes on where it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The top of the project's files, absolute.
    pub project: String,
    /// blake3 of all that was asked for; a run that asks for something else is another one.
    pub asked: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub began_ms: i64,
    /// The commit of the project's HEAD; none where it is no git repository.
    pub head: Option<String>,
    /// The commit, among the attempts, of the project's files as they were.
    pub base: String,
    /// Its tree.
    pub base_tree: String,
    /// The tree of what counts by now.
    pub tree: String,
    /// The tasks.
    pub tasks: Vec<TaskState>,
    /// The attempt under way.
    pub under_way: Option<UnderWay>,
    /// What the last call ran again and again, where it did.
    pub looped: Option<String>,
    /// True when all tasks are through and the result is being brought into the project.
    pub landing: bool,
    /// How it ended; none while it has not.
    pub end: Option<String>,
}

/// One task of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskState {
    /// Its name as a goal: the name of its ledger and of its refs.
    pub goal: Name,
    /// Its name.
    pub title: String,
    /// Where it stands.
    pub status: Status,
    /// The number of its first attempt in this run.
    pub first: u32,
    /// How many tests there were before anything was done.
    pub before: Option<Counts>,
    /// What there is to say about it.
    pub note: String,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// Tokens that it took, of all calls.
    pub tokens: u64,
    /// Tokens of those calls that went to the first runner.
    pub local_tokens: u64,
    /// True where a count comes from bytes.
    pub estimated: bool,
}

/// How many tests a run had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// The test runner.
    pub kind: String,
    /// Tests that ran; none where it is not known.
    pub ran: Option<u32>,
    /// Tests that were skipped.
    pub skipped: u32,
}

impl Counts {
    /// The counts of a report.
    pub fn of(report: &Report) -> Counts {
        let ran = report.good.zip(report.bad).map(|(good, bad)| good.saturating_add(bad));
        Counts { kind: format!("{:?}", report.kind), ran, skipped: report.skipped.unwrap_or(0) }
    }
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing was done for it.
    Waiting,
    /// Attempts are made.
    Running,
    /// The tests passed before anything was done.
    PassedBefore,
    /// Its work is done and tested.
    Done,
    /// Its work is done, and it asks for no tests.
    Untested,
    /// No attempt succeeded.
    Failed,
    /// A human is asked.
    Stuck,
}

impl Status {
    /// The status in words.
    pub fn words(self) -> &'static str {
        match self {
            Status::Waiting => "not begun",
            Status::Running => "running",
            Status::PassedBefore => "passed before",
            Status::Done => "done",
            Status::Untested => "done, not tested",
            Status::Failed => "failed",
            Status::Stuck => "waits for you",
        }
    }

    /// True when the next task may begin.
    pub fn is_good(self) -> bool {
        matches!(self, Status::PassedBefore | Status::Done | Status::Untested)
    }
}

/// An attempt that has begun and is in no ledger yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnderWay {
    /// The goal.
    pub goal: Name,
    /// The attempt's number.
    pub n: u32,
    /// The tree that it began with.
    pub start: String,
    /// What was thought to be wrong.
    pub hypothesis: String,
    /// What the agent used, once it has ended.
    pub called: Option<Called>,
}

/// A call of an agent that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Called {
    /// Who was called.
    pub runner: String,
    /// Tokens in and out.
    pub tokens: u64,
    /// True where they were counted from bytes.
    pub estimated: bool,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// Why the call failed; none where the agent answered.
    pub failed: Option<String>,
}
