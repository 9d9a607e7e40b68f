//! Pure. Approvals: how a move that needs approval becomes an ask, and when an approval is valid.

use anyhow::Result;

use super::MovePlan;
use super::operation::write_ask;
use crate::rules::beat::ask::{
    AnswerFile, Approval, AskKind, AskReply, MAX_OPEN_APPROVALS, QuestionFile, QuestionState,
};
use crate::rules::beat::entry::MoveOutcome;
use crate::rules::beat::observed::Observed;
use crate::rules::beat::state::{LoopState, Operation};
use crate::rules::name::Name;
use crate::rules::time::Now;

/// Creates the ask for a move of the beat `id` that needs this approval, which has no hash yet, unless the user rejected
/// it or too many asks are open. `ttl_ms` is the time in which the user can approve.
pub fn ask_first(
    beat: &LoopState,
    observed: &Observed,
    now: Now,
    ttl_ms: i64,
    id: &str,
    mut approval: Approval,
) -> Result<MovePlan> {
    let refuse = |why: String| Ok(MovePlan::refused(why));
    let (asks, scope, because) = (&observed.asks, &approval.scope, approval.because.clone());
    let digest = scope.digest();
    let request_digest = scope.request_digest();
    if beat.rejected.get(&request_digest).is_some_and(|until| *until > now.unix_ms) {
        return refuse("the user rejected exactly this; the loop can ask again a day later".to_owned());
    }
    let is_rejected = |(ask, answer): &(QuestionFile, Option<AnswerFile>)| {
        ask.state(answer.as_ref(), now) == QuestionState::Rejected
            && ask.approval.as_ref().is_some_and(|approval| approval.scope.request_digest() == request_digest)
    };
    if asks.values().any(is_rejected) {
        return refuse("the user rejected exactly this".to_owned());
    }
    let open = |(ask, answer): &&(QuestionFile, Option<_>)| {
        ask.kind == AskKind::Approval
            && !beat.closed_asks.contains(&ask.id)
            && ask.state(answer.as_ref(), now) == QuestionState::Open
    };
    let same =
        |(ask, _): &&(QuestionFile, _)| ask.approval.as_ref().is_some_and(|a| a.scope.digest() == digest);
    if let Some((ask, answer)) = asks.values().filter(same).max_by_key(|(ask, _)| ask.created_ms) {
        return match ask.state(answer.as_ref(), now) {
            QuestionState::Open | QuestionState::Approved if !beat.closed_asks.contains(&ask.id) => {
                let then = MoveOutcome::Waits { ask: ask.id.to_string(), because };
                Ok(MovePlan { operation: Operation::Nothing, then })
            }
            _ => refuse(format!(
                "{} has just been closed; ask again in the next beat if it is still needed",
                ask.id
            )),
        };
    }
    if asks.values().filter(open).count() >= MAX_OPEN_APPROVALS {
        return refuse(format!("{MAX_OPEN_APPROVALS} approvals are open already"));
    }
    // The same request gets the same ask.
    let mut ask_id = Name::joined("ap", &digest[..10]);
    if beat.closed_asks.contains(&ask_id) {
        // This id belongs to a used approval of the same request, so the next ask needs another id.
        ask_id = Name::joined("ap", &format!("{}{id}", &digest[..10]));
    }
    let expires_ms = now.unix_ms.saturating_add(ttl_ms);
    approval.hash = approval.bound_hash(ask_id.as_str(), expires_ms)?;
    let why = approval.decided.why.clone();
    let ask = QuestionFile {
        kind: AskKind::Approval,
        goal: approval.decided.goal.clone(),
        expires_ms: Some(expires_ms),
        approval: Some(approval),
        clean: !observed.tainted,
        ..QuestionFile::new(ask_id.clone(), id, now.unix_ms, why)
    };
    let then = MoveOutcome::Waits { ask: ask_id.to_string(), because };
    Ok(MovePlan { operation: write_ask(&ask)?, then })
}

/// Returns the operation that the user approved, if the answer is for exactly this ask: scope, operation, id and expiry.
pub fn approved(ask: &QuestionFile, approval: &Approval, answer: Option<&AnswerFile>) -> Option<Operation> {
    let bound = approval.bound_hash(ask.id.as_str(), ask.expires_ms.unwrap_or_default()).ok()?;
    let reply = answer.map(|answer| &answer.reply);
    let is_approval =
        matches!(reply, Some(AskReply::Approve { hash }) if *hash == bound && approval.hash == bound);
    approval.operation.clone().filter(|_| is_approval).map(|operation| operation.with_scope(&approval.scope))
}
