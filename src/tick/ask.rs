//! Ask: one call to the runner, at most one repair call, and one valid move or a failure as text.

use anyhow::Result;

use super::ctx::{BeatNotes, Ctx};
use crate::agents::call::redact;
use crate::agents::stream::OUTPUT_LIMIT;
use crate::agents::{Completion, Failed, ModelCall, PromptFiles};
use crate::os::process::reaper;
use crate::rules::beat::decision::{self, Move};
use crate::rules::beat::failing::Class;
use crate::rules::beat::prompt::{self, Prompt};
use crate::rules::beat::state::Failure;
use crate::rules::cost::charge::Usage;
use crate::rules::worker::limit::RunnerLimit;
use crate::store::{file, logs, runner_limits};

/// The result of a decision.
#[derive(Debug)]
pub enum DecideOutcome {
    /// A valid move, and what it cost.
    Move(Box<Move>, Usage),
    /// No move, and what it cost nevertheless; `None` if no call was made.
    Failed(Failure, Option<Usage>),
    /// The user cancelled; what it cost.
    Cancelled(Usage),
}

impl DecideOutcome {
    /// Returns what the calls used; `None` if no call was made.
    pub fn usage(&self) -> Option<&Usage> {
        match self {
            DecideOutcome::Cancelled(usage) | DecideOutcome::Move(_, usage) => Some(usage),
            DecideOutcome::Failed(_, usage) => usage.as_ref(),
        }
    }
}

/// Writes the prompt to the files that the runner reads. This happens before the call is reserved, so that a full disk
/// causes neither a call nor a reservation.
pub fn write_prompt(ctx: &Ctx, notes: &mut BeatNotes, beat: &str, prompt: &Prompt) -> Result<PromptFiles> {
    // Only a runner that is started in this folder needs it, and reports it if it is missing.
    notes.warn_on_error(file::make_dir(&ctx.layout.empty_dir()));
    written(ctx, beat, "", &prompt.text, prompt.split)
}

fn written(ctx: &Ctx, beat: &str, prefix: &str, text: &str, split: usize) -> Result<PromptFiles> {
    let keep =
        |name: &str, part: &str| logs::archive(ctx.layout, beat, &format!("{prefix}{name}"), part.as_bytes());
    let (system, user) = text.split_at(split);
    Ok(PromptFiles {
        whole: keep("prompt.md", text)?,
        system: keep("system.md", system)?,
        user: keep("user.md", user)?,
        bytes: text.len(),
    })
}

/// Asks the runner for a move; the files contain the prompt.
///
/// # Errors
/// The reply cannot be stored, or the repair call cannot be made.
pub fn one_move(
    ctx: &Ctx,
    notes: &BeatNotes,
    beat: &str,
    prompt: &Prompt,
    files: PromptFiles,
) -> Result<DecideOutcome> {
    let first = match ask(ctx, notes, beat, "", files)? {
        Ok(reply) => reply,
        Err(failed) => return Ok(no_reply(ctx, beat, *failed, None)),
    };
    let error = match read_move(ctx, &first) {
        Ok(decided) => return Ok(DecideOutcome::Move(Box::new(decided), first.usage)),
        Err(error) => error,
    };
    let again = prompt::repair(&prompt.text, &first.text, &error);
    let repairing = written(ctx, beat, "repair-", &again, prompt.split)?;
    let second = match ask(ctx, notes, beat, "repair-", repairing)? {
        Ok(reply) => reply,
        Err(failed) => return Ok(no_reply(ctx, beat, *failed, Some(first.usage))),
    };
    let usage = first.usage.plus(&second.usage);
    Ok(match read_move(ctx, &second) {
        Ok(decided) => DecideOutcome::Move(Box::new(decided), usage),
        Err(error) => DecideOutcome::Failed(
            failure(ctx, beat, Class::Invalid, &format!("no valid move, twice: {error}")),
            Some(usage),
        ),
    })
}

/// The move of a reply without what is secret: a reply may spell in many ways what is one value once it is read. An answer
/// that was cut off may lack a second move or the rest of its text, so it holds none.
fn read_move(ctx: &Ctx, reply: &Completion) -> Result<Move, String> {
    if reply.truncated {
        return Err(OUTPUT_LIMIT.to_owned());
    }
    let decided = decision::parse_reply(&reply.text)?;
    let secret = |_| "the move contains a secret where only a plain name is allowed".to_owned();
    let mut value = serde_json::to_value(&decided).map_err(secret)?;
    let before = value.clone();
    ctx.settings.secrets.redact_json(&mut value);
    if value == before { Ok(decided) } else { serde_json::from_value(value).map_err(secret) }
}

type Answer = Result<Completion, Box<Failed>>;

fn ask(ctx: &Ctx, notes: &BeatNotes, beat: &str, prefix: &str, files: PromptFiles) -> Result<Answer> {
    let layout = ctx.layout;
    let call = ModelCall {
        prompt: &files,
        now: (ctx.clock)(),
        timeout_ms: ctx.settings.limits.decide_timeout_ms,
        sandboxes: &ctx.fleet.sandboxes,
        mark: Some(&ctx.mark(beat)),
        key: None,
        cancel: ctx.cancel,
        frame: ctx.on_wait.as_deref(),
    };
    let mut asked = ctx.runner.decide(&call);
    reaper::reap_orphans(&notes.supervisors);
    redact(&mut asked, &ctx.settings.secrets);
    if let Err(failed) = &asked
        && failed.class == Class::Limit
    {
        let now = (ctx.clock)();
        let limits = &ctx.settings.workers.limits;
        let limit = RunnerLimit::new(ctx.runner.name(), &failed.why, failed.retry_at_ms, limits, now);
        // If it cannot be written, the next worker of this runner finds out by itself.
        drop(runner_limits::note(layout, limit, now));
    }
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

fn no_reply(ctx: &Ctx, beat: &str, failed: Failed, before: Option<Usage>) -> DecideOutcome {
    let usage = before.as_ref().map_or(failed.usage.clone(), |first| first.plus(&failed.usage));
    if failed.class == Class::Cancelled {
        return DecideOutcome::Cancelled(usage);
    }
    // A call that could not even be made cost nothing, but an earlier call did.
    let spent = if matches!(failed.class, Class::Missing | Class::Down) { before } else { Some(usage) };
    let why = format!("runner `{}`: {}", ctx.runner.name(), failed.why);
    let failure = Failure { retry_at_ms: failed.retry_at_ms, ..failure(ctx, beat, failed.class, &why) };
    DecideOutcome::Failed(failure, spent)
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
