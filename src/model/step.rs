//! Pure. The rules of a beat's memory: what is written, in which order, for each thing that can happen.
//!
//! # Flow
//! `Asking` reserves the call; `Decided` writes the intent and acts; `Acted` journals and settles. After a
//! crash, `CutOff` settles a call that never ended and `Unfinished` a move that was never settled.
//!
//! # Guarantees
//! State changes only through [`Effect::Save`], one atomic replace. An intent is saved before its deed, and
//! the journal line is durable before the intent is cleared; so a deed is never done without a trace, and a
//! deed whose trace is missing is never done again unless it is the same file written with the same bytes.

use std::collections::VecDeque;

use super::ask::{Ask, AskKind};
use super::beat::{
    Backoff, Beat, CommitNote, Deed, Failure, Flap, Inflight, Intent, LastResult, Nudge, Settled,
};
use super::charge::{Charge, Usage};
use super::decision::{Action, Move};
use super::entry::{self, Outcome};
use super::name::Name;
use super::time::Now;
use super::world::{Digest, Goal, Items};

/// The shortest and longest wish to look again, in milliseconds.
const NUDGE_MS: (i64, i64) = (30_000, 300_000);
/// How many wishes in a row are heard while nothing changes.
const MAX_NUDGES: u32 = 3;
/// The window of the decision rate, in milliseconds.
const HOUR_MS: i64 = 3_600_000;
/// The most commit notes that are carried along while commits fail.
const MAX_NOTES: usize = 50;

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
    /// The approval that this move uses up.
    pub approval: Option<Name>,
}

/// What was found out about an unfinished move.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// The journal has its line.
    Journaled,
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
        Event::CutOff { at, charge } => cut_off(beat, at, charge),
        Event::Decided(decided) => decide(beat, *decided),
        Event::Acted { at, outcome } => match &beat.intent {
            Some(intent) => settle(beat, intent, at, outcome),
            None => Vec::new(),
        },
        Event::Unfinished { at, probe } => match &beat.intent {
            Some(intent) => unfinished(beat, intent, at, probe),
            None => Vec::new(),
        },
    }
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

fn charged(charge: Option<Box<Charge>>, next: Beat) -> Vec<Effect> {
    charge.map(Effect::Charge).into_iter().chain([Effect::Save(Box::new(next))]).collect()
}

/// The call is counted before it is made, so that a crash in it can never make it free.
fn asking(beat: &Beat, call: Inflight) -> Beat {
    let mut next = beat.clone();
    next.last_ms = next.last_ms.max(call.at_ms);
    next.decides = recent(&beat.decides, call.at_ms);
    next.decides.push(call.at_ms);
    next.inflight = Some(call);
    next
}

/// The starts of decisions within the hour before `now_ms`. One that lies in the future counts as now,
/// so that a clock that was set back can neither free nor block the loop for more than an hour.
pub fn recent(decides: &[i64], now_ms: i64) -> Vec<i64> {
    decides.iter().map(|at| (*at).min(now_ms)).filter(|at| now_ms - at < HOUR_MS).collect()
}

fn failed(beat: &Beat, failure: Failure, human: Digest) -> Beat {
    let fails = beat.backoff.as_ref().map_or(0, |b| b.fails).saturating_add(1);
    Beat {
        inflight: None,
        backoff: Some(Backoff { fails, at_ms: failure.at_ms, human }),
        failure: Some(failure),
        ..beat.clone()
    }
}

fn cut_off(beat: &Beat, at: Now, charge: Option<Box<Charge>>) -> Vec<Effect> {
    let Some(call) = &beat.inflight else { return Vec::new() };
    let failure = Failure {
        beat: call.beat.clone(),
        at_ms: at.unix_ms,
        class: "cut_off".to_owned(),
        why: "the tick ended while the runner was thinking".to_owned(),
    };
    charged(charge, failed(beat, failure, call.human.clone()))
}

/// The ledger line for a call of which nothing came back.
pub fn unknown_charge(call: &Inflight, now: Now) -> Charge {
    Charge {
        at_ms: now.unix_ms,
        day: now.day(),
        beat: call.beat.clone(),
        goal: None,
        worker: None,
        runner: call.runner.clone(),
        sensors: call.sensors.clone(),
        usage: Usage::unknown(),
    }
}

