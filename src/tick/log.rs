//! Log: what a beat writes for the user and for git, and its report.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::act;
use super::decide::DecideOutcome;
use super::gate::{self, Hold};
use super::plan::{self, Cuts, MovePlan};
use super::prompt::Prompt;
use super::sense::Sensed;
use super::{Ctx, frame};
use crate::model::ask::{AskKind, QuestionFile};
use crate::model::beat::{CommitNote, Failure, LastResult, LoopState, Settled};
use crate::model::budget::BudgetExceeded;
use crate::model::charge::{Charge, Usage, dollars};
use crate::model::decision::Move;
use crate::model::digest::{Digest, Items, digest_items};
use crate::model::name::Name;
use crate::model::step::{Decided, LoopEvent, ObservedInputs};
use crate::model::time::beat_id;
use crate::model::world::Frame;
use crate::store::commits::{self, Commits};
use crate::store::json_file;
use crate::store::{budget, file, layout, ledger, logs, operations, records};

/// The report of a beat.
#[derive(Debug)]
pub struct BeatReport {
    pub what: BeatResult,
    /// What the runner's call used.
    pub usage: Option<Usage>,
    /// Problems that did not end the beat, and parts that did not fit into the prompt.
    pub warnings: Vec<String>,
    /// When the gate's decision could change by itself, in milliseconds from now.
    pub next_look_ms: Option<i64>,
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

/// Reads the memory. If it was lost, halts the loop and notifies the user.
pub fn recall(ctx: &mut Ctx) -> Result<LoopState> {
    let (beat, notified) = records::load_beat(ctx.layout, ctx.now)?;
    ctx.warnings.extend(notified);
    Ok(beat)
}

/// Appends to the machine log; on failure, the beat continues with a warning.
pub fn event(ctx: &mut Ctx, name: &str, fields: &[(&str, Value)]) {
    let clean = |value: &Value| {
        let mut value = value.clone();
        ctx.settings.secrets.redact_json(&mut value);
        value
    };
    let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), clean(value))).collect();
    let written = logs::event(ctx.layout, (ctx.clock)(), name, fields);
    warn_on_error(ctx, written);
}

/// Turns an error that must not end the beat into a warning.
pub fn warn_on_error<T>(ctx: &mut Ctx, result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let hint = error.downcast_ref::<crate::store::history::Blocked>().map(|blocked| blocked.hint());
            ctx.warnings
                .push(format!("{error:#}{}", hint.map(|hint| format!("; {hint}")).unwrap_or_default()));
            None
        }
    }
}

/// Ends a beat without a decision. Only the cache is written, except that the first beat that finds a budget used up
/// notifies the user.
///
/// # Errors
/// The user cannot be notified.
pub fn held(ctx: &mut Ctx, beat: &mut LoopState, hold: Hold) -> Result<BeatReport> {
    if let Hold::OutOfBudget { hit, why } = &hold
        && beat.budget_notice != Some(notified_of(hit))
    {
        tell_budget(ctx, hit, why)?;
        beat.budget_notice = Some(notified_of(hit));
        records::save_beat(ctx.layout, beat)?;
        event(ctx, "out_of_budget", &[("budget", hit.window.clone().into())]);
    }
    if ctx.layout.commit_pending().exists() {
        commit_moves(ctx, beat);
    }
    let idle = ctx.layout.idle();
    let text = format!("{}\n", ctx.now.unix_ms);
    let noted = file::make_dir(ctx.layout.cache())
        .and_then(|()| file::write(&idle, text.as_bytes(), 0o600, file::Durability::Whole));
    warn_on_error(ctx, noted);
    let next_look_ms = gate::next_look_ms(beat, &ctx.settings.limits, ctx.now);
    Ok(report(ctx, BeatResult::Held(hold), next_look_ms))
}

/// The key by which a notification about a budget is remembered. A cap that was raised and is used up again has another
/// key.
fn notified_of(hit: &BudgetExceeded) -> String {
    match hit.limit_micros == hit.cap_micros {
        true => hit.window.clone(),
        false => format!("{} of {}", hit.window, dollars(hit.limit_micros)),
    }
}

