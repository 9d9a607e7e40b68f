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

mod recovery;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;

use super::ask::QuestionFile;
use super::decision::{Action, Move};
use super::entry::{self, MoveOutcome};
use super::failing::Class;
use super::state::{
    Backoff, CommitNote, Convergence, Failure, Flap, Inflight, Intent, LastResult, LoopState, Operation,
    Requeue,
};
use crate::rules::cost::charge::{Charge, Usage};
use crate::rules::digest::{Digest, Items, digest_items, digest_of};
use crate::rules::json::clip;
use crate::rules::name::Name;
use crate::rules::process::Started;
use crate::rules::time::Now;
use crate::rules::world::{Goal, WORKER_ITEM};
pub use recovery::{CHANGED, compare, probe};

/// The shortest and longest delay of a requested look, in milliseconds.
const REQUEUE_MS: (i64, i64) = (30_000, 300_000);
/// How many requested looks in a row are granted while nothing changes.
const MAX_REQUEUES: u32 = 3;
/// The window of the decision rate, in milliseconds.
const HOUR_MS: i64 = 3_600_000;
/// The maximum number of commit notes that are kept while commits fail.
const MAX_NOTES: usize = 50;
/// The maximum number of digests of goal texts in each list.
const MAX_TEXTS: usize = 1000;
/// The maximum number of clean beats that are remembered: more than a prompt has journal lines.
const MAX_CLEAN: usize = 200;

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
    /// Digest of the user's side.
    pub user_files: Digest,
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
        user_files: Digest,
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
    /// The user gave a goal another name. Its text is the same, so this wakes no decision.
    GoalRenamed { from: Name, to: Name },
}

/// Computes the effects of an event on a memory. Total: an event that does not fit the memory has no effect.
pub fn step(beat: &LoopState, event: LoopEvent) -> Vec<Effect> {
    match (event, &beat.intent) {
        (LoopEvent::Began(fresh), _) => vec![Effect::Save(fresh)],
        (LoopEvent::Asking { call, committed }, _) => save(asking(beat, *call, &committed)),
        (LoopEvent::Failed { failure, charge, user_files }, _) => {
            charged(charge, LoopState { requeue: None, ..failed(beat, failure, user_files) })
        }
        (LoopEvent::Cancelled { charge }, _) => {
            charged(Some(charge), LoopState { inflight: None, ..beat.clone() })
        }
        (LoopEvent::CutOff { at, charge }, _) => synced_first(cut_off(beat, at, charge)),
        (LoopEvent::Decided(decided), _) => decide(beat, *decided),
        (LoopEvent::Spawned(started), Some(intent)) => {
            let intent = Intent { started: Some(started), ..intent.clone() };
            save(LoopState { intent: Some(intent), ..beat.clone() })
        }
        (LoopEvent::Acted { at, outcome }, Some(intent)) => settle(beat, intent, at, outcome),
        (LoopEvent::Unfinished { at, probe }, Some(intent)) => {
            synced_first(unfinished(beat, intent, at, probe))
        }
        (LoopEvent::Spawned(_) | LoopEvent::Acted { .. } | LoopEvent::Unfinished { .. }, None) => Vec::new(),
        (LoopEvent::OutOfBudget { notice, ask }, _) => out_of_budget(beat, notice, ask),
        (LoopEvent::TimerSpent { path }, _) => timer_spent(beat, path),
        (LoopEvent::Resumed, _) if beat.halted.is_none() => Vec::new(),
        (LoopEvent::Resumed, _) => save(LoopState { halted: None, ..beat.clone() }),
        (LoopEvent::GoalRenamed { from, to }, _) => goal_renamed(beat, &from, to),
    }
}

fn goal_renamed(beat: &LoopState, from: &Name, to: Name) -> Vec<Effect> {
    let mut renamed = beat.clone();
    if let Some(digest) = renamed.baseline.remove(&format!("goal/{from}")) {
        renamed.baseline.insert(format!("goal/{to}"), digest);
    }
    if let Some(decisions) = renamed.served.remove(from) {
        renamed.served.insert(to, decisions);
    }
    if renamed == *beat { Vec::new() } else { save(renamed) }
}

