//! What all processes of a fix share: the environment, the sandbox, progress reports and the user's interruption.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Endpoints;
use crate::os::process::{self, ChildResult, Job, reaper, tree};
use crate::os::signal::Cancel;
use crate::rules::beat::settings::Settings;
use crate::rules::cost::charge::{CostSource, Usage};
use crate::rules::fault::Fault;
use crate::rules::sandbox::{Endpoint, SandboxSubject};
use crate::store::layout::{FixDir, Layout, PrivateDirs};
use crate::store::sandboxes::{AgentSandbox, Cell, SandboxBuilder};
use crate::{agents, sandbox};

/// The variable that marks all processes of a fix.
pub(super) const MARK: &str = "LOOOP_FIX";

/// Severity of a progress line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Information.
    Plain,
    /// Success.
    Good,
    /// Warning.
    Warn,
    /// Failure.
    Bad,
}

/// A progress report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something happened. Parts of the text may come from an agent.
    Line(Tone, String),
    /// A new step starts, and takes some time.
    Step(String),
    /// The step still runs. Reported about ten times a second.
    Heartbeat,
}

/// The dependencies of a fix.
pub struct FixDeps<'a> {
    pub layout: &'a Layout,
    /// The settings from the config.
    pub settings: &'a Settings,
    /// The endpoints from the config.
    pub endpoints: &'a Endpoints,
    /// Interruption by the user.
    pub cancel: &'a Cancel,
    /// The supervisor's socket, if a worker runs the fix.
    pub socket: Option<PathBuf>,
    /// The receiver of progress reports.
    pub report: &'a dyn Fn(&Progress),
    /// If true, report [`Progress::Heartbeat`].
    pub live: bool,
}

impl FixDeps<'_> {
    /// Reports a line of progress.
    pub(super) fn say(&self, tone: Tone, text: impl Into<String>) {
        (self.report)(&Progress::Line(tone, text.into()));
    }
}

/// The environment in which a fix starts processes.
pub struct ExecEnv<'a> {
    pub deps: &'a FixDeps<'a>,
    /// The files of the fix.
    pub dir: FixDir,
    /// The object stores from which the clone borrows.
    pub objects: Vec<PathBuf>,
}

/// A process to start.
pub struct SandboxStart<'a> {
    /// The name for error messages.
    pub name: &'a str,
    /// The program file.
    pub program: &'a Path,
    /// The working directory.
    pub cwd: &'a Path,
    /// The endpoint that it is told to use; none: the endpoint of its runner.
    pub endpoint: Option<Endpoint>,
    /// More paths that it may read.
    pub read: &'a [PathBuf],
    /// More paths that it may write.
    pub write: &'a [PathBuf],
}

/// The reply of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentReply {
    /// Its words; or why there are none.
    pub text: Result<String, String>,
    /// The usage of all calls that were needed.
    pub usage: Usage,
    /// The duration in milliseconds.
    pub took_ms: i64,
    /// The command that it repeated without progress, if it did.
    pub looped: Option<String>,
}

impl AgentReply {
    /// True if the tokens are estimated from bytes, or unknown.
    pub fn is_estimated(&self) -> bool {
        self.usage.basis >= CostSource::Estimated
    }
}

impl ExecEnv<'_> {
    /// The sandbox of a process: a worker's fix uses `worker`, a user's fix the sandbox from the config.
    ///
    /// # Errors
    /// The required sandbox is not available; then nothing may be started.
    pub fn cell(&self, worker: SandboxSubject, start: &SandboxStart) -> Result<Cell> {
        let subject = if self.deps.socket.is_some() { worker } else { SandboxSubject::Fix };
        let sandboxes = SandboxBuilder::new(self.deps.layout, self.deps.settings, true);
        let work = self.dir.work();
        let dirs = PrivateDirs(self.dir.path());
        let program = start.program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let names = [start.name, program];
        let agent = agents::home_of(&names);
        let mut read = vec![start.program.to_owned()];
        let programs = [start.program.to_owned()];
        read.extend(self.objects.iter().chain(start.read).cloned());
        let agent_sandbox = AgentSandbox {
            dirs: &dirs,
            cwd: if start.cwd.starts_with(&work) { &work } else { start.cwd },
            endpoint: start.endpoint.as_ref(),
            names,
            agent,
            programs: &programs,
            write: start.write,
            read: &read,
        };
        let cell = sandboxes.agent_sandbox(subject, &agent_sandbox).map_err(|why| {
            let fault = Fault::usage(format!("could not make the sandbox of `{}`: {why}", start.name));
            fault.hint("`looop doctor` shows what is available")
        })?;
        if let Some(sandbox) = &cell.sandbox {
            sandboxes.create_dirs(sandbox.has_files(), agent, &dirs, start.cwd)?;
        }
        Ok(cell)
    }

    /// Runs a job in a sandbox, and ends what it leaves behind.
    ///
    /// # Errors
    /// looop cannot wait for it.
    pub fn run(&self, name: &str, cell: Cell, mut job: Job) -> Result<ChildResult> {
        job.command.env.push((MARK.to_owned(), self.dir.path().to_string_lossy().into_owned()));
        job.command.env.extend(cell.env);
        job.layer = sandbox::layer(cell.sandbox);
        let mut heartbeat = || (self.deps.report)(&Progress::Heartbeat);
        let ended = process::run_one(job, self.deps.cancel, self.deps.live.then_some(&mut heartbeat));
        reaper::reap_orphans(&tree::Known::new());
        ended.with_context(|| format!("could not wait for `{name}`"))
    }

    /// Fails if the user has interrupted.
    pub fn check(&self) -> Result<()> {
        if self.deps.cancel.is_set() { Err(interrupted()) } else { Ok(()) }
    }
}

/// The caller's environment, for the user's own programs: the wrapper and the tests. Git variables are removed,
/// because they would point git to the caller's repository; looop's variables are removed, because a worker's
/// socket is only for the worker.
pub(super) fn caller_env(settings: &Settings) -> Vec<(String, String)> {
    let own = |key: &str| !key.starts_with("GIT_") && !key.starts_with("LOOOP_");
    settings.full_env.iter().filter(|(key, _)| own(key)).cloned().collect()
}

/// The PATH of the caller.
pub(super) fn caller_path(settings: &Settings) -> &str {
    let own = settings.full_env.iter().find(|(key, _)| key == "PATH");
    own.map_or(&settings.path, |(_, path)| path)
}

/// The error for an interruption by the user.
pub(super) fn interrupted() -> anyhow::Error {
    let fault = Fault::failed("could not continue: the user interrupted");
    fault.hint("run the same command again to resume").into()
}
