//! Pure. The world of one beat: sensor readings, looop's own state, and the digests by which changes are detected.

pub mod example;
pub mod front_matter;
pub mod sensor;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::beat::ask::AnsweredQuestion;
use super::beat::schedule::Due;
use super::beat::state::{Failure, LastResult, LoopState};
use super::digest::{Digest, Items, digest, digest_items};
use super::json::{PathChange, canonical};
use super::name::Name;
use super::time::Now;
use super::worker::{Deliverable, WorkerView};

/// The version of the prompt's format; a recorded world contains the version of its prompt.
pub const PROMPT_VERSION: u32 = 2;

/// Whether the user trusts what a sensor prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The user wrote the sensor and trusts its source.
    #[default]
    Trusted,
    /// The output may contain untrusted text.
    Untrusted,
}

/// What one sensor reported; the content of `snapshots/<name>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SensorReading {
    /// False if the sensor failed; `signal.error` then says how.
    pub ok: bool,
    /// Whether its text is trusted.
    pub trust: Trust,
    /// The part whose change wakes the loop.
    pub signal: Value,
    /// More data for the decider, whose change does not wake the loop.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

impl SensorReading {
    /// Converts a sensor's output: `{"signal":…,"detail":…}` is split, any other object becomes the signal.
    pub fn from_output(value: Value, trust: Trust) -> SensorReading {
        let is_split = value.as_object().is_some_and(|map| {
            map.contains_key("signal") && map.keys().all(|key| key == "signal" || key == "detail")
        });
        let (signal, detail) = match is_split {
            true => (value["signal"].clone(), value["detail"].clone()),
            false => (value, Value::Null),
        };
        SensorReading { ok: true, trust, signal, detail }
    }

    /// Creates the reading of a failed sensor. `error` is one of a few fixed words and `exit` a small number, so that a
    /// sensor that fails twice in the same way does not wake the loop twice.
    pub fn failed(error: &str, exit: Option<i32>, detail: Value, trust: Trust) -> SensorReading {
        let mut signal = serde_json::json!({ "error": error });
        if let Some(code) = exit {
            signal["exit_code"] = code.into();
        }
        SensorReading { ok: false, trust, signal, detail }
    }

    /// The digest of the signal.
    pub fn digest(&self) -> Digest {
        digest(&[b"reading", &[u8::from(self.ok)], canonical(&self.signal).as_bytes()])
    }
}

/// A goal's text, or why it could not be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    Text(String),
    /// Why there is no text: too large, not UTF-8, a symbolic link, no permission.
    Unreadable(String),
}

impl Goal {
    /// The digest of the text, or of the reason, so that an unreadable goal never looks like an absent one.
    pub fn digest(&self) -> Digest {
        match self {
            Goal::Text(text) => digest(&[b"goal", text.as_bytes()]),
            Goal::Unreadable(why) => digest(&[b"unreadable", why.as_bytes()]),
        }
    }
}

/// How much of the day's budget is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetState {
    /// More than a fifth, or no limit.
    #[default]
    Ok,
    /// A fifth or less.
    Low,
    /// Nothing.
    Out,
}

impl BudgetState {
    /// Computes the state after `spent` of `limit`, in millionths of a US dollar.
    pub fn of(spent_micros: u64, limit_micros: Option<u64>) -> BudgetState {
        match limit_micros {
            Some(limit) if spent_micros >= limit => BudgetState::Out,
            Some(limit) if spent_micros >= limit / 5 * 4 => BudgetState::Low,
            _ => BudgetState::Ok,
        }
    }
}

/// looop's own state as part of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopStatus {
    /// Live workers, and ended ones that no decision has seen. A worker with reports stays until a decision finds
    /// nothing more to do.
    pub workers: Vec<WorkerView>,
    /// The reports of these workers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<Deliverable>,
    /// Answers that no decision has seen.
    pub answers: Vec<AnsweredQuestion>,
    /// Open questions and approvals: `[id, text]`. They never wake the loop.
    pub open: Vec<(Name, String)>,
    /// Timers that are due.
    pub due: Vec<Due>,
    /// The day's budget.
    pub budget: BudgetState,
    /// True if text of a worker is in this state: a flag, a question, a report, the output of its checks.
    #[serde(default)]
    pub worker_words: bool,
    /// True if text of a decision that had read untrusted text is in this state: a question, a timer's note.
    #[serde(default, rename = "retold")]
    pub repeats_untrusted: bool,
    /// Files that could not be used, and why.
    pub problems: Vec<String>,
}

impl LoopStatus {
    /// True if a worker proposed this goal: under its name, or with the same text under another name.
    pub fn proposes_goal(&self, id: &Name, body: &str) -> bool {
        let file = format!("goal-{id}.md");
        let is_body = |text: &String| text.trim() == body.trim();
        self.reports
            .iter()
            .any(|report| report.name.as_str() == file || report.text.as_ref().is_some_and(is_body))
    }
}