fn decide(beat: &Beat, event: Decided) -> Vec<Effect> {
    let Decided { seen, decided, deed, then, charge, approval } = event;
    let mut next = seen_by(beat, &seen, approval);
    let noted = remember_move(beat, &mut next, &seen, &decided, &then);
    let note = CommitNote {
        beat: seen.beat.clone(),
        subject: String::new(),
        world: seen.world.clone(),
        prompt: seen.prompt.clone(),
        cost_micros: charge.as_ref().map_or(0, |c| c.usage.cost_micros),
        paths: paths_of(&deed),
    };
    let intent = Intent { beat: seen.beat, at_ms: seen.at.unix_ms, decided, deed, then, started: None, note };
    next.settled = noted;
    let mut effects: Vec<Effect> = charge.map(Effect::Charge).into_iter().collect();
    if intent.deed == Deed::Nothing {
        let outcome = intent.then.clone();
        effects.extend(settle(&next, &intent, seen.at, outcome));
    } else {
        next.intent = Some(intent.clone());
        effects.extend([Effect::Save(Box::new(next)), Effect::Act(Box::new(intent))]);
    }
    effects
}

fn paths_of(deed: &Deed) -> Vec<String> {
    match deed {
        Deed::Write { path, .. } | Deed::Remove { path, .. } => vec![path.clone()],
        Deed::Rename { from, to, .. } => vec![from.clone(), to.clone()],
        Deed::Nothing | Deed::Exec { .. } | Deed::Fleet => Vec::new(),
    }
}

/// The memory after a decision saw its world: baseline, answers, timers, flaps and rejections.
fn seen_by(beat: &Beat, seen: &Seen, approval: Option<Name>) -> Beat {
    let now = seen.at;
    let mut next = beat.clone();
    next.last_ms = next.last_ms.max(now.unix_ms);
    next.inflight = None;
    if let Some(used) = approval {
        // No runner saw this world, so the baseline stays; only the approval is used up, in this same save.
        next.closed_asks.push(used);
        return next;
    }
    next.decisions += 1;
    next.failure = None;
    next.backoff = None;
    next.baseline = seen.items.clone();
    next.base_commit = seen.commit.clone().or(next.base_commit);
    next.closed_asks.retain(|id| seen.asks.contains(id));
    next.closed_asks.extend(seen.answers.iter().cloned());
    next.rejected.retain(|_, until| *until > now.unix_ms);
    next.rejected.extend(seen.rejected.iter().cloned());
    next.fired.retain(|name, _| seen.schedules.contains(name));
    next.fired.extend(seen.due.iter().map(|name| (name.clone(), now.unix_ms)));
    next.flaps.retain(|_, flap| flap.level(now) > 0);
    for sensor in &seen.sensors {
        let count = next.flaps.get(sensor).map_or(0, |flap| flap.level(now)) + 1;
        next.flaps.insert(sensor.clone(), Flap { count, at_ms: now.unix_ms });
    }
    next
}

/// What the move itself leaves in the memory; returns whether the world is settled by it.
fn remember_move(beat: &Beat, next: &mut Beat, seen: &Seen, decided: &Move, then: &Outcome) -> Settled {
    let aim = match &decided.action {
        Action::WriteGoal { id, .. } => Some(id),
        _ => decided.goal.as_ref(),
    };
    next.served.retain(|goal, _| seen.goals.contains(goal));
    for goal in &seen.goals {
        next.served.entry(goal.clone()).or_insert(next.decisions);
    }
    next.served.extend(aim.map(|goal| (goal.clone(), next.decisions)));
    next.untrusted_goals.retain(|goal, _| seen.goals.contains(goal));
    if let Action::WriteGoal { id, body } = &decided.action {
        next.untrusted_goals.remove(id);
        if seen.tainted {
            next.untrusted_goals.insert(id.clone(), Goal::Text(body.clone()).digest());
        }
    }
    let streak = beat.nudge.as_ref().filter(|_| seen.unchanged).map_or(0, |nudge| nudge.streak) + 1;
    next.nudge = decided.next_beat_s.filter(|_| streak <= MAX_NUDGES).map(|seconds| Nudge {
        set_ms: seen.at.unix_ms,
        wait_ms: (i64::from(seconds) * 1000).clamp(NUDGE_MS.0, NUDGE_MS.1),
        streak,
    });
    let at_ms = seen.at.unix_ms;
    let asked_again = seen.unchanged && matches!(beat.settled, Settled::Noop { again: true, .. });
    match &decided.action {
        Action::Noop {} => Settled::Noop { at_ms, again: seen.aged || asked_again },
        // The same fruitless move twice in a row says no more than a noop, and must not be paid for for ever.
        _ if repeats(beat, decided, then) => Settled::Noop { at_ms, again: false },
        _ => Settled::No,
    }
}