fn tell_budget(ctx: &Ctx, hit: &BudgetExceeded, why: &str) -> Result<()> {
    let ask = QuestionFile {
        id: budget::ask_id(hit),
        kind: AskKind::Question,
        worker: None,
        goal: None,
        text: format!("No decision is made: {why}. `looop resume --budget` raises it until then."),
        options: Vec::new(),
        reference: Some(hit.key.clone()),
        beat: beat_id(ctx.now.unix_ms),
        created_ms: ctx.now.unix_ms,
        expires_ms: Some(hit.resets_ms),
        approval: None,
        clean: true,
    };
    let path = ctx.layout.file(&layout::ask_path(&ask.id));
    file::create(&path, json_file::json_text(&ask)?.as_bytes(), 0o600).map(|_| ())
}

fn report(ctx: &mut Ctx, what: BeatResult, next_look_ms: Option<i64>) -> BeatReport {
    let warnings = std::mem::take(&mut ctx.warnings);
    let clean = |warning: &String| ctx.settings.secrets.redact(warning).into_owned();
    let mut warnings: Vec<String> = warnings.iter().map(clean).collect();
    let mut stated = std::collections::BTreeSet::new();
    warnings.retain(|warning| stated.insert(warning.clone()));
    BeatReport { what, usage: ctx.usage.take(), warnings, next_look_ms }
}

/// Makes the move that the user approved. No runner is called.
///
/// # Errors
/// The move could not be completed; the next beat settles it.
pub fn approved(ctx: &mut Ctx, beat: &mut LoopState, sensed: &Sensed, items: Items) -> Result<BeatReport> {
    let Some(ask) = sensed.approved.clone() else {
        return held(ctx, beat, Hold::Idle);
    };
    let at = ctx.now;
    let id = beat_id(beat.next_ms(at));
    let (decided, plan) = plan::plan_approved(ctx, sensed, &id, &ask)?;
    commit_people(ctx, beat);
    let seen = ObservedInputs {
        beat: id.clone(),
        at,
        world: digest_items(&items),
        items,
        human: String::new(),
        commit: None,
        prompt: String::new(),
        sensors: Vec::new(),
        unchanged: true,
        aged: false,
        tainted: !ask.clean,
        goals: sensed.world.goals.keys().cloned().collect(),
        asks: Vec::new(),
        answers: Vec::new(),
        rejected: Vec::new(),
        due: Vec::new(),
        schedules: Vec::new(),
    };
    let MovePlan { operation, then, starts_paid } = plan;
    let approval = Some((ask.id, ask.expires_ms.unwrap_or(i64::MAX)));
    let decided = Decided { seen, decided, operation, then, charge: None, approval, starts_paid };
    act::carry_out(ctx, beat, LoopEvent::Decided(Box::new(decided)))?;
    finish(ctx, beat, sensed, &Prompt::default(), &id)
}

/// Writes the frame of a decision to disk and commits it to git. If the commit fails, that is only a warning: the files
/// are authoritative, and the next beat commits the rest. Returns the commit of the world.
///
/// # Errors
/// A file of the frame cannot be written.
pub fn record_world(ctx: &mut Ctx, beat: &mut LoopState, frame: &Frame) -> Result<Option<String>> {
    let files = frame::files(frame)?;
    commits::write_frame(ctx.layout, &files)?;
    let prepared = open_commits(ctx);
    let Some(commits) = warn_on_error(ctx, prepared) else { return Ok(None) };
    let made = people_and_leftovers(ctx, beat, &commits, &files).and_then(|()| {
        let message = format!("world: {}\n\nBeat: {}\n", frame.context.woke.join("; "), frame.context.beat);
        commits.world(&ctx.settings.secrets.redact(&message), &files)
    });
    Ok(warn_on_error(ctx, made).flatten())
}

fn open_commits<'a>(ctx: &mut Ctx<'a>) -> Result<Commits<'a>> {
    let commits = Commits::open(ctx.layout, ctx.now, &ctx.person)?;
    ctx.warnings.extend(commits.notes.clone());
    Ok(commits)
}

