//! Starting a worker: checks the request, prepares the worker, and starts a supervisor that outlives the starter.

mod checks;
mod scope;
mod walls;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{clone, secrets_pipe};
use crate::agents;
use crate::model::budget::BudgetExceeded;
use crate::model::fault::Fault;
use crate::model::lease;
use crate::model::name::Name;
use crate::model::scope::ApprovalScope;
use crate::model::settings::{Settings, WorkerRunner};
use crate::model::text::quote_argv;
use crate::model::time::Now;
use crate::model::worker::{Check, Objects, Spec, WorkerLimits};
use crate::store::boxes::Cell;
use crate::store::file::Durability;
use crate::store::json_file;
use crate::store::layout::{Layout, WorkerDir};
use crate::store::{budget, file, lock, workers};
use crate::sys::clock::Deadline;
use crate::sys::signal::Cancel;
use crate::sys::wait::pause_ms;
use crate::sys::{detach::Launched, program};

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
#[derive(Clone, Debug, Default)]
pub struct WorkerRequest {
    pub id: String,
    /// The goal that it works for.
    pub goal: Option<Name>,
    /// The kind of worker: `fix` works as `looop fix` on its brief; `None` and any other word mean an agent.
    pub kind: Option<String>,
    /// The runner; `None` means the one of the config.
    pub runner: Option<String>,
    /// The command instead of a runner's; empty means the runner's.
    pub argv: Vec<String>,
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
    /// The repository of its private clone.
    pub repo: Option<PathBuf>,
    /// True if the decider that starts it read untrusted content.
    pub is_tainted: bool,
    /// The directory it runs in without a clone; `None` means an empty one of its own.
    pub cwd: Option<PathBuf>,
    /// Who starts it: a beat's id, or `human`.
    pub by: String,
    /// What the user approved; `None` if the start needs no approval.
    pub approved: Option<ApprovalScope>,
}

/// The context for starting workers.
pub struct WorkerStarter<'a> {
    pub layout: &'a Layout,
    pub settings: &'a Settings,
    pub cancel: &'a Cancel,
    pub now: Now,
    /// Hints where an agent may begin to look.
    pub leads: Leads,
}

/// Returns the places in a clone to which a brief refers, as a part of the brief; empty if they are unknown. The first
/// path is a file in which it may cache what it knows of the project.
pub type Leads = fn(&Path, &Path, &str) -> String;

/// The reason why a worker cannot be started, for the requester.
pub type Refusal = String;