fn repeats(beat: &Beat, decided: &Move, then: &Outcome) -> bool {
    let fruitless = matches!(then, Outcome::Waits { .. } | Outcome::Refused { .. });
    fruitless && beat.last.as_ref().is_some_and(|last| {
        last.tag == decided.action.tag() && last.object == decided.action.object() && last.outcome == *then
    })
}

/// Journals an outcome and clears the intent.
fn settle(beat: &Beat, intent: &Intent, at: Now, outcome: Outcome) -> Vec<Effect> {
    let line = entry::line(at, &intent.beat, &intent.decided, &outcome);
    let flag = matches!(outcome, Outcome::Unknown { .. }).then(|| unknown_ask(intent, at, &outcome));
    let next = settled(beat, intent, at, &line, outcome);
    let mut effects: Vec<Effect> = flag.into_iter().map(|ask| Effect::Flag(Box::new(ask))).collect();
    effects.extend([Effect::Journal(line), Effect::Save(Box::new(next))]);
    effects
}

fn settled(beat: &Beat, intent: &Intent, at: Now, line: &str, outcome: Outcome) -> Beat {
    let mut next = beat.clone();
    let subject = entry::parse(line).map(|e| format!("{} {}", e.tag, e.text)).unwrap_or_default();
    next.uncommitted.push(CommitNote { subject, ..intent.note.clone() });
    let extra = next.uncommitted.len().saturating_sub(MAX_NOTES);
    next.uncommitted.drain(..extra);
    next.last = Some(LastResult {
        beat: intent.beat.clone(),
        at_ms: at.unix_ms,
        tag: intent.decided.action.tag().to_owned(),
        object: intent.decided.action.object(),
        outcome,
    });
    next.intent = None;
    next
}

fn unknown_ask(intent: &Intent, at: Now, outcome: &Outcome) -> Ask {
    let what = super::json::clip(&intent.decided.action.object(), 400);
    let text = format!("Was this `{}` made? {what} ({})", intent.decided.action.tag(), outcome.words());
    Ask {
        id: Name::joined("unknown", &intent.beat),
        kind: AskKind::Question,
        worker: None,
        goal: intent.decided.goal.clone(),
        text,
        options: vec!["it ran".to_owned(), "it did not run".to_owned()],
        reference: None,
        beat: intent.beat.clone(),
        created_ms: at.unix_ms,
        expires_ms: None,
        approval: None,
    }
}

fn unfinished(beat: &Beat, intent: &Intent, at: Now, probe: Probe) -> Vec<Effect> {
    let after_crash = |outcome: &Outcome| match outcome {
        Outcome::Done { .. } => Outcome::Done { note: "found done after an interruption".to_owned() },
        other => other.clone(),
    };
    match probe {
        Probe::Journaled => {
            let line = entry::line(at, &intent.beat, &intent.decided, &intent.then);
            let outcome = Outcome::Done { note: "as the journal says".to_owned() };
            vec![Effect::Save(Box::new(settled(beat, intent, at, &line, outcome)))]
        }
        Probe::Made => settle(beat, intent, at, after_crash(&intent.then)),
        Probe::NotMade => vec![Effect::Act(Box::new(intent.clone()))],
        Probe::Dropped(why) => settle(beat, intent, at, Outcome::NotDone { why }),
        Probe::Unknown(why) => settle(beat, intent, at, Outcome::Unknown { why }),
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
