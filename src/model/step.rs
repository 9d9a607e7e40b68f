//! Pure. The rules of a beat's memory: what is written, in which order, for each thing that can happen.
//!
//! # Flow
//! `Asking` reserves the call; `Decided` writes the intent and acts; `Acted` journals and settles. After a
//! crash, `CutOff` settles a call that never ended and `Unfinished` a move that was never settled.
//!
//! # Guarantees
//! State changes only through [`Effect::Save`], one atomic replace. An intent is saved before its deed, and
//! the journal line is durable before the intent is cleared; so a deed is never done without a trace, and a
//! deed whose trace is missing is never done again unless it is the same file written with the same bytes. What a
//! settlement finds is made durable before the memory lets go of it.

mod leftover;
mod rules;

use std::collections::VecDeque;

use super::ask::Ask;
use super::beat::{Beat, Deed, Failure, Inflight, Intent};
use super::charge::Charge;
use super::decision::Move;
use super::entry::Outcome;
use super::name::Name;
use super::time::Now;
use super::world::{Digest, Items};
pub use leftover::{CHANGED, compare, probe};
use rules::{asking, charged, cut_off, decide, failed, settle, unfinished};
pub use rules::{recent, unknown_charge};

/// One thing to do, in order. All but `Act` are durable when they return.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append a line to the spend ledger.
    Charge(Box<Charge>),
    /// Replace `beat.json`.
    Save(Box<Beat>),
    /// Make the move; its outcome comes back as [`Event::Acted`].
    Act(Box<Intent>),
    /// Create the ask unless it exists: something that a human must look at.
    Flag(Box<Ask>),
    /// Append a line to the journal.
    Journal(String),
    /// Make durable what was found. A tick that was killed may have left it where a power loss takes it away.
    Sync(Found),
}

/// What a settlement believes because it was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The memory itself, which says that something is left.
    Memory,
    /// A call's line in the ledger.
    Charge,
    /// A move's line in the journal.
    Line,
    /// The change that a move makes to a file.
    Change(Deed),
}

/// What a decision saw, as far as the memory needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The beat's id.
    pub beat: String,
    /// The beat's start.
    pub at: Now,
    /// The items of the world.
    pub items: Items,
    /// The digest over them.
    pub world: Digest,
    /// What the human had decided.
    pub human: Digest,
    /// The commit that holds the world, where one could be made.
    pub commit: Option<String>,
    /// blake3 of the prompt; empty when no runner was asked.
    pub prompt: Digest,
    /// Sensors whose signal changed and so had a part in waking the loop.
    pub sensors: Vec<String>,
    /// True when no item differs from the baseline.
    pub unchanged: bool,
    /// True when the noop's lifetime was why the loop woke.
    pub aged: bool,
    /// True when text of strangers was in front of the decider.
    pub tainted: bool,
    /// All goals.
    pub goals: Vec<Name>,
    /// Ids of all asks that still have a file.
    pub asks: Vec<Name>,
    /// Asks whose answers this decision sees.
    pub answers: Vec<Name>,
    /// Rejected subjects among them, and until when they are refused.
    pub rejected: Vec<(Digest, i64)>,
    /// Timers that are due.
    pub due: Vec<Name>,
    /// All timers.
    pub schedules: Vec<Name>,
}

/// A decided move with what policy and the store made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// What the decision saw.
    pub seen: Seen,
    /// The move.
    pub decided: Move,
    /// What is done to make it.
    pub deed: Deed,
    /// What the journal says when the deed is done.
    pub then: Outcome,
    /// What the call cost; none when no runner was asked.
    pub charge: Option<Box<Charge>>,
    /// The approval that this move uses up, and until when its yes is good, in milliseconds.
    pub approval: Option<(Name, i64)>,
    /// True when the move starts a worker that costs money.
    pub starts_paid: bool,
}

/// What was found out about an unfinished move.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// The journal has its line, this one.
    Journaled(String),
    /// The world shows that it was made.
    Made,
    /// The world shows that it was not made, and making it is safe.
    NotMade,
    /// It was not made and must not be made now.
    Dropped(String),
    /// Nobody can tell.
    Unknown(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A runner is about to be called.
    Asking(Box<Inflight>),
    /// The call, or its reply, was no good.
    Failed {
        /// Why.
        failure: Failure,
        /// What it cost.
        charge: Option<Box<Charge>>,
        /// What the human had decided at that time.
        human: Digest,
    },
    /// The human interrupted the call.
    Cancelled {
        /// What it may have cost.
        charge: Box<Charge>,
    },
    /// There is a move.
    Decided(Box<Decided>),
    /// The deed ended.
    Acted {
        /// When.
        at: Now,
        /// How.
        outcome: Outcome,
    },
    /// A runner call of an earlier tick never ended; the charge is none when the ledger has it.
    CutOff {
        /// When this was found.
        at: Now,
        /// The unknown cost.
        charge: Option<Box<Charge>>,
    },
    /// A move of an earlier tick was never settled.
    Unfinished {
        /// When this was found.
        at: Now,
        /// What was found.
        probe: Probe,
    },
}

/// The effects of an event on a memory. Total: an event that does not fit the memory has no effect.
pub fn step(beat: &Beat, event: Event) -> Vec<Effect> {
    match event {
        Event::Asking(call) => vec![Effect::Save(Box::new(asking(beat, *call)))],
        Event::Failed { failure, charge, human } => {
            let mut next = failed(beat, failure, human);
            next.nudge = None;
            charged(charge, next)
        }
        Event::Cancelled { charge } => charged(Some(charge), Beat { inflight: None, ..beat.clone() }),
        Event::CutOff { at, charge } => believed(cut_off(beat, at, charge)),
        Event::Decided(decided) => decide(beat, *decided),
        Event::Acted { at, outcome } => match &beat.intent {
            Some(intent) => settle(beat, intent, at, outcome),
            None => Vec::new(),
        },
        Event::Unfinished { at, probe } => match &beat.intent {
            Some(intent) => believed(unfinished(beat, intent, at, probe)),
            None => Vec::new(),
        },
    }
}

/// A settlement is told to others, so that the memory that asks for it must not be lost: its ids would be used again.
fn believed(mut effects: Vec<Effect>) -> Vec<Effect> {
    if !effects.is_empty() {
        effects.insert(0, Effect::Sync(Found::Memory));
    }
    effects
}

/// Runs an event to its end: performs each effect in order and steps again on what an effect brings back.
/// `beat` follows each save, so that it is always what the file holds.
///
/// # Errors
/// The first error of `perform`; the memory is then as the last save left it.
pub fn drive<E>(
    beat: &mut Beat,
    event: Event,
    perform: &mut dyn FnMut(&Effect) -> Result<Option<Event>, E>,
) -> Result<(), E> {
    let mut queue: VecDeque<Effect> = step(beat, event).into();
    while let Some(effect) = queue.pop_front() {
        let back = perform(&effect)?;
        if let Effect::Save(next) = effect {
            *beat = *next;
        }
        if let Some(event) = back {
            queue.extend(step(beat, event));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
