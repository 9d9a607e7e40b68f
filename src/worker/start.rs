//! Starting a worker: checks the request, prepares the worker, and starts a supervisor that outlives the starter.

mod checks;
mod scope;
mod walls;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::refusal::{WorkerError, WorkerRefusal};
use super::{Fleet, secrets_pipe};
use crate::agents;
use crate::os::clock::Deadline;
use crate::os::detach::Launched;
use crate::os::process::wait::pause_ms;
use crate::os::program;
use crate::rules::beat::scope::ApprovalScope;
use crate::rules::beat::settings::WorkerRunner;
use crate::rules::fault::Fault;
use crate::rules::lease;
use crate::rules::name::Name;
use crate::rules::text::quote_argv;
use crate::rules::worker::{Objects, Spec, WorkerLimits};
use crate::store::budget;
use crate::store::file;
use crate::store::file::Durability;
use crate::store::json_file;
use crate::store::layout::WorkerDir;
use crate::store::lock;
use crate::store::workers;
use crate::vcs::clone;

/// The contract between looop and a worker; every brief begins with it.
const CONTRACT: &str = include_str!("../../seed/worker.md");
pub const MAX_BRIEF_BYTES: usize = 1 << 20;
/// How long a supervisor may take to report its start, in milliseconds.
const START_MS: i64 = 30_000;
/// The kind of a worker that fixes.
pub(super) const FIX: &str = "fix";
/// How long the supervisor of an ended worker may take to exit, in milliseconds.
const LEAVE_MS: i64 = 10_000;
/// The timeout for making a clone, in milliseconds.
const CLONE_MS: i64 = 10 * 60_000;

/// A request for a worker.
#[derive(Clone, Debug)]
pub struct WorkerRequest {
    pub id: String,
    /// The goal that it works for.
    pub goal: Option<Name>,
    pub program: WorkerProgram,
    pub place: Workplace,
    /// Its instructions.
    pub brief: String,
    /// Entries of the config's `verify`; empty means the one that the goal names, if it does.
    pub verify: Vec<String>,
    /// If true, a check that is not an entry of the config is a shell line.
    pub free_check: bool,
    /// Resources that only this worker may use.
    pub claims: Vec<String>,
    /// Names of the user's variables, and paths, that it is granted.
    pub grant: Vec<String>,
    /// True if the decider that starts it read untrusted content.
    pub is_tainted: bool,
    /// Who starts it: a beat's id, or `human`.
    pub by: String,
    /// What the user approved; `None` if the start needs no approval.
    pub approved: Option<ApprovalScope>,
}

/// What a worker runs.
#[derive(Clone, Debug)]
pub enum WorkerProgram {
    /// A runner of the config; `None` means the default one.
    Runner(Option<String>),
    Command(Vec<String>),
    /// `looop fix` on the brief.
    Fix,
}

impl WorkerProgram {
    /// Chooses the program: a command, otherwise a fix if `kind` asks for it, otherwise a runner.
    pub fn choose(argv: Vec<String>, kind: Option<&str>, runner: Option<String>) -> WorkerProgram {
        match kind {
            _ if !argv.is_empty() => WorkerProgram::Command(argv),
            Some(FIX) => WorkerProgram::Fix,
            _ => WorkerProgram::Runner(runner),
        }
    }
}

/// The directory in which a worker runs.
#[derive(Clone, Debug)]
pub enum Workplace {
    /// A private clone of this repository.
    Clone(PathBuf),
    Directory(PathBuf),
    /// An empty directory of its own.
    Empty,
}

impl Workplace {
    fn repo(&self) -> Option<&Path> {
        match self {
            Workplace::Clone(repo) => Some(repo),
            _ => None,
        }
    }
}

