//! Asks the user about a stuck goal: nothing is started for the goal until there is an answer, or the goal changes.

use anyhow::{Context, Result};

use super::Tone;
use super::ctx::FixContext;
use crate::model::ask::{AskKind, AskReply, QuestionFile};
use crate::model::attempt::{AnsweredHalt, EpisodeState, HaltQuestion, LedgerLine};
use crate::model::fix::{FixSession, TaskStatus};
use crate::model::name::Name;
use crate::store::json_file;
use crate::store::{file, fixes, layout, lock, records};
use crate::sys::clock;
use crate::worker::client;

/// The id of a worker's ask; its supervisor asks and waits.
const IN_WORKER: &str = "worker";

/// Asks the user. True if there is an answer already and work continues.
pub(super) fn ask(
    ctx: &FixContext,
    run: &mut FixSession,
    at: usize,
    why: &str,
    now: &EpisodeState,
) -> Result<bool> {
    let task = &run.tasks[at];
    let goal = task.goal.clone();
    let asked = match &ctx.socket {
        Some(_) => IN_WORKER.to_owned(),
        None => put(ctx, &question(run, at, why, now))?.to_string(),
    };
    let at_ms = clock::now().unix_ms;
    let line = HaltQuestion { at_ms, ask: asked.clone(), why: why.to_owned() };
    fixes::append(&ctx.dir, &goal, &LedgerLine::Asked(line))?;
    ctx.say(Tone::Warn, format!("stuck: {why}; looop waits for your answer"));
    answered(ctx, run, at, &asked, now)
}

/// Checks for the answer to an ask; a worker waits for it. True if there is one.
pub(super) fn answered(
    ctx: &FixContext,
    run: &mut FixSession,
    at: usize,
    ask: &str,
    now: &EpisodeState,
) -> Result<bool> {
    let goal = run.tasks[at].goal.clone();
    let text = match &ctx.socket {
        Some(socket) => {
            let why = format!("attempts at {} are stuck", run.tasks[at].title);
            Some(client::ask(socket, &question(run, at, &why, now), &[], None)?)
        }
        None => reply(ctx, ask)?,
    };
    let Some(text) = text else {
        run.tasks[at].status = TaskStatus::Stuck;
        run.tasks[at].note = ask.to_owned();
        ctx.say(Tone::Warn, format!("it waits for your answer: looop answer {ask}"));
        return Ok(false);
    };
    ctx.say(Tone::Plain, format!("you answered: {text}"));
    fixes::append(&ctx.dir, &goal, &LedgerLine::Answer(AnsweredHalt { at_ms: clock::now().unix_ms, text }))?;
    Ok(true)
}

/// True while an ask has no answer, as far as this can be determined.
pub(super) fn is_open(ctx: &FixContext, ask: Option<&str>) -> bool {
    ctx.socket.is_none() && ask.is_some_and(|ask| matches!(reply(ctx, ask), Ok(None)))
}

fn reply(ctx: &FixContext, ask: &str) -> Result<Option<String>> {
    let Ok(id) = Name::parse(ask) else { return Ok(None) };
    Ok(match records::answer(ctx.layout, &id)? {
        Some(answer) => match answer.reply {
            AskReply::Answer { text } => Some(text),
            _ => Some("(no answer in words)".to_owned()),
        },
        None => None,
    })
}

fn question(run: &FixSession, at: usize, why: &str, now: &EpisodeState) -> String {
    let task = &run.tasks[at];
    let last = now.attempts.last();
    let failure = last.map_or(String::new(), |last| format!(" It fails with: {}.", last.failure));
    let plan =
        now.plans.last().map_or(String::new(), |plan| format!(" The last plan was: {}.", plan.hypothesis));
    format!(
        "The fix of {:?} in {} is stuck: {why}.{failure}{plan} What should be tried? See `looop attempt show {}`.",
        task.title, run.project, task.goal
    )
}

fn put(ctx: &FixContext, text: &str) -> Result<Name> {
    let at_ms = clock::now().unix_ms;
    let _store = lock::store(&ctx.layout.store_lock())?;
    for nth in 0..100 {
        let digest = blake3::hash(format!("{text}{at_ms}{nth}").as_bytes()).to_hex();
        let id = Name::joined("fix", &digest[..8]);
        let ask = QuestionFile {
            id: id.clone(),
            kind: AskKind::Question,
            worker: None,
            goal: None,
            text: text.to_owned(),
            options: Vec::new(),
            reference: None,
            beat: ctx.id.to_string(),
            created_ms: at_ms,
            expires_ms: None,
            approval: None,
            clean: false,
        };
        let bytes = json_file::json_text(&ask).context("could not write the question")?;
        if file::create(&ctx.layout.file(&layout::ask_path(&id)), bytes.as_bytes(), 0o600)? {
            return Ok(id);
        }
    }
    anyhow::bail!("could not find a free id for the question")
}
