//! What every step of a fix works with, and the private clone that agents and tests work in.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::agent::{AgentReply, Caller, Fixer};
use super::bench::Bench;
use super::leanfile::Leanfile;
use super::testing::{Tester, interrupted};
use super::{MARK, Progress, Tone};
use crate::model::attempt::Thresholds;
use crate::model::attempt::delta::FileDelta;
use crate::model::charge::Charge;
use crate::model::fault::Fault;
use crate::model::fix::Run;
use crate::model::name::Name;
use crate::model::settings::Settings;
use crate::model::wire::{Request, Spent};
use crate::store::layout::{FixDir, Layout};
use crate::store::{file, fixes, ledger};
use crate::sys::signal::Cancel;
use crate::sys::{beneath, clock};
use crate::worker::client;
use crate::worker::clone::{self, Git, Grown, Source, Trees};

/// How long one use of git may take, in milliseconds.
const GIT_MS: i64 = 10 * 60_000;
/// The most files that one attempt may leave new or changed, and their size in bytes: a build that is not ignored, or a
/// loop that writes, is no work.
const MAX_KEPT_FILES: usize = 10_000;
const MAX_KEPT_BYTES: u64 = 256 << 20;

/// The most that is taken of a project: whoever begins in a home directory did not mean to have it copied.
const MAX_PROJECT_FILES: usize = 500_000;
const MAX_PROJECT_BYTES: u64 = 8 << 30;

/// How large it is, where that is more than so many files and bytes.
fn too_large(grown: &Grown, (files, bytes): (usize, u64)) -> Option<String> {
    let word = if grown.files == 1 { "file" } else { "files" };
    (grown.files > files || grown.bytes > bytes).then(|| {
        format!("{} MiB in {} {word}, at most {} MiB in {files}", grown.bytes >> 20, grown.files, bytes >> 20)
    })
}

/// What every step works with.
pub struct Desk<'a> {
    /// The data dir.
    pub layout: &'a Layout,
    /// What the config decides.
    pub settings: &'a Settings,
    /// Interruption by a human.
    pub cancel: &'a Cancel,
    /// The leanfile.
    pub leanfile: &'a Leanfile,
    /// The fix's name.
    pub id: Name,
    /// Its files.
    pub dir: FixDir,
    /// The top of the project's files.
    pub project: PathBuf,
    /// Where in them the tasks begin.
    pub sub: PathBuf,
    /// The project's repository; none where it is none.
    pub source: Option<Source>,
    /// Where attempts are kept.
    pub trees: Trees,
    /// Objects that the clone borrows.
    pub objects: Vec<PathBuf>,
    /// Who is called, in order of escalation.
    pub agents: Vec<Fixer>,
    /// The supervisor's socket, where a worker does this.
    pub socket: Option<PathBuf>,
    /// True where somebody watches while it runs.
    pub live: bool,
    /// The tree that the clone's files are, as long as nobody has run in it since.
    pub at: RefCell<Option<String>>,
    /// Differences of trees that were compared, which stay what they are.
    pub deltas: RefCell<BTreeMap<(String, String), Vec<FileDelta>>>,
    /// Where progress goes.
    pub say: RefCell<&'a mut dyn FnMut(&Progress)>,
}

/// Someone who is told that it goes on.
pub trait Busy {
    /// Told again and again while something runs.
    fn busy(&self);
}

impl Busy for Desk<'_> {
    fn busy(&self) {
        self.say(Tone::Busy, "");
    }
}

