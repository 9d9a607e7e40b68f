//! Tests of the rule over a ledger.

use super::*;
use crate::rules::fix::attempt::{
    AnsweredHalt, AttemptOutcome, HaltQuestion, Rollback, Similarity, SimilarityBasis,
};

fn begin() -> LedgerLine {
    again("task", "base")
}

fn again(task: &str, base: &str) -> LedgerLine {
    let (signature, failures) = (Some("first".to_owned()), Some(3));
    LedgerLine::Begin(Begin { at_ms: 0, base: base.into(), task: task.into(), signature, failures })
}

fn attempt(n: u32, signature: &str, failures: u32, like: bool) -> LedgerLine {
    LedgerLine::Attempt(Box::new(Attempt {
        n,
        runner: "local".into(),
        base: "base".into(),
        outcome: AttemptOutcome::Failed,
        signature: Some(signature.into()),
        failures: Some(failures),
        like: like.then_some(Similarity { to: 0, by: SimilarityBasis::Rework }),
        ..Attempt::default()
    }))
}

fn plan(refused: Option<&str>) -> LedgerLine {
    LedgerLine::Plan(RepairPlan { refused: refused.map(str::to_owned), ..RepairPlan::default() })
}

fn rollback() -> LedgerLine {
    LedgerLine::Rollback(Rollback { at_ms: 0, after: 0 })
}

fn asked() -> LedgerLine {
    LedgerLine::Asked(HaltQuestion { at_ms: 0, ask: "fix-1".into(), why: "w".into() })
}

fn answer() -> LedgerLine {
    LedgerLine::Answer(AnsweredHalt { at_ms: 0, text: "do this".into() })
}

#[track_caller]
fn says(lines: &[LedgerLine], expected: &NextAction) {
    assert_eq!(rule(lines, &BreakerConfig::default()), *expected, "{:?}", episode_state(lines));
}

/// Appends a line to a ledger, and asserts what the rule says then.
#[track_caller]
fn then(lines: &mut Vec<LedgerLine>, line: LedgerLine, expected: &NextAction) {
    lines.push(line);
    says(lines, expected);
}

/// Attempts that all fail as at the start and make no progress; `like` says which of them resemble another one.
fn ledger(like: &[bool]) -> Vec<LedgerLine> {
    let attempts = like.iter().enumerate().map(|(at, like)| attempt(at as u32 + 1, "first", 3, *like));
    std::iter::once(begin()).chain(attempts).collect()
}

#[test]
fn three_in_a_row_are_halted_and_four_are_rolled_back() {
    says(&ledger(&[]), &NextAction::Continue);
    says(&ledger(&[false, true]), &NextAction::Continue);
    says(&ledger(&[false, true, true]), &NextAction::Replan);
    says(&ledger(&[true, true]), &NextAction::Continue);
    says(&ledger(&[true, true, true]), &NextAction::Replan);
    says(&ledger(&[false, true, false, true]), &NextAction::Continue);
    let mut lines = ledger(&[false, true, true]);
    then(&mut lines, plan(None), &NextAction::Continue);
    then(&mut lines, attempt(4, "first", 3, true), &NextAction::RollBack);
    then(&mut lines, rollback(), &NextAction::Continue);
}

#[test]
fn a_plan_that_helped_starts_a_new_row() {
    let mut lines = ledger(&[false, true, true]);
    lines.extend([plan(None), attempt(4, "first", 3, false), attempt(5, "first", 3, true)]);
    says(&lines, &NextAction::Continue);
    then(&mut lines, attempt(6, "first", 3, true), &NextAction::Replan);
}

#[test]
fn progress_is_fewer_failures_than_ever_or_a_failure_not_seen_before() {
    let row = |last: LedgerLine| {
        let mut lines = ledger(&[false, true]);
        lines.push(last);
        episode_state(&lines).row
    };
    assert_eq!(row(attempt(3, "first", 3, true)), 3);
    assert_eq!(row(attempt(3, "first", 2, true)), 1, "fewer than ever");
    assert_eq!(row(attempt(3, "second", 3, true)), 1, "not seen before");
    assert_eq!(row(attempt(3, "second", 9, true)), 1, "more failures of another kind are progress too");
    // A failure that was seen before is not progress, nor is a count that was reached before.
    let mut lines = vec![begin(), attempt(1, "x", 2, false), attempt(2, "first", 3, true)];
    lines.push(attempt(3, "x", 2, true));
    assert_eq!(episode_state(&lines).row, 3);
    says(&lines, &NextAction::Replan);
}

