//! The context of every step of a fix, and the private clone in which agents and tests work.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::agent::{AgentCaller, AgentReply, Fixer};
use super::bench::Bench;
use super::leanfile::Leanfile;
use super::testing::{Tester, interrupted};
use super::{MARK, Progress, Tone};
use crate::model::attempt::Thresholds;
use crate::model::attempt::delta::FileDelta;
use crate::model::charge::Charge;
use crate::model::fault::Fault;
use crate::model::fix::FixSession;
use crate::model::name::Name;
use crate::model::settings::Settings;
use crate::model::wire::{ReportedSpend, WireRequest};
use crate::store::layout::{FixDir, Layout};
use crate::store::{file, fixes, ledger};
use crate::sys::signal::Cancel;
use crate::sys::{beneath, clock};
use crate::vcs::clone::{self, Git, Grown, Source, Trees};
use crate::worker::client;

/// The timeout of one git command, in milliseconds.
const GIT_MS: i64 = 10 * 60_000;
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
pub struct FixContext<'a> {
    pub layout: &'a Layout,
    /// The settings from the config.
    pub settings: &'a Settings,
    /// Interruption by the user.
    pub cancel: &'a Cancel,
    pub leanfile: &'a Leanfile,
    /// The id of the fix.
    pub id: Name,
    /// The files of the fix.
    pub dir: FixDir,
    /// The top directory of the project.
    pub project: PathBuf,
    /// The tasks' directory in the project.
    pub sub: PathBuf,
    /// The project's repository; none if the project has none.
    pub source: Option<Source>,
    /// The repository that stores attempts.
    pub trees: Trees,
    /// The object stores from which the clone borrows.
    pub objects: Vec<PathBuf>,
    /// Who is called, in order of escalation.
    pub agents: Vec<Fixer>,
    /// The supervisor's socket, where a worker does this.
    pub socket: Option<PathBuf>,
    /// True if a user watches the progress.
    pub live: bool,
    /// The tree that the clone's files equal; none after a process ran in it.
    pub at: RefCell<Option<String>>,
    /// Cached differences between trees; they never change.
    pub deltas: RefCell<BTreeMap<(String, String), Vec<FileDelta>>>,
    /// The receiver of progress lines.
    pub say: RefCell<&'a mut dyn FnMut(&Progress)>,
}

/// A receiver of progress reports.
pub trait Busy {
    /// Called repeatedly while a process runs.
    fn busy(&self);
}

impl Busy for FixContext<'_> {
    fn busy(&self) {
        self.say(Tone::Busy, "");
    }
}

