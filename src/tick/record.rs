//! Record: what a beat writes for the user and for git, and its report.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::json;

use super::ctx::{BeatNotes, Ctx};
use super::{apply, prepare};
use crate::alerts;
use crate::rules::beat::ask::QuestionFile;
use crate::rules::beat::gate::{self, Hold};
use crate::rules::beat::observed::Observed;
use crate::rules::beat::state::{CommitNote, Convergence, Failure, LastResult, LoopState};
use crate::rules::beat::step::LoopEvent;
use crate::rules::cost::budget::BudgetExceeded;
use crate::rules::cost::charge::{Usage, dollars};
use crate::rules::digest::Digest;
use crate::rules::json::clip;
use crate::rules::time::beat_id;
use crate::rules::world::Frame;
use crate::store::state_files::StateFile;
use crate::store::{budget, file, ledger, logs, operations};
use crate::vcs::commits::{self, Commits};

/// The report of a beat.
#[derive(Debug)]
pub struct BeatReport {
    pub what: BeatResult,
    /// What the runner's call used.
    pub usage: Option<Usage>,
    /// Problems that did not end the beat, and parts that did not fit into the prompt.
    pub warnings: Vec<String>,
    /// When the gate's decision could change by itself, in milliseconds from now.
    pub next_beat_due_ms: Option<i64>,
}

/// The result of a beat.
#[derive(Debug)]
pub enum BeatResult {
    /// No decision was requested, for this reason.
    Held(Hold),
    /// A move was decided; its result.
    Moved(LastResult),
    /// The decision failed.
    Failed(Failure),
    /// The user cancelled the decision.
    Cancelled,
    /// The move waits for the next beat, for this reason.
    Waits(String),
}

/// Ends a beat without a decision. Only the cache is written, except that the first beat that finds a budget used up
/// notifies the user.
///
/// # Errors
/// The user cannot be notified.
pub fn hold(ctx: &Ctx, mut notes: BeatNotes, mut state: StateFile, hold: Hold) -> Result<BeatReport> {
    if let Hold::OutOfBudget { exceeded, why } = &hold
        && state.budget_notice != Some(notice_of(exceeded))
    {
        let text = format!("No decision is made: {why}. `looop resume --budget` raises it until then.");
        let now_ms = ctx.now.unix_ms;
        let ask = QuestionFile {
            reference: Some(exceeded.key.clone()),
            expires_ms: Some(exceeded.resets_ms),
            ..QuestionFile::new(budget::ask_id(exceeded), &beat_id(now_ms), now_ms, text)
        };
        let event = LoopEvent::OutOfBudget { notice: notice_of(exceeded), ask: Box::new(ask) };
        apply::carry_out(ctx, &mut notes, &mut state, event)?;
        notes.event(ctx, "out_of_budget", json!({ "budget": exceeded.window }));
    }
    if ctx.layout.commit_pending().exists() {
        commit_moves(ctx, &mut notes, &state);
    }
    let text = format!("{}\n", ctx.now.unix_ms);
    let noted = file::make_dir(ctx.layout.cache())
        .and_then(|()| file::write(&ctx.layout.idle(), text.as_bytes(), 0o600, file::Durability::Atomic));
    notes.warn_on_error(noted);
    Ok(report(ctx, &notes, &state, BeatResult::Held(hold), None))
}

/// The key by which a notification about a budget is remembered. A cap that was raised and is used up again has another
/// key.
fn notice_of(exceeded: &BudgetExceeded) -> String {
    match exceeded.limit_micros == exceeded.cap_micros {
        true => exceeded.window.clone(),
        false => format!("{} of {}", exceeded.window, dollars(exceeded.limit_micros)),
    }
}

fn report(
    ctx: &Ctx,
    notes: &BeatNotes,
    state: &LoopState,
    what: BeatResult,
    usage: Option<Usage>,
) -> BeatReport {
    let clean = |warning: &String| ctx.settings.secrets.redact(warning).into_owned();
    let mut warnings: Vec<String> = notes.warnings.iter().map(clean).collect();
    let mut stated = BTreeSet::new();
    warnings.retain(|warning| stated.insert(warning.clone()));
    let next_beat_due_ms = gate::next_beat_due_ms(state, &ctx.settings.limits, ctx.now);
    BeatReport { what, usage, warnings, next_beat_due_ms }
}

