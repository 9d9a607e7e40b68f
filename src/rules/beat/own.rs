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
    let fresh = |id: &Name| !beat.closed_asks.contains(id);
    let standing = |(ask, answer): &(QuestionFile, _)| QuestionFile::state(ask, Option::as_ref(answer), now);
    let live = || asks.iter().filter(|(id, _)| fresh(id)).map(|(_, pair)| pair);
    let approved =
        live().filter(|pair| standing(pair) == QuestionState::Approved).min_by_key(|pair| pair.0.created_ms);
    let from_worker = |pair: &&(QuestionFile, _)| pair.0.worker.is_some();
    let has_words = |w: &WorkerView| {
        let words = [&w.flag, &w.verdict, &w.why, &w.left];
        words.iter().any(|words| words.is_some()) || !w.reports.is_empty()
    };
    let worker_words = !read.reports.is_empty()
        || live().any(|pair| from_worker(&pair))
        || read.workers.iter().any(has_words);
    let is_due = |(name, s): (&Name, &Schedule)| s.due(name, beat.fired.get(name).copied(), now);
    let own = LoopStatus {
        worker_words,
        answers: live().filter_map(|pair| answered(&pair.0, pair.1.as_ref(), standing(pair))).collect(),
        open: live()
            .filter(|p| standing(p) == QuestionState::Open)
            .map(|p| (p.0.id.clone(), p.0.text.clone()))
            .collect(),
        retold: live().any(|pair| !pair.0.clean)
            || schedules.iter().any(|timer| !timer.1.clean && is_due(timer).is_some()),
        due: schedules.iter().filter_map(is_due).collect(),
        ..read
    };
    (own, approved.map(|pair| pair.0.clone()))
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