fn save(next: LoopState) -> Vec<Effect> {
    vec![Effect::Save(Box::new(next))]
}

/// Recovery publishes results under the saved beat id. Sync the memory first: if it were lost, the same id could be
/// issued twice.
fn synced_first(mut effects: Vec<Effect>) -> Vec<Effect> {
    if !effects.is_empty() {
        effects.insert(0, Effect::Sync(Evidence::Memory));
    }
    effects
}

/// Processes an event completely: performs each effect in order, and steps again with the event that is the result of
/// an effect, if it has one. `perform` replaces `state` when it performs a save.
///
/// # Errors
/// The first error of `perform`.
pub fn drive<S: Deref<Target = LoopState>, E>(
    state: &mut S,
    event: LoopEvent,
    perform: &mut impl FnMut(&mut S, Effect) -> Result<Option<LoopEvent>, E>,
) -> Result<(), E> {
    let mut queue: VecDeque<Effect> = step(state, event).into();
    while let Some(effect) = queue.pop_front() {
        if let Some(event) = perform(state, effect)? {
            queue.extend(step(state, event));
        }
    }
    Ok(())
}

fn charged(charge: Option<Box<Charge>>, next: LoopState) -> Vec<Effect> {
    charge.map(Effect::Charge).into_iter().chain(save(next)).collect()
}

/// Count the call before it is made, so that a crash during the call cannot make it free.
fn asking(beat: &LoopState, call: Inflight, committed: &[String]) -> LoopState {
    let mut next = beat.clone();
    next.uncommitted.retain(|note| !committed.contains(&note.beat));
    next.last_ms = call.at_ms.max(next.last_ms.saturating_add(1));
    next.decides = recent(&beat.decides, call.at_ms);
    next.decides.push(call.at_ms);
    next.inflight = Some(call);
    next
}

/// Returns the starts of decisions within the hour before `now_ms`. A start in the future counts as now, so that a
/// clock that was set back can neither free nor block the loop for more than an hour.
pub fn recent(decides: &[i64], now_ms: i64) -> Vec<i64> {
    decides.iter().map(|at| (*at).min(now_ms)).filter(|at| now_ms.saturating_sub(*at) < HOUR_MS).collect()
}

fn failed(beat: &LoopState, failure: Failure, user_files: Digest) -> LoopState {
    let before = beat.backoff.as_ref();
    let fails = before.map_or(0, |before| before.fails).saturating_add(1);
    let since_ms = before.map_or(Some(failure.at_ms), |before| before.since_ms);
    LoopState {
        inflight: None,
        backoff: Some(Backoff { fails, since_ms, at_ms: failure.at_ms, user_files }),
        failure: Some(failure),
        ..beat.clone()
    }
}

fn cut_off(beat: &LoopState, at: Now, charge: Option<Box<Charge>>) -> Vec<Effect> {
    let Some(call) = &beat.inflight else { return Vec::new() };
    let failure = Failure {
        beat: call.beat.clone(),
        at_ms: at.unix_ms,
        class: Class::CutOff,
        why: "the tick ended during the runner's call".to_owned(),
        retry_at_ms: None,
        clean: true,
    };
    let known = charge.is_none().then_some(Effect::Sync(Evidence::Charge));
    known.into_iter().chain(charged(charge, failed(beat, failure, call.user_files.clone()))).collect()
}

/// Notifies the user once of a budget that is used up.
fn out_of_budget(beat: &LoopState, notice: String, ask: Box<QuestionFile>) -> Vec<Effect> {
    if beat.budget_notice.as_ref() == Some(&notice) {
        return Vec::new();
    }
    let next = LoopState { budget_notice: Some(notice), ..beat.clone() };
    [Effect::Flag(ask)].into_iter().chain(save(next)).collect()
}

