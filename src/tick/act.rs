//! Act: makes a move at most once, and settles what an interrupted tick left before anything else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Ctx, decide, log};
use crate::model::beat::{Intent, LoopState, Operation};
use crate::model::entry::{self, MoveOutcome};
use crate::model::process::Started;
use crate::model::step::{self, Effect, Evidence, LoopEvent, Probe};
use crate::model::user_side;
use crate::store::boxes::SandboxBuilder;
use crate::store::coverage::SealedFolders;
use crate::store::exchange::Fallback;
use crate::store::json_file;
use crate::store::operations::{self, ChangeResult};
use crate::store::{file, git_watch, layout, ledger, logs, records, workers};
use crate::sys::process::{self, Job, OutputLimit, ProcessCommand, ProcessExit, reaper, tree};
use crate::sys::program;
use crate::sys::sandbox;
use crate::sys::sealed::Sealed;

/// How much of the end of a command's output the next decision sees, in bytes.
const TAIL_BYTES: usize = 4_000;
/// The archived file with the end of a command's output.
pub const OUTPUT: &str = "output.txt";
/// How much of the journal is searched for a beat's id, in bytes.
const SEARCH_BYTES: usize = 64 * 1024;

/// Performs the effects of an event in order. The memory follows each save.
///
/// # Errors
/// The first effect that failed; the next tick settles what is on disk then.
pub fn carry_out(ctx: &mut Ctx, beat: &mut LoopState, event: LoopEvent) -> Result<()> {
    step::drive(beat, event, &mut |effect| match effect {
        Effect::Charge(charge) => {
            ledger::append(ctx.layout, charge)?;
            Ok(None)
        }
        Effect::Save(next) => records::save_beat(ctx.layout, next).map(|()| None),
        Effect::Journal(line) => logs::journal(ctx.layout, &ctx.settings.secrets.redact(line)).map(|()| None),
        Effect::Flag(ask) => {
            let path = ctx.layout.file(&layout::ask_path(&ask.id));
            let text = json_file::json_text(ask.as_ref())?;
            file::create(&path, ctx.settings.secrets.redact(&text).as_bytes(), 0o600).map(|_| None)
        }
        Effect::Sync(found) => match found {
            Evidence::Memory => file::sync(&ctx.layout.beat()),
            Evidence::Charge => ledger::sync(ctx.layout),
            Evidence::Line => file::sync(&ctx.layout.journal()),
            Evidence::Change(operation) => operations::sync(ctx.layout, operation),
        }
        .map(|()| None),
        Effect::Act(intent) => {
            let outcome = perform(ctx, intent)?;
            Ok(outcome.map(|outcome| LoopEvent::Acted { at: (ctx.clock)(), outcome }))
        }
    })
}

/// Makes a move. `None`: the move waits for the next beat, and its intent stays.
fn perform(ctx: &mut Ctx, intent: &Intent) -> Result<Option<MoveOutcome>> {
    match &intent.operation {
        Operation::Fleet | Operation::ApprovedStart(_) => {
            let approved = match &intent.operation {
                Operation::ApprovedStart(scope) => Some(scope.as_ref()),
                _ => None,
            };
            let outcome = ctx.fleet.perform(&intent.beat, &intent.decided, !intent.clean, approved);
            // A move that a crash cut off is made at the start of a beat, before the beat ends its strays.
            ctx.excluded.extend(workers::supervisors(ctx.layout)?);
            outcome.map(Some)
        }
        Operation::Exec { argv, exe, cwd, files, folders } => {
            exec(ctx, intent, argv, exe, cwd, (files, folders)).map(Some)
        }
        operation => {
            let fallback = if ctx.settles { Fallback::Steps } else { Fallback::Nothing };
            Ok(match operations::perform(ctx.layout, operation, fallback)? {
                ChangeResult::Made => Some(intent.then.clone()),
                ChangeResult::Refused(why) => Some(MoveOutcome::Refused { why }),
                ChangeResult::Waits(why) => {
                    ctx.waits = Some(why);
                    None
                }
            })
        }
    }
}

pub fn run_env(ctx: &Ctx) -> Vec<(String, String)> {
    ctx.settings.base_env.clone()
}

