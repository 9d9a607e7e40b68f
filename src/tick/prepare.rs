//! Prepare: whether a beat may decide, and the frame of the decision: the world with its context, built once for prompt,
//! git and memory.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::ctx::{BeatNotes, Ctx};
use crate::rules::beat::diff::{self, ItemContent};
use crate::rules::beat::entry;
use crate::rules::beat::gate::{self, GateDecision, Reason};
use crate::rules::beat::observed::Observed;
use crate::rules::beat::prompt::{self, Prompt};
use crate::rules::beat::state::{Inflight, LoopState};
use crate::rules::beat::step::{LoopEvent, ObservedInputs};
use crate::rules::cost::budget::Budget;
use crate::rules::fault::Fault;
use crate::rules::name::Name;
use crate::rules::time::beat_id;
use crate::rules::world::{ChangeKind, Context, Frame, Goal, PROMPT_VERSION, SensorReading, WorldChange};
use crate::store::budget::{self, BudgetRequest};
use crate::store::{layout, ledger, lock, logs};
use crate::vcs::history::History;

/// The largest file that is read back from git for a diff or a rebuild, in bytes.
const MAX_BLOB_BYTES: usize = 16 << 20;
/// How much of the journal's end is read for a frame, in bytes. The journal is rotated long before this size, so this
/// is the whole journal, except in a dry run, which does not rotate.
const MAX_JOURNAL_BYTES: usize = 4 << 20;

/// A decision that is ready to be asked for.
pub struct PreparedDecision {
    pub frame: Frame,
    pub prompt: Prompt,
    /// The inputs that the memory keeps.
    pub seen: ObservedInputs,
}

/// Evaluates the gate.
///
/// # Errors
/// The user requested a move for a goal that does not exist.
pub fn gate(ctx: &Ctx, state: &LoopState, observed: &Observed) -> Result<GateDecision> {
    if let Some(goal) = ctx.forced.as_ref().filter(|goal| !observed.world.goals.contains_key(goal)) {
        let fault = Fault::usage(format!("could not run the goal {goal}: there is no such goal"));
        return Err(fault.hint("list them with `looop goal list`").into());
    }
    Ok(gate::judge(state, observed, ctx.forced.as_ref(), &ctx.settings.limits, ctx.now))
}

/// Reserves the cost of a decision. Another process may have used up the budget first.
pub fn reserve(ctx: &Ctx, decision: GateDecision) -> Result<GateDecision> {
    if !matches!(decision, GateDecision::Decide(_)) || ctx.settings.budget == Budget::default() {
        return Ok(decision);
    }
    let _held = lock::store(&ctx.layout.store_lock())?;
    let wanted = BudgetRequest::decision(ctx.runner.name(), ctx.forced.as_ref());
    match budget::reserve(ctx.layout, &ctx.settings.budget, wanted, ctx.now) {
        Ok(()) => Ok(decision),
        Err(denied) => Ok(GateDecision::Hold(gate::Hold::capped(denied.refusal()?, ctx.now))),
    }
}

/// Prepares a decision.
pub fn decision(
    ctx: &Ctx,
    state: &LoopState,
    observed: &Observed,
    reasons: &[Reason],
    notes: &mut BeatNotes,
) -> Result<PreparedDecision> {
    let world = &observed.world;
    let unreadable = |(name, goal): (&Name, &Goal)| match goal {
        Goal::Unreadable(why) => Some((name.clone(), why.clone())),
        Goal::Text(_) => None,
    };
    let untrusted = |(_, goal): &(&Name, &Goal)| state.untrusted_goals.contains(&goal.digest());
    let journal = logs::journal_tail(ctx.layout, MAX_JOURNAL_BYTES)?;
    let context = Context {
        prompt_version: PROMPT_VERSION,
        beat: beat_id(state.next_ms(ctx.now)),
        at: ctx.now,
        own: world.own.clone(),
        woke: reasons.iter().map(Reason::to_string).collect(),
        changes: changes(ctx, state, observed, notes),
        last: state.last.clone(),
        failure: state.failure.clone(),
        starved: state.starved(world.goals.keys()),
        flapping: state.flaps.keys().filter(|s| state.is_flapping(s, ctx.now)).cloned().collect(),
        forced: ctx.forced.clone(),
        untrusted_goals: world.goals.iter().filter(untrusted).map(|(name, _)| name.clone()).collect(),
        unreadable_goals: world.goals.iter().filter_map(unreadable).collect(),
        withheld: (!observed.tainted).then(|| unclean(prompt::journal_tail(&journal), &state.clean_beats)),
        sensors: world.readings.keys().cloned().collect(),
    };
    let frame = Frame {
        playbook: world.playbook.clone(),
        goals: world.goals.clone(),
        readings: world.readings.clone(),
        context,
        journal,
    };
    let prompt = prompt::render(&frame);
    let cut = prompt.cuts.iter().map(|cut| format!("not shown to the decider in full: {cut}"));
    notes.warnings.extend(cut);
    let seen = observed.inputs(&frame.context.beat, ctx.now, reasons.contains(&Reason::Aged), &prompt);
    Ok(PreparedDecision { frame, prompt, seen })
}

