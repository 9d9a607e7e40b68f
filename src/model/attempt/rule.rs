//! Pure. The verdict over a ledger: go on, think again, roll back, or ask a human.

use std::collections::BTreeMap;

use super::{Attempt, Begin, Line, Plan, Thresholds};

/// What may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The next attempt.
    GoOn,
    /// No attempt before there is a new plan.
    Replan,
    /// Back to the base in a fresh clone, then the next attempt.
    RollBack,
    /// A human is to be asked; why.
    Ask(String),
    /// A human was asked, by this ask, and has not answered.
    Parked(String),
}

/// Where an episode stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing<'a> {
    /// Its beginning.
    pub begin: Option<&'a Begin>,
    /// Its attempts, oldest first.
    pub attempts: Vec<&'a Attempt>,
    /// Its plans, refused ones among them.
    pub plans: Vec<&'a Plan>,
    /// What the human said last.
    pub answer: Option<&'a str>,
    /// How many attempts up to now are alike without progress.
    pub row: u32,
    /// True when a plan was taken within the present row.
    pub planned: bool,
    /// Plans that were refused or did not help, since the last progress.
    pub failed_plans: u32,
    /// How often the last failure was seen.
    pub same: u32,
    /// The ask that is open.
    pub asked: Option<&'a str>,
    /// The fewest failing tests so far.
    fewest: Option<u32>,
    seen: BTreeMap<&'a str, u32>,
}

/// Reads a ledger up to its end.
pub fn standing(lines: &[Line]) -> Standing<'_> {
    let mut now = Standing::default();
    for line in lines {
        match line {
            Line::Begin(begin) => {
                let same = now.begin.is_some_and(|old| old.base == begin.base && old.task == begin.task);
                let is_over = now.attempts.last().is_some_and(|last| last.outcome.is_good());
                if !same || is_over {
                    now = Standing { begin: Some(begin), fewest: begin.failures, ..Standing::default() };
                    now.seen.extend(begin.signature.as_deref().map(|signature| (signature, 0)));
                }
            }
            Line::Attempt(attempt) => now.add(attempt),
            Line::Plan(plan) => {
                now.plans.push(plan);
                match plan.refused {
                    Some(_) => now.failed_plans += 1,
                    None => now.planned = true,
                }
            }
            Line::Rollback(_) => {
                now.failed_plans += u32::from(now.planned);
                (now.row, now.planned) = (0, false);
            }
            Line::Asked(asked) => now.asked = Some(&asked.ask),
            Line::Answer(answer) => {
                now.answer = Some(&answer.text);
                now.asked = None;
                (now.row, now.planned, now.failed_plans) = (0, false, 0);
                // Seen is seen, but what came before the answer is not held against what comes after it.
                now.seen.values_mut().for_each(|count| *count = 0);
                now.same = 0;
            }
        }
    }
    now
}

impl<'a> Standing<'a> {
    fn add(&mut self, attempt: &'a Attempt) {
        let fewer = match (attempt.failures, self.fewest) {
            (Some(now), Some(before)) => now < before,
            _ => false,
        };
        let is_new = attempt.signature.as_deref().is_some_and(|one| !self.seen.contains_key(one));
        if let Some(signature) = attempt.signature.as_deref() {
            let count = self.seen.entry(signature).or_default();
            *count += 1;
            self.same = *count;
        }
        self.fewest = match (self.fewest, attempt.failures) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if fewer || is_new {
            (self.row, self.failed_plans, self.planned) = (1, 0, false);
        } else if attempt.like.is_some() && self.row > 0 {
            self.row += 1;
        } else {
            (self.row, self.planned) = (1, false);
        }
        self.attempts.push(attempt);
    }

    /// The number of the next attempt of a ledger.
    pub fn next(lines: &[Line]) -> u32 {
        let numbers = lines.iter().map(|line| match line {
            Line::Attempt(attempt) => attempt.n,
            _ => 0,
        });
        numbers.max().unwrap_or(0) + 1
    }
}

/// What may come next in this ledger.
pub fn rule(lines: &[Line], limits: &Thresholds) -> Ruling {
    let now = standing(lines);
    if let Some(ask) = now.asked {
        return Ruling::Parked(ask.to_owned());
    }
    let is_back = now.row >= limits.rollback;
    // A plan whose attempt was one more of the row did not help.
    let failed = now.failed_plans + u32::from(is_back && now.planned);
    if failed >= limits.replans {
        return Ruling::Ask(format!("{failed} new plans did not help"));
    }
    if now.same >= limits.same_failure {
        return Ruling::Ask(format!("the same failure came {} times", now.same));
    }
    if is_back {
        Ruling::RollBack
    } else if now.row >= limits.halt && !now.planned {
        Ruling::Replan
    } else {
        Ruling::GoOn
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