impl FixContext<'_> {
    /// Git with a timeout of its own.
    pub fn git(&self) -> Result<Git<'_>> {
        Git::find(&self.settings.path, GIT_MS, self.cancel)
    }

    /// Reports progress.
    pub fn say(&self, tone: Tone, text: impl Into<String>) {
        if tone == Tone::Busy && !self.live {
            return;
        }
        (self.say.borrow_mut())(&Progress { tone, text: text.into() });
    }

    /// The thresholds of the rule.
    pub fn limits(&self) -> &Thresholds {
        &self.settings.fixes.thresholds
    }

    /// The directory in which agents and tests of a task run.
    pub fn cwd(&self) -> PathBuf {
        self.dir.work().join(&self.sub)
    }

    /// Converts a path below the task's directory to git's form: relative to the top.
    pub fn below_top(&self, path: &str) -> String {
        let joined = self.sub.join(path.trim_start_matches("./"));
        joined.to_string_lossy().trim_start_matches("./").to_owned()
    }

    fn mark(&self) -> (String, String) {
        (MARK.to_owned(), self.dir.path().to_string_lossy().into_owned())
    }

    /// The test runner.
    pub fn tester(&self) -> Tester<'_> {
        self.at.take();
        let busy = self.live.then_some(self as &dyn Busy);
        let bench = self.bench();
        Tester { settings: self.settings, cancel: self.cancel, mark: self.mark(), bench, busy }
    }

    /// The builder of sandboxes.
    fn bench(&self) -> Bench<'_> {
        let is_worker = self.socket.is_some();
        let (layout, settings, dir) = (self.layout, self.settings, &self.dir);
        Bench { layout, settings, dir, is_worker, objects: &self.objects }
    }

    /// Fails if the user has interrupted.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_set() { Err(interrupted()) } else { Ok(()) }
    }

    /// Saves the state of the run.
    pub fn save(&self, run: &FixSession) -> Result<()> {
        fixes::save_run(&self.dir, run)
    }

    /// Who is called after so many new plans.
    pub fn agent(&self, plans: usize) -> &Fixer {
        &self.agents[plans.min(self.agents.len() - 1)]
    }

    /// Calls an agent, and writes down what it used for the goal.
    pub fn call(
        &self,
        run: &mut FixSession,
        at: usize,
        agent: &Fixer,
        prompt: &str,
        cwd: &Path,
    ) -> Result<AgentReply> {
        self.check()?;
        self.at.take();
        let caller = AgentCaller {
            settings: self.settings,
            cancel: self.cancel,
            mark: self.mark(),
            prompt_file: self.dir.prompt(),
            bench: self.bench(),
            empty_dir: self.dir.empty(),
            busy: self.live.then_some(self as &dyn Busy),
        };
        let reply = agent.call(&caller, prompt, cwd)?;
        let task = &mut run.tasks[at];
        task.tokens = task.tokens.saturating_add(reply.tokens());
        // Tokens that were paid for did not stay local.
        if agent.name == self.agents[0].name && reply.usage.cost_micros == 0 {
            task.local_tokens = task.local_tokens.saturating_add(reply.tokens());
        }
        task.estimated |= reply.is_estimated();
        self.charge(&task.goal, agent, &reply)?;
        self.check()?;
        Ok(reply)
    }

    /// Writes down what a call used: a worker's goes through its supervisor, which minds the worker's budget.
    fn charge(&self, goal: &Name, agent: &Fixer, reply: &AgentReply) -> Result<()> {
        if let Some(socket) = &self.socket {
            let request = WireRequest::Spend(ReportedSpend {
                cost_micros: reply.usage.cost_micros,
                tokens_in: reply.usage.tokens_in,
                tokens_cached: reply.usage.tokens_cached,
                tokens_written: reply.usage.tokens_written,
                tokens_out: reply.usage.tokens_out,
                model: reply.usage.model.clone(),
                basis: Some(reply.usage.basis),
            });
            return client::call(socket, request).map(drop);
        }
        let now = clock::now();
        let charge = Charge {
            at_ms: now.unix_ms,
            day: now.day(),
            beat: self.id.to_string(),
            goal: Some(goal.to_string()),
            worker: None,
            runner: agent.name.clone(),
            sensors: Vec::new(),
            usage: reply.usage.clone(),
        };
        ledger::append(self.layout, &charge)
    }

    /// An empty directory for a call that must not edit anything.
    pub fn empty(&self) -> Result<PathBuf> {
        let dir = self.dir.empty();
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("could not empty `{}`", dir.display()))?;
        }
        file::make_dir(&dir)?;
        Ok(dir)
    }

    /// True while the clone exists with its files and its own repository.
    pub fn is_clone(&self) -> bool {
        let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        is_dir(&self.dir.work()) && is_dir(&self.dir.work().join(".git"))
    }

    /// True while the tasks' directory is a real directory in the clone: neither it nor a parent is a link.
    pub fn is_in_clone(&self) -> bool {
        let (top, work) = (self.dir.path(), self.dir.work());
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
        let git = self.git()?;
        if self.trees.restore(&git, &self.dir.work(), "work", tree).is_err() {
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
        let work = self.dir.work();
        if let Some(around) = work.parent() {
            file::make_dir(around)?;
        }
        clone::make(&git, &kept, &work, &self.id)?;
        self.trees.restore(&git, &work, "work", tree)?;
        fs::create_dir_all(self.cwd()).with_context(|| format!("could not make `{}`", self.cwd().display()))
    }

    /// Removes the clone. Its contents are kept as trees.
    pub fn remove(&self) -> Result<()> {
        self.remove_clone(&self.kept()?)
    }

    fn remove_clone(&self, kept: &Source) -> Result<()> {
        self.at.take();
        let repo = clone::repo_of(kept, &self.id)?;
        let git = self.git()?;
        clone::discard(&git, &repo, &self.dir.work(), true)?;
        self.trees.forget("work");
        Ok(())
    }

    /// The repository of attempts as a source for a clone.
    fn kept(&self) -> Result<Source> {
        let git = self.git()?;
        let mut kept =
            clone::inspect(&git, self.trees.dir()).map_err(|error| error.during("use the kept attempts"))?;
        // looop itself arranged what it borrows from the project.
        kept.borrows = false;
        Ok(kept)
    }

    /// Why the clone's files cannot be stored; none if they can.
    pub fn unfit(&self) -> Result<Option<String>> {
        let grown = self.trees.grown(&self.git()?, &self.dir.work(), "work")?;
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
            self.say(Tone::Warn, format!("the agent gets no files of nested repositories: {names}"));
        }
        self.trees.snapshot(&git, &self.project, "project")
    }

    /// The clone's files as a tree.
    pub fn snapshot(&self) -> Result<String> {
        let git = self.git()?;
        self.trees.snapshot(&git, &self.dir.work(), "work")
    }
}