/// Updates the memory before the file of a timer is removed: after a crash, it would otherwise look as if the user had
/// removed the timer. The next commit of a move contains the removal.
fn timer_spent(beat: &LoopState, path: String) -> Vec<Effect> {
    let mut next = beat.clone();
    let Some(note) = next.uncommitted.last_mut() else { return Vec::new() };
    note.paths.insert(path, None);
    save(next)
}

/// Returns the ledger line of a call that returned nothing.
pub fn unknown_charge(call: &Inflight, now: Now) -> Charge {
    let usage = Usage::assumed(call.reserved_micros);
    Charge { sensors: call.sensors.clone(), ..Charge::new(now, &call.beat, &call.runner, usage) }
}

fn decide(beat: &LoopState, event: Decided) -> Vec<Effect> {
    let Decided { seen, decided, operation, then, charge, approval } = event;
    let is_approved = approval.is_some();
    let mut next = seen_by(beat, &seen, approval);
    next.converged = remember_move(beat, &mut next, &seen, &decided, &then);
    // The user approved each byte of an approved move, but not the text around it.
    let tainted = seen.tainted && !is_approved;
    next.untrusted_workers.retain(|id| seen.items.contains_key(&format!("{WORKER_ITEM}{id}")));
    match (&decided.action, &operation) {
        // The name of a worker is the decider's text.
        (Action::StartWorker { id, .. }, Operation::StartWorker(start)) => {
            next.untrusted_workers.remove(id);
            next.untrusted_workers.extend(tainted.then(|| id.clone()));
            next.paid_start_approved |= is_approved && start.paid;
        }
        // Exactly these bytes are untrusted: an edit of the user makes another text.
        (Action::WriteGoal { .. }, Operation::Write { text, .. }) => {
            remember_text(&mut next.untrusted_goals, &seen.items, text, tainted);
            remember_text(&mut next.written_goals, &seen.items, text, !is_approved);
        }
        _ => {}
    }
    let note = CommitNote {
        beat: seen.beat.clone(),
        subject: String::new(),
        world: digest_items(&seen.items),
        prompt: seen.prompt.clone(),
        cost_micros: charge.as_ref().map_or(0, |c| c.usage.cost_micros),
        paths: paths_of(&operation),
    };
    let clean = !seen.tainted;
    let intent = Intent {
        beat: seen.beat,
        at_ms: seen.at.unix_ms,
        decided,
        operation,
        then,
        started: None,
        note,
        clean,
    };
    let mut effects: Vec<Effect> = charge.map(Effect::Charge).into_iter().collect();
    let has_effect = intent.operation != Operation::Nothing;
    if has_effect || is_approved {
        // An approved move has no record of a call for its id: it would be given to another beat after a crash.
        next.intent = Some(intent.clone());
        effects.extend(save(next.clone()));
    }
    match has_effect {
        true => effects.push(Effect::Act(Box::new(intent))),
        false => effects.extend(settle(&next, &intent, seen.at, intent.then.clone())),
    }
    effects
}

fn paths_of(operation: &Operation) -> BTreeMap<String, Option<Digest>> {
    match operation {
        Operation::Write { path, text, .. } => [(path.clone(), Some(digest_of(text.as_bytes())))].into(),
        Operation::Remove { path, .. } => [(path.clone(), None)].into(),
        Operation::Rename { from, to, content } => {
            [(from.clone(), None), (to.clone(), Some(content.clone()))].into()
        }
        Operation::Nothing | Operation::Exec { .. } | Operation::Fleet | Operation::StartWorker(_) => {
            BTreeMap::new()
        }
    }
}

