//! Pure. The ruling over a ledger: continue, replan, roll back, or ask the user.

use std::collections::BTreeMap;

use super::{Attempt, Begin, BreakerConfig, LedgerLine, RepairPlan};

/// What may happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextAction {
    Continue,
    /// The next attempt needs a new plan first.
    Replan,
    /// Reset to the base in a fresh clone, then make the next attempt.
    RollBack,
    /// Ask the user, for this reason.
    Ask(String),
    /// The user was asked, by the ask with this id, and has not answered.
    Blocked(String),
}

/// The state of an episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpisodeState<'a> {
    pub begin: Option<&'a Begin>,
    /// The attempts, oldest first.
    pub attempts: Vec<&'a Attempt>,
    /// The plans, including refused ones.
    pub plans: Vec<&'a RepairPlan>,
    /// The user's last answer.
    pub answer: Option<&'a str>,
    /// How many consecutive attempts up to now are alike and made no progress.
    pub row: u32,
    /// True if a plan was accepted within the present row.
    pub planned: bool,
    /// Plans that were refused or did not help, since the last progress.
    pub failed_plans: u32,
    /// How often the last failure was seen.
    pub same: u32,
    /// The id of the open ask.
    pub asked: Option<&'a str>,
    fewest: Option<u32>,
    seen: BTreeMap<&'a str, u32>,
}

/// Computes the state at the end of a ledger.
pub fn episode_state(lines: &[LedgerLine]) -> EpisodeState<'_> {
    let mut now = EpisodeState::default();
    for line in lines {
        match line {
            LedgerLine::Begin(begin) => {
                let same = now.begin.is_some_and(|old| old.base == begin.base && old.task == begin.task);
                let is_over = now.attempts.last().is_some_and(|last| last.outcome.is_good());
                if !same || is_over {
                    now = EpisodeState {
                        begin: Some(begin),
                        fewest: begin.failures,
                        ..EpisodeState::default()
                    };
                    now.seen.extend(begin.signature.as_deref().map(|signature| (signature, 0)));
                }
            }
            LedgerLine::Attempt(attempt) => now.add(attempt),
            LedgerLine::Plan(plan) => {
                now.plans.push(plan);
                match plan.refused {
                    Some(_) => now.failed_plans += 1,
                    None => now.planned = true,
                }
            }
            LedgerLine::Rollback(_) => {
                now.failed_plans += u32::from(now.planned);
                (now.row, now.planned) = (0, false);
            }
            LedgerLine::Asked(asked) => now.asked = Some(&asked.ask),
            LedgerLine::Answer(answer) => {
                now.answer = Some(&answer.text);
                now.asked = None;
                (now.row, now.planned, now.failed_plans) = (0, false, 0);
                // Known failures stay known, but an answer of the user resets their counts.
                now.seen.values_mut().for_each(|count| *count = 0);
                now.same = 0;
            }
        }
    }
    now
}

impl<'a> EpisodeState<'a> {
    fn add(&mut self, attempt: &'a Attempt) {
        let is_fewer = self.fewest.zip(attempt.failures).is_some_and(|(before, now)| now < before);
        let is_new = attempt.signature.as_deref().is_some_and(|one| !self.seen.contains_key(one));
        if let Some(signature) = attempt.signature.as_deref() {
            let count = self.seen.entry(signature).or_default();
            *count += 1;
            self.same = *count;
        }
        self.fewest = self.fewest.into_iter().chain(attempt.failures).min();
        if is_fewer || is_new {
            (self.row, self.failed_plans, self.planned) = (1, 0, false);
        } else if attempt.like.is_some() && self.row > 0 {
            self.row += 1;
        } else {
            (self.row, self.planned) = (1, false);
        }
        self.attempts.push(attempt);
    }

    /// The last attempt.
    pub fn last(&self) -> Option<&'a Attempt> {
        self.attempts.last().copied()
    }

    /// The number of the last attempt; 0 if there is none.
    pub fn last_n(&self) -> u32 {
        self.last().map_or(0, |last| last.n)
    }

    /// How many plans were accepted.
    pub fn accepted_plans(&self) -> usize {
        self.plans.iter().filter(|plan| plan.refused.is_none()).count()
    }

    /// The number of the next attempt.
    pub fn next(lines: &[LedgerLine]) -> u32 {
        let numbers = lines.iter().map(|line| match line {
            LedgerLine::Attempt(attempt) => attempt.n,
            _ => 0,
        });
        numbers.max().unwrap_or(0) + 1
    }
}

/// Decides what may happen next.
pub fn rule(lines: &[LedgerLine], limits: &BreakerConfig) -> NextAction {
    let now = episode_state(lines);
    if let Some(ask) = now.asked {
        return NextAction::Blocked(ask.to_owned());
    }
    let is_back = now.row >= limits.rollback;
    // A plan did not help if the attempt after it made the row longer.
    let failed = now.failed_plans + u32::from(is_back && now.planned);
    if failed >= limits.replans {
        return NextAction::Ask(format!("{failed} new plans did not help"));
    }
    if now.same >= limits.same_failure {
        return NextAction::Ask(format!("the same failure came {} times", now.same));
    }
    if is_back {
        NextAction::RollBack
    } else if now.row >= limits.halt && !now.planned {
        NextAction::Replan
    } else {
        NextAction::Continue
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