impl Fleet<'_> {
    /// Describes what would run: everything about the worker that does not depend on the time of its start.
    ///
    /// # Errors
    /// When the worker cannot be started, or a file cannot be read.
    pub fn spec(&self, wanted: &WorkerRequest) -> Result<Spec, WorkerError> {
        let id = Name::parse_new(&wanted.id).map_err(WorkerRefusal::Invalid)?;
        if wanted.brief.len() > MAX_BRIEF_BYTES {
            return Err(WorkerRefusal::LongBrief(wanted.brief.len() >> 10, MAX_BRIEF_BYTES >> 10).into());
        }
        for claim in &wanted.claims {
            lease::free_name(claim).map_err(WorkerRefusal::Invalid)?;
        }
        let dir = self.layout.worker(&id);
        let cwd = match &wanted.place {
            Workplace::Directory(cwd) if cwd.is_dir() => cwd.clone(),
            Workplace::Directory(cwd) => return Err(WorkerRefusal::NotDirectory(cwd.clone()).into()),
            Workplace::Clone(_) | Workplace::Empty => dir.clone_dir(),
        };
        let mut spec = Spec {
            id,
            goal: wanted.goal.clone(),
            kind: String::new(),
            runner: None,
            argv: Vec::new(),
            cwd: cwd.to_string_lossy().into_owned(),
            env: Vec::new(),
            verify: self.checks(wanted)?,
            claims: wanted.claims.clone(),
            repo: None,
            objects: None,
            sandbox: None,
            checks_sandbox: None,
            limits: WorkerLimits {
                budget: self.settings.budget.clone(),
                ..self.settings.workers.limits.clone()
            },
            notify: self.settings.workers.notify.clone(),
            tmux: self.settings.workers.tmux.clone(),
            by: wanted.by.clone(),
            created_ms: self.now.unix_ms,
        };
        self.set_command(wanted, &dir, &mut spec)?;
        self.set_sandboxes(wanted, &dir, &mut spec)?;
        let configured = self.settings.workers.objects;
        let objects = || Objects::chosen(configured, wanted.is_tainted, spec.has_network());
        spec.objects = wanted.place.repo().map(|_| objects());
        Ok(spec)
    }

    /// Sets the runner, the kind, the command with its program resolved, and its environment.
    fn set_command(
        &self,
        wanted: &WorkerRequest,
        dir: &WorkerDir,
        spec: &mut Spec,
    ) -> Result<(), WorkerRefusal> {
        let own;
        let (kind, table) = match &wanted.program {
            WorkerProgram::Fix => return self.set_fix(wanted, dir, spec),
            WorkerProgram::Runner(name) => {
                let found = self.settings.workers.runner(name.as_deref());
                let (name, table) = found.map_err(WorkerRefusal::Invalid)?;
                spec.runner = Some(name.to_owned());
                ("agent", table)
            }
            WorkerProgram::Command(argv) => {
                own = WorkerRunner { argv: argv.clone(), ..WorkerRunner::default() };
                ("command", &own)
            }
        };
        spec.kind = kind.to_owned();
        let brief = dir.brief();
        let status = table.status.map(|file| dir.status(file)).unwrap_or_default();
        let filled = |arg: &String| {
            arg.replace("{brief}", &brief.to_string_lossy()).replace("{status}", &status.to_string_lossy())
        };
        spec.argv = match spec.runner {
            Some(_) => table.argv.iter().map(filled).collect(),
            None => table.argv.clone(),
        };
        let program = spec.argv.first().cloned().unwrap_or_default();
        let cwd = Path::new(&spec.cwd);
        let from = if cwd.is_dir() { cwd } else { self.layout.root() };
        let found = program::find_program(&program, &self.settings.path, from)
            .ok_or_else(|| WorkerRefusal::NoProgram(program.clone()))?;
        if let Some(missing) = program::missing_interpreter(&found) {
            return Err(WorkerRefusal::NoInterpreter(program, missing));
        }
        spec.argv[0] = found.to_string_lossy().into_owned();
        spec.env = self.environment(&table.env);
        spec.env.extend(table.set.iter().map(|(key, value)| (key.clone(), filled(value))));
        Ok(())
    }

    /// Sets the command `looop fix` on the brief, with the checks as its tests.
    fn set_fix(&self, wanted: &WorkerRequest, dir: &WorkerDir, spec: &mut Spec) -> Result<(), WorkerRefusal> {
        wanted.place.repo().ok_or(WorkerRefusal::FixWithoutRepo)?;
        let own = program::installed_path();
        let words = [&*own.to_string_lossy(), "fix", "--repo", &spec.cwd, "--issue-file"];
        spec.argv = words.map(str::to_owned).into();
        spec.argv.push(dir.brief().to_string_lossy().into_owned());
        let lines: Vec<String> = spec.verify.iter().map(|check| quote_argv(&check.argv)).collect();
        if !lines.is_empty() {
            spec.argv.extend(["--test".to_owned(), lines.join(" && ")]);
        }
        spec.kind = FIX.to_owned();
        spec.env = self.environment(&self.settings.fixes.env());
        Ok(())
    }

    /// Starts a worker. When it returns, the worker has its leases and its command runs.
    ///
    /// # Errors
    /// When the worker may not be started, a file cannot be written or a process cannot be started.
    pub fn start(&self, wanted: &WorkerRequest) -> Result<Spec, WorkerError> {
        if !program::finds_itself() {
            return Err(WorkerRefusal::NoProc.into());
        }
        let mut spec = self.spec(wanted)?;
        let cannot = || format!("could not start the supervisor of worker {}", wanted.id);
        // It initialises while the worker's files are written.
        let (root, cache) = (self.layout.root().to_string_lossy(), self.layout.cache().to_string_lossy());
        let mut supervisor =
            Launched::new(&["__supervise", &root, &cache, &wanted.id]).with_context(cannot)?;
        for left in workers::abandoned(self.layout)? {
            // If it cannot be removed now, the next start removes it.
            drop(self.discard(&left));
        }
        let (staged, _preparing) = workers::prepare_dir(self.layout, &spec.id)?;
        let committed = self.prepare(wanted, &mut spec, &staged);
        let committed = committed.and_then(|brief| self.commit(&spec, &brief, &staged));
        if committed.is_err() {
            drop(self.discard(&staged));
        }
        let starting = committed?;
        supervisor.tell(&secrets_pipe::notified(&self.settings.secrets)?).with_context(cannot)?;
        // Sync the name during the start, before success is reported: a power loss must not remove a reported worker.
        let synced = file::sync_dir(self.layout.worker(&spec.id).path());
        let handshake = supervisor.handshake(START_MS).with_context(cannot)?;
        drop(starting);
        synced?;
        if handshake == "ok" { Ok(spec) } else { Err(WorkerRefusal::Supervisor(handshake).into()) }
    }

    /// Prepares the directory of a worker, and its clone if it has one; checks what the user approved. Returns the
    /// whole brief.
    fn prepare(
        &self,
        wanted: &WorkerRequest,
        spec: &mut Spec,
        staged: &WorkerDir,
    ) -> Result<String, WorkerError> {
        let described = spec.clone();
        let runners = &self.settings.workers.runners;
        if let Some(file) = spec.runner.as_ref().and_then(|name| runners.get(name)?.status) {
            file::write(&staged.status(file), file.text.as_bytes(), 0o600, Durability::Whole)?;
        }
        self.create_sandbox_dirs(spec, staged)?;
        match &wanted.place {
            Workplace::Clone(source) => self.make_clone(source, spec, staged)?,
            Workplace::Directory(_) => {}
            Workplace::Empty => file::make_dir(&staged.clone_dir())?,
        }
        self.check_approved(wanted, &described, spec)?;
        // A fix talks to its supervisor itself.
        let contract = if spec.kind == FIX { "" } else { CONTRACT };
        let hints = match &wanted.place {
            Workplace::Clone(source) if spec.runner.is_some() => {
                (self.context_hints)(&self.layout.map(source), &staged.clone_dir(), &wanted.brief)
            }
            _ => String::new(),
        };
        Ok(format!("{contract}{}\n{hints}", wanted.brief.trim_end()))
    }

    fn make_clone(&self, source: &Path, spec: &mut Spec, staged: &WorkerDir) -> Result<(), WorkerError> {
        let git = self.git()?;
        let found = clone::inspect(&git, source)?;
        // A worktree of looop's own repository may be anywhere.
        let root = std::fs::canonicalize(self.layout.root()).context("could not open the data dir")?;
        if found.common.starts_with(root) {
            return Err(WorkerRefusal::Clone("it belongs to looop".to_owned()).into());
        }
        let repo = clone::repo_of(&found, &spec.id)?;
        // Another repository has the borrowed objects, so the worker gets a pack of what it needs.
        let objects = if found.borrows { Objects::Reachable } else { spec.objects.unwrap_or_default() };
        if objects == Objects::Shared {
            for sandbox in [&mut spec.sandbox, &mut spec.checks_sandbox].into_iter().flatten() {
                sandbox.access.read.push(found.common.join("objects"));
            }
        }
        (spec.repo, spec.objects) = (Some(repo.clone()), Some(objects));
        // Written first, so that the owner of the base of an abandoned clone is known.
        json_file::write_json(&staged.spec(), spec, Durability::Whole)?;
        Ok(clone::make(&git, &found, &staged.clone_dir(), &repo, objects)?)
    }

    /// Finds git, for as long as a clone may take.
    fn git(&self) -> Result<clone::Git<'_>> {
        clone::Git::find(&self.settings.path, CLONE_MS, self.cancel)
    }

    /// Removes the prepared directory of a worker that is not started. It contains no work.
    fn discard(&self, staged: &WorkerDir) -> Result<()> {
        let spec = json_file::read_json::<Spec>(&staged.spec()).ok().flatten();
        if let Some(repo) = spec.and_then(|spec| spec.repo) {
            clone::discard(&self.git()?, &repo, &staged.clone_dir(), true)?;
        }
        // If the directory stays behind, it has a hidden name, and the next start removes it.
        drop(file::remove_tree(staged.path()));
        Ok(())
    }

    /// Waits until the supervisor of an ended worker of this name has exited: its last step needs the store's lock, so
    /// the caller must not hold that lock.
    fn wait_for_exit(&self, id: &Name) -> Result<()> {
        let wait_limit = Deadline::after_ms(LEAVE_MS);
        let is_over =
            || workers::load(self.layout, id).map(|old| old.is_some_and(|old| old.state.phase.is_over()));
        while is_over()? && workers::is_alive(&self.layout.worker(id))? && !wait_limit.passed() {
            pause_ms(5);
        }
        Ok(())
    }

    /// Gives the prepared worker its name, unless there are too many workers or one of that name lives.
    fn commit(&self, spec: &Spec, brief: &str, staged: &WorkerDir) -> Result<lock::Held, WorkerError> {
        self.wait_for_exit(&spec.id)?;
        // Counting and naming are one step; otherwise several starters together could exceed the limit.
        let _store = lock::store(&self.layout.store_lock())?;
        let ids = workers::ids(self.layout)?;
        let most = self.settings.limits.workers;
        if workers::live_at_most(self.layout, &ids) >= most {
            let (all, problems) = workers::list(self.layout)?;
            let live = all.iter().filter(|worker| !worker.state.phase.is_over()).count();
            // An unreadable worker may be alive.
            if live + problems.len() >= most {
                return Err(WorkerRefusal::TooMany(live, most).into());
            }
        }
        let dir = self.layout.worker(&spec.id);
        if let Some(old) = workers::load(self.layout, &spec.id)?.filter(|old| old.spec.id == spec.id) {
            if !old.state.phase.is_over() {
                return Err(WorkerRefusal::Lives(spec.id.clone(), old.state.phase).into());
            }
            let has_clone = || dir.clone_dir().join(".git").is_dir();
            if let Some(why) = old.state.unfetched.as_ref().filter(|_| has_clone()) {
                // Beats try again only for a worker that is not archived.
                return Err(WorkerRefusal::Unfetched(spec.id.clone(), why.clone()).into());
            }
            super::orphans::end_lost(self.layout, std::slice::from_ref(&old));
            workers::put_away(self.layout, &old)?;
        }
        // Reserve what its first turn may cost, if it reports its spending.
        if spec.runner.is_some() || spec.kind == FIX || agents::events_of(&spec.argv).is_some() {
            let turn = budget::BudgetRequest::turn(spec, 0);
            let reserved = budget::reserve(self.layout, &spec.limits.budget, turn, self.now);
            reserved.map_err(|denied| denied.map(|hit| WorkerRefusal::Budget(hit.words(self.now))))?;
        }
        let created = workers::create(self.layout, spec, brief, staged)?;
        Ok(created.ok_or_else(|| {
            let id = &spec.id;
            let fault = Fault::failed(format!("could not start worker {id}: its directory already exists"));
            anyhow::Error::from(fault.hint(format!("look at {}", dir.path().display())))
        })?)
    }
}