impl Desk<'_> {
    /// Git with a deadline of its own.
    pub fn git(&self) -> Result<Git<'_>> {
        Git::find(&self.settings.path, GIT_MS, self.cancel)
    }

    /// Says how it goes.
    pub fn say(&self, tone: Tone, text: impl Into<String>) {
        if tone == Tone::Busy && !self.live {
            return;
        }
        (self.say.borrow_mut())(&Progress { tone, text: text.into() });
    }

    /// The figures of the rule.
    pub fn limits(&self) -> &Thresholds {
        &self.settings.fixes.thresholds
    }

    /// Where agents and tests of a task run.
    pub fn cwd(&self) -> PathBuf {
        self.dir.work().join(&self.sub)
    }

    /// A path below the task's directory, as git has it: from the top.
    pub fn below_top(&self, path: &str) -> String {
        let joined = self.sub.join(path.trim_start_matches("./"));
        joined.to_string_lossy().trim_start_matches("./").to_owned()
    }

    fn mark(&self) -> (String, String) {
        (MARK.to_owned(), self.dir.path().to_string_lossy().into_owned())
    }

    /// What runs tests.
    pub fn tester(&self) -> Tester<'_> {
        self.at.take();
        let busy = self.live.then_some(self as &dyn Busy);
        let bench = self.bench();
        Tester { settings: self.settings, cancel: self.cancel, mark: self.mark(), bench, busy }
    }

    /// What makes boxes.
    fn bench(&self) -> Bench<'_> {
        let is_worker = self.socket.is_some();
        let (layout, settings, dir) = (self.layout, self.settings, &self.dir);
        Bench { layout, settings, dir, is_worker, objects: &self.objects }
    }

    /// Fails once a human has interrupted.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_set() { Err(interrupted()) } else { Ok(()) }
    }

    /// Saves where the run stands.
    pub fn save(&self, run: &Run) -> Result<()> {
        fixes::save_run(&self.dir, run)
    }

    /// Who is called after so many new plans.
    pub fn agent(&self, plans: usize) -> &Fixer {
        &self.agents[plans.min(self.agents.len() - 1)]
    }

    /// Calls an agent, and writes down what it used for the goal.
    pub fn call(
        &self,
        run: &mut Run,
        at: usize,
        agent: &Fixer,
        prompt: &str,
        cwd: &Path,
    ) -> Result<AgentReply> {
        self.check()?;
        self.at.take();
        let caller = Caller {
            settings: self.settings,
            cancel: self.cancel,
            mark: self.mark(),
            prompt_file: self.dir.prompt(),
            bench: self.bench(),
            empty_dir: self.dir.empty(),
            busy: self.live.then_some(self as &dyn Busy),
        };
        let said = agent.call(&caller, prompt, cwd)?;
        let task = &mut run.tasks[at];
        task.tokens = task.tokens.saturating_add(said.tokens());
        // What somebody was billed for did not stay here.
        if agent.name == self.agents[0].name && said.usage.cost_micros == 0 {
            task.local_tokens = task.local_tokens.saturating_add(said.tokens());
        }
        task.estimated |= said.is_estimated();
        self.charge(&task.goal, agent, &said)?;
        self.check()?;
        Ok(said)
    }

    /// Writes down what a call used: a worker's goes through its supervisor, which minds the worker's budget.
    fn charge(&self, goal: &Name, agent: &Fixer, said: &AgentReply) -> Result<()> {
        if let Some(socket) = &self.socket {
            let request = Request::Spend(Spent {
                cost_micros: said.usage.cost_micros,
                tokens_in: said.usage.tokens_in,
                tokens_cached: said.usage.tokens_cached,
                tokens_written: said.usage.tokens_written,
                tokens_out: said.usage.tokens_out,
                model: said.usage.model.clone(),
                basis: Some(said.usage.basis),
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
            usage: said.usage.clone(),
        };
        ledger::append(self.layout, &charge)
    }

    /// A directory in which a call can do no harm.
    pub fn empty(&self) -> Result<PathBuf> {
        let dir = self.dir.empty();
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("could not empty `{}`", dir.display()))?;
        }
        file::make_dir(&dir)?;
        Ok(dir)
    }

    /// True while the clone is there with its files and its own repository.
    pub fn is_clone(&self) -> bool {
        let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        is_dir(&self.dir.work()) && is_dir(&self.dir.work().join(".git"))
    }

    /// True while the folder of the tasks is a folder of the clone: neither it nor one above it is a link.
    pub fn is_in_clone(&self) -> bool {
        let (top, work) = (self.dir.path(), self.dir.work());
        work.strip_prefix(top).is_ok_and(|work| beneath::is_folder(top, &work.join(&self.sub)))
    }

    /// Makes the clone's files those of a tree; a clone that is not whole is made anew.
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

    /// Makes a fresh clone with the files of a tree.
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

    /// Removes the clone. What it held is kept as trees.
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

    /// The repository of attempts as one that can be cloned.
    fn kept(&self) -> Result<Source> {
        let git = self.git()?;
        let mut kept = clone::inspect(&git, self.trees.dir())?
            .map_err(|why| Fault::failed(format!("could not use the kept attempts: {why}")))?;
        // What it borrows is the project's, as looop arranged it.
        kept.borrows = false;
        Ok(kept)
    }

    /// Why the clone's files cannot be kept; none where they can.
    pub fn unfit(&self) -> Result<Option<String>> {
        let grown = self.trees.grown(&self.git()?, &self.dir.work(), "work")?;
        if let Some(dir) = grown.nested.first() {
            return Ok(Some(format!("`{dir}` is a repository of its own, whose files are not taken")));
        }
        let most = (MAX_KEPT_FILES, MAX_KEPT_BYTES);
        Ok(too_large(&grown, most).map(|size| format!("too large to keep: {size} may be new")))
    }

    /// The project's files as a tree.
    pub fn project_tree(&self) -> Result<String> {
        let git = self.git()?;
        let grown = self.trees.grown(&git, &self.project, "project")?;
        let shown = self.project.display();
        if let Some(size) = too_large(&grown, (MAX_PROJECT_FILES, MAX_PROJECT_BYTES)) {
            let fault = Fault::failed(format!("could not take the files of `{shown}`: {size} are taken"));
            let fault = fault.hint("name what is generated in .gitignore");
            return Err(fault.hint("or name a smaller project, with `project_root` or --repo").into());
        }
        if !grown.nested.is_empty() {
            let names = grown.nested.join(", ");
            self.say(
                Tone::Warn,
                format!("a repository of its own, of whose files the agent gets none: {names}"),
            );
        }
        self.trees.snapshot(&git, &self.project, "project")
    }

    /// The clone's files as a tree.
    pub fn snapshot(&self) -> Result<String> {
        let git = self.git()?;
        self.trees.snapshot(&git, &self.dir.work(), "work")
    }
}