#[test]
fn two_plans_that_were_refused_or_did_not_help_ask() {
    let expected = NextAction::Ask("2 new plans did not help".into());
    let mut lines = ledger(&[false, true, true]);
    then(&mut lines, plan(Some("it has no hypothesis")), &NextAction::Replan);
    then(&mut lines, plan(Some("it has no hypothesis")), &expected);
    // One plan that did not help, and one that was refused.
    let mut lines = ledger(&[false, true, true]);
    lines.extend([plan(None), attempt(4, "first", 3, true), rollback()]);
    lines.extend((5..8).map(|n| attempt(n, "first", 3, n > 5)));
    says(&lines, &NextAction::Replan);
    then(&mut lines, plan(Some("old")), &expected);
    // Progress in between resets the count.
    then(&mut lines, attempt(8, "second", 1, true), &NextAction::Continue);
}

#[test]
fn the_same_failure_eight_times_asks_and_never_rolls_back() {
    let asks = NextAction::Ask("the same failure came 8 times".into());
    says(&ledger(&[false; 7]), &NextAction::Continue);
    says(&ledger(&[false; 8]), &asks);
    // Also if the eighth is one of a row: the rule asks instead of rolling back.
    let mut lines = ledger(&[false, false, false, false, false, true, true]);
    lines.push(plan(None));
    then(&mut lines, attempt(8, "first", 3, true), &NextAction::Ask("the same failure came 8 times".into()));
}

#[test]
fn an_open_ask_blocks_until_an_answer_or_another_task() {
    let mut lines = ledger(&[false; 8]);
    then(&mut lines, asked(), &NextAction::Blocked("fix-1".into()));
    let mut same = lines.clone();
    then(&mut same, begin(), &NextAction::Blocked("fix-1".into()));
    for other in [again("edited", "base"), again("task", "other files")] {
        let mut lines = lines.clone();
        then(&mut lines, other, &NextAction::Continue);
    }
    then(&mut lines, answer(), &NextAction::Continue);
    assert_eq!(episode_state(&lines).answer, Some("do this"));
    lines.extend((9..16).map(|n| attempt(n, "first", 3, false)));
    says(&lines, &NextAction::Continue);
    then(
        &mut lines,
        attempt(16, "first", 3, false),
        &NextAction::Ask("the same failure came 8 times".into()),
    );
}

#[test]
fn the_thresholds_are_those_of_the_config() {
    let limits =
        BreakerConfig { halt: 2, rollback: 5, same_failure: 4, replans: 1, ..BreakerConfig::default() };
    assert_eq!(rule(&ledger(&[false, true]), &limits), NextAction::Replan);
    let mut lines = ledger(&[false, true]);
    lines.push(plan(None));
    lines.push(attempt(3, "first", 3, true));
    assert_eq!(rule(&lines, &limits), NextAction::Continue);
    assert!(matches!(rule(&ledger(&[false; 4]), &limits), NextAction::Ask(_)));
    lines.push(plan(Some("x")));
    assert!(matches!(rule(&lines, &limits), NextAction::Ask(_)));
}

proptest::proptest! {
    /// In any ledger, no row gets longer than the rollback threshold, and an agent that makes progress is never
    /// stopped.
    #[test]
    fn no_ledger_escapes(steps in proptest::collection::vec((0_u32..4, 0_u32..4, proptest::bool::ANY), 1..60)) {
        let limits = BreakerConfig::default();
        let mut lines = vec![begin()];
        for (n, (signature, failures, like)) in steps.into_iter().enumerate() {
            match rule(&lines, &limits) {
                NextAction::Continue => {
                    lines.push(attempt(n as u32 + 1, &format!("s{signature}"), failures, like));
                    proptest::prop_assert!(episode_state(&lines).row <= limits.rollback);
                }
                NextAction::Replan => lines.push(plan(like.then_some("no"))),
                NextAction::RollBack => lines.push(rollback()),
                NextAction::Ask(_) => lines.push(asked()),
                NextAction::Blocked(_) => lines.push(answer()),
            }
        }
    }
}