/// Returns the memory after a decision saw its world: baseline, answers, timers, flaps and rejections.
fn seen_by(beat: &LoopState, seen: &ObservedInputs, approval: Option<UsedApproval>) -> LoopState {
    let now = seen.at;
    let mut next = beat.clone();
    next.last_ms = next.last_ms.max(now.unix_ms);
    next.inflight = None;
    if let Some(UsedApproval { ask, until_ms, committed }) = approval {
        // No runner saw this world, so the baseline stays; only the approval is used up, in this same save.
        next.last_ms = beat.next_ms(now);
        next.uncommitted.retain(|note| !committed.contains(&note.beat));
        next.closed_asks.push(ask.clone());
        next.used.insert(ask, until_ms);
        return next;
    }
    next.decisions = next.decisions.saturating_add(1);
    next.failure = None;
    next.backoff = None;
    next.baseline = seen.items.clone();
    next.base_commit = seen.commit.clone();
    next.used.retain(|_, until| *until > now.unix_ms);
    next.closed_asks.retain(|id| seen.asks.contains(id) || next.used.contains_key(id));
    next.closed_asks.extend(seen.answers.iter().cloned());
    next.rejected.retain(|_, until| *until > now.unix_ms);
    next.rejected.extend(seen.rejected.iter().cloned());
    next.fired.retain(|name, _| seen.schedules.contains(name));
    next.fired.extend(seen.due.iter().map(|name| (name.clone(), now.unix_ms)));
    next.flaps.retain(|_, flap| flap.level(now) > 0);
    for sensor in &seen.sensors {
        let count = next.flaps.get(sensor).map_or(0, |flap| flap.level(now)).saturating_add(1);
        next.flaps.insert(sensor.clone(), Flap { count, at_ms: now.unix_ms });
    }
    next
}

/// Records the move itself in the memory; returns whether it settles the world.
fn remember_move(
    beat: &LoopState,
    next: &mut LoopState,
    seen: &ObservedInputs,
    decided: &Move,
    then: &MoveOutcome,
) -> Convergence {
    let aim = match &decided.action {
        Action::WriteGoal { id, .. } => Some(id),
        _ => decided.goal.as_ref(),
    };
    next.served.retain(|goal, _| seen.goals.contains(goal));
    for goal in &seen.goals {
        next.served.entry(goal.clone()).or_insert(next.decisions);
    }
    next.served.extend(aim.map(|goal| (goal.clone(), next.decisions)));
    let streak = beat
        .requeue
        .as_ref()
        .filter(|_| seen.unchanged)
        .map_or(0, |requeue| requeue.streak)
        .saturating_add(1);
    let asked_again = seen.unchanged && matches!(beat.converged, Convergence::Noop { rechecked: true, .. });
    // A decision on an old `noop` is the last one until something changes.
    let may_requeue = streak <= MAX_REQUEUES && !(seen.unchanged && seen.aged) && !asked_again;
    next.requeue = decided.next_beat_s.filter(|_| may_requeue).map(|seconds| Requeue {
        set_ms: seen.at.unix_ms,
        wait_ms: (i64::from(seconds) * 1000).clamp(REQUEUE_MS.0, REQUEUE_MS.1),
        streak,
    });
    let at_ms = seen.at.unix_ms;
    // A repeated move without effect counts as a noop; otherwise it would be paid for forever.
    match decided.action == (Action::Noop {}) || repeats(beat, decided, then) {
        true => Convergence::Noop { at_ms, rechecked: seen.aged || asked_again },
        false => Convergence::No,
    }
}

/// Adds the digest of a goal's text to a list, or removes it. Digests stay when their goal is removed, since a file can
/// come back under any name. Beyond the limit, the oldest digests without a present goal are dropped.
fn remember_text(digests: &mut Vec<Digest>, present: &Items, text: &str, is_one: bool) {
    let digest = Goal::Text(text.to_owned()).digest();
    digests.retain(|known| *known != digest);
    digests.extend(is_one.then_some(digest));
    let is_present = |digest: &Digest| present.values().any(|item| item == digest);
    while digests.len() > MAX_TEXTS
        && let Some(at) = digests[..digests.len() - 1].iter().position(|digest| !is_present(digest))
    {
        digests.remove(at);
    }
}

