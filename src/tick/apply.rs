//! Apply: makes a move at most once, and settles what an interrupted tick left before anything else.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::ctx::{BeatNotes, Ctx};
use crate::os::process::{self, Job, OutputLimit, ProcessCommand, ProcessExit, reaper, tree};
use crate::os::program;
use crate::rules::beat::entry::{self, MoveOutcome};
use crate::rules::beat::state::{Intent, Operation};
use crate::rules::beat::step::{self, Effect, Evidence, LoopEvent, Probe};
use crate::rules::process::Started;
use crate::rules::user_side;
use crate::sandbox;
use crate::store::coverage::SealedFolders;
use crate::store::exchange::Fallback;
use crate::store::operations::{self, ChangeResult};
use crate::store::state_files::StateFile;
use crate::store::{file, git_watch, json_file, layout, ledger, logs, workers};

/// How much of the end of a command's output the next decision sees, in bytes.
const TAIL_BYTES: usize = 4_000;
/// The archived file with the end of a command's output.
pub const OUTPUT: &str = "output.txt";
/// How much of the journal is searched for a beat's id, in bytes.
const SEARCH_BYTES: usize = 64 * 1024;

/// Performs the effects of an event in order. Returns why the move waits for the next beat, if it does; its intent then
/// stays.
///
/// # Errors
/// The first effect that failed; the next tick settles what is on disk then.
pub fn carry_out(
    ctx: &Ctx,
    notes: &mut BeatNotes,
    state: &mut StateFile,
    event: LoopEvent,
) -> Result<Option<String>> {
    let fallback = match event {
        LoopEvent::Unfinished { .. } => Fallback::Steps,
        _ => Fallback::Nothing,
    };
    let mut waits = None;
    state.drive(event, &mut |state, effect| {
        match effect {
            Effect::Charge(charge) => ledger::append(ctx.layout, &charge)?,
            Effect::Journal(line) => logs::journal(ctx.layout, &ctx.settings.secrets.redact(&line))?,
            Effect::Flag(ask) => {
                let path = ctx.layout.file(&layout::ask_path(&ask.id));
                let text = json_file::json_text(ask.as_ref())?;
                file::create(&path, ctx.settings.secrets.redact(&text).as_bytes(), 0o600)?;
            }
            Effect::Sync(Evidence::Charge) => ledger::sync(ctx.layout)?,
            Effect::Sync(Evidence::Line) => file::sync(&ctx.layout.journal())?,
            Effect::Sync(Evidence::Change(operation)) => operations::sync(ctx.layout, &operation)?,
            Effect::Save(_) | Effect::Sync(Evidence::Memory) => bail!("could not save the memory here"),
            Effect::Act(intent) => match perform(ctx, notes, state, &intent, fallback)? {
                ControlFlow::Continue(outcome) => {
                    return Ok(Some(LoopEvent::Acted { at: (ctx.clock)(), outcome }));
                }
                ControlFlow::Break(why) => waits = Some(why),
            },
        }
        Ok(None)
    })?;
    Ok(waits)
}

/// Makes a move. Returns its outcome, or breaks with the reason why it waits for the next beat.
fn perform(
    ctx: &Ctx,
    notes: &mut BeatNotes,
    state: &mut StateFile,
    intent: &Intent,
    fallback: Fallback,
) -> Result<ControlFlow<String, MoveOutcome>> {
    Ok(ControlFlow::Continue(match &intent.operation {
        Operation::Fleet | Operation::StartWorker(_) => {
            let outcome = ctx.fleet.perform(intent);
            // A move that a crash cut off is made at the start of a beat, before the beat ends its orphans.
            notes.supervisors.extend(workers::supervisors(ctx.layout)?);
            outcome?
        }
        Operation::Exec { .. } => exec(ctx, notes, state, intent)?,
        operation => match operations::perform(ctx.layout, operation, fallback)? {
            ChangeResult::Made => intent.then.clone(),
            ChangeResult::Refused(why) => MoveOutcome::Refused { why },
            ChangeResult::Waits(why) => return Ok(ControlFlow::Break(why)),
        },
    }))
}

