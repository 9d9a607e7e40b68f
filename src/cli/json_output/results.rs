//! JSON forms of results: a beat, its reasons, costs, attempts, a map, and the findings of the doctor.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::map::{IndexUpdate, Ranked};
use crate::rules::beat::entry::MoveOutcome;
use crate::rules::beat::gate::Hold;
use crate::rules::beat::state::Failure;
use crate::rules::cost::charge::Usage;
use crate::rules::cost::spend::SpendRow;
use crate::rules::fix::attempt::LedgerLine;
use crate::rules::name::Name;
use crate::rules::world::WorldChange;
use crate::rules::world::example::Setting;
use crate::rules::world::sensor::SensorHeader;

/// The result of a beat.
#[derive(Default, Serialize, JsonSchema)]
pub struct BeatJson {
    /// The kind of result.
    pub result: BeatStatus,
    /// Only if skipped: the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Hold>,
    /// Only if applied: the tag of the move.
    #[serde(rename = "move", skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Only if applied: the id of the beat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beat: Option<String>,
    /// Only if applied: the outcome of the move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<MoveOutcome>,
    /// Only if failed: the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// The usage of the model call.
    pub usage: Option<Usage>,
    /// The latest time of the next beat, in milliseconds from now.
    pub next_beat_due_ms: Option<i64>,
}

/// The kind of a beat's result.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BeatStatus {
    /// The beat asked no model.
    #[default]
    Skipped,
    /// The beat made a move.
    Applied,
    /// The decision failed.
    Failed,
    /// It was interrupted or paused; no move was made.
    Cancelled,
    /// It decided, and the next beat makes the move.
    Waiting,
}

/// What woke the loop last, and what would wake it now.
#[derive(Serialize, JsonSchema)]
pub struct Why {
    /// The last decision.
    pub last: Option<Woken>,
    /// What the next beat would do, in words.
    pub next: String,
    /// What each sensor woke and cost in the last seven days.
    pub week_by_sensor: Vec<SpendRow>,
}

/// The reasons of a decision.
#[derive(Serialize, JsonSchema)]
pub struct Woken {
    /// The beat's id.
    pub beat: String,
    /// The local time of the decision.
    pub at: String,
    /// The reasons in words.
    pub woke: Vec<String>,
    /// The changes that the decision saw.
    pub changes: Vec<WorldChange>,
}

/// The cost in a period.
#[derive(Serialize, JsonSchema)]
pub struct Cost {
    /// One row for each key.
    pub rows: Vec<SpendRow>,
    /// The sum.
    pub total: SpendRow,
}

/// Something that waits for the user.
#[derive(Serialize, JsonSchema)]
pub struct Waiting {
    /// The worker; null if the loop itself asks.
    pub worker: Option<Name>,
    /// The id of the ask; null for a flag.
    pub ask: Option<Name>,
    /// The flag's or the question's text.
    pub text: Option<String>,
    /// The commands that show more, for the text form.
    #[serde(skip)]
    pub look: String,
}

/// What `looop prune` did with one worker.
#[derive(Serialize, JsonSchema)]
pub struct Pruned {
    /// The name of the worker.
    pub id: Name,
    /// The worker's directory in `workers/past/`.
    pub dir: String,
    /// True if the worker's data was deleted.
    pub removed: bool,
    /// Why the data is kept.
    pub kept: Option<String>,
}

/// The attempts for one goal of `looop fix`.
#[derive(Serialize, JsonSchema)]
pub struct Attempts {
    /// The goal.
    pub goal: Name,
    /// The ledger, oldest first.
    pub lines: Vec<LedgerLine>,
    /// How many of the latest attempts are alike.
    pub row: u32,
    /// The next step, in words.
    pub next: String,
}

/// The files of a project that matter for a question.
#[derive(Serialize, JsonSchema)]
pub struct Mapped {
    /// The path of the project.
    pub root: String,
    /// False if no question was given, or none of its words occur in the project.
    pub aimed: bool,
    /// The files, most important first.
    pub files: Vec<Ranked>,
    /// What was read for the answer.
    pub index: Indexed,
    /// The files as an agent gets them; only with `--tokens`.
    pub text: Option<String>,
    /// The estimated number of tokens of that text.
    pub tokens: Option<usize>,
}

/// What was read of a project.
#[derive(Serialize, JsonSchema)]
pub struct Indexed {
    #[serde(flatten)]
    pub update: IndexUpdate,
    /// The duration in milliseconds.
    pub took_ms: i64,
    /// The gaps of the map, in words.
    pub gaps: Vec<String>,
}

/// A finding of the doctor.
#[derive(Serialize, JsonSchema)]
pub struct Finding {
    /// How serious the finding is.
    pub health: CheckStatus,
    /// The checked thing.
    pub what: String,
    /// The result of the check.
    pub found: String,
    /// How to fix it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<String>,
}

/// How serious a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Everything is in order.
    Good,
    /// It works with restrictions.
    Odd,
    /// It must be fixed.
    Bad,
}

/// The test of a runner.
#[derive(Serialize, JsonSchema)]
pub struct RunnerTried {
    /// Each fact in words.
    pub stated: Map<String, Value>,
    /// The result of the test question.
    pub tried: RunnerTrial,
}

/// The result of a test question to a runner.
#[derive(Serialize, JsonSchema)]
pub struct RunnerTrial {
    /// True if the runner can decide.
    pub ok: bool,
    /// The kind of failure.
    pub class: Option<String>,
    /// The duration in milliseconds.
    pub took_ms: i64,
    /// The usage of the call.
    pub usage: Usage,
}

/// A ready-made sensor.
#[derive(Serialize, JsonSchema)]
pub struct Example {
    /// The name.
    pub name: String,
    /// What it observes.
    pub about: String,
    /// What it requires.
    pub needs: String,
    #[serde(flatten)]
    pub header: SensorHeader,
    /// The settings.
    pub settings: Vec<Setting>,
}