/// Writes the frame of a decision to disk and commits it to git. If the commit fails, that is only a warning: the files
/// are authoritative, and the next beat commits the rest. Returns the commit of the world, and the beats whose moves
/// git holds now.
///
/// # Errors
/// A file of the frame cannot be written.
pub fn world(
    ctx: &Ctx,
    notes: &mut BeatNotes,
    state: &LoopState,
    frame: &Frame,
) -> Result<(Option<String>, Vec<String>)> {
    let files = prepare::files(frame)?;
    commits::write_frame(ctx.layout, &files)?;
    let Some((commits, committed)) = commit_leftovers(ctx, notes, state, &files) else {
        return Ok((None, Vec::new()));
    };
    let message = format!("world: {}\n\nBeat: {}\n", frame.context.woke.join("; "), frame.context.beat);
    let made = commits.people(&files).and_then(|left_out| {
        notes.warnings.extend(left_out);
        commits.world(&ctx.settings.secrets.redact(&message), &files)
    });
    Ok((notes.warn_on_error(made).flatten(), committed))
}

fn open_commits<'a>(ctx: &Ctx<'a>, notes: &mut BeatNotes) -> Result<Commits<'a>> {
    let commits = Commits::open(ctx.layout, ctx.now, &ctx.user)?;
    notes.warnings.extend(commits.notes.clone());
    Ok(commits)
}

/// Commits the moves that an earlier beat could not commit. Returns their beats.
fn commit_leftovers<'a>(
    ctx: &Ctx<'a>,
    notes: &mut BeatNotes,
    state: &LoopState,
    files: &BTreeMap<String, Vec<u8>>,
) -> Option<(Commits<'a>, Vec<String>)> {
    let made = open_commits(ctx, notes).and_then(|commits| {
        let known = commits.known_beats(state.uncommitted.len() * 4 + 8)?;
        let left = state.uncommitted.iter().filter(|note| !known.contains(&note.beat));
        let left: Vec<CommitNote> = left.cloned().collect();
        if let Some(message) = message_of(&left) {
            commits.looop(&ctx.settings.secrets.redact(&message), &paths_of(&left), files)?;
        }
        Ok(commits)
    });
    let commits = notes.warn_on_error(made)?;
    Some((commits, state.uncommitted.iter().map(|note| note.beat.clone()).collect()))
}

/// Commits the user's edits, each on its own. Returns the beats whose moves git holds now.
pub fn commit_people(ctx: &Ctx, notes: &mut BeatNotes, state: &LoopState) -> Vec<String> {
    let none = BTreeMap::new();
    let Some((commits, committed)) = commit_leftovers(ctx, notes, state, &none) else { return Vec::new() };
    let left_out = notes.warn_on_error(commits.people(&none));
    notes.warnings.extend(left_out.into_iter().flatten());
    committed
}

/// Commits the moves that are not in git yet. If git fails, a mark makes each later beat try again.
fn commit_moves(ctx: &Ctx, notes: &mut BeatNotes, state: &LoopState) {
    let Some(message) = message_of(&state.uncommitted) else { return };
    let message = ctx.settings.secrets.redact(&message).into_owned();
    let made = open_commits(ctx, notes)
        .and_then(|commits| commits.looop(&message, &paths_of(&state.uncommitted), &BTreeMap::new()));
    let mark = ctx.layout.commit_pending();
    let marked = match &made {
        Ok(_) if mark.exists() => file::remove(&mark),
        Ok(_) => Ok(()),
        Err(_) => file::write(&mark, b"", 0o600, file::Durability::Atomic),
    };
    notes.warn_on_error(marked);
    notes.warn_on_error(made);
}

/// Returns the files that uncommitted moves wrote, as the newest move left them.
fn paths_of(notes: &[CommitNote]) -> BTreeMap<String, Option<Digest>> {
    notes.iter().flat_map(|note| note.paths.clone()).collect()
}