/// Runs a command through `looop __exec-gated`, which waits for one byte. The process is recorded in the intent before that
/// byte is sent, so that after a crash it is known whether the command may have started.
fn exec(
    ctx: &mut Ctx,
    intent: &Intent,
    argv: &[String],
    exe: &str,
    cwd: &str,
    (files, folders): (&[Sealed], &[Sealed]),
) -> Result<MoveOutcome> {
    let layout = ctx.layout;
    let saved = records::load_beat(layout, ctx.now)?.0;
    let gate = |pid: u32| -> Result<()> {
        let start = tree::start_of(pid).context("the process ended before it started")?;
        let started = Some(Started { pid, start, boot: tree::boot_id() });
        let next = LoopState { intent: Some(Intent { started, ..intent.clone() }), ..saved };
        records::save_beat(layout, &next)
    };
    let mut cell = match SandboxBuilder::new(layout, ctx.settings, true).run(Path::new(cwd)) {
        Ok(cell) => cell,
        Err(why) => return Ok(MoveOutcome::NotDone { why }),
    };
    git_watch::begin(&layout.git_watch(), cell.sandbox.as_ref(), None)?;
    let mut args = vec!["__exec-gated".to_owned()];
    if !files.is_empty() {
        let files = serde_json::to_string(files).context("could not record the approved files")?;
        args.extend(["--sealed".to_owned(), files]);
    }
    if !folders.is_empty() {
        let (root, cache) = (layout.root().to_owned(), layout.cache().to_owned());
        let folders = SealedFolders { root, cache, folders: folders.to_vec() };
        let folders =
            serde_json::to_string(&folders).context("could not list the folders that an approval covers")?;
        args.extend(["--folders".to_owned(), folders]);
    }
    if let Some(sandbox) = &mut cell.sandbox {
        sandbox.sealed = files.to_vec();
        args.extend([
            "--box".to_owned(),
            serde_json::to_string(sandbox).context("could not record a sandbox")?,
        ]);
    }
    args.extend([exe.to_owned(), "--".to_owned()]);
    args.extend(argv.iter().cloned());
    let env = run_env(ctx).into_iter().chain(cell.env).collect();
    let command = ProcessCommand::new(program::self_path(), args, env, cwd);
    let timeout_ms = ctx.settings.limits.run_timeout_ms;
    let job = Job {
        gate: Some(Box::new(gate)),
        layer: sandbox::layer(cell.sandbox),
        ..Job::new(command, OutputLimit::Tail(TAIL_BYTES), timeout_ms)
    };
    let mut ended = process::run_one(job, ctx.cancel, None)?;
    ctx.settings.secrets.redact_bytes(&mut ended.stdout);
    reaper::reap_orphans(&ctx.excluded);
    let new_git = git_watch::end(&layout.git_watch())?;
    let mut status = match ended.exit {
        ProcessExit::NotStarted(why) => return Ok(MoveOutcome::NotDone { why }),
        ProcessExit::Code(code) => format!("exit {code}"),
        ProcessExit::Signal(signal) => format!("ended by signal {signal}"),
        ProcessExit::Timeout => "ended at its deadline, perhaps half done".to_owned(),
        ProcessExit::Cancelled => "interrupted, perhaps half done".to_owned(),
        ProcessExit::TooMuch => "ended because it printed too much".to_owned(),
    };
    if !new_git.is_empty() {
        status = format!("{status}; beware: {}", user_side::words(&new_git));
    }
    let kept = logs::archive(layout, &intent.beat, OUTPUT, &ended.stdout);
    log::warn_on_error(ctx, kept);
    let from = ended.stdout.len().saturating_sub(TAIL_BYTES);
    let tail = String::from_utf8_lossy(&ended.stdout[from..]).into_owned();
    Ok(MoveOutcome::Ran { status, tail, took_ms: ended.took_ms })
}

/// Settles what an interrupted tick left: a runner call without an end, a move without an outcome.
///
/// # Errors
/// It cannot be settled now. The tick must then stop, because nothing else may be done before.
pub fn settle_leftovers(ctx: &mut Ctx, beat: &mut LoopState) -> Result<()> {
    ctx.fleet.end_lost()?;
    let taken_back = operations::settle(ctx.layout)?;
    for (path, words) in &taken_back {
        let name = path.strip_prefix(ctx.layout.root()).unwrap_or(path).display();
        ctx.warnings.push(format!("`{name}` has the text that it had before an interrupted change: {words}"));
    }
    if let Some(call) = &beat.inflight {
        let (key, value) = decide::mark(ctx, &call.beat);
        tree::end_marked(&key, &[value]);
        let known = ledger::has_beat(ctx.layout, &call.beat, call.at_ms, ctx.now)?;
        let charge = (!known).then(|| Box::new(step::unknown_charge(call, ctx.now)));
        log::event(ctx, "call_cut_off", &[("beat", call.beat.clone().into())]);
        carry_out(ctx, beat, LoopEvent::CutOff { at: ctx.now, charge })?;
    }
    if let Some(intent) = beat.intent.clone() {
        let probe = probe(ctx, &intent, &taken_back)?;
        // The probe has ended a command that still ran.
        let new_git = git_watch::end(&ctx.layout.git_watch())?;
        ctx.warnings.extend(new_git.iter().map(|new| user_side::words(std::slice::from_ref(new))));
        log::event(
            ctx,
            "move_settled",
            &[("beat", intent.beat.into()), ("found", format!("{probe:?}").into())],
        );
        ctx.settles = true;
        carry_out(ctx, beat, LoopEvent::Unfinished { at: ctx.now, probe })?;
        ctx.settles = false;
    }
    Ok(())
}

fn probe(ctx: &Ctx, intent: &Intent, taken_back: &BTreeMap<PathBuf, String>) -> Result<Probe> {
    let journal = logs::journal_tail(ctx.layout, SEARCH_BYTES)?;
    let mut end =
        |started: &Started| started.boot == tree::boot_id() && tree::end_group(started.pid, started.start);
    let changed = match &intent.operation {
        Operation::Write { path, .. } | Operation::Remove { path, .. } => {
            taken_back.get(&ctx.layout.file(path))
        }
        _ => None,
    };
    if let (Some(why), None) = (changed, entry::find(&journal, &intent.beat)) {
        return Ok(Probe::Dropped(why.clone()));
    }
    step::probe(intent, &journal, &mut end, &mut |intent| match &intent.operation {
        Operation::Fleet | Operation::ApprovedStart(_) => ctx.fleet.probe(&intent.beat, &intent.decided),
        operation => operations::probe(ctx.layout, operation),
    })
}
