//! Pure. looop's own state as part of the world: asks and their answers, timers, workers, and which approval is used
//! next.

use std::collections::BTreeMap;

use crate::rules::beat::ask::{
    AnswerFile, AnsweredQuestion, AskKind, AskReply, Asks, OUTDATED, QuestionFile, QuestionState,
    REJECTED_FOR_MS,
};
use crate::rules::beat::schedule::Schedule;
use crate::rules::beat::state::LoopState;
use crate::rules::digest::Digest;
use crate::rules::name::Name;
use crate::rules::time::Now;
use crate::rules::worker::WorkerView;
use crate::rules::world::LoopStatus;

/// Adds the asks and timers to a state that has workers, reports, budget and problems. Returns it with the oldest unused
/// approval of the user.
pub fn completed(
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
pub fn rejected(asks: &Asks, seen: &[Name]) -> Vec<(Digest, i64)> {
    let of_seen = asks.values().filter(|(ask, _)| seen.contains(&ask.id));
    of_seen
        .filter_map(|(ask, answer)| match (&ask.approval, answer) {
            (Some(approval), Some(answer)) if matches!(answer.reply, AskReply::Reject { .. }) => {
                Some((approval.scope.wish(), answer.at_ms.saturating_add(REJECTED_FOR_MS)))
            }
            _ => None,
        })
        .collect()
}
