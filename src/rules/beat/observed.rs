//! Pure. What one beat has read: the world, and what the rules need beside it.

use std::collections::BTreeMap;

use super::ask::{Asks, QuestionFile};
use super::own;
use super::prompt::Prompt;
use super::schedule::Schedule;
use super::step::ObservedInputs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::cost::budget::BudgetExceeded;
use crate::rules::digest::{Digest, Items, digest_items};
use crate::rules::name::Name;
use crate::rules::time::Now;
use crate::rules::world::{ChangeKind, World};

/// The pause of the loop: since when and why.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// When, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// The user's reason; may be empty.
    pub why: String,
}

/// Everything that one beat has read.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub world: World,
    /// The digests of the world's items.
    pub items: Items,
    /// The items that differ from the world of the last decision.
    pub changed: Vec<(String, ChangeKind)>,
    /// Digest of the user's side.
    pub human: Digest,
    /// True if the world, or the memory of the last decision, contains untrusted text.
    pub tainted: bool,
    /// Asks that are not archived, with their answers.
    pub asks: Asks,
    pub schedules: BTreeMap<Name, Schedule>,
    /// blake3 of the files that a move may replace and that the world does not contain as text, by path.
    pub held: BTreeMap<String, Digest>,
    /// The oldest unused approval of the user.
    pub approved: Option<QuestionFile>,
    /// The pause by the user, if any, and its reason.
    pub paused: Option<Paused>,
    /// The cap that leaves no room for a call.
    pub capped: Option<BudgetExceeded>,
}

impl Observed {
    /// Returns the inputs of a decision that the memory keeps. `aged`: the decision is due because the last one is old.
    pub fn inputs(&self, beat: &str, at: Now, aged: bool, prompt: &Prompt) -> ObservedInputs {
        let own = &self.world.own;
        let answers: Vec<Name> = own.answers.iter().map(|answer| answer.ask.clone()).collect();
        let flapping = |(item, kind): &(String, ChangeKind)| match (item.strip_prefix("sensor/"), kind) {
            (Some(sensor), ChangeKind::Changed) => Some(sensor.to_owned()),
            _ => None,
        };
        ObservedInputs {
            beat: beat.to_owned(),
            at,
            world: digest_items(&self.items),
            items: self.items.clone(),
            human: self.human.clone(),
            commit: None,
            prompt: blake3::hash(prompt.text.as_bytes()).to_hex().to_string(),
            sensors: self.changed.iter().filter_map(flapping).collect(),
            unchanged: self.changed.is_empty() && answers.is_empty() && own.due.is_empty(),
            aged,
            tainted: self.tainted,
            goals: self.world.goals.keys().cloned().collect(),
            asks: self.asks.keys().cloned().collect(),
            rejected: own::rejected(&self.asks, &answers),
            answers,
            due: own.due.iter().map(|due| due.name.clone()).collect(),
            schedules: self.schedules.keys().cloned().collect(),
        }
    }
}