fn repeats(beat: &LoopState, decided: &Move, then: &MoveOutcome) -> bool {
    let fruitless = matches!(then, MoveOutcome::Waits { .. } | MoveOutcome::Refused { .. });
    fruitless
        && beat.last.as_ref().is_some_and(|last| {
            last.tag == decided.action.tag()
                && last.object == decided.action.object()
                && last.outcome == *then
        })
}

/// Journals an outcome and clears the intent.
fn settle(beat: &LoopState, intent: &Intent, at: Now, outcome: MoveOutcome) -> Vec<Effect> {
    let line = entry::line(at, &intent.beat, &intent.decided, &outcome);
    let flag = matches!(outcome, MoveOutcome::Unknown { .. }).then(|| unknown_ask(intent, at, &outcome));
    let next = settled(beat, intent, at, &line, outcome);
    let mut effects: Vec<Effect> = flag.into_iter().map(|ask| Effect::Flag(Box::new(ask))).collect();
    effects.extend([Effect::Journal(line), Effect::Save(Box::new(next))]);
    effects
}

fn settled(beat: &LoopState, intent: &Intent, at: Now, line: &str, outcome: MoveOutcome) -> LoopState {
    let mut next = beat.clone();
    let subject = entry::parse(line).map(|e| format!("{} {}", e.tag, e.text)).unwrap_or_default();
    let mut note = CommitNote { subject, ..intent.note.clone() };
    if !matches!(outcome, MoveOutcome::Done { .. } | MoveOutcome::Waits { .. }) {
        // looop does not commit what the move did not write.
        note.paths.clear();
    }
    next.uncommitted.push(note);
    let extra = next.uncommitted.len().saturating_sub(MAX_NOTES);
    next.uncommitted.drain(..extra);
    next.last = Some(LastResult {
        beat: intent.beat.clone(),
        at_ms: at.unix_ms,
        tag: intent.decided.action.tag().to_owned(),
        object: intent.decided.action.object(),
        outcome,
        clean: intent.clean,
    });
    next.clean_beats.extend(intent.clean.then(|| intent.beat.clone()));
    let extra = next.clean_beats.len().saturating_sub(MAX_CLEAN);
    next.clean_beats.drain(..extra);
    next.intent = None;
    next
}

fn unknown_ask(intent: &Intent, at: Now, outcome: &MoveOutcome) -> QuestionFile {
    let what = clip(&intent.decided.action.object(), 400);
    let text = format!("Was this `{}` made? {what} ({})", intent.decided.action.tag(), outcome.words());
    QuestionFile {
        goal: intent.decided.goal.clone(),
        options: vec!["it ran".to_owned(), "it did not run".to_owned()],
        clean: intent.clean,
        ..QuestionFile::new(Name::joined("unknown", &intent.beat), &intent.beat, at.unix_ms, text)
    }
}

fn unfinished(beat: &LoopState, intent: &Intent, at: Now, probe: Probe) -> Vec<Effect> {
    match probe {
        Probe::Journaled(line) => {
            let outcome = entry::outcome(&line, &intent.decided);
            let next = settled(beat, intent, at, &line, outcome);
            vec![Effect::Sync(Evidence::Line), Effect::Save(Box::new(next))]
        }
        Probe::Made => {
            let outcome = match intent.then.clone() {
                MoveOutcome::Done { .. } => {
                    MoveOutcome::Done { note: "found done after an interruption".to_owned() }
                }
                other => other,
            };
            let evidence = Effect::Sync(Evidence::Change(intent.operation.clone()));
            [vec![evidence], settle(beat, intent, at, outcome)].concat()
        }
        Probe::NotMade => vec![Effect::Act(Box::new(intent.clone()))],
        Probe::Dropped(why) => settle(beat, intent, at, MoveOutcome::NotDone { why }),
        Probe::Unknown(why) => settle(beat, intent, at, MoveOutcome::Unknown { why }),
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