impl WorkerStarter<'_> {
    /// Describes what would run: everything about the worker that does not depend on the time of its start.
    ///
    /// # Errors
    /// When a file cannot be read. The inner error says why the worker cannot be started.
    pub fn spec(&self, wanted: &WorkerRequest) -> Result<Result<Spec, Refusal>> {
        let id = match Name::parse_new(&wanted.id) {
            Ok(id) => id,
            Err(why) => return Ok(Err(why)),
        };
        if wanted.brief.len() > MAX_BRIEF_BYTES {
            let (long, most) = (wanted.brief.len() >> 10, MAX_BRIEF_BYTES >> 10);
            return Ok(Err(format!("the brief is {long} KiB long and {most} KiB is the most")));
        }
        if let Some(bad) = wanted.claims.iter().find_map(|claim| lease::free_name(claim).err()) {
            return Ok(Err(bad));
        }
        let verify = match self.checks(wanted)? {
            Ok(verify) => verify,
            Err(why) => return Ok(Err(why)),
        };
        let dir = self.layout.worker(&id);
        let in_clone = wanted.repo.is_some();
        let cwd = match &wanted.cwd {
            Some(cwd) if !in_clone => cwd.clone(),
            _ => dir.clone_dir(),
        };
        if !in_clone && wanted.cwd.as_ref().is_some_and(|cwd| !cwd.is_dir()) {
            return Ok(Err(format!("`{}` is not a directory", cwd.display())));
        }
        let (runner, kind, mut argv, mut env) = match self.command(wanted, &verify, &dir, &cwd) {
            Ok(command) => command,
            Err(why) => return Ok(Err(why)),
        };
        let boxes = self.boxes(wanted, &dir, &cwd, runner.as_deref(), &argv, &verify).map(|(own, checks)| {
            // A fix is looop itself, which needs its own files.
            (if kind == FIX { Cell::default() } else { own }, checks)
        });
        let (sandbox, checks_sandbox) = match boxes.and_then(|cells| Ok((cells, self.grants(wanted)?))) {
            Ok(((own, checks), granted)) => {
                env.extend(own.env.into_iter().chain(granted));
                (own.sandbox, checks.sandbox)
            }
            Err(why) => return Ok(Err(format!("it could not be sandboxed: {why}"))),
        };
        if kind == "agent" {
            agents::fill_sandbox(&mut argv, sandbox.is_some());
        }
        let mut spec = Spec {
            id,
            goal: wanted.goal.clone(),
            kind,
            runner,
            argv,
            cwd: cwd.to_string_lossy().into_owned(),
            env,
            verify,
            claims: wanted.claims.clone(),
            repo: None,
            objects: None,
            sandbox,
            checks_sandbox,
            limits: WorkerLimits {
                budget: self.settings.budget.clone(),
                ..self.settings.workers.limits.clone()
            },
            notify: self.settings.workers.notify.clone(),
            tmux: self.settings.workers.tmux.clone(),
            by: wanted.by.clone(),
            created_ms: self.now.unix_ms,
        };
        let configured = self.settings.workers.objects;
        spec.objects = in_clone.then(|| Objects::chosen(configured, wanted.is_tainted, spec.has_network()));
        Ok(Ok(spec))
    }

    /// Returns the runner, the kind, the command with its program resolved, and its environment.
    #[allow(clippy::type_complexity, reason = "four parts of one answer that go into four fields")]
    fn command(
        &self,
        wanted: &WorkerRequest,
        verify: &[Check],
        dir: &WorkerDir,
        cwd: &Path,
    ) -> Result<(Option<String>, String, Vec<String>, Vec<(String, String)>), Refusal> {
        if wanted.kind.as_deref() == Some(FIX) && wanted.argv.is_empty() {
            let argv = self.fix(wanted, verify, dir, cwd)?;
            return Ok((None, FIX.to_owned(), argv, self.environment(&self.settings.fixes.env())));
        }
        let own = WorkerRunner { argv: wanted.argv.clone(), ..WorkerRunner::default() };
        let (runner, kind, table) = if wanted.argv.is_empty() {
            let (name, table) = self.settings.workers.runner(wanted.runner.as_deref())?;
            (Some(name.to_owned()), "agent", table)
        } else {
            (None, "command", &own)
        };
        let brief = dir.brief();
        let status = table.status.map(|file| dir.status(file)).unwrap_or_default();
        let filled = |arg: &String| {
            arg.replace("{brief}", &brief.to_string_lossy()).replace("{status}", &status.to_string_lossy())
        };
        let mut argv: Vec<String> = match kind {
            "agent" => table.argv.iter().map(filled).collect(),
            _ => table.argv.clone(),
        };
        let program = argv.first().cloned().unwrap_or_default();
        let from = if cwd.is_dir() { cwd } else { self.layout.root() };
        match program::find_program(&program, &self.settings.path, from) {
            Some(found) => {
                if let Some(missing) = program::missing_interpreter(&found) {
                    let what = format!("`{program}` cannot be run: its first line names {missing:?}");
                    return Err(format!("{what}, which is not an executable"));
                }
                argv[0] = found.to_string_lossy().into_owned();
            }
            None => return Err(format!("`{program}` is not an executable on the configured PATH")),
        }
        let mut env = self.environment(&table.env);
        env.extend(table.set.iter().map(|(key, value)| (key.clone(), filled(value))));
        Ok((runner, kind.to_owned(), argv, env))
    }

    /// Builds the command `looop fix` on the brief, with the checks as its tests.
    fn fix(
        &self,
        wanted: &WorkerRequest,
        verify: &[Check],
        dir: &WorkerDir,
        cwd: &Path,
    ) -> Result<Vec<String>, Refusal> {
        if wanted.repo.is_none() {
            return Err("a fix needs a repo".to_owned());
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let own = program::installed_path();
        let mut argv = vec![text(&own), "fix".to_owned(), "--repo".to_owned(), text(cwd)];
        argv.extend(["--issue-file".to_owned(), text(&dir.brief())]);
        let lines: Vec<String> = verify.iter().map(|check| quote_argv(&check.argv)).collect();
        if !lines.is_empty() {
            argv.extend(["--test".to_owned(), lines.join(" && ")]);
        }
        Ok(argv)
    }

    /// Starts a worker. When it returns, the worker has its leases and its command runs.
    ///
    /// # Errors
    /// When a file cannot be written or a process cannot be started. The inner error says why the worker may not be
    /// started.
    pub fn start(&self, wanted: &WorkerRequest) -> Result<Result<Spec, Refusal>> {
        if !program::finds_itself() {
            return Ok(Err("`/proc` is not mounted, and looop needs it to find its own program".to_owned()));
        }
        let mut spec = match self.spec(wanted)? {
            Ok(spec) => spec,
            Err(why) => return Ok(Err(why)),
        };
        let mut supervisor = self.launch(&spec.id)?;
        for left in workers::abandoned(self.layout)? {
            // If it cannot be removed now, the next start removes it.
            drop(self.discard(&left));
        }
        let (staged, _preparing) = workers::stage(self.layout, &spec.id)?;
        // A fix talks to its supervisor itself.
        let contract = if spec.kind == FIX { "" } else { CONTRACT };
        let described = spec.clone();
        let prepared = self.prepare(wanted, &mut spec, &staged).and_then(|prepared| match prepared {
            Ok(()) => {
                if let Err(why) = self.check_approved(wanted, &described, &spec)? {
                    return Ok(Err(why));
                }
                let leads = self.leads(wanted, &spec, &staged);
                let brief = format!("{contract}{}\n{leads}", wanted.brief.trim_end());
                self.let_leave(&spec.id).and_then(|()| self.publish(&spec, &brief, &staged))
            }
            Err(why) => Ok(Err(why)),
        });
        if !matches!(prepared, Ok(Ok(_))) {
            drop(self.discard(&staged));
        }
        let starting = match prepared? {
            Ok(held) => held,
            Err(why) => return Ok(Err(why)),
        };
        let cannot = || format!("could not start the supervisor of worker {}", spec.id);
        supervisor.tell(&secrets_pipe::notified(&self.settings.secrets)?).with_context(cannot)?;
        // Sync the name during the start, before success is reported: a power loss must not remove a reported worker.
        let synced = file::sync_dir(self.layout.worker(&spec.id).path());
        let handshake = supervisor.handshake(START_MS).with_context(cannot)?;
        drop(starting);
        synced?;
        if handshake == "ok" { Ok(Ok(spec)) } else { Ok(Err(handshake)) }
    }

    /// Starts the supervisor of a new worker: it initialises while the worker's files are written.
    fn launch(&self, id: &Name) -> Result<Launched> {
        let (root, cache) = (self.layout.root().to_string_lossy(), self.layout.cache().to_string_lossy());
        Launched::new(&["__supervise", &root, &cache, id.as_str()])
            .with_context(|| format!("could not start the supervisor of worker {id}"))
    }

    /// Makes the worker's clone, or an empty directory if it has none.
    fn prepare(
        &self,
        wanted: &WorkerRequest,
        spec: &mut Spec,
        staged: &WorkerDir,
    ) -> Result<Result<(), Refusal>> {
        let runners = &self.settings.workers.runners;
        if let Some(file) = spec.runner.as_ref().and_then(|name| runners.get(name)?.status) {
            file::write(&staged.status(file), file.text.as_bytes(), 0o600, Durability::Whole)?;
        }
        self.furnish(spec, staged)?;
        let Some(source) = &wanted.repo else {
            return if wanted.cwd.is_none() {
                file::make_dir(&staged.clone_dir()).map(Ok)
            } else {
                Ok(Ok(()))
            };
        };
        let git = self.git()?;
        let found = match clone::inspect(&git, source)? {
            Ok(found) => found,
            Err(why) => return Ok(Err(format!("could not clone it: {why}"))),
        };
        // A worktree of looop's own repository may be anywhere.
        if found.common.starts_with(std::fs::canonicalize(self.layout.root())?) {
            return Ok(Err("could not clone it: it belongs to looop".to_owned()));
        }
        // Written first, so that the owner of the base of an abandoned clone is known.
        spec.repo = Some(clone::repo_of(&found, &spec.id)?);
        // Another repository has the borrowed objects, so the worker gets a pack of what it needs.
        let objects = if found.borrows { Objects::Reachable } else { spec.objects.unwrap_or_default() };
        spec.objects = Some(objects);
        if objects == Objects::Shared {
            for sandbox in [&mut spec.sandbox, &mut spec.checks_sandbox].into_iter().flatten() {
                sandbox.access.read.push(found.common.join("objects"));
            }
        }
        json_file::write_json(&staged.spec(), spec, Durability::Whole)?;
        let repo = clone::repo_of(&found, &spec.id)?;
        clone::make_for(&git, &found, &staged.clone_dir(), &repo, objects)?;
        Ok(Ok(()))
    }

    /// Returns hints where an agent may begin to look in its clone; other kinds of workers get none.
    fn leads(&self, wanted: &WorkerRequest, spec: &Spec, staged: &WorkerDir) -> String {
        match &wanted.repo {
            Some(source) if spec.runner.is_some() => {
                (self.leads)(&self.layout.map(source), &staged.clone_dir(), &wanted.brief)
            }
            _ => String::new(),
        }
    }

    fn git(&self) -> Result<clone::Git<'_>> {
        clone::Git::find(&self.settings.path, CLONE_MS, self.cancel)
    }

    /// Removes the prepared directory of a worker that is not started. It contains no work.
    fn discard(&self, staged: &WorkerDir) -> Result<()> {
        let spec = json_file::read_json::<Spec>(&staged.spec()).ok().flatten();
        if let Some(repo) = spec.and_then(|spec| spec.repo) {
            clone::discard(&self.git()?, &repo, &staged.clone_dir(), true)?;
        }
        workers::unstage(staged);
        Ok(())
    }

    /// Waits until the supervisor of an ended worker of this name has exited: its last step needs the store's lock, so
    /// the caller must not hold that lock.
    fn let_leave(&self, id: &Name) -> Result<()> {
        let wait_limit = Deadline::after_ms(LEAVE_MS);
        let is_over =
            || workers::load(self.layout, id).map(|old| old.is_some_and(|old| old.state.phase.is_over()));
        while is_over()? && workers::is_alive(&self.layout.worker(id))? && !wait_limit.passed() {
            pause_ms(5);
        }
        Ok(())
    }

    /// Reserves what its first turn may cost, if it reports its spending. The caller holds the store's lock.
    fn reserve(&self, spec: &Spec) -> Result<Option<BudgetExceeded>> {
        let is_agent = spec.runner.is_some() || spec.kind == FIX;
        if !is_agent && agents::events_of(&spec.argv).is_none() {
            return Ok(None);
        }
        Ok(budget::reserve(self.layout, &spec.limits.budget, budget::BudgetRequest::turn(spec, 0), self.now)?
            .err())
    }

    /// Gives the prepared worker its name, unless there are too many workers or one of that name lives.
    fn publish(&self, spec: &Spec, brief: &str, staged: &WorkerDir) -> Result<Result<lock::Held, Refusal>> {
        // Counting and naming are one step; otherwise several starters together could exceed the limit.
        let _store = lock::store(&self.layout.store_lock())?;
        let ids = workers::ids(self.layout)?;
        let most = self.settings.limits.workers;
        if workers::live_at_most(self.layout, &ids) >= most {
            let (all, problems) = workers::list(self.layout)?;
            let live = all.iter().filter(|worker| !worker.state.phase.is_over()).count();
            // An unreadable worker may be alive.
            if live + problems.len() >= most {
                return Ok(Err(format!("{live} workers live and {most} is the limit (limits.workers)")));
            }
        }
        if let Some(old) = workers::load(self.layout, &spec.id)?.filter(|old| old.spec.id == spec.id) {
            if !old.state.phase.is_over() {
                return Ok(Err(format!("worker {} is {}", spec.id, old.state.phase.word())));
            }
            let has_clone = || self.layout.worker(&spec.id).clone_dir().join(".git").is_dir();
            if let Some(why) = old.state.unfetched.as_ref().filter(|_| has_clone()) {
                // Beats try again only for a worker that is not archived.
                let id = &spec.id;
                return Ok(Err(format!(
                    "an ended worker has this name, and its branch could not be fetched yet: {why}; each beat tries \
                     again. Take another name, or give its work up with `looop prune {id} --force`"
                )));
            }
            super::orphans::end_lost(self.layout, std::slice::from_ref(&old));
            workers::put_away(self.layout, &old)?;
        }
        if let Some(hit) = self.reserve(spec)? {
            return Ok(Err(hit.words(self.now)));
        }
        match workers::create(self.layout, spec, brief, staged)? {
            Some(held) => Ok(Ok(held)),
            None => {
                let fault = Fault::failed(format!(
                    "could not start worker {}: its directory already exists",
                    spec.id
                ));
                Err(fault.hint(format!("look at {}", self.layout.worker(&spec.id).path().display())).into())
            }
        }
    }
}
