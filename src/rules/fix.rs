//! Pure. A fix in progress: one project, its tasks in order, and their status.

pub mod attempt;
pub mod signature;
pub mod tokens;
pub mod transcript;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fix::signature::TestReport;
use super::name::Name;

/// The content of `run.json`. It is replaced as a whole at each step, so that a killed fix can resume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixSession {
    /// The root directory of the project, absolute.
    pub project: String,
    /// blake3 of the whole request; a different request starts another run.
    pub asked: String,
    /// When the run began, in milliseconds since the Unix epoch.
    pub began_ms: i64,
    /// The commit of the project's HEAD; `None` if the project is not a git repository.
    pub head: Option<String>,
    /// The commit, in the attempts' repository, of the project's files at the start.
    pub base: String,
    /// The tree of `base`.
    pub base_tree: String,
    /// The tree with all accepted work so far.
    pub tree: String,
    pub tasks: Vec<TaskState>,
    /// The running attempt.
    pub under_way: Option<UnderWay>,
    /// The command that the last call repeated without progress, if any.
    pub looped: Option<String>,
    /// True if all tasks are finished and the result is being applied to the project.
    #[serde(alias = "landing")]
    pub applying: bool,
    /// How the run ended; `None` while it is running.
    pub end: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskState {
    /// The task as a goal: the name of its ledger and of its refs.
    pub goal: Name,
    /// The task's title.
    pub title: String,
    pub status: TaskStatus,
    /// The number of its first attempt in this run.
    pub first: u32,
    /// The test counts before any work.
    pub before: Option<Counts>,
    /// A remark about the task.
    pub note: String,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// The tokens of all its calls.
    pub tokens: u64,
    /// The tokens of its calls to the first runner.
    pub local_tokens: u64,
    /// True if a token count is estimated from bytes.
    pub estimated: bool,
}

/// The test counts of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// The test framework.
    pub kind: String,
    /// Tests that ran; `None` if unknown.
    pub ran: Option<u32>,
    /// Tests that were skipped.
    pub skipped: u32,
}

impl Counts {
    /// The counts of a report.
    pub fn of(report: &TestReport) -> Counts {
        let ran = report.good.zip(report.bad).map(|(good, bad)| good.saturating_add(bad));
        Counts { kind: format!("{:?}", report.kind), ran, skipped: report.skipped.unwrap_or(0) }
    }
}

/// The status of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TaskStatus {
    /// Nothing was done yet.
    #[strum(to_string = "not begun")]
    Waiting,
    /// An attempt is running.
    #[strum(to_string = "running")]
    Running,
    /// The tests passed before any work.
    #[strum(to_string = "passed before")]
    PassedBefore,
    /// Its work is done and tested.
    #[strum(to_string = "done")]
    Done,
    /// Its work is done, and the task has no tests.
    #[strum(to_string = "done, not tested")]
    Untested,
    /// No attempt succeeded.
    #[strum(to_string = "failed")]
    Failed,
    /// It waits for an answer of the user.
    #[strum(to_string = "waits for you")]
    Stuck,
}

impl TaskStatus {
    /// True if the next task may start.
    pub fn is_good(self) -> bool {
        matches!(self, TaskStatus::PassedBefore | TaskStatus::Done | TaskStatus::Untested)
    }
}

/// An attempt that began and has no line in a ledger yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnderWay {
    pub goal: Name,
    /// The attempt's number.
    pub n: u32,
    /// The tree that it started with.
    pub start: String,
    /// The presumed cause of the failure.
    pub hypothesis: String,
    /// The agent's call, once it has ended.
    pub called: Option<Called>,
}

/// A completed call of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Called {
    /// The runner that was called.
    pub runner: String,
    /// Input and output tokens.
    pub tokens: u64,
    /// True if the tokens are estimated from bytes.
    pub estimated: bool,
    /// How long the call took, in milliseconds.
    pub took_ms: i64,
    /// Why the call failed; `None` if the agent answered.
    pub failed: Option<String>,
    /// The tree of its work, once that is stored. Tests run after that.
    pub tree: Option<String>,
}