/// Commits what an earlier beat could not commit, and the user's edits, each on its own.
fn people_and_leftovers(
    ctx: &mut Ctx,
    beat: &mut LoopState,
    commits: &Commits,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    let known = commits.known_beats(beat.uncommitted.len() * 4 + 8)?;
    beat.uncommitted.retain(|note| !known.contains(&note.beat));
    if let Some(message) = message_of(&beat.uncommitted) {
        commits.looop(&ctx.settings.secrets.redact(&message), &paths_of(beat), files)?;
    }
    beat.uncommitted.clear();
    ctx.warnings.extend(commits.people(files)?);
    Ok(())
}

fn commit_people(ctx: &mut Ctx, beat: &mut LoopState) {
    let made =
        open_commits(ctx).and_then(|commits| people_and_leftovers(ctx, beat, &commits, &BTreeMap::new()));
    warn_on_error(ctx, made);
}

/// Commits the moves that are not in git yet. If git fails, a mark makes each later beat try again.
fn commit_moves(ctx: &mut Ctx, beat: &LoopState) {
    let Some(message) = message_of(&beat.uncommitted) else { return };
    let message = ctx.settings.secrets.redact(&message).into_owned();
    let made =
        open_commits(ctx).and_then(|commits| commits.looop(&message, &paths_of(beat), &BTreeMap::new()));
    let mark = ctx.layout.commit_pending();
    let marked = match &made {
        Ok(_) if mark.exists() => file::remove(&mark),
        Ok(_) => Ok(()),
        Err(_) => file::write(&mark, b"", 0o600, file::Durability::Whole),
    };
    warn_on_error(ctx, marked);
    warn_on_error(ctx, made);
}

/// Returns the files that uncommitted moves wrote, as the newest move left them.
fn paths_of(beat: &LoopState) -> BTreeMap<String, Option<Digest>> {
    beat.uncommitted.iter().flat_map(|note| note.paths.clone()).collect()
}

