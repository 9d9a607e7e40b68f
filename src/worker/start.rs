//! Starting a planned worker: prepares its directory, checks what the user approved, and starts a supervisor that
//! outlives the starter. What starts is the plan; nothing of it is decided here again.

use std::path::Path;

use anyhow::{Context, Result};

use super::plan::{FIX, agent_names, is_path};
use super::refusal::{WorkerError, WorkerRefusal};
use super::{Fleet, secrets_pipe};
use crate::agents;
use crate::os::clock::Deadline;
use crate::os::detach::Launched;
use crate::os::process::wait::pause_ms;
use crate::os::program;
use crate::rules::beat::scope::ApprovalScope;
use crate::rules::fault::Fault;
use crate::rules::name::Name;
use crate::rules::sandbox::Sandbox;
use crate::rules::worker::{Spec, WorkerLimits};
use crate::store::file::{self, Durability};
use crate::store::layout::{self, WorkerDir};
use crate::store::{budget, json_file, lock, workers};
use crate::vcs::clone;

/// The contract between looop and a worker; every brief begins with it.
const CONTRACT: &str = include_str!("../../seed/worker.md");
/// How long a supervisor may take to report its start, in milliseconds.
const START_MS: i64 = 30_000;
/// How long the supervisor of an ended worker may take to exit, in milliseconds.
const LEAVE_MS: i64 = 10_000;
/// The timeout for making a clone, in milliseconds.
const CLONE_MS: i64 = 10 * 60_000;

fn no_supervisor(id: &Name) -> String {
    format!("could not start the supervisor of worker {id}")
}

