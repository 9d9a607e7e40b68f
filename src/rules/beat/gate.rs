//! Pure. The gate: whether a beat may ask for a decision, and the reasons.

use schemars::JsonSchema;
use serde::Serialize;

use super::observed::Observed;
use crate::rules::beat::failing::Class;
use crate::rules::beat::settings::Limits;
use crate::rules::beat::state::{Convergence, FLAP_DECAY_MS, LoopState};
use crate::rules::beat::step::recent;
use crate::rules::cost::budget::BudgetExceeded;
use crate::rules::digest::Digest;
use crate::rules::name::Name;
use crate::rules::text::visible;
use crate::rules::time::{Now, human_ms};
use crate::rules::worker::limit::RunnerLimit;

/// Why a beat decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No decision was ever completed.
    #[strum(to_string = "no decision has been made yet")]
    First,
    /// This item changed.
    #[strum(to_string = "{0} changed")]
    Changed(String),
    /// The last move was not `noop`.
    #[strum(to_string = "the last move was not noop")]
    AfterMove,
    /// An ask was answered or rejected, or it expired or is stranded.
    #[strum(to_string = "ask {0} is closed")]
    Answer(Name),
    /// A timer is due.
    #[strum(to_string = "schedule {0} is due")]
    Due(Name),
    /// The world has been settled for longer than the noop's lifetime.
    #[strum(to_string = "the last noop is old")]
    Aged,
    /// The decider requested another look.
    #[strum(to_string = "the decider asked for another look")]
    Requeue,
    /// The user requested a move for this goal.
    #[strum(to_string = "the user wants a move for {0}")]
    Forced(Name),
}

/// Why a beat does not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "hold")]
pub enum Hold {
    /// Nothing changed.
    Idle,
    /// The memory was lost; the user must resume the loop.
    Halted {
        /// What happened.
        why: String,
    },
    /// The user paused the loop.
    Paused {
        /// The user's reason.
        why: String,
    },
    /// Only flapping sensors changed.
    Flapping {
        /// The flapping sensors.
        sensors: Vec<String>,
    },
    /// The loop waits after consecutive failures.
    BackingOff {
        /// The number of failures.
        fails: u32,
        /// The remaining wait, in milliseconds.
        left_ms: i64,
        /// The cause of the last one.
        why: String,
    },
    /// The runner that decides is at its usage limit.
    RunnerLimited {
        /// The runner.
        runner: String,
        /// The time until the limit ends, in milliseconds.
        left_ms: i64,
        /// The runner's words about it.
        why: String,
    },
    /// All decisions of the hour are used.
    RateLimited {
        /// The limit.
        per_hour: usize,
        /// The time until another decision is free, in milliseconds.
        left_ms: i64,
    },
    /// A budget is used up.
    OutOfBudget {
        /// The cap, and when it resets.
        exceeded: BudgetExceeded,
        /// The same as text.
        why: String,
    },
}

/// Formats a number of consecutive failures.
pub fn in_a_row(fails: u32) -> String {
    if fails == 1 { "a failure".to_owned() } else { format!("{fails} failures in a row") }
}

impl Hold {
    /// Creates the hold for a budget that leaves no room for a call.
    pub fn capped(exceeded: BudgetExceeded, now: Now) -> Hold {
        Hold::OutOfBudget { why: exceeded.words(now), exceeded }
    }

    /// The hold as text.
    pub fn words(&self) -> String {
        match self {
            Hold::Idle => "nothing changed".to_owned(),
            Hold::Halted { why } => format!("halted: {why}; `looop resume` goes on"),
            Hold::Paused { why } if why.is_empty() => "paused".to_owned(),
            Hold::Paused { why } => format!("paused: {why}"),
            Hold::Flapping { sensors } => format!("only flapping sensors changed: {}", sensors.join(", ")),
            Hold::BackingOff { fails, left_ms, why } => {
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                format!("backing off for {} after {}{why}", human_ms(*left_ms), in_a_row(*fails))
            }
            Hold::RunnerLimited { runner, left_ms, why } => {
                format!("{runner} is at its usage limit for {} more: {why}", human_ms(*left_ms))
            }
            Hold::RateLimited { per_hour, left_ms } => {
                let next = human_ms(*left_ms);
                format!("all {per_hour} decisions of the hour are used; the next is free in {next}")
            }
            Hold::OutOfBudget { why, .. } => format!("{why}; `looop resume --budget` raises it"),
        }
    }
}

/// The decision of the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateDecision {
    /// Make the approved move; no runner is called.
    Approved(Name),
    /// Ask for a decision, for these reasons.
    Decide(Vec<Reason>),
    /// Do nothing, for this reason.
    Hold(Hold),
}

impl GateDecision {
    /// The decision as text.
    pub fn words(&self) -> String {
        match self {
            GateDecision::Hold(hold) => format!("no decision: {}", hold.words()),
            GateDecision::Approved(ask) => {
                format!("the approved move of {ask} would be made, without asking a runner")
            }
            GateDecision::Decide(reasons) => {
                let words: Vec<String> = reasons.iter().map(Reason::to_string).collect();
                format!("a decision: {}", words.join("; "))
            }
        }
    }
}