/// Everything that one beat saw. It is read once and used for digests, diff and prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    pub playbook: String,
    pub goals: BTreeMap<Name, Goal>,
    pub readings: BTreeMap<Name, SensorReading>,
    pub own: LoopStatus,
}

/// The prefix of items of workers. An archived worker is not a change, because a decision has already seen its end.
pub const WORKER_ITEM: &str = "worker/";

impl World {
    /// The digest of each item, for comparison with an earlier world.
    pub fn items(&self) -> Items {
        let own = |name: &str, value: Value| {
            (format!("own/{name}"), digest(&[b"own", canonical(&value).as_bytes()]))
        };
        let json = |value: Result<Value, serde_json::Error>| value.unwrap_or_default();
        let mut items: Items = [
            ("playbook".to_owned(), digest(&[b"playbook", self.playbook.as_bytes()])),
            own("budget", json(serde_json::to_value(self.own.budget))),
            own("problems", json(serde_json::to_value(&self.own.problems))),
        ]
        .into();
        for worker in &self.own.workers {
            let value = canonical(&json(serde_json::to_value(worker)));
            items.insert(format!("{WORKER_ITEM}{}", worker.id), digest(&[b"worker", value.as_bytes()]));
        }
        items.extend(self.goals.iter().map(|(name, goal)| (format!("goal/{name}"), goal.digest())));
        items
            .extend(self.readings.iter().map(|(name, reading)| (format!("sensor/{name}"), reading.digest())));
        items
    }

    /// The digest of the user's side: playbook, goals and answers. An edit ends a backoff.
    pub fn user_files_digest(&self) -> Digest {
        let mut items: Items = self.goals.iter().map(|(n, g)| (format!("goal/{n}"), g.digest())).collect();
        items.insert("playbook".to_owned(), digest(&[self.playbook.as_bytes()]));
        for answer in &self.own.answers {
            items.insert(format!("answer/{}", answer.ask), digest(&[answer.answer.as_bytes()]));
        }
        digest_items(&items)
    }

    /// True if the decider has untrusted text in its prompt: an untrusted reading, the output of a command, a worker's
    /// own text, or something that a move wrote in such a beat: a goal, a question, a timer's note, the name of a
    /// worker, the move itself.
    pub fn is_tainted(&self, beat: &LoopState) -> bool {
        beat.shows_output()
            || beat.repeats()
            || self.own.worker_words
            || self.own.repeats_untrusted
            || self.own.workers.iter().any(|worker| beat.untrusted_workers.contains(&worker.id))
            || self.readings.values().any(|r| r.trust == Trust::Untrusted)
            || self.goals.values().any(|goal| beat.untrusted_goals.contains(&goal.digest()))
    }
}

/// How an item differs from the world of the last decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The item is new.
    Added,
    /// The item was removed.
    Removed,
    /// The item has other content.
    Changed,
}

/// One changed item, with the places that changed in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorldChange {
    /// The item: `playbook`, `goal/<id>`, `sensor/<name>`, `worker/<id>`, `own/<part>`.
    pub item: String,
    /// The kind of change.
    pub kind: ChangeKind,
    /// The places that changed, if known and as far as they fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathChange>,
    /// The total number of places.
    #[serde(default)]
    pub total: usize,
}

/// The content of `world.json`. Together with the other files of its commit, it is the complete input of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The version of the prompt's format.
    pub prompt_version: u32,
    pub beat: String,
    pub at: Now,
    pub own: LoopStatus,
    /// Why the loop decides now, as text.
    pub woke: Vec<String>,
    /// What changed since the last decision.
    pub changes: Vec<WorldChange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastResult>,
    /// Why the last decision failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Goals without a move for some time: `[goal, decisions since]`.
    #[serde(alias = "starving")]
    pub starved: Vec<(Name, u64)>,
    /// Sensors that change all the time.
    pub flapping: Vec<String>,
    /// The goal for which the user requested a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<Name>,
    /// Goals whose text was written by a move after it read untrusted text.
    pub untrusted_goals: Vec<Name>,
    /// Goals that could not be read, and why.
    pub unreadable_goals: BTreeMap<Name, String>,
    /// Beats whose journal text is not shown, since it may be untrusted while the rest of the prompt is trusted. Lines
    /// without a beat are not shown either. `None`: everything is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<Vec<String>>,
    /// Sensors of this world; each has its file in `snapshots/`.
    pub sensors: Vec<Name>,
}

/// A world with its context: the complete input of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub playbook: String,
    pub goals: BTreeMap<Name, Goal>,
    pub readings: BTreeMap<Name, SensorReading>,
    pub context: Context,
    pub journal: String,
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
