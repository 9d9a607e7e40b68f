//! Decide: one call to the runner, at most one repair call, one valid move or a failure in words.

use std::path::PathBuf;

use anyhow::Result;

use super::prompt::{self, Prompt};
use super::{Ctx, log};
use crate::model::beat::Failure;
use crate::model::charge::Usage;
use crate::model::decision::{self, Move};
use crate::model::failing::Class;
use crate::runner::said::OUTPUT_LIMIT;
use crate::runner::{Call, Failed, Reply};
use crate::store::boxes::Boxer;
use crate::store::{file, logs};

/// What came of asking.
#[derive(Debug)]
pub enum Asked {
    /// A valid move, and what it cost.
    Move(Box<Move>, Usage),
    /// No move, and what it cost all the same; none when no call was begun.
    Failed(Failure, Option<Usage>),
    /// The human interrupted.
    Cancelled(Usage),
}

/// Where a prompt and its parts lie.
#[derive(Debug)]
pub struct Written {
    whole: PathBuf,
    /// Its stable part.
    system: PathBuf,
    /// The rest.
    user: PathBuf,
    bytes: usize,
}

/// Puts the prompt where the runner reads it. Done before the call is reserved, so that a full disk neither
/// asks nor counts.
///
/// # Errors
/// When the prompt cannot be written.
pub fn write_down(ctx: &mut Ctx, beat: &str, prompt: &Prompt) -> Result<Written> {
    // Only a runner that stands in it needs it, and says so when it is not there.
    log::warn_on_error(ctx, file::make_dir(&ctx.layout.empty_dir()));
    written(ctx, beat, "", &prompt.text, prompt.split)
}

fn written(ctx: &Ctx, beat: &str, prefix: &str, text: &str, split: usize) -> Result<Written> {
    let keep =
        |name: &str, part: &str| logs::archive(ctx.layout, beat, &format!("{prefix}{name}"), part.as_bytes());
    let (system, user) = text.split_at(split);
    Ok(Written {
        whole: keep("prompt.md", text)?,
        system: keep("system.md", system)?,
        user: keep("user.md", user)?,
        bytes: text.len(),
    })
}

/// Asks the runner for a move; the prompt lies in files.
///
/// # Errors
/// When the reply cannot be kept, or a repair cannot be asked for.
pub fn one_move(ctx: &mut Ctx, beat: &str, prompt: &Prompt, asking: Written) -> Result<Asked> {
    let first = match ask(ctx, beat, "", asking)? {
        Ok(reply) => reply,
        Err(failed) => return Ok(no_reply(ctx, beat, *failed, None)),
    };
    let error = match read_move(ctx, &first) {
        Ok(decided) => return Ok(Asked::Move(Box::new(decided), first.usage)),
        Err(error) => error,
    };
    let again = prompt::repair(&prompt.text, &first.text, &error);
    let repairing = written(ctx, beat, "repair-", &again, prompt.split)?;
    let second = match ask(ctx, beat, "repair-", repairing)? {
        Ok(reply) => reply,
        Err(failed) => return Ok(no_reply(ctx, beat, *failed, Some(first.usage))),
    };
    let usage = first.usage.plus(&second.usage);
    Ok(match read_move(ctx, &second) {
        Ok(decided) => Asked::Move(Box::new(decided), usage),
        Err(error) => Asked::Failed(
            failure(ctx, beat, Class::Invalid, &format!("no valid move, twice: {error}")),
            Some(usage),
        ),
    })
}

/// The move of a reply without what is secret: a reply may spell in many ways what is one value once it is read. An answer
/// that was cut off may lack a second move or the rest of its text, so it holds none.
fn read_move(ctx: &Ctx, reply: &Reply) -> Result<Move, String> {
    if reply.truncated {
        return Err(OUTPUT_LIMIT.to_owned());
    }
    let decided = decision::parse_reply(&reply.text)?;
    let secret = |_| "the move names a secret where only a plain name fits".to_owned();
    let mut value = serde_json::to_value(&decided).map_err(secret)?;
    let before = value.clone();
    ctx.settings.secrets.redact_json(&mut value);
    if value == before { Ok(decided) } else { serde_json::from_value(value).map_err(secret) }
}

type Answer = Result<Reply, Box<Failed>>;

/// The variable that marks a runner and what it starts, and its value for a beat: what a killed tick leaves thinking
/// is found by it.
pub fn mark(ctx: &Ctx, beat: &str) -> (String, String) {
    ("LOOOP_BEAT".to_owned(), format!("{beat} {}", ctx.layout.root().display()))
}

fn ask(ctx: &mut Ctx, beat: &str, prefix: &str, asking: Written) -> Result<Answer> {
    let layout = ctx.layout;
    let empty_dir = layout.empty_dir();
    let mut base_env = ctx.settings.base_env.clone();
    base_env.push(mark(ctx, beat));
    let boxer = Boxer::new(ctx.layout, ctx.settings, true);
    let mut call = Call {
        prompt_file: asking.whole,
        prompt_bytes: asking.bytes,
        system_file: asking.system,
        user_file: asking.user,
        now: (ctx.clock)(),
        timeout_ms: ctx.settings.limits.decide_timeout_ms,
        empty_dir,
        path: &ctx.settings.path,
        base_env: &base_env,
        full_env: &ctx.settings.full_env,
        boxer: &boxer,
        cancel: ctx.cancel,
        frame: ctx.frame.as_mut().map(|frame| &mut **frame as &mut dyn FnMut()),
    };
    let mut asked = ctx.runner.decide(&mut call);
    let secrets = &ctx.settings.secrets;
    match &mut asked {
        Ok(reply) => {
            [&mut reply.raw, &mut reply.stderr].into_iter().for_each(|bytes| secrets.redact_bytes(bytes));
            reply.text = secrets.redact(&reply.text).into_owned();
        }
        Err(failed) => {
            [&mut failed.raw, &mut failed.stderr].into_iter().for_each(|bytes| secrets.redact_bytes(bytes));
            failed.why = secrets.redact(&failed.why).into_owned();
        }
    }
    crate::sys::tree::end_strays(&ctx.spared);
    let (raw, stderr) = match &asked {
        Ok(reply) => (&reply.raw, &reply.stderr),
        Err(failed) => (&failed.raw, &failed.stderr),
    };
    for (name, bytes) in [("reply.txt", raw), ("stderr.txt", stderr)] {
        if !bytes.is_empty() {
            logs::archive(layout, beat, &format!("{prefix}{name}"), bytes)?;
        }
    }
    Ok(asked)
}

fn no_reply(ctx: &Ctx, beat: &str, failed: Failed, before: Option<Usage>) -> Asked {
    let usage = before.as_ref().map_or(failed.usage.clone(), |first| first.plus(&failed.usage));
    if failed.class == Class::Cancelled {
        return Asked::Cancelled(usage);
    }
    // What could not even be asked has spent nothing; a call before it has.
    let spent = if matches!(failed.class, Class::Missing | Class::Down) { before } else { Some(usage) };
    let why = format!("runner `{}`: {}", ctx.runner.name(), failed.why);
    let failure = Failure { retry_at_ms: failed.retry_at_ms, ..failure(ctx, beat, failed.class, &why) };
    Asked::Failed(failure, spent)
}

fn failure(ctx: &Ctx, beat: &str, class: Class, why: &str) -> Failure {
    Failure {
        beat: beat.to_owned(),
        at_ms: (ctx.clock)().unix_ms,
        class,
        why: why.to_owned(),
        retry_at_ms: None,
        clean: false,
    }
}