/// Runs a command through `looop __exec-gated`, which waits for one byte. The process is recorded in the intent before that
/// byte is sent, so that after a crash it is known whether the command may have started.
fn exec(ctx: &Ctx, notes: &mut BeatNotes, state: &mut StateFile, intent: &Intent) -> Result<MoveOutcome> {
    let Operation::Exec { argv, exe, cwd, files, folders } = &intent.operation else {
        bail!("the move runs no command");
    };
    let layout = ctx.layout;
    let gate = |pid: u32| -> Result<()> {
        let start = tree::start_of(pid).context("the process ended before it started")?;
        state.apply(LoopEvent::Spawned(Started { pid, start, boot: tree::boot_id() }))
    };
    let mut sandboxed = match ctx.fleet.sandboxes.run(Path::new(cwd)) {
        Ok(sandboxed) => sandboxed,
        Err(why) => return Ok(MoveOutcome::NotDone { why }),
    };
    git_watch::begin(&layout.git_watch(), sandboxed.sandbox.as_ref(), None)?;
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
    if let Some(sandbox) = &mut sandboxed.sandbox {
        sandbox.sealed = files.to_vec();
        args.extend([
            "--sandbox".to_owned(),
            serde_json::to_string(sandbox).context("could not record a sandbox")?,
        ]);
    }
    args.extend([exe.to_owned(), "--".to_owned()]);
    args.extend(argv.iter().cloned());
    let env = ctx.settings.base_env.iter().cloned().chain(sandboxed.env).collect();
    let command = ProcessCommand::new(program::self_path(), args, env, cwd);
    let timeout_ms = ctx.settings.limits.run_timeout_ms;
    let job = Job {
        gate: Some(Box::new(gate)),
        layer: sandbox::layer(sandboxed.sandbox),
        ..Job::new(command, OutputLimit::Tail(TAIL_BYTES), timeout_ms)
    };
    let mut ended = process::run_one(job, ctx.cancel, None)?;
    ctx.settings.secrets.redact_bytes(&mut ended.stdout);
    reaper::reap_orphans(&notes.supervisors);
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
    notes.warn_on_error(logs::archive(layout, &intent.beat, OUTPUT, &ended.stdout));
    let from = ended.stdout.len().saturating_sub(TAIL_BYTES);
    let tail = String::from_utf8_lossy(&ended.stdout[from..]).into_owned();
    Ok(MoveOutcome::Ran { status, tail, took_ms: ended.took_ms })
}

/// Reads the memory, and settles what an interrupted tick left: a runner call without an end, a move without an outcome.
/// If the memory was lost, halts the loop and notifies the user.
///
/// # Errors
/// It cannot be settled now. The tick must then stop, because nothing else may be done before.
pub fn recover(ctx: &Ctx, notes: &mut BeatNotes) -> Result<StateFile> {
    let (mut state, lost) = StateFile::load(ctx.layout, ctx.now)?;
    notes.warnings.extend(lost);
    let is_any_lost = ctx.fleet.end_lost()?;
    let taken_back = operations::settle(ctx.layout)?;
    for (path, words) in &taken_back {
        let name = path.strip_prefix(ctx.layout.root()).unwrap_or(path).display();
        notes
            .warnings
            .push(format!("`{name}` has the text that it had before an interrupted change: {words}"));
    }
    if let Some(call) = &state.inflight {
        let (key, value) = ctx.mark(&call.beat);
        tree::end_all(|| tree::marked(&key, std::slice::from_ref(&value)));
        let known = ledger::has_beat(ctx.layout, &call.beat, call.at_ms, ctx.now)?;
        let charge = (!known).then(|| Box::new(step::unknown_charge(call, ctx.now)));
        notes.event(ctx, "call_cut_off", json!({ "beat": call.beat }));
        carry_out(ctx, notes, &mut state, LoopEvent::CutOff { at: ctx.now, charge })?;
    }
    if let Some(intent) = state.intent.clone() {
        let probe = probe(ctx, &intent, &taken_back)?;
        // The probe has ended a command that still ran.
        let new_git = git_watch::end(&ctx.layout.git_watch())?;
        notes.warnings.extend(new_git.iter().map(|new| user_side::words(std::slice::from_ref(new))));
        let fields = json!({ "beat": intent.beat, "found": format!("{probe:?}") });
        notes.event(ctx, "move_settled", fields);
        carry_out(ctx, notes, &mut state, LoopEvent::Unfinished { at: ctx.now, probe })?;
    }
    if is_any_lost && state.halted.is_none() {
        notes.warnings.extend(ctx.fleet.resume_lost()?);
        notes.supervisors.extend(workers::supervisors(ctx.layout)?);
    }
    Ok(state)
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
        Operation::Fleet | Operation::StartWorker(_) => ctx.fleet.probe(intent),
        operation => operations::probe(ctx.layout, operation),
    })
}