/// Decides what a beat may do. `forced` is the goal for which the user requested a move now.
pub fn judge(
    beat: &LoopState,
    observed: &Observed,
    forced: Option<&Name>,
    limits: &Limits,
    now: Now,
) -> GateDecision {
    if let Some(why) = &beat.halted {
        return GateDecision::Hold(Hold::Halted { why: why.clone() });
    }
    if let Some(paused) = &observed.paused {
        return GateDecision::Hold(Hold::Paused { why: paused.why.clone() });
    }
    if let Some(ask) = &observed.approved {
        return GateDecision::Approved(ask.id.clone());
    }
    let (reasons, flapping) = reasons(beat, observed, forced, limits, now);
    if reasons.is_empty() {
        let sensors = flapping;
        return GateDecision::Hold(if sensors.is_empty() { Hold::Idle } else { Hold::Flapping { sensors } });
    }
    let waits = match forced {
        None => backing_off(beat, &observed.user_files, now).or_else(|| limited(observed, now)),
        Some(_) => None,
    };
    let capped = || observed.capped.clone().map(|exceeded| Hold::capped(exceeded, now));
    let hold = waits.or_else(|| rate(beat, limits, now)).or_else(capped);
    hold.map_or(GateDecision::Decide(reasons), GateDecision::Hold)
}

/// Returns the reasons to decide, and the flapping sensors that are not a reason by themselves.
fn reasons(
    beat: &LoopState,
    observed: &Observed,
    forced: Option<&Name>,
    limits: &Limits,
    now: Now,
) -> (Vec<Reason>, Vec<String>) {
    let mut reasons = Vec::new();
    let mut flapping = Vec::new();
    if let Some(goal) = forced {
        reasons.push(Reason::Forced(goal.clone()));
    }
    if beat.baseline.is_empty() {
        reasons.push(Reason::First);
        return (reasons, flapping);
    }
    for (item, _) in &observed.changed {
        match item.strip_prefix("sensor/").filter(|sensor| is_resting(beat, sensor, now)) {
            Some(sensor) => flapping.push(sensor.to_owned()),
            None => reasons.push(Reason::Changed(item.clone())),
        }
    }
    reasons.extend(observed.world.own.answers.iter().map(|answer| Reason::Answer(answer.ask.clone())));
    reasons.extend(observed.world.own.due.iter().map(|due| Reason::Due(due.name.clone())));
    match (&beat.converged, limits.noop_ttl_ms) {
        (Convergence::No, _) => reasons.push(Reason::AfterMove),
        (Convergence::Noop { at_ms, rechecked: false }, Some(ttl)) if now.waited(*at_ms, ttl) => {
            reasons.push(Reason::Aged)
        }
        _ => {}
    }
    if beat.requeue.as_ref().is_some_and(|requeue| now.waited(requeue.set_ms, requeue.wait_ms)) {
        reasons.push(Reason::Requeue);
    }
    (reasons, flapping)
}

/// True if a flapping sensor has already woken the loop within this quarter of an hour.
fn is_resting(beat: &LoopState, sensor: &str, now: Now) -> bool {
    let woke_ms = beat.flaps.get(sensor).map_or(0, |flap| flap.at_ms);
    beat.is_flapping(sensor, now) && !now.waited(woke_ms, FLAP_DECAY_MS)
}

fn backing_off(beat: &LoopState, user_files: &Digest, now: Now) -> Option<Hold> {
    let backoff = beat.backoff.as_ref()?;
    let class = beat.failure.as_ref().map_or(Class::Crashed, |failure| failure.class);
    let why = beat.failure.as_ref().map(|failure| failure.words()).unwrap_or_default();
    let until = beat.failure.as_ref().and_then(|failure| failure.retry_at_ms);
    let wait_ms = class.wait_ms(backoff.fails, until.map(|at| at.saturating_sub(backoff.at_ms)));
    let holds = backoff.user_files == *user_files && !now.waited(backoff.at_ms, wait_ms);
    let left_ms = wait_ms.saturating_sub(now.elapsed_ms(backoff.at_ms));
    holds.then_some(Hold::BackingOff { fails: backoff.fails, left_ms, why })
}

fn limited(observed: &Observed, now: Now) -> Option<Hold> {
    let RunnerLimit { runner, until_ms, why } = observed.limited.clone()?;
    let why = visible(&why, false);
    Some(Hold::RunnerLimited { runner, left_ms: until_ms.saturating_sub(now.unix_ms).max(0), why })
}

fn rate(beat: &LoopState, limits: &Limits, now: Now) -> Option<Hold> {
    // A start in the future was recorded before the clock was set back. It does not block here, since the right
    // duration is unknown. The next decision replaces it by its own time, so it then counts for one hour.
    let past: Vec<i64> = beat.decides.iter().copied().filter(|at| *at <= now.unix_ms).collect();
    let used = recent(&past, now.unix_ms);
    let per_hour = limits.decides_per_hour;
    let first_free = used.len().checked_sub(per_hour)?;
    let left_ms = used.get(first_free).map_or(3_600_000, |at| 3_600_000 - (now.unix_ms - at));
    Some(Hold::RateLimited { per_hour, left_ms })
}

/// Returns the longest time that the pulse may sleep before the gate's decision could change by itself.
pub fn next_beat_due_ms(beat: &LoopState, limits: &Limits, now: Now) -> Option<i64> {
    let until = |since: i64, wait: i64| wait.saturating_sub(now.elapsed_ms(since)).max(0);
    let requeue = beat.requeue.as_ref().map(|requeue| until(requeue.set_ms, requeue.wait_ms));
    let aged = match (&beat.converged, limits.noop_ttl_ms) {
        (Convergence::Noop { at_ms, rechecked: false }, Some(ttl)) => Some(until(*at_ms, ttl)),
        _ => None,
    };
    requeue.into_iter().chain(aged).min()
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
