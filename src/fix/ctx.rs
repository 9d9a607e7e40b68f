//! The context of every step of a fix: the private clone in which agents and tests work, and what all processes of a
//! fix share: the environment, the sandbox and the user's interruption.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::leanfile::Defaults;
use super::{FixDeps, FixRequest, Progress, Severity};
use crate::os::beneath;
use crate::os::process::{self, ChildResult, Job, reaper, tree};
use crate::rules::beat::settings::Settings;
use crate::rules::cost::charge::{CostSource, Usage};
use crate::rules::fault::Fault;
use crate::rules::fix::FixSession;
use crate::rules::fix::attempt::BreakerConfig;
use crate::rules::name::Name;
use crate::rules::sandbox::{Endpoint, SandboxSubject};
use crate::rules::worker::Objects;
use crate::store::file::{self, Durability};
use crate::store::json_file;
use crate::store::layout::{FixDir, PrivateDirs};
use crate::store::sandboxes::{AgentSandbox, SandboxBuilder, SandboxedEnv, named_files};
use crate::vcs::clone::{self, Git, Grown, Source, Trees};
use crate::{agents, sandbox};

/// The timeout of one git command, in milliseconds.
const GIT_MS: i64 = 10 * 60_000;
/// The variable that marks all processes of a fix.
pub(super) const MARK: &str = "LOOOP_FIX";
/// The most new or changed files of one attempt, and their size in bytes: more comes from a build that is not
/// ignored, or from a loop that writes files.
const MAX_KEPT_FILES: usize = 10_000;
const MAX_KEPT_BYTES: u64 = 256 << 20;

/// The largest project that is copied, in files: a fix that was started in a home directory by mistake must stop.
const MAX_PROJECT_FILES: usize = 500_000;
const MAX_PROJECT_BYTES: u64 = 8 << 30;

/// The size, if it exceeds the limits of files and bytes.
fn too_large(grown: &Grown, (files, bytes): (usize, u64)) -> Option<String> {
    let word = if grown.files == 1 { "file" } else { "files" };
    (grown.files > files || grown.bytes > bytes).then(|| {
        format!("{} MiB in {} {word}, at most {} MiB in {files}", grown.bytes >> 20, grown.files, bytes >> 20)
    })
}

/// The context of every step.
pub(super) struct FixContext<'a> {
    pub deps: &'a FixDeps<'a>,
    /// The files of the fix.
    pub dir: FixDir,
    /// The object stores from which the clone borrows.
    pub objects: Vec<PathBuf>,
    pub request: &'a FixRequest,
    /// The id of the fix.
    pub id: Name,
    /// The top directory of the project.
    pub project: PathBuf,
    /// The tasks' directory in the project.
    pub sub: PathBuf,
    /// The project's repository; none if the project has none.
    pub source: Option<Source>,
    /// The repository that stores attempts.
    pub trees: Trees,
    /// The tree that the clone's files equal; none after a process ran in it.
    pub at: RefCell<Option<String>>,
}

