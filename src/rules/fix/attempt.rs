//! Pure. Attempts to fix something: their ledger, and the rule that stops an agent that repeats itself.
//!
//! # Terms
//! - *Progress*: fewer failing tests than ever before, or a failure that was not seen before.
//! - *Alike*: near-identical to one of the two previous attempts; see [`similarity`].
//! - *Row*: the number of consecutive attempts up to now that are alike and made no progress. An attempt unlike the
//!   others starts a row of one.
//!
//! The rule reads only the ledger, so that a process that was killed resumes with the same next action.

pub mod delta;
mod rule;
pub mod similarity;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

pub use rule::{EpisodeState, NextAction, episode_state, rule};

/// One line of a ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LedgerLine {
    /// Work on the goal began, or resumed in a new run.
    Begin(Begin),
    /// An agent was called and its work was tested.
    Attempt(Box<Attempt>),
    /// A new plan was demanded after a halt.
    Plan(RepairPlan),
    /// The files were reset to the base, in a fresh clone.
    Rollback(Rollback),
    /// The user was asked. Work is paused until there is an answer.
    Asked(HaltQuestion),
    /// The user answered.
    Answer(AnsweredHalt),
}

/// The state of the goal when work on it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// When work began, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The tree that the work starts with. Another tree starts another episode: earlier attempts no longer count. A
    /// start after a successful attempt does the same.
    pub base: String,
    /// blake3 of the task. An edited task also starts another episode.
    pub task: String,
    /// The signature of the failure at the start; absent if no test was run.
    pub signature: Option<String>,
    /// How many tests failed at the start, if known.
    pub failures: Option<u32>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The tests passed.
    #[strum(to_string = "tests pass")]
    Passed,
    /// The tests failed.
    #[strum(to_string = "tests fail")]
    Failed,
    /// No test was collected, which counts as a failure.
    #[strum(to_string = "no test was collected")]
    NothingTested,
    /// The agent changed the tests that check its work.
    #[strum(to_string = "tests changed")]
    TestsChanged,
    /// The agent deleted the repository.
    #[strum(to_string = "deleted the repository")]
    Deleted,
    /// The agent itself failed.
    #[default]
    #[strum(to_string = "the agent failed")]
    AgentFailed,
    /// The tests passed, but a later command failed.
    #[strum(to_string = "a later command failed")]
    AfterFailed,
    /// The task has no tests, and the agent answered.
    #[strum(to_string = "not tested")]
    Untested,
}

impl AttemptOutcome {
    /// True if the attempt succeeded.
    pub fn is_good(self) -> bool {
        matches!(self, AttemptOutcome::Passed | AttemptOutcome::Untested)
    }
}

/// One attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// The number of the attempt, from 1 in each ledger.
    pub n: u32,
    /// When it ended, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The runner that was called.
    pub runner: String,
    /// The tree of the episode's base.
    pub base: String,
    /// The tree that the attempt started with.
    pub start: String,
    /// The tree at the end of the attempt.
    pub end: String,
    /// The tree that the next attempt starts with, unless there is a rollback: the same as `end`, or the restored tree.
    pub left: String,
    /// The files that differ between start and end.
    pub files: Vec<String>,
    /// Number of added lines.
    pub added: u32,
    /// Number of removed lines.
    pub removed: u32,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The signature of the failure; absent if the tests reported none.
    pub signature: Option<String>,
    /// The failure in one line.
    pub failure: String,
    /// How many tests failed, if known.
    pub failures: Option<u32>,
    /// The presumed cause before the attempt, in one sentence; may be empty.
    pub hypothesis: String,
    /// The earlier attempt that this one resembles.
    pub like: Option<Similarity>,
    /// Input and output tokens.
    pub tokens: u64,
    /// True if the tokens were estimated from bytes.
    pub estimated: bool,
    /// Duration of agent and tests, in milliseconds.
    pub took_ms: i64,
}

/// The earlier attempt that an attempt resembles, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Similarity {
    /// The number of the earlier attempt; 0 is the base.
    pub to: u32,
    /// The kind of similarity.
    pub by: SimilarityBasis,
}

/// Why two attempts are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "snake_case")]
pub enum SimilarityBasis {
    /// It changed nothing.
    #[strum(to_string = "nothing was changed")]
    NoChange,
    /// Both ended with the same files.
    #[strum(to_string = "the resulting files are the same")]
    SameTree,
    /// Both started with the same files and changed them in nearly the same way.
    #[strum(to_string = "nearly the same change")]
    SameChange,
    /// It changed the same lines again and added little that is new.
    #[strum(to_string = "the same lines again, with little new")]
    Rework,
}

/// A new plan after a halt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepairPlan {
    /// When the plan was made, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The number of the last attempt before it.
    pub after: u32,
    /// The runner that made it.
    pub runner: String,
    /// The presumed cause.
    pub hypothesis: String,
    /// What the agent will do differently.
    pub different: String,
    /// Why the plan was refused; absent if it was accepted.
    pub refused: Option<String>,
}

impl RepairPlan {
    /// The text by which plans are compared.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.hypothesis, self.different)
    }
}

/// A reset to the base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// When it was reset, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The number of the last attempt before it.
    pub after: u32,
}

/// A question to the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HaltQuestion {
    /// When it was asked, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The id of the ask.
    pub ask: String,
    /// The reason.
    pub why: String,
}

/// The user's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnsweredHalt {
    /// When it was answered, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The answer, which the next prompt contains.
    pub text: String,
}

/// The thresholds of the rule.
#[derive(Clone, Debug, PartialEq, SmartDefault)]
pub struct BreakerConfig {
    /// The ratio from which two changes, or two plans, count as nearly the same.
    #[default(0.80)]
    pub same_ratio: f64,
    /// The share of changed lines that touch earlier work, from which an attempt counts as rework.
    #[default(0.70)]
    pub rework_share: f64,
    /// Up to this number of new tokens, a rework counts as little new.
    #[default(8)]
    pub novel_tokens: usize,
    /// Up to this share of new tokens, a rework counts as little new.
    #[default(0.35)]
    pub novel_share: f64,
    /// The length of a row that stops the agent; the rule then demands a new plan.
    #[default(3)]
    pub halt: u32,
    /// The length of a row that causes a rollback.
    #[default(4)]
    pub rollback: u32,
    /// After this number of occurrences of the same failure, the rule asks the user.
    #[default(8)]
    pub same_failure: u32,
    /// After this number of new plans that did not help, the rule asks the user.
    #[default(2)]
    pub replans: u32,
}
