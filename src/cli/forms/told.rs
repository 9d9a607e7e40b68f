//! Forms of what looop tells when it did or looked something up: a beat, reasons, costs, attempts, a map, a check-up.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::attempt::Line;
use crate::model::beat::Failure;
use crate::model::charge::Usage;
use crate::model::entry::Outcome;
use crate::model::name::Name;
use crate::model::spend::Row;
use crate::model::world::{Change, Trust};
use crate::tick::gate::Hold;

/// What a beat did.
#[derive(Serialize, JsonSchema)]
pub struct Beat {
    /// What.
    pub did: Did,
    /// Held: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Hold>,
    /// Moved: the move's tag.
    #[serde(rename = "move", skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Moved: the beat's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beat: Option<String>,
    /// Moved: what became of the move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Failed: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What a human should know.
    pub warnings: Vec<String>,
    /// What the call used.
    pub usage: Option<Usage>,
    /// When the next beat is due at the latest, in milliseconds.
    pub next_look_ms: Option<i64>,
}

/// In one word.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// It asked nobody.
    Held,
    /// It decided.
    Moved,
    /// The decision failed.
    Failed,
    /// It was interrupted or paused; no move was made.
    Cancelled,
    /// It decided, and the next beat makes the move.
    Waits,
}

/// What woke the loop, and what would.
#[derive(Serialize, JsonSchema)]
pub struct Why {
    /// The last decision.
    pub last: Option<Woken>,
    /// What the next beat would do, in words.
    pub next: String,
    /// What each sensor woke and cost in the last seven days.
    pub week_by_sensor: Vec<Row>,
}

/// Why a decision was made.
#[derive(Serialize, JsonSchema)]
pub struct Woken {
    /// The beat's id.
    pub beat: String,
    /// When, in local time.
    pub at: String,
    /// The reasons in words.
    pub woke: Vec<String>,
    /// What had changed.
    pub changes: Vec<Change>,
}

/// What was spent.
#[derive(Serialize, JsonSchema)]
pub struct Cost {
    /// One row for each key.
    pub rows: Vec<Row>,
    /// All of it.
    pub total: Row,
}

/// Who waits for a human.
#[derive(Serialize, JsonSchema)]
pub struct Waiting {
    /// The worker; null where the loop itself asks.
    pub worker: Option<Name>,
    /// The ask.
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
    /// Its name.
    pub id: Name,
    /// Its directory in `workers/past/`.
    pub dir: String,
    /// Whether it was removed.
    pub removed: bool,
    /// Why it is kept.
    pub kept: Option<String>,
}

/// The goals of `looop fix`.
#[derive(Serialize, JsonSchema)]
pub struct Attempted {
    /// Each as FIX/GOAL.
    pub goals: Vec<String>,
}

/// What was tried for one goal of `looop fix`.
#[derive(Serialize, JsonSchema)]
pub struct Attempts {
    /// The goal.
    pub goal: Name,
    /// The ledger, oldest first.
    pub lines: Vec<Line>,
    /// How many attempts up to now are alike.
    pub row: u32,
    /// What comes next, in words.
    pub next: String,
}

/// Which files of a project matter.
#[derive(Serialize, JsonSchema)]
pub struct Mapped {
    /// The project.
    pub root: String,
    /// False: nothing was asked, or nothing of it is known here.
    pub aimed: bool,
    /// The files, the first matters most.
    pub files: Vec<MappedFile>,
    /// What was read for it.
    pub index: Indexed,
    /// The files as an agent gets them; only with `--tokens`.
    pub text: Option<String>,
    /// How many tokens that is, about.
    pub tokens: Option<usize>,
}

/// A file of a project.
#[derive(Serialize, JsonSchema)]
pub struct MappedFile {
    /// Its path from the root.
    pub path: String,
    /// Its share of the attention, 0 to 1.
    pub rank: f64,
    /// Why it matters.
    pub why: Vec<String>,
    /// Whether it is a test.
    pub test: bool,
    /// What it defines.
    pub defines: Vec<Defined>,
}

/// A definition.
#[derive(Serialize, JsonSchema)]
pub struct Defined {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Its first line, from 1.
    pub line: u32,
    /// Its last line.
    pub end: u32,
}

/// What was read of a project.
#[derive(Serialize, JsonSchema)]
pub struct Indexed {
    /// Files of the project.
    pub files: usize,
    /// False where there are more than are looked at.
    pub all: bool,
    /// Files that were read now.
    pub parsed: usize,
    /// Files that were not read: too large, binary, generated.
    pub skipped: usize,
    /// Files that their grammar did not understand as a whole.
    pub partial: usize,
    /// Files for which there was no time.
    pub late: usize,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// What is missing, in words.
    pub gaps: Vec<String>,
}

/// What the doctor found.
#[derive(Serialize, JsonSchema)]
pub struct Finding {
    /// How it is.
    pub health: Health,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What mends it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<String>,
}

/// How one thing was found.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Good,
    /// It works, with less.
    Odd,
    /// It must be mended.
    Bad,
}

/// How a runner did that was tried.
#[derive(Serialize, JsonSchema)]
pub struct RunnerTried {
    /// Each fact in words.
    pub said: Map<String, Value>,
    /// What came of the question.
    pub tried: Tried,
}

/// What came of a question to a runner.
#[derive(Serialize, JsonSchema)]
pub struct Tried {
    /// Whether it can decide.
    pub ok: bool,
    /// The class of the failure.
    pub class: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// What it used.
    pub usage: Usage,
}

/// A ready-made sensor.
#[derive(Serialize, JsonSchema)]
pub struct Example {
    /// Its name.
    pub name: String,
    /// What it tells.
    pub about: String,
    /// What must be there for it.
    pub needs: String,
    /// How often it runs at most, in milliseconds.
    pub interval_ms: Option<i64>,
    /// Its deadline, in milliseconds.
    pub timeout_ms: Option<i64>,
    /// Whether its text is vouched for.
    pub trust: Trust,
    /// Names of variables that it gets.
    pub env: Vec<String>,
    /// What can be set.
    pub settings: Vec<ExampleSetting>,
}

/// A setting of a ready-made sensor.
#[derive(Serialize, JsonSchema)]
pub struct ExampleSetting {
    /// The variable.
    pub name: String,
    /// What it is.
    pub about: String,
    /// What it is where nothing is said.
    pub default: String,
    /// True where the sensor does nothing without a value.
    pub needed: bool,
}