impl FixContext<'_> {
    /// Git with a timeout of its own.
    pub fn git(&self) -> Result<Git<'_>> {
        Git::find(&self.deps.settings.path, GIT_MS, self.deps.cancel)
    }

    /// Reports a line of progress.
    pub fn say(&self, severity: Severity, text: impl Into<String>) {
        (self.deps.report)(&Progress::Line(severity, text.into()));
    }

    /// Reports the start of a step.
    pub fn step(&self, text: impl Into<String>) {
        (self.deps.report)(&Progress::Step(text.into()));
    }

    /// The settings for work on tasks.
    pub fn defaults(&self) -> &Defaults {
        &self.request.leanfile.defaults
    }

    /// The thresholds of the rule.
    pub fn limits(&self) -> &BreakerConfig {
        &self.deps.settings.fixes.thresholds
    }

    /// The clone.
    pub fn work(&self) -> PathBuf {
        self.dir.work()
    }

    /// The directory in which agents and tests of a task run.
    pub fn cwd(&self) -> PathBuf {
        self.work().join(&self.sub)
    }

    /// Converts a path below the task's directory to git's form: relative to the top.
    pub fn below_top(&self, path: &str) -> String {
        let joined = self.sub.join(path.trim_start_matches("./"));
        joined.to_string_lossy().trim_start_matches("./").to_owned()
    }

    /// Saves the state of the run.
    pub fn save(&self, run: &FixSession) -> Result<()> {
        json_file::write_json(&self.dir.run(), run, Durability::Durable)
    }

    /// An empty directory for a call that must not edit anything.
    pub fn empty(&self) -> Result<PathBuf> {
        let dir = self.dir.empty();
        file::remove_tree(&dir)?;
        file::make_dir(&dir)?;
        Ok(dir)
    }

    /// True while the clone exists with its files and its own repository.
    pub fn is_clone(&self) -> bool {
        let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        is_dir(&self.work()) && is_dir(&self.work().join(".git"))
    }

    /// True while the tasks' directory is a real directory in the clone: neither it nor a parent is a link.
    pub fn is_in_clone(&self) -> bool {
        let (top, work) = (self.dir.path(), self.work());
        work.strip_prefix(top).is_ok_and(|work| beneath::is_folder(top, &work.join(&self.sub)))
    }

    /// Sets the clone's files to those of a tree; a damaged clone is recreated.
    pub fn ready(&self, tree: &str) -> Result<()> {
        if !self.is_clone() {
            return self.fresh(tree);
        }
        if self.at.borrow().as_deref() == Some(tree) {
            return Ok(());
        }
        self.at.take();
        if self.trees.restore(&self.git()?, &self.work(), "work", tree).is_err() {
            return self.fresh(tree);
        }
        self.at.replace(Some(tree.to_owned()));
        Ok(())
    }

    /// Makes a new clone with the files of a tree.
    pub fn fresh(&self, tree: &str) -> Result<()> {
        let kept = self.kept()?;
        self.remove_clone(&kept)?;
        let git = self.git()?;
        let work = self.work();
        if let Some(around) = work.parent() {
            file::make_dir(around)?;
        }
        clone::make(&git, &kept, &work, &clone::repo_of(&kept, &self.id)?, Objects::Shared)?;
        self.trees.restore(&git, &work, "work", tree)?;
        fs::create_dir_all(self.cwd()).with_context(|| format!("could not make `{}`", self.cwd().display()))
    }

    /// Removes the clone. Its contents are kept as trees.
    pub fn remove(&self) -> Result<()> {
        self.remove_clone(&self.kept()?)
    }

    fn remove_clone(&self, kept: &Source) -> Result<()> {
        self.at.take();
        clone::discard(&self.git()?, &clone::repo_of(kept, &self.id)?, &self.work(), true)?;
        self.trees.forget("work");
        Ok(())
    }

    /// The repository of attempts as a source for a clone.
    fn kept(&self) -> Result<Source> {
        let kept = clone::inspect(&self.git()?, &self.trees.dir);
        let mut kept = kept.map_err(|error| error.during("use the kept attempts"))?;
        // looop itself arranged what it borrows from the project.
        kept.borrows = false;
        Ok(kept)
    }

    /// Why the clone's files cannot be stored; none if they can.
    pub fn unfit(&self) -> Result<Option<String>> {
        let grown = self.trees.grown(&self.git()?, &self.work(), "work")?;
        if let Some(dir) = grown.nested.first() {
            return Ok(Some(format!("`{dir}` is a nested repository, whose files are not copied")));
        }
        let most = (MAX_KEPT_FILES, MAX_KEPT_BYTES);
        Ok(too_large(&grown, most).map(|size| format!("too large to store: {size} may be new")))
    }

    /// The project's files as a tree.
    pub fn project_tree(&self) -> Result<String> {
        let git = self.git()?;
        let grown = self.trees.grown(&git, &self.project, "project")?;
        let shown = self.project.display();
        if let Some(size) = too_large(&grown, (MAX_PROJECT_FILES, MAX_PROJECT_BYTES)) {
            let fault = Fault::failed(format!("could not copy the files of `{shown}`: {size} are copied"));
            let fault = fault.hint("list generated files in .gitignore");
            return Err(fault.hint("or choose a smaller project, with `project_root` or --repo").into());
        }
        if !grown.nested.is_empty() {
            let names = grown.nested.join(", ");
            self.say(Severity::Warn, format!("the agent gets no files of nested repositories: {names}"));
        }
        self.trees.snapshot(&git, &self.project, "project")
    }

    /// The clone's files as a tree.
    pub fn snapshot(&self) -> Result<String> {
        self.trees.snapshot(&self.git()?, &self.work(), "work")
    }

    /// The sandbox of a process: a worker's fix uses `worker`, a user's fix the sandbox from the config.
    ///
    /// # Errors
    /// The required sandbox is not available; then nothing may be started.
    pub fn sandboxed(&self, worker: SandboxSubject, start: &SandboxStart) -> Result<SandboxedEnv> {
        let subject = if self.deps.socket.is_some() { worker } else { SandboxSubject::Fix };
        let sandboxes = SandboxBuilder::new(self.deps.layout, self.deps.settings, true);
        let work = self.dir.work();
        let dirs = PrivateDirs(self.dir.path());
        let program = start.program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let names = [start.name, program];
        let agent = agents::home_of(&names);
        let mut read = vec![start.program.to_owned()];
        let Settings { workers, fixes, .. } = self.deps.settings;
        let argvs: Vec<&Vec<String>> = match worker {
            SandboxSubject::Verify => workers.verify.values().flatten().collect(),
            _ => fixes.runners.get(start.name).map(|runner| &runner.argv).into_iter().collect(),
        };
        let scripts = argvs.into_iter().flat_map(|argv| named_files(argv));
        let programs: Vec<PathBuf> = std::iter::once(start.program.to_owned()).chain(scripts).collect();
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
        let sandboxed = sandboxes.agent_sandbox(subject, &agent_sandbox).map_err(|why| {
            let fault = Fault::usage(format!("could not make the sandbox of `{}`: {why}", start.name));
            fault.hint("`looop doctor` shows what is available")
        })?;
        if let Some(sandbox) = &sandboxed.sandbox {
            sandboxes.create_dirs(sandbox.has_files(), agent, &dirs, start.cwd)?;
        }
        Ok(sandboxed)
    }

    /// Runs a job in a sandbox, and ends what it leaves behind.
    ///
    /// # Errors
    /// looop cannot wait for it.
    pub fn run(&self, name: &str, sandboxed: SandboxedEnv, mut job: Job) -> Result<ChildResult> {
        job.command.env.push((MARK.to_owned(), self.dir.path().to_string_lossy().into_owned()));
        job.command.env.extend(sandboxed.env);
        job.layer = sandbox::layer(sandboxed.sandbox);
        let heartbeat = || (self.deps.report)(&Progress::Heartbeat);
        let ended = process::run_one(job, self.deps.cancel, self.deps.live.then_some(&heartbeat));
        reaper::reap_orphans(&tree::Known::new());
        ended.with_context(|| format!("could not wait for `{name}`"))
    }

    /// Fails if the user has interrupted.
    pub fn check(&self) -> Result<()> {
        if self.deps.cancel.is_set() { Err(interrupted()) } else { Ok(()) }
    }
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
