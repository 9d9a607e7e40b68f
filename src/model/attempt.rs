//! Pure. Attempts to fix something: their ledger, and the rule that stops an agent which repeats itself.
//!
//! # Words
//! - *Progress*: fewer failing tests than ever before, or a failure that was not seen before.
//! - *Alike*: near-identical to one of the two attempts before; see [`alike`].
//! - *Row*: how many attempts up to now are alike, one after the other, without progress. An attempt that is like no
//!   other begins a row of one.
//!
//! The rule reads nothing but the ledger, so that a process that was killed goes on with the same verdict.

pub mod alike;
pub mod delta;
mod rule;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use rule::{Ruling, Standing, rule, standing};

/// One line of a ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    /// Work on the goal began, or goes on in a new run.
    Begin(Begin),
    /// An agent was called and its work was tested.
    Attempt(Box<Attempt>),
    /// A new plan was demanded after a halt.
    Plan(Plan),
    /// The files were taken back to the base, in a fresh clone.
    Rollback(Rollback),
    /// A human was asked, and nothing runs until there is an answer.
    Asked(Asked),
    /// The human answered.
    Answer(Answered),
}

/// What the goal was when work on it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The tree that the work begins with. Another one is another episode: no attempt before it counts. So is what
    /// begins behind a good attempt.
    pub base: String,
    /// blake3 of the task. An edited task is another episode, too.
    pub task: String,
    /// The signature of the failure that was there before; none where nothing was tested.
    pub signature: Option<String>,
    /// How many tests failed before, where that is known.
    pub failures: Option<u32>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The tests passed.
    Passed,
    /// The tests failed.
    Failed,
    /// No test was collected, which is a failure.
    NothingTested,
    /// The agent changed the tests that it is judged by.
    TestsChanged,
    /// The agent deleted the repository.
    Deleted,
    /// The agent itself failed.
    AgentFailed,
    /// The tests passed, and a command that was to follow failed.
    AfterFailed,
    /// The task asks for no tests, and the agent answered.
    Untested,
}

impl Outcome {
    /// The outcome in words.
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Passed => "tests pass",
            Outcome::Failed => "tests fail",
            Outcome::NothingTested => "no test was collected",
            Outcome::TestsChanged => "tests changed",
            Outcome::Deleted => "deleted the repository",
            Outcome::AgentFailed => "the agent failed",
            Outcome::AfterFailed => "a command afterwards failed",
            Outcome::Untested => "not tested",
        }
    }

    /// True when the work counts.
    pub fn is_good(self) -> bool {
        matches!(self, Outcome::Passed | Outcome::Untested)
    }
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Its number, from 1 on in each ledger.
    pub n: u32,
    /// When it ended, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Who was called.
    pub runner: String,
    /// The tree of the episode's base.
    pub base: String,
    /// The tree that it began with.
    pub start: String,
    /// The tree that it left.
    pub end: String,
    /// The tree that the next attempt begins with, unless there is a rollback: the same, or what was restored.
    pub left: String,
    /// The files that differ between start and end.
    pub files: Vec<String>,
    /// Lines that it added.
    pub added: u32,
    /// Lines that it removed.
    pub removed: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The signature of the failure; none where no test said anything.
    pub signature: Option<String>,
    /// The failure in one line.
    pub failure: String,
    /// How many tests failed, where that is known.
    pub failures: Option<u32>,
    /// What was thought to be wrong before it, in one sentence; may be empty.
    pub hypothesis: String,
    /// The earlier attempt that it is like.
    pub like: Option<Alike>,
    /// Tokens in and out.
    pub tokens: u64,
    /// True where tokens were counted from bytes.
    pub estimated: bool,
    /// How long agent and tests took, in milliseconds.
    pub took_ms: i64,
}

/// What an attempt is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alike {
    /// The number of the earlier attempt; 0 is the base.
    pub to: u32,
    /// By what.
    pub by: By,
}

/// By what two attempts are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// It changed nothing.
    NoChange,
    /// Both left the same files.
    SameTree,
    /// Both began with the same files and changed them in much the same way.
    SameChange,
    /// It went over the same lines again and brought little that is new.
    Rework,
}

impl By {
    /// The reason in words, for `like attempt 2: …`.
    pub fn words(self) -> &'static str {
        match self {
            By::NoChange => "nothing was changed",
            By::SameTree => "the same files came out",
            By::SameChange => "much the same change",
            By::Rework => "the same lines again, little new",
        }
    }
}

/// A plan after a halt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Behind which attempt.
    pub after: u32,
    /// Who made it.
    pub runner: String,
    /// What is thought to be wrong.
    pub hypothesis: String,
    /// What is done differently.
    pub different: String,
    /// Why it is no plan; none where it is taken.
    pub refused: Option<String>,
}

impl Plan {
    /// What is compared between plans.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.hypothesis, self.different)
    }
}

/// A return to the base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Behind which attempt.
    pub after: u32,
}

/// A question to the human.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The ask's id.
    pub ask: String,
    /// Why.
    pub why: String,
}

/// What the human said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The answer; the next prompt holds it.
    pub text: String,
}

/// The figures of the rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// From which ratio on two changes, or two plans, are much the same.
    pub same_ratio: f64,
    /// From which share of its lines on an attempt goes over earlier ones again.
    pub rework_share: f64,
    /// Up to how many new tokens a rework brings little.
    pub novel_tokens: usize,
    /// Up to which share of new tokens a rework brings little.
    pub novel_share: f64,
    /// A row of so many is halted and a new plan is demanded.
    pub halt: u32,
    /// A row of so many is rolled back.
    pub rollback: u32,
    /// The same failure so often: a human is asked.
    pub same_failure: u32,
    /// So many new plans that did not help: a human is asked.
    pub replans: u32,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            same_ratio: 0.80,
            rework_share: 0.70,
            novel_tokens: 8,
            novel_share: 0.35,
            halt: 3,
            rollback: 4,
            same_failure: 8,
            replans: 2,
        }
    }
}