/// Returns the commit message for moves: the newest one's journal line, the older uncommitted ones in the body, and the
/// newest one's trailers.
fn message_of(notes: &[CommitNote]) -> Option<String> {
    let (newest, older) = notes.split_last()?;
    let mut message = format!("move: {}\n\n", crate::model::json::clip(&newest.subject, 200));
    for note in older {
        message.push_str(&format!(
            "also: {} (beat {})\n",
            crate::model::json::clip(&note.subject, 200),
            note.beat
        ));
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

/// Turns the result of a decision into an event for the memory. A move that cannot even be planned, because a file that
/// it depends on cannot be read, is a failed decision: it was paid for, and it has a reason.
pub fn answer(
    ctx: &mut Ctx,
    beat: &LoopState,
    sensed: &Sensed,
    seen: ObservedInputs,
    asked: DecideOutcome,
    prompt: &Prompt,
) -> LoopEvent {
    let at = (ctx.clock)();
    ctx.usage = match &asked {
        DecideOutcome::Cancelled(usage) | DecideOutcome::Move(_, usage) => Some(usage.clone()),
        DecideOutcome::Failed(_, usage) => usage.clone(),
    };
    let charge = |usage: Usage, goal: Option<&Name>| {
        Box::new(Charge {
            at_ms: at.unix_ms,
            day: at.day(),
            beat: seen.beat.clone(),
            goal: goal.map(Name::to_string),
            worker: None,
            runner: ctx.runner.name().to_owned(),
            sensors: seen.sensors.clone(),
            usage,
        })
    };
    match asked {
        DecideOutcome::Cancelled(usage) => LoopEvent::Cancelled { charge: charge(usage, None) },
        DecideOutcome::Failed(failure, usage) => {
            let failure = Failure { clean: !seen.tainted, ..failure };
            LoopEvent::Failed { charge: usage.map(|usage| charge(usage, None)), human: seen.human, failure }
        }
        DecideOutcome::Move(decided, usage) => {
            let cuts = Cuts { goals: prompt.cut_goals.clone(), playbook: prompt.cut_playbook };
            let MovePlan { operation, then, starts_paid } =
                plan::plan(ctx, beat, sensed, &seen.beat, &decided, &cuts);
            // If the user pauses or cancels before the move is made, the move is not wanted any more.
            if ctx.cancel.is_set() || paused_now(ctx) {
                return LoopEvent::Cancelled { charge: charge(usage, None) };
            }
            let charge = Some(charge(usage, decided.goal.as_ref()));
            let decided: Move = *decided;
            LoopEvent::Decided(Box::new(Decided {
                decided,
                operation,
                then,
                charge,
                approval: None,
                starts_paid,
                seen,
            }))
        }
    }
}

/// True if the user has paused the loop by now; a pause file that cannot be read counts as a pause.
fn paused_now(ctx: &Ctx) -> bool {
    !matches!(records::paused(ctx.layout), Ok(None))
}

/// Ends a beat that decided: archives closed asks and spent timers, and commits.
///
/// # Errors
/// Never for anything that the next beat can do; such problems are warnings.
pub fn finish(
    ctx: &mut Ctx,
    beat: &mut LoopState,
    sensed: &Sensed,
    prompt: &Prompt,
    id: &str,
) -> Result<BeatReport> {
    let tidied = tidy(ctx, beat, sensed);
    warn_on_error(ctx, tidied);
    ctx.warnings.extend(prompt.cuts.iter().map(|cut| format!("not shown to the decider in full: {cut}")));
    let what = match (&beat.failure, &beat.last) {
        (Some(failure), _) if failure.beat == id => BeatResult::Failed(failure.clone()),
        (_, Some(last)) if last.beat == id => BeatResult::Moved(last.clone()),
        _ => ctx.waits.take().map_or(BeatResult::Cancelled, BeatResult::Waits),
    };
    if let BeatResult::Moved(_) = &what {
        put_away(ctx, beat, sensed, prompt);
    }
    commit_moves(ctx, beat);
    let collected = commits::collect_garbage(ctx.layout, &ctx.settings.path, ctx.cancel);
    warn_on_error(ctx, collected);
    match &what {
        BeatResult::Failed(f) => event(
            ctx,
            "decision_failed",
            &[
                ("class", f.class.word().into()),
                ("why", f.why.clone().into()),
                ("beat", f.beat.clone().into()),
            ],
        ),
        BeatResult::Moved(l) => event(
            ctx,
            "move",
            &[
                ("move", l.tag.clone().into()),
                ("outcome", l.outcome.words().into()),
                ("beat", l.beat.clone().into()),
            ],
        ),
        BeatResult::Cancelled => event(ctx, "cancelled", &[]),
        BeatResult::Waits(why) => event(ctx, "move_waits", &[("why", why.clone().into())]),
        BeatResult::Held(_) => {}
    }
    let next_look_ms = gate::next_look_ms(beat, &ctx.settings.limits, ctx.now);
    Ok(report(ctx, what, next_look_ms))
}

/// Archives the workers whose end this beat's decision has seen. A worker with reports stays until there is nothing
/// more to do: each beat makes one move, and each of its reports may lead to a move.
fn put_away(ctx: &mut Ctx, beat: &LoopState, sensed: &Sensed, prompt: &Prompt) {
    // After an approved move, no decider has seen the world.
    if prompt.text.is_empty() {
        return;
    }
    let is_settled = matches!(beat.settled, Settled::Noop { .. });
    let workers = sensed.world.own.workers.iter();
    let seen: Vec<_> = workers.filter(|worker| is_settled || worker.reports.is_empty()).cloned().collect();
    let put_away = ctx.fleet.put_away(&seen);
    warn_on_error(ctx, put_away);
}

fn tidy(ctx: &Ctx, beat: &mut LoopState, sensed: &Sensed) -> Result<()> {
    for id in beat.closed_asks.iter().filter(|id| sensed.asks.contains_key(id)) {
        operations::put_away_ask(ctx.layout, id)?;
    }
    for (name, schedule) in &sensed.schedules {
        if schedule.is_spent(beat.fired.get(name).copied(), ctx.now) {
            // Update the memory before the file is removed: after a crash, it would otherwise look as if the user had
            // removed the timer.
            operations::drop_schedule(ctx.layout, name, schedule, &mut |path| {
                let Some(note) = beat.uncommitted.last_mut() else { return Ok(()) };
                note.paths.insert(path, None);
                records::save_beat(ctx.layout, beat)
            })?;
        }
    }
    ledger::save_totals(ctx.layout, &ledger::totals(ctx.layout, ctx.now)?)?;
    logs::prune_archive(ctx.layout)
}
