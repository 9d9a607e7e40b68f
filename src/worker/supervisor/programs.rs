//! Starting the programs of a worker: its command in a terminal; its checks, and looop itself for the clone, in pipes.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use super::output::TAIL_BYTES;
use super::record::Record;
use crate::os::process::{ProcessCommand, ProcessExit, tree};
use crate::os::pty::{self, Size, Terminal};
use crate::os::{detach, program};
use crate::rules::process::Started;
use crate::rules::sandbox::Sandbox;
use crate::rules::worker::{Check, WorkerExit};
use crate::sandbox::{self, probe};
use crate::store::{file, sandboxes};

/// Starts the worker's command, or the one that continues its session, and notes its process.
pub(super) fn start_command(record: &mut Record, argv: &[String], size: Size) -> Result<Terminal> {
    let (spec, env) = (&record.spec, environment(record));
    let program = argv.first().map_or("", String::as_str);
    let session = spec.session.as_deref();
    let argv: Vec<String> = argv
        .iter()
        .map(|arg| match session {
            Some(session) => arg.replace("{session}", session),
            None => arg.clone(),
        })
        .collect();
    let argv = sandbox_argv(spec.sandbox.as_ref(), Path::new(&spec.cwd), &argv)?;
    let (terminal, pid) = ProcessCommand::of_argv(&argv, env, Path::new(&spec.cwd))
        .and_then(|command| pty::spawn(command, size))
        .with_context(|| format!("could not start `{program}`"))?;
    let start = tree::start_of(pid).unwrap_or_default();
    record.state.child = Some(Started { pid, start, boot: tree::boot_id() });
    Ok(terminal)
}

/// Starts a check of the worker's work.
pub(super) fn start_check(record: &Record, check: &Check) -> io::Result<(File, u32)> {
    let (cwd, env) = (Path::new(&record.spec.cwd), environment(record));
    // Inside a sandbox the absence of its program would look like a failure of the check.
    let path = env.iter().find(|(key, _)| key == "PATH").map_or("", |(_, path)| path.as_str());
    let found = check.argv.first().and_then(|program| program::find_program(program, path, cwd));
    found.ok_or(io::ErrorKind::NotFound)?;
    let argv = sandbox_argv(record.spec.checks_sandbox.as_ref(), cwd, &check.argv)?;
    detach::spawn_piped(ProcessCommand::of_argv(&argv, env, cwd)?, true)
}

/// Starts the fetch of the worker's branch, or only the search of its clone.
pub(super) fn start_fetch(record: &Record, only_search: bool) -> io::Result<(File, u32)> {
    let root = record.layout.root().to_string_lossy().into_owned();
    let own = program::self_path();
    let mut args = vec!["__fetch-branch".to_owned(), root, record.spec.id.to_string()];
    args.extend(only_search.then(|| "--look".to_owned()));
    detach::spawn_piped(ProcessCommand::new(own, args, record.spec.env.clone(), "/"), false)
}

/// Returns the command inside its sandbox.
fn sandbox_argv(sandbox: Option<&Sandbox>, cwd: &Path, argv: &[String]) -> io::Result<Vec<String>> {
    let Some(sandbox) = sandbox else { return Ok(argv.to_vec()) };
    sandbox::argv(sandbox, cwd, argv).map_err(|error| {
        io::Error::new(error.kind(), format!("could not sandbox `{}`: {error}", argv.join(" ")))
    })
}

/// Returns the variables of the worker's processes besides the spec's environment.
fn environment(record: &Record) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut env = record.spec.env.clone();
    env.extend([
        ("TERM".to_owned(), "xterm-256color".to_owned()),
        ("LOOOP_ID".to_owned(), record.spec.id.to_string()),
        ("LOOOP_SOCKET".to_owned(), text(&record.dir.worker_socket())),
        ("LOOOP_BRIEF".to_owned(), text(&record.dir.brief())),
    ]);
    env
}

/// Returns why the program did not start in this sandbox, from the end of the outer process.
pub(super) fn not_begun(sandbox: Option<&Sandbox>, exit: WorkerExit, stated: &[u8]) -> Option<String> {
    sandbox.and_then(|sandbox| sandbox.engine.as_ref())?;
    let WorkerExit::Code(code) = exit else { return None };
    match sandbox::outer_exit(code, stated) {
        ProcessExit::NotStarted(why) => Some(why),
        _ => None,
    }
}

/// Returns why its command did not start, if its sandbox could not be made: then its terminal holds nothing else.
pub(super) fn command_not_begun(record: &Record, exit: WorkerExit) -> Option<String> {
    let stated = file::read(&record.dir.transcript(), TAIL_BYTES).ok().flatten()?;
    not_begun(record.spec.sandbox.as_ref(), exit, &stated).or_else(|| network_failed(record, exit, &stated))
}

/// Returns why pasta did not make the network. The terminal does not show pasta's messages, so this tries pasta once
/// more, and deletes the cached probe so that the next start does not rely on it.
fn network_failed(record: &Record, exit: WorkerExit, stated: &[u8]) -> Option<String> {
    let sandbox = record.spec.sandbox.as_ref().filter(|sandbox| sandbox.has_pasta())?;
    if exit != WorkerExit::Code(1) || !stated.is_empty() {
        return None;
    }
    let why = probe::try_internet(sandbox).err()?;
    sandboxes::forget_capabilities(&record.layout);
    Some(format!("the network of its sandbox could not be made: {why} (`looop doctor` tries again)"))
}
