//! Asks the user about a stuck goal: nothing is started for the goal until there is an answer, or the goal changes.

use anyhow::Result;

use super::Severity;
use super::ctx::FixContext;
use super::task::TaskRun;
use crate::os::clock;
use crate::rules::beat::ask::{AskReply, QuestionFile};
use crate::rules::fix::TaskStatus;
use crate::rules::fix::attempt::{AnsweredHalt, EpisodeState, HaltQuestion, LedgerLine};
use crate::rules::name::Name;
use crate::rules::worker::protocol::WorkerQuestion;
use crate::store::{lock, state_files};
use crate::worker::client;

/// The id of a worker's ask; its supervisor asks and waits.
const IN_WORKER: &str = "worker";

/// Asks the user. True if there is an answer already and work continues.
pub(super) fn ask(run: &mut TaskRun, why: &str, now: &EpisodeState) -> Result<bool> {
    let asked = match &run.ctx.deps.socket {
        Some(_) => IN_WORKER.to_owned(),
        None => put(run.ctx, &question(run, why, now))?.to_string(),
    };
    let at_ms = clock::now().unix_ms;
    let line = HaltQuestion { at_ms, ask: asked.clone(), why: why.to_owned() };
    run.append(&LedgerLine::Asked(line))?;
    run.ctx.say(Severity::Warn, format!("stuck: {why}; looop waits for your answer"));
    answered(run, &asked, now)
}

/// Checks for the answer to an ask; a worker waits for it. True if there is one.
pub(super) fn answered(run: &mut TaskRun, ask: &str, now: &EpisodeState) -> Result<bool> {
    let text = match &run.ctx.deps.socket {
        Some(socket) => {
            let why = format!("attempts at {} are stuck", run.state().title);
            let text = question(run, &why, now);
            Some(client::ask(socket, WorkerQuestion { text, ..WorkerQuestion::default() })?)
        }
        None => reply(run.ctx, ask)?,
    };
    let Some(text) = text else {
        wait(run, ask);
        return Ok(false);
    };
    run.ctx.say(Severity::Plain, format!("you answered: {text}"));
    run.append(&LedgerLine::Answer(AnsweredHalt { at_ms: clock::now().unix_ms, text }))?;
    Ok(true)
}

/// Leaves the task as it is until the user answers.
pub(super) fn wait(run: &mut TaskRun, ask: &str) {
    run.set(TaskStatus::Stuck, ask);
    run.ctx.say(Severity::Warn, format!("it waits for your answer: looop answer {ask}"));
}

/// True while an ask has no answer, as far as this can be determined.
pub(super) fn is_open(ctx: &FixContext, ask: &str) -> bool {
    ctx.deps.socket.is_none() && matches!(reply(ctx, ask), Ok(None))
}

fn reply(ctx: &FixContext, ask: &str) -> Result<Option<String>> {
    let Ok(id) = Name::parse(ask) else { return Ok(None) };
    let answer = state_files::answer(ctx.deps.layout, &id)?;
    Ok(answer.map(|answer| match answer.reply {
        AskReply::Answer { text } => text,
        _ => "(no answer in words)".to_owned(),
    }))
}

fn question(run: &TaskRun, why: &str, now: &EpisodeState) -> String {
    let state = run.state();
    let failure = now.last().map_or(String::new(), |last| format!(" It fails with: {}.", last.failure));
    let plan =
        now.plans.last().map_or(String::new(), |plan| format!(" The last plan was: {}.", plan.hypothesis));
    format!(
        "The fix of {:?} in {} is stuck: {why}.{failure}{plan} What should be tried? See `looop attempt show {}`.",
        state.title, run.session.project, state.goal
    )
}

fn put(ctx: &FixContext, text: &str) -> Result<Name> {
    let (layout, at_ms) = (ctx.deps.layout, clock::now().unix_ms);
    let _store = lock::store(&layout.store_lock())?;
    let ids = (0..100).map(|nth| {
        let digest = blake3::hash(format!("{text}{at_ms}{nth}").as_bytes()).to_hex();
        Name::joined("fix", &digest[..8])
    });
    state_files::create_question(layout, ids, |id| QuestionFile {
        clean: false,
        ..QuestionFile::new(id, ctx.id.as_str(), at_ms, text.to_owned())
    })
}
