//! Pure. What one beat has read: the world with looop's own state in it, and what the rules need beside it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ask::{
    AnswerFile, AnsweredQuestion, AskKind, AskReply, Asks, OUTDATED, QuestionFile, QuestionState,
    REJECTED_FOR_MS,
};
use super::prompt::Prompt;
use super::schedule::Schedule;
use super::state::LoopState;
use super::step::ObservedInputs;
use crate::rules::cost::budget::BudgetExceeded;
use crate::rules::digest::{Digest, Items};
use crate::rules::name::Name;
use crate::rules::time::Now;
use crate::rules::worker::WorkerView;
use crate::rules::worker::limit::RunnerLimit;
use crate::rules::world::{ChangeKind, LoopStatus, World};

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
    pub user_files: Digest,
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
    /// The usage limit of the runner that decides.
    pub limited: Option<RunnerLimit>,
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
            items: self.items.clone(),
            user_files: self.user_files.clone(),
            commit: None,
            prompt: blake3::hash(prompt.text.as_bytes()).to_hex().to_string(),
            sensors: self.changed.iter().filter_map(flapping).collect(),
            unchanged: self.changed.is_empty() && answers.is_empty() && own.due.is_empty(),
            aged,
            tainted: self.tainted,
            goals: self.world.goals.keys().cloned().collect(),
            asks: self.asks.keys().cloned().collect(),
            rejected: rejected(&self.asks, &answers),
            answers,
            due: own.due.iter().map(|due| due.name.clone()).collect(),
            schedules: self.schedules.keys().cloned().collect(),
        }
    }
}

/// Adds the asks and timers to a state that has workers, reports, budget and problems. Returns it with the oldest unused
/// approval of the user.
pub fn own_state(
    read: LoopStatus,
    beat: &LoopState,
    now: Now,
    asks: &Asks,
    schedules: &BTreeMap<Name, Schedule>,
) -> (LoopStatus, Option<QuestionFile>) {
    let live = asks.values().filter(|(ask, _)| !beat.closed_asks.contains(&ask.id));
    let live: Vec<(&QuestionFile, Option<&AnswerFile>, QuestionState)> =
        live.map(|(ask, answer)| (ask, answer.as_ref(), ask.state(answer.as_ref(), now))).collect();
    let in_state = |wanted| live.iter().filter(move |(.., state)| *state == wanted).map(|(ask, ..)| *ask);
    let approved = in_state(QuestionState::Approved).min_by_key(|ask| ask.created_ms).cloned();
    let due = |(name, timer): (&Name, &Schedule)| timer.due(name, beat.fired.get(name).copied(), now);
    let has_words = |worker: &WorkerView| {
        let words = [&worker.flag, &worker.verdict, &worker.why, &worker.left];
        words.iter().any(|words| words.is_some()) || !worker.reports.is_empty()
    };
    let own = LoopStatus {
        worker_words: !read.reports.is_empty()
            || live.iter().any(|(ask, ..)| ask.worker.is_some())
            || read.workers.iter().any(has_words),
        answers: live.iter().filter_map(|(ask, answer, state)| answered(ask, *answer, *state)).collect(),
        open: in_state(QuestionState::Open).map(|ask| (ask.id.clone(), ask.text.clone())).collect(),
        repeats_untrusted: live.iter().any(|(ask, ..)| !ask.clean)
            || schedules.iter().any(|timer| !timer.1.clean && due(timer).is_some()),
        due: schedules.iter().filter_map(due).collect(),
        ..read
    };
    (own, approved)
}

/// Returns a closed ask as the next decision sees it.
fn answered(
    ask: &QuestionFile,
    answer: Option<&AnswerFile>,
    state: QuestionState,
) -> Option<AnsweredQuestion> {
    let words = match (state, answer.map(|a| &a.reply)) {
        (QuestionState::Answered, Some(AskReply::Answer { text })) => text.clone(),
        (QuestionState::Rejected, Some(AskReply::Reject { text })) => text.clone(),
        (QuestionState::Expired, _) if ask.is_outdated() => OUTDATED.to_owned(),
        (QuestionState::Expired | QuestionState::Stranded, _) => String::new(),
        _ => return None,
    };
    let text = match (&ask.kind, &ask.approval) {
        (AskKind::Approval, Some(approval)) => {
            format!("{} {}: {}", approval.decided.action.tag(), approval.decided.action.object(), ask.text)
        }
        _ => ask.text.clone(),
    };
    Some(AnsweredQuestion {
        ask: ask.id.clone(),
        text,
        state: state.to_string(),
        answer: words,
        beat: ask.beat.clone(),
    })
}

/// Returns the requests that the user rejected, and until when they are refused.
fn rejected(asks: &Asks, seen: &[Name]) -> Vec<(Digest, i64)> {
    let of_seen = asks.values().filter(|(ask, _)| seen.contains(&ask.id));
    of_seen
        .filter_map(|(ask, answer)| match (&ask.approval, answer) {
            (Some(approval), Some(answer)) if matches!(answer.reply, AskReply::Reject { .. }) => {
                Some((approval.scope.request_digest(), answer.at_ms.saturating_add(REJECTED_FOR_MS)))
            }
            _ => None,
        })
        .collect()
}
