//! Decide: one call to the runner, at most one repair call, one valid move or a failure in words.

use anyhow::Result;

use super::{Ctx, prompt};
use crate::model::beat::Failure;
use crate::model::charge::Usage;
use crate::model::decision::{self, Move};
use crate::runner::{Call, Class, Failed, Reply};
use crate::store::{file, logs};

/// What came of asking.
#[derive(Debug)]
pub enum Asked {
    /// A valid move, and what it cost.
    Move(Box<Move>, Usage),
    /// No move, and what it cost all the same.
    Failed(Failure, Usage),
    /// The human interrupted.
    Cancelled(Usage),
}

/// Asks the runner for a move.
///
/// # Errors
/// When the prompt cannot be written: then nothing is asked and nothing is paid.
pub fn one_move(ctx: &mut Ctx, beat: &str, text: &str) -> Result<Asked> {
    let first = match ask(ctx, beat, "", text)? {
        Ok(reply) => reply,
        Err(failed) => return Ok(no_reply(ctx, beat, *failed, None)),
    };
    let error = match decision::parse_reply(&first.text) {
        Ok(decided) => return Ok(Asked::Move(Box::new(decided), first.usage)),
        Err(error) => error,
    };
    let second = match ask(ctx, beat, "repair-", &prompt::repair(text, &first.text, &error))? {
        Ok(reply) => reply,
        Err(failed) => return Ok(no_reply(ctx, beat, *failed, Some(first.usage))),
    };
    let usage = first.usage.plus(&second.usage);
    Ok(match decision::parse_reply(&second.text) {
        Ok(decided) => Asked::Move(Box::new(decided), usage),
        Err(error) => {
            Asked::Failed(failure(ctx, beat, "invalid", &format!("no valid move, twice: {error}")), usage)
        }
    })
}

fn ask(ctx: &mut Ctx, beat: &str, prefix: &str, text: &str) -> Result<Result<Reply, Box<Failed>>> {
    let layout = ctx.layout;
    let prompt_file = logs::archive(layout, beat, &format!("{prefix}prompt.md"), text.as_bytes())?;
    let empty_dir = layout.empty_dir();
    file::make_dir(&empty_dir)?;
    let mut call = Call {
        prompt_file,
        prompt_bytes: text.len(),
        timeout_ms: ctx.settings.limits.decide_timeout_ms,
        empty_dir,
        path: &ctx.settings.path,
        base_env: &ctx.settings.base_env,
        full_env: &ctx.settings.full_env,
        cancel: ctx.cancel,
        frame: ctx.frame.as_mut().map(|frame| &mut **frame as &mut dyn FnMut()),
    };
    let asked = ctx.runner.decide(&mut call);
    crate::sys::tree::end_strays();
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
    let usage = before.map_or(failed.usage.clone(), |first| first.plus(&failed.usage));
    if failed.class == Class::Cancelled {
        return Asked::Cancelled(usage);
    }
    let why = format!("runner `{}`: {}", ctx.runner.name(), failed.why);
    Asked::Failed(failure(ctx, beat, failed.class.word(), &why), usage)
}

fn failure(ctx: &Ctx, beat: &str, class: &str, why: &str) -> Failure {
    Failure {
        beat: beat.to_owned(),
        at_ms: (ctx.clock)().unix_ms,
        class: class.to_owned(),
        why: why.to_owned(),
    }
}
