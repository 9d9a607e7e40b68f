//! The context of every step of a fix: the private clone in which agents and tests work, and the task at work.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::FixRequest;
use super::agent::Fixer;
use super::exec::{AgentReply, ExecEnv, Progress, Tone};
use super::leanfile::{Defaults, Task};
use super::testing::{self, Tested};
use crate::os::beneath;
use crate::os::clock;
use crate::rules::cost::charge::{Charge, Usage};
use crate::rules::fault::Fault;
use crate::rules::fix::attempt::{EpisodeState, LedgerLine, Thresholds};
use crate::rules::fix::{FixSession, TaskState, TaskStatus};
use crate::rules::name::Name;
use crate::rules::worker::Objects;
use crate::rules::worker::protocol::WireRequest;
use crate::store::file::{self, Durability};
use crate::store::fixes;
use crate::store::json_file;
use crate::store::ledger;
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
pub(super) struct FixContext<'a> {
    /// The environment of all processes.
    pub env: ExecEnv<'a>,
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
    /// Who is called, in order of escalation.
    pub agents: Vec<Fixer>,
    /// The tree that the clone's files equal; none after a process ran in it.
    pub at: RefCell<Option<String>>,
}

impl FixContext<'_> {
    /// Git with a timeout of its own.
    pub fn git(&self) -> Result<Git<'_>> {
        Git::find(&self.env.deps.settings.path, GIT_MS, self.env.deps.cancel)
    }

    /// Reports a line of progress.
    pub fn say(&self, tone: Tone, text: impl Into<String>) {
        self.env.deps.say(tone, text);
    }

    /// Reports the start of a step.
    pub fn step(&self, text: impl Into<String>) {
        (self.env.deps.report)(&Progress::Step(text.into()));
    }

    /// The settings for work on tasks.
    pub fn defaults(&self) -> &Defaults {
        &self.request.leanfile.defaults
    }

    /// The thresholds of the rule.
    pub fn limits(&self) -> &Thresholds {
        &self.env.deps.settings.fixes.thresholds
    }

    /// The clone.
    pub fn work(&self) -> PathBuf {
        self.env.dir.work()
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

    /// Runs the tests of a task in the clone, where they may change files.
    pub fn test(&self, task: &Task) -> Result<Tested> {
        self.step("the tests run");
        self.at.take();
        testing::test(&self.env, task, &self.cwd())
    }

    /// Runs a command of `after` in the clone; returns why it failed, if it did.
    pub fn after(&self, line: &str) -> Result<Option<String>> {
        self.say(Tone::Plain, format!("after: {line}"));
        self.at.take();
        testing::after(&self.env, line, &self.cwd(), self.defaults().after_command_timeout)
    }

    /// Saves the state of the run.
    pub fn save(&self, run: &FixSession) -> Result<()> {
        json_file::write_json(&self.env.dir.run(), run, Durability::Durable)
    }

    /// Who is called after so many new plans.
    pub fn agent(&self, plans: usize) -> &Fixer {
        &self.agents[plans.min(self.agents.len() - 1)]
    }

    /// An empty directory for a call that must not edit anything.
    pub fn empty(&self) -> Result<PathBuf> {
        let dir = self.env.dir.empty();
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
        let (top, work) = (self.env.dir.path(), self.work());
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
        let kept = clone::inspect(&self.git()?, self.trees.dir());
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
            self.say(Tone::Warn, format!("the agent gets no files of nested repositories: {names}"));
        }
        self.trees.snapshot(&git, &self.project, "project")
    }

    /// The clone's files as a tree.
    pub fn snapshot(&self) -> Result<String> {
        self.trees.snapshot(&self.git()?, &self.work(), "work")
    }
}

/// One task at work.
pub(super) struct TaskRun<'a> {
    pub ctx: &'a FixContext<'a>,
    pub task: &'a Task,
    /// The state of the whole run, which is saved at each step.
    pub session: &'a mut FixSession,
    /// The number of the task in the session.
    pub at: usize,
}

impl TaskRun<'_> {
    pub fn state(&self) -> &TaskState {
        &self.session.tasks[self.at]
    }

    pub fn state_mut(&mut self) -> &mut TaskState {
        &mut self.session.tasks[self.at]
    }

    pub fn set(&mut self, status: TaskStatus, note: impl Into<String>) {
        let state = self.state_mut();
        (state.status, state.note) = (status, note.into());
    }

    pub fn save(&self) -> Result<()> {
        self.ctx.save(self.session)
    }

    pub fn ledger(&self) -> Result<Vec<LedgerLine>> {
        fixes::ledger(&self.ctx.env.dir, &self.state().goal)
    }

    pub fn append(&self, line: &LedgerLine) -> Result<()> {
        fixes::append(&self.ctx.env.dir, &self.state().goal, line)
    }

    /// The ref of an attempt, or of a checkpoint.
    pub fn ref_of(&self, kind: &str, n: u32) -> String {
        format!("refs/looop/{kind}/{}/{n}", self.state().goal)
    }

    /// The tree of the episode's base.
    pub fn base(&self, now: &EpisodeState) -> String {
        now.begin.map_or_else(|| self.session.tree.clone(), |begin| begin.base.clone())
    }

    /// Keeps the last output of the tests for the next prompt.
    pub fn keep_output(&self, output: &str) -> Result<()> {
        let path = self.ctx.env.dir.output(&self.state().goal);
        file::write(&path, output.as_bytes(), 0o600, Durability::Whole)
    }

    /// The last output of the tests; empty if unknown, or if the task has no tests.
    pub fn kept_output(&self) -> String {
        let path = self.ctx.env.dir.output(&self.state().goal);
        let kept = || file::read_text(&path, 4 << 20).ok().flatten();
        if self.task.skip_tests { String::new() } else { kept().unwrap_or_default() }
    }

    /// Calls an agent, and writes down what it used for the goal.
    pub fn call(&mut self, agent: &Fixer, prompt: &str, cwd: &Path) -> Result<AgentReply> {
        let ctx = self.ctx;
        ctx.env.check()?;
        ctx.at.take();
        let reply = agent.call(&ctx.env, prompt, cwd)?;
        let tokens = reply.usage.tokens();
        let state = self.state_mut();
        state.tokens = state.tokens.saturating_add(tokens);
        // Tokens that were paid for did not stay local.
        if agent.name == ctx.agents[0].name && reply.usage.cost_micros == 0 {
            state.local_tokens = state.local_tokens.saturating_add(tokens);
        }
        state.estimated |= reply.is_estimated();
        self.charge(agent, &reply.usage)?;
        ctx.env.check()?;
        Ok(reply)
    }

    /// Writes down what a call used: a worker's goes through its supervisor, which minds the worker's budget.
    fn charge(&self, agent: &Fixer, usage: &Usage) -> Result<()> {
        let deps = self.ctx.env.deps;
        let usage = usage.clone();
        if let Some(socket) = &deps.socket {
            return client::call(socket, WireRequest::Spend(usage.into())).map(drop);
        }
        let charge = Charge {
            goal: Some(self.state().goal.to_string()),
            ..Charge::new(clock::now(), self.ctx.id.as_str(), &agent.name, usage)
        };
        ledger::append(deps.layout, &charge)
    }
}
