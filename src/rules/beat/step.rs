//! Pure. The rules of a beat's memory: what is written, in which order, for each event.
//!
//! # Flow
//! `Asking` reserves the call; `Decided` writes the intent and acts; `Spawned` notes the process of a command before it
//! may run; `Acted` journals and settles. After a crash, `CutOff` settles a call that never ended, and `Unfinished`
//! settles a move that was never settled.
//!
//! # Guarantees
//! State changes only through [`Effect::Save`], one atomic replacement. An intent is saved before its operation, and
//! the journal line is durable before the intent is cleared. So each operation leaves a trace, and an operation without
//! a trace is repeated only if it writes the same file with the same bytes. What recovery finds is made durable before
//! the memory drops it.

mod leftover;
mod rules;

use std::collections::VecDeque;
use std::ops::Deref;

use super::ask::QuestionFile;
use super::decision::Move;
use super::entry::MoveOutcome;
use super::state::{Failure, Inflight, Intent, LoopState, Operation};
use crate::rules::cost::charge::Charge;
use crate::rules::digest::{Digest, Items};
use crate::rules::name::Name;
use crate::rules::process::Started;
use crate::rules::time::Now;
pub use leftover::{CHANGED, compare, probe};
use rules::{asking, charged, cut_off, decide, failed, out_of_budget, settle, timer_spent, unfinished};
pub use rules::{recent, unknown_charge};

/// An effect; effects are performed in order. All except `Act` are durable when they return.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append a line to the spend ledger.
    Charge(Box<Charge>),
    /// Replace `beat.json`.
    Save(Box<LoopState>),
    /// Make the move; its outcome comes back as [`LoopEvent::Acted`].
    Act(Box<Intent>),
    /// Create the ask unless it exists; the user must look at something.
    Flag(Box<QuestionFile>),
    /// Append a line to the journal.
    Journal(String),
    /// Make evidence durable. After a killed tick, a power loss could still remove it.
    Sync(Evidence),
}

/// Evidence on which recovery relies.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// The memory itself, which contains something unsettled.
    Memory,
    /// A call's line in the ledger.
    Charge,
    /// A move's line in the journal.
    Line,
    /// The change of a file by a move.
    Change(Operation),
}

/// The inputs of a decision, as far as the memory needs them.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedInputs {
    pub beat: String,
    pub at: Now,
    pub items: Items,
    /// The digest over the items.
    pub world: Digest,
    /// Digest of the user's side.
    pub human: Digest,
    /// The commit with the world, if one could be made.
    pub commit: Option<String>,
    /// blake3 of the prompt; empty if no runner was asked.
    pub prompt: Digest,
    /// Sensors whose signal changed and which helped to wake the loop.
    pub sensors: Vec<String>,
    /// True if no item differs from the baseline.
    pub unchanged: bool,
    /// True if the loop woke because of the noop's lifetime.
    pub aged: bool,
    /// True if the decider had read untrusted text.
    pub tainted: bool,
    pub goals: Vec<Name>,
    /// Ids of all asks that still have a file.
    pub asks: Vec<Name>,
    /// Asks whose answers this decision sees.
    pub answers: Vec<Name>,
    /// Rejected scopes among them, and until when they are refused, in milliseconds.
    pub rejected: Vec<(Digest, i64)>,
    pub due: Vec<Name>,
    pub schedules: Vec<Name>,
}

/// A decided move, with the results of policy and the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// The inputs of the decision.
    pub seen: ObservedInputs,
    pub decided: Move,
    /// The operation that makes the move.
    pub operation: Operation,
    /// The outcome for the journal once the operation is done.
    pub then: MoveOutcome,
    /// The cost of the call; `None` if no runner was asked.
    pub charge: Option<Box<Charge>>,
    /// The approval that this move uses up; `None` if the decider chose the move.
    pub approval: Option<UsedApproval>,
}

/// An approval that a move uses up.
#[derive(Clone, Debug, PartialEq)]
pub struct UsedApproval {
    pub ask: Name,
    /// The end of its validity, in milliseconds.
    pub until_ms: i64,
    /// As in [`LoopEvent::Asking`].
    pub committed: Vec<String>,
}

/// The findings about an unfinished move.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// The journal contains its line, which is this one.
    Journaled(String),
    /// The world shows that it was made.
    Made,
    /// The world shows that it was not made, and it is safe to make it.
    NotMade,
    /// It was not made, and it must not be made now.
    Dropped(String),
    /// The result cannot be determined.
    Unknown(String),
}