/// Returns the places that changed. The old content of an item is in the commit of the last decision's world.
fn changes(ctx: &Ctx, beat: &LoopState, observed: &Observed, notes: &mut BeatNotes) -> Vec<WorldChange> {
    let Observed { world, changed, .. } = observed;
    let is_changed = |(_, kind): &(String, ChangeKind)| *kind == ChangeKind::Changed;
    let history = beat.base_commit.as_ref().filter(|_| changed.iter().any(is_changed)).and_then(|commit| {
        let opened = History::open(ctx.layout.root());
        Some((notes.warn_on_error(opened)?, commit.clone()))
    });
    let before = |path: &str| {
        let (history, commit) = history.as_ref()?;
        history.read(commit, path, MAX_BLOB_BYTES).ok().flatten()
    };
    let text = |bytes: Vec<u8>| ItemContent::Text(String::from_utf8_lossy(&bytes).into_owned());
    diff::places(changed, &mut |item| {
        if let Some(name) = item.strip_prefix("sensor/") {
            let new = world.readings.iter().find(|(n, _)| n.as_str() == name).map(|(_, reading)| reading);
            // Do not show old untrusted text of a sensor that is trusted now.
            let notified = |old: &SensorReading| new.is_some_and(|new| new.trust == old.trust);
            let old = before(&snapshot_path(name))
                .and_then(|bytes| serde_json::from_slice::<SensorReading>(&bytes).ok());
            let json = |reading: &SensorReading| ItemContent::Json(reading.signal.clone());
            return (old.filter(notified).as_ref().map(json), new.map(json));
        }
        if let Some(name) = item.strip_prefix("goal/") {
            let old = before(&format!("goals/{name}.md")).map(text);
            let new = world.goals.iter().find(|(n, _)| n.as_str() == name).and_then(|(_, goal)| match goal {
                Goal::Text(text) => Some(ItemContent::Text(text.clone())),
                Goal::Unreadable(_) => None,
            });
            return (old, new);
        }
        match item {
            "playbook" => (before("PLAYBOOK.md").map(text), Some(ItemContent::Text(world.playbook.clone()))),
            _ => (None, None),
        }
    })
}

/// Returns the beats in a part of the journal that are not known to be clean.
fn unclean(journal: &str, clean: &[String]) -> Vec<String> {
    let beats = journal.lines().filter_map(|line| Some(entry::parse(line)?.beat));
    beats.filter(|beat| !clean.contains(beat)).collect()
}

/// Returns the relative path of a reading.
pub fn snapshot_path(sensor: &str) -> String {
    format!("snapshots/{sensor}.json")
}

/// Returns the event of a call that is about to be made. Git holds the moves of the beats in `committed`.
pub fn call(ctx: &Ctx, seen: &ObservedInputs, committed: Vec<String>) -> LoopEvent {
    let runner = ctx.runner.name();
    let call = Inflight {
        beat: seen.beat.clone(),
        runner: runner.to_owned(),
        at_ms: seen.at.unix_ms,
        user_files: seen.user_files.clone(),
        sensors: seen.sensors.clone(),
        // An unreadable ledger is reported where it is read for a budget, or written.
        reserved_micros: ledger::totals(ctx.layout, ctx.now)
            .ok()
            .and_then(|totals| totals.max_call_cost(runner))
            .unwrap_or(0),
    };
    LoopEvent::Asking { call: Box::new(call), committed }
}

/// Rebuilds the frame of a past decision from its `world:` commit alone.
///
/// # Errors
/// The commit contains no world, or an incomplete one.
pub fn rebuild(history: &History, commit: &str) -> Result<Frame> {
    let read = |path: &str| -> Result<String> {
        let bytes = history.read(commit, path, MAX_BLOB_BYTES)?;
        let bytes = bytes.with_context(|| format!("could not rebuild: commit {commit} has no {path}"))?;
        String::from_utf8(bytes).with_context(|| format!("could not rebuild: {path} is not UTF-8"))
    };
    let context: Context =
        serde_json::from_str(&read("world.json")?).context("could not rebuild: world.json")?;
    let mut goals: BTreeMap<Name, Goal> = BTreeMap::new();
    for path in history.list(commit, "goals")? {
        let stem = path.strip_prefix("goals/").and_then(|name| name.strip_suffix(".md"));
        let Some(id) = stem.filter(|stem| !stem.contains('/')).and_then(|stem| Name::parse_new(stem).ok())
        else {
            continue;
        };
        if !context.unreadable_goals.contains_key(&id) {
            goals.insert(id, Goal::Text(read(&path)?));
        }
    }
    goals
        .extend(context.unreadable_goals.iter().map(|(id, why)| (id.clone(), Goal::Unreadable(why.clone()))));
    let mut readings = BTreeMap::new();
    for sensor in &context.sensors {
        let reading = serde_json::from_str(&read(&snapshot_path(sensor.as_str()))?);
        readings.insert(sensor.clone(), reading.with_context(|| format!("could not rebuild: {sensor}"))?);
    }
    let journal = history.read(commit, "journal.md", MAX_BLOB_BYTES)?.unwrap_or_default();
    Ok(Frame {
        playbook: read("PLAYBOOK.md")?,
        goals,
        readings,
        context,
        journal: String::from_utf8_lossy(&journal).into_owned(),
    })
}

/// Returns the files of a frame as in its commit: relative path and bytes.
pub fn files(frame: &Frame) -> Result<BTreeMap<String, Vec<u8>>> {
    use crate::store::json_file::json_text;
    let mut files = BTreeMap::from([
        ("PLAYBOOK.md".to_owned(), frame.playbook.clone().into_bytes()),
        ("world.json".to_owned(), json_text(&frame.context)?.into_bytes()),
    ]);
    for (id, goal) in &frame.goals {
        if let Goal::Text(text) = goal {
            files.insert(layout::goal_path(id), text.clone().into_bytes());
        }
    }
    for (name, reading) in &frame.readings {
        files.insert(snapshot_path(name.as_str()), json_text(reading)?.into_bytes());
    }
    if !frame.journal.is_empty() {
        files.insert("journal.md".to_owned(), frame.journal.clone().into_bytes());
    }
    Ok(files)
}