impl Fleet<'_> {
    /// Starts a worker exactly as it was planned. When it returns, the worker has its leases and its command runs.
    /// `approved` is what the user approved: if any part of it differs now, the worker does not start.
    ///
    /// # Errors
    /// When the worker may not be started, a file cannot be written or a process cannot be started.
    pub fn start(
        &self,
        planned: Spec,
        by: &str,
        brief: &str,
        grant: &[String],
        approved: Option<&ApprovalScope>,
    ) -> Result<Spec, WorkerError> {
        if !program::finds_itself() {
            return Err(WorkerRefusal::NoProc.into());
        }
        let spec = Spec { by: by.to_owned(), ..self.complete(planned, grant)? };
        // It initialises while the worker's files are written.
        let supervisor = self.launch(&spec.id)?;
        self.discard_abandoned()?;
        let (staged, _preparing) = workers::prepare_dir(self.layout, &spec.id)?;
        let committed = self.prepare(&spec, &staged).and_then(|()| {
            if let Some(approved) = approved {
                let now = self.scope_of(&spec, grant, approved.clone())?;
                approved.check(&now).map_err(WorkerRefusal::Approval)?;
            }
            self.commit(&spec, &self.whole_brief(&spec, brief, &staged), &staged)
        });
        if committed.is_err() {
            drop(self.discard(&staged));
        }
        let starting = committed?;
        let started = self.hand_over(supervisor, &spec.id);
        drop(starting);
        started.map(|()| spec)
    }

    /// Launches the supervisor of a worker. It waits for its start message.
    pub(super) fn launch(&self, id: &Name) -> Result<Launched> {
        let (root, cache) = (self.layout.root().to_string_lossy(), self.layout.cache().to_string_lossy());
        Launched::new(&["__supervise", &root, &cache, id.as_str()]).with_context(|| no_supervisor(id))
    }

    /// Tells a launched supervisor to start its worker, whose files are there, and waits until it has.
    pub(super) fn hand_over(&self, mut supervisor: Launched, id: &Name) -> Result<(), WorkerError> {
        let cannot = || no_supervisor(id);
        supervisor.tell(&secrets_pipe::notified(&self.settings.secrets)?).with_context(cannot)?;
        // Sync the name during the start, before success is reported: a power loss must not remove a reported worker.
        let synced = file::sync_dir(self.layout.worker(id).path());
        let handshake = supervisor.handshake(START_MS).with_context(cannot)?;
        synced?;
        if handshake == "ok" { Ok(()) } else { Err(WorkerRefusal::Supervisor(handshake).into()) }
    }

    /// Checks that one more worker may live. The caller holds the store's lock.
    pub(super) fn check_count(&self) -> Result<(), WorkerError> {
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
        Ok(())
    }

    /// Reserves what the first turn of a worker may cost, if it reports its spending. The caller holds the store's lock.
    pub(super) fn reserve_turn(&self, spec: &Spec) -> Result<(), WorkerError> {
        if spec.runner.is_some() || spec.kind == FIX || agents::events_of(&spec.argv).is_some() {
            let turn = budget::BudgetRequest::turn(spec, 0);
            let reserved = budget::reserve(self.layout, &spec.limits.budget, turn, self.now);
            reserved
                .map_err(|denied| denied.map(|exceeded| WorkerRefusal::Budget(exceeded.words(self.now))))?;
        }
        Ok(())
    }

    /// Removes what interrupted starts left: their directories, and the refs of their clones.
    ///
    /// # Errors
    /// When the directories cannot be listed.
    pub(super) fn discard_abandoned(&self) -> Result<()> {
        for left in workers::abandoned(self.layout)? {
            // If it cannot be removed now, the next start removes it.
            drop(self.discard(&left));
        }
        Ok(())
    }

    /// Adds to a plan what is as it is now, not as it was planned: the values of its variables, its limits, and the ways
    /// to reach the user. An approval covers the values by their digest.
    pub(super) fn complete(&self, planned: Spec, grant: &[String]) -> Result<Spec, WorkerRefusal> {
        let workers = &self.settings.workers;
        let runner = planned.runner.as_ref().and_then(|name| workers.runners.get(name));
        Ok(Spec {
            env: self.environment(&planned, grant)?,
            limits: WorkerLimits {
                budget: self.settings.budget.clone(),
                on_limit: runner.and_then(|runner| runner.on_limit).unwrap_or(workers.limits.on_limit),
                ..workers.limits.clone()
            },
            notify: workers.notify.clone(),
            tmux: workers.tmux.clone(),
            session: planned.runner.as_ref().map(|_| self.session_of(&planned.id)),
            created_ms: self.now.unix_ms,
            ..planned
        })
    }

    /// Makes the id of a worker's session: a UUID, as agent CLIs want it, of which no two are the same.
    fn session_of(&self, id: &Name) -> String {
        let made_of =
            format!("{} {id} {} {}", self.layout.root().display(), self.now.unix_ms, std::process::id());
        let hex = blake3::hash(made_of.as_bytes()).to_hex();
        format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30])
    }

    /// Returns the variables of a planned worker: those of its kind, those of the plan, and those that it is granted.
    fn environment(&self, planned: &Spec, grant: &[String]) -> Result<Vec<(String, String)>, WorkerRefusal> {
        let settings = self.settings;
        let allow = match &planned.runner {
            Some(name) => settings.workers.runner(Some(name)).map_err(WorkerRefusal::Invalid)?.1.env.clone(),
            None if planned.kind == FIX => settings.fixes.env(),
            None => Vec::new(),
        };
        let mut env = settings.base_env.clone();
        env.extend(settings.full_env.iter().filter(|(key, _)| allow.contains(key)).cloned());
        let own = program::installed_path();
        let own = std::fs::canonicalize(&own).unwrap_or(own);
        // Last on the PATH, so that a worker finds `looop` and nothing else changes.
        if let (Some(dir), Some((_, path))) = (own.parent(), env.iter_mut().find(|(key, _)| key == "PATH")) {
            path.push_str(&format!(":{}", dir.display()));
        }
        // A prompt or an editor would wait for input that never comes.
        let quiet = [
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_EDITOR", "true"),
            ("GIT_SEQUENCE_EDITOR", "true"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
        ];
        env.extend(quiet.map(|(key, value)| (key.to_owned(), value.to_owned())));
        env.push(("LOOOP_DATA_DIR".to_owned(), self.layout.root().to_string_lossy().into_owned()));
        env.extend(settings.config_env.iter().chain(&planned.env).cloned());
        for name in grant.iter().filter(|text| !is_path(text)) {
            let found = settings.full_env.iter().find(|(key, _)| key == name);
            env.push(found.cloned().ok_or_else(|| WorkerRefusal::NoVariable(name.clone()))?);
        }
        Ok(env)
    }

    /// Prepares the directory of a worker, and its clone if it has one.
    fn prepare(&self, spec: &Spec, staged: &WorkerDir) -> Result<(), WorkerError> {
        let runners = &self.settings.workers.runners;
        if let Some(file) = spec.runner.as_ref().and_then(|name| runners.get(name)?.status) {
            file::write(&staged.status(file), file.text.as_bytes(), 0o600, Durability::Atomic)?;
        }
        let sandboxes: Vec<&Sandbox> = spec.sandbox.iter().chain(&spec.checks_sandbox).collect();
        if !sandboxes.is_empty() {
            let is_full = sandboxes.iter().any(|sandbox| sandbox.has_files());
            let agent = agents::home_of(&agent_names(spec));
            self.sandboxes.create_dirs(
                is_full,
                agent,
                &layout::PrivateDirs(staged.path()),
                Path::new(&spec.cwd),
            )?;
        }
        let Some(repo) = &spec.repo else {
            if Path::new(&spec.cwd) == self.layout.worker(&spec.id).clone_dir() {
                file::make_dir(&staged.clone_dir())?;
            }
            return Ok(());
        };
        let git = self.git()?;
        let found = self.source(&git, Path::new(&repo.source))?;
        // Written first, so that the owner of the base of an abandoned clone is known.
        json_file::write_json(&staged.spec(), spec, Durability::Atomic)?;
        let objects = spec.objects.unwrap_or_default();
        Ok(clone::make(&git, &found, &staged.clone_dir(), repo, objects)?)
    }

    /// Returns the brief with what every worker is told before it, and with hints on the project.
    fn whole_brief(&self, spec: &Spec, brief: &str, staged: &WorkerDir) -> String {
        // A fix talks to its supervisor itself.
        let contract = if spec.kind == FIX { "" } else { CONTRACT };
        let hints = match &spec.repo {
            Some(repo) if spec.runner.is_some() => {
                (self.context_hints)(&self.layout.map(Path::new(&repo.source)), &staged.clone_dir(), brief)
            }
            _ => String::new(),
        };
        format!("{contract}{}\n{hints}", brief.trim_end())
    }

    /// Finds git, for as long as a clone may take.
    pub(super) fn git(&self) -> Result<clone::Git<'_>> {
        clone::Git::find(&self.settings.path, CLONE_MS, self.cancel)
    }

    /// Inspects a repository that is to be cloned.
    pub(super) fn source(&self, git: &clone::Git, repo: &Path) -> Result<clone::Source, WorkerError> {
        let found = clone::inspect(git, repo)?;
        // A worktree of looop's own repository may be anywhere.
        let root = std::fs::canonicalize(self.layout.root()).context("could not open the data dir")?;
        match found.common.starts_with(root) {
            true => Err(WorkerRefusal::Clone("it belongs to looop".to_owned()).into()),
            false => Ok(found),
        }
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
    pub(super) fn wait_for_exit(&self, id: &Name) -> Result<()> {
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
        self.check_count()?;
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
        self.reserve_turn(spec)?;
        let created = workers::create(self.layout, spec, brief, staged)?;
        Ok(created.ok_or_else(|| {
            let id = &spec.id;
            let fault = Fault::failed(format!("could not start worker {id}: its directory already exists"));
            anyhow::Error::from(fault.hint(format!("look at {}", dir.path().display())))
        })?)
    }
}