/// Returns the commit message for moves: the newest one's journal line, the older uncommitted ones in the body, and the
/// newest one's trailers.
fn message_of(notes: &[CommitNote]) -> Option<String> {
    let (newest, older) = notes.split_last()?;
    let mut message = format!("move: {}\n\n", clip(&newest.subject, 200));
    for note in older {
        message.push_str(&format!("also: {} (beat {})\n", clip(&note.subject, 200), note.beat));
    }
    if !older.is_empty() {
        message.push('\n');
    }
    for note in older.iter().chain([newest]) {
        message.push_str(&format!("Beat: {}\n", note.beat));
    }
    message.push_str(&format!("World: {}\n", newest.world));
    if !newest.prompt.is_empty() {
        message.push_str(&format!("Prompt: {}\n", newest.prompt));
    }
    message.push_str(&format!("Cost-Usd: {:.6}\n", newest.cost_micros as f64 / 1e6));
    Some(message)
}

/// Ends a beat that decided, or made an approved move: archives closed asks and spent timers, and commits. `usage` is
/// what the runner used, `waits` why the move waits.
///
/// # Errors
/// Never for anything that the next beat can do; such problems are warnings.
pub fn finish(
    ctx: &Ctx,
    mut notes: BeatNotes,
    mut state: StateFile,
    observed: &Observed,
    beat: &str,
    usage: Option<Usage>,
    waits: Option<String>,
) -> Result<BeatReport> {
    notes.warn_on_error(tidy(ctx, &mut state, observed));
    let what = match (&state.failure, &state.last) {
        (Some(failure), _) if failure.beat == beat => BeatResult::Failed(failure.clone()),
        (_, Some(last)) if last.beat == beat => BeatResult::Moved(last.clone()),
        _ => waits.map_or(BeatResult::Cancelled, BeatResult::Waits),
    };
    // After an approved move, no decider has seen the world.
    if let (BeatResult::Moved(_), Some(_)) = (&what, &usage) {
        notes.warn_on_error(put_away(ctx, &state, observed));
    }
    commit_moves(ctx, &mut notes, &state);
    notes.warn_on_error(commits::collect_garbage(ctx.layout, &ctx.settings.path, ctx.cancel));
    match &what {
        BeatResult::Failed(Failure { class, why, beat, .. }) => {
            notes.event(ctx, "decision_failed", json!({ "class": class, "why": why, "beat": beat }));
        }
        BeatResult::Moved(LastResult { tag, outcome, beat, .. }) => {
            notes.event(ctx, "move", json!({ "move": tag, "outcome": outcome.words(), "beat": beat }));
        }
        BeatResult::Waits(why) => notes.event(ctx, "move_waits", json!({ "why": why })),
        BeatResult::Cancelled | BeatResult::Held(_) => notes.event(ctx, "cancelled", json!({})),
    }
    Ok(report(ctx, &notes, &state, what, usage))
}

/// Archives the workers whose end this beat's decision has seen. A worker with reports stays until there is nothing
/// more to do: each beat makes one move, and each of its reports may lead to a move.
fn put_away(ctx: &Ctx, state: &LoopState, observed: &Observed) -> Result<()> {
    let is_settled = matches!(state.converged, Convergence::Noop { .. });
    let workers = observed.world.own.workers.iter();
    let seen: Vec<_> = workers.filter(|worker| is_settled || worker.reports.is_empty()).cloned().collect();
    ctx.fleet.put_away(&seen, |worker| alerts::is_unsent(ctx.layout, worker))
}

fn tidy(ctx: &Ctx, state: &mut StateFile, observed: &Observed) -> Result<()> {
    for id in state.closed_asks.iter().filter(|id| observed.asks.contains_key(id)) {
        operations::put_away_ask(ctx.layout, id)?;
    }
    for (name, schedule) in &observed.schedules {
        if schedule.is_spent(state.fired.get(name).copied(), ctx.now) {
            operations::drop_schedule(ctx.layout, name, schedule, &mut |path| {
                state.apply(LoopEvent::TimerSpent { path })
            })?;
        }
    }
    ledger::save_totals(ctx.layout, &ledger::totals(ctx.layout, ctx.now)?)?;
    logs::prune_archive(ctx.layout)
}