/// An event for the memory.
#[derive(Clone, Debug, PartialEq)]
pub enum LoopEvent {
    /// The state file is missing or was reset; this state replaces it.
    Began(Box<LoopState>),
    /// A runner is about to be called.
    Asking {
        call: Box<Inflight>,
        /// The beats of earlier moves that git holds by now.
        committed: Vec<String>,
    },
    /// The call failed, or its reply was invalid.
    Failed {
        failure: Failure,
        /// The cost of the call.
        charge: Option<Box<Charge>>,
        /// Digest of the user's side at that time.
        human: Digest,
    },
    /// The user cancelled the call.
    Cancelled {
        /// The possible cost of the call.
        charge: Box<Charge>,
    },
    /// The decider chose a move.
    Decided(Box<Decided>),
    /// The process of a command exists and waits for its byte.
    Spawned(Started),
    /// The operation ended.
    Acted { at: Now, outcome: MoveOutcome },
    /// A runner call of an earlier tick never ended.
    CutOff {
        /// When this was found.
        at: Now,
        /// The unknown cost; `None` if the ledger already contains the call.
        charge: Option<Box<Charge>>,
    },
    /// A move of an earlier tick was never settled.
    Unfinished {
        /// When this was found.
        at: Now,
        probe: Probe,
    },
    /// A budget leaves no room for a call.
    OutOfBudget {
        /// The budget and its limit; the user is notified once of each.
        notice: String,
        /// The notification.
        ask: Box<QuestionFile>,
    },
    /// The file of a timer that cannot fire again is about to be removed.
    TimerSpent {
        /// Relative to the data dir.
        path: String,
    },
    /// The user ends a halt.
    Resumed,
}

/// Computes the effects of an event on a memory. Total: an event that does not fit the memory has no effect.
pub fn step(beat: &LoopState, event: LoopEvent) -> Vec<Effect> {
    let intent = beat.intent.as_ref();
    match event {
        LoopEvent::Began(fresh) => vec![Effect::Save(fresh)],
        LoopEvent::Asking { call, committed } => save(asking(beat, *call, &committed)),
        LoopEvent::Failed { failure, charge, human } => {
            let mut next = failed(beat, failure, human);
            next.nudge = None;
            charged(charge, next)
        }
        LoopEvent::Cancelled { charge } => {
            charged(Some(charge), LoopState { inflight: None, ..beat.clone() })
        }
        LoopEvent::CutOff { at, charge } => believed(cut_off(beat, at, charge)),
        LoopEvent::Decided(decided) => decide(beat, *decided),
        LoopEvent::Spawned(started) => {
            intent.map(|intent| spawned(beat, intent, started)).unwrap_or_default()
        }
        LoopEvent::Acted { at, outcome } => {
            intent.map(|intent| settle(beat, intent, at, outcome)).unwrap_or_default()
        }
        LoopEvent::Unfinished { at, probe } => {
            intent.map(|intent| believed(unfinished(beat, intent, at, probe))).unwrap_or_default()
        }
        LoopEvent::OutOfBudget { notice, ask } => out_of_budget(beat, notice, ask),
        LoopEvent::TimerSpent { path } => timer_spent(beat, path),
        LoopEvent::Resumed if beat.halted.is_some() => save(LoopState { halted: None, ..beat.clone() }),
        LoopEvent::Resumed => Vec::new(),
    }
}

fn spawned(beat: &LoopState, intent: &Intent, started: Started) -> Vec<Effect> {
    let intent = Intent { started: Some(started), ..intent.clone() };
    save(LoopState { intent: Some(intent), ..beat.clone() })
}

fn save(next: LoopState) -> Vec<Effect> {
    vec![Effect::Save(Box::new(next))]
}

/// Recovery publishes results under the saved beat id. Sync the memory first: if it were lost, the same id could be
/// issued twice.
fn believed(mut effects: Vec<Effect>) -> Vec<Effect> {
    if !effects.is_empty() {
        effects.insert(0, Effect::Sync(Evidence::Memory));
    }
    effects
}

/// Performs an effect; the event is its result, if it has one.
pub type PerformEffect<'a, S, E> = dyn FnMut(&mut S, Effect) -> Result<Option<LoopEvent>, E> + 'a;

/// Processes an event completely: performs each effect in order, and steps again with the result of an effect. `perform`
/// replaces `state` when it performs a save.
///
/// # Errors
/// The first error of `perform`.
pub fn drive<S: Deref<Target = LoopState>, E>(
    state: &mut S,
    event: LoopEvent,
    perform: &mut PerformEffect<'_, S, E>,
) -> Result<(), E> {
    let mut queue: VecDeque<Effect> = step(state, event).into();
    while let Some(effect) = queue.pop_front() {
        if let Some(event) = perform(state, effect)? {
            queue.extend(step(state, event));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
