//! The workers of this machine, as the loop sees them, and the moves that change them.

use anyhow::Result;

use super::orphans::{end_lost, lost, put_away};
use super::plan::{FIX, WorkerProgram, WorkerRequest, Workplace};
use super::refusal::{WorkerError, WorkerRefusal};
use super::{Fleet, client, recover};
use crate::rules::beat::ask::OUTDATED;
use crate::rules::beat::decision::{Action, Move};
use crate::rules::beat::entry::MoveOutcome;
use crate::rules::beat::scope::ApprovalScope;
use crate::rules::beat::state::{Intent, Operation, PlannedStart};
use crate::rules::beat::step::Probe;
use crate::rules::name::Name;
use crate::rules::time::Now;
use crate::rules::worker::protocol::WireRequest;
use crate::rules::worker::{Phase, Spec, WorkerView};
use crate::store::layout::Layout;
use crate::store::workers::{self, Worker};
use crate::store::{inbox, lock};

impl Fleet<'_> {
    /// Lists live workers, and ended ones that no decision has seen; and a line for each unreadable one.
    ///
    /// # Errors
    /// When they cannot be listed: an error never counts as "none".
    pub fn workers(&self) -> Result<(Vec<WorkerView>, Vec<String>)> {
        let (all, problems) = workers::list(self.layout)?;
        Ok((all.iter().map(|worker| view(self.layout, worker, self.now)).collect(), problems))
    }

    /// Plans the worker that a move starts. Resolves its paths, independently of the directory of the beat. `is_tainted`
    /// means that the decider read untrusted content.
    ///
    /// # Errors
    /// When the worker cannot be started.
    pub fn plan_start(&self, decided: &Move, is_tainted: bool) -> Result<PlannedStart, WorkerError> {
        let Action::StartWorker { id, kind, brief, verify, claims, repo, grant, .. } = &decided.action else {
            return Err(WorkerRefusal::OtherMove.into());
        };
        let resolved = |text: &String| {
            let path = self.settings.path_of(self.layout.root(), text);
            // A missing path is refused later.
            Workplace::Clone(std::fs::canonicalize(&path).unwrap_or(path))
        };
        let spec = self.plan(&WorkerRequest {
            id: id.to_string(),
            goal: decided.goal.clone(),
            program: WorkerProgram::choose(Vec::new(), kind.as_deref(), None),
            place: repo.as_ref().map_or(Workplace::Empty, resolved),
            brief: brief.clone(),
            verify: verify.iter().cloned().collect(),
            free_check: true,
            claims: claims.clone(),
            grant: grant.clone(),
            is_tainted,
        })?;
        let runner = spec.runner.as_ref().and_then(|name| self.settings.workers.runners.get(name));
        let paid = match spec.kind == FIX {
            true => self.settings.fixes.is_paid(),
            false => runner.is_none_or(|runner| !runner.free),
        };
        Ok(PlannedStart { spec: Some(spec), paid, approved: None })
    }

    /// Returns what an approval of a planned start would cover now; `base` has the parts that every move has.
    ///
    /// # Errors
    /// When the worker cannot be started.
    pub fn scope(
        &self,
        decided: &Move,
        start: &PlannedStart,
        base: ApprovalScope,
    ) -> Result<ApprovalScope, WorkerError> {
        let Action::StartWorker { grant, .. } = &decided.action else {
            return Err(WorkerRefusal::OtherMove.into());
        };
        self.scope_of(&self.complete(planned(start)?, grant)?, grant, base)
    }

    /// Plans a start once more. By now, the config, the machine or the repository may ask for another worker.
    fn check_plan(&self, intent: &Intent, start: &PlannedStart) -> Result<(), WorkerError> {
        let now = self.plan_start(&intent.decided, !intent.clean)?;
        if let Some(approved) = &start.approved {
            let scope = self.scope(&intent.decided, &now, approved.clone())?;
            approved.check(&scope).map_err(WorkerRefusal::Approval)?;
        }
        if start.is_same_worker(&now) { Ok(()) } else { Err(WorkerRefusal::OtherPlan.into()) }
    }

    /// Makes a move that concerns workers.
    ///
    /// # Errors
    /// When it could not be made.
    pub fn perform(&self, intent: &Intent) -> Result<MoveOutcome> {
        match self.make(intent) {
            Ok(note) => Ok(MoveOutcome::Done { note }),
            Err(WorkerError::Refused(why)) => Ok(MoveOutcome::Refused { why: why.to_string() }),
            Err(WorkerError::Failed(error)) => Err(error),
        }
    }

    /// Finds out whether a beat made a move before it was interrupted.
    ///
    /// # Errors
    /// When that cannot be found out now.
    pub fn probe(&self, intent: &Intent) -> Result<Probe> {
        let (layout, beat) = (self.layout, &intent.beat);
        let is_made = match &intent.decided.action {
            Action::StartWorker { id, .. } => {
                let present = workers::load(layout, id)?;
                let past = workers::past(layout)?;
                // A directory without a readable spec was never published, so nothing was started.
                present.is_some_and(|worker| worker.spec.by == *beat)
                    || past.iter().any(|past| past.id == *id && past.by == *beat)
            }
            // Stopping an ended worker changes nothing.
            Action::StopWorker { .. } => false,
            Action::TellWorker { id, .. } => inbox::has_from(&layout.worker(id), beat)?,
            _ => return Ok(Probe::Unknown(WorkerRefusal::OtherMove.to_string())),
        };
        match (&intent.operation, is_made) {
            (_, true) => return Ok(Probe::Made),
            (Operation::StartWorker(start), false) => {
                // What cannot be planned now, whatever the cause, is dropped too: nothing has started, and an error here
                // would stop every beat.
                if let Err(denied) = self.check_plan(intent, start) {
                    self.discard_abandoned()?;
                    return Ok(Probe::Dropped(format!("{:#}", denied.error())));
                }
            }
            _ => {}
        }
        Ok(Probe::NotMade)
    }

    /// Ends processes of workers whose supervisors died, finds out what ended workers left in their clones, and fetches
    /// branches that could not be fetched before. Returns true if a worker is lost.
    pub fn end_lost(&self) -> Result<bool> {
        let layout = self.layout;
        let is_any_lost = !lost(layout)?.is_empty();
        if is_any_lost {
            // Check again under the lock that a starter takes: all workers of one name have the same socket, and a
            // newly started worker must not be ended because of an earlier one.
            let _store = lock::store(&layout.store_lock())?;
            end_lost(layout, &lost(layout)?);
        }
        recover::ended(self)?;
        Ok(is_any_lost)
    }

    /// Archives those of these workers that have ended, except those that `has_notice_left` names: a decision has seen them.
    ///
    /// # Errors
    /// When one cannot be archived; a later decision sees it again then.
    pub fn put_away(&self, seen: &[WorkerView], has_notice_left: impl Fn(&Worker) -> bool) -> Result<()> {
        let _store = lock::store(&self.layout.store_lock())?;
        for view in seen {
            // If the worker ended after the decision read its state, a decision must still see that.
            if let Some(worker) = workers::load(self.layout, &view.id)?
                && worker.state.phase.is_over()
                && worker.state.phase.as_ref() == view.state
                // Its branch must still be fetched, or its notice must still be sent.
                && worker.state.unfetched.is_none()
                && !has_notice_left(&worker)
                && !self.is_asked_about(&worker)?
            {
                put_away(self.layout, &worker)?;
            }
        }
        Ok(())
    }

    /// Makes a move about workers; returns a note on it.
    fn make(&self, intent: &Intent) -> Result<String, WorkerError> {
        let layout = self.layout;
        match &intent.decided.action {
            Action::StopWorker { id } => {
                self.check_live(id)?;
                if let Err(error) = client::call(&layout.worker(id).attach_socket(), WireRequest::Kill) {
                    match self.check_live(id) {
                        Ok(()) => return Err(error.into()),
                        // It ended by itself in the meantime, so the goal is reached.
                        Err(WorkerError::Refused(_)) => {}
                        Err(failed) => return Err(failed),
                    }
                }
                Ok(String::new())
            }
            Action::TellWorker { id, text } => {
                self.check_live(id)?;
                let (by, at_ms, text) = (intent.beat.clone(), self.now.unix_ms, text.clone());
                let _store = lock::store(&layout.store_lock())?;
                inbox::tell(&layout.worker(id), &inbox::InboxMessage { by, at_ms, text })?;
                Ok(String::new())
            }
            Action::StartWorker { brief, grant, .. } => {
                // An earlier version of looop planned a start only when it made it.
                let now;
                let start = match &intent.operation {
                    Operation::StartWorker(start) => start.as_ref(),
                    _ => {
                        now = self.plan_start(&intent.decided, !intent.clean)?;
                        &now
                    }
                };
                let approved = start.approved.as_ref();
                let started = self.start(planned(start)?, &intent.beat, brief, grant, approved)?;
                Ok(started.argv.join(" "))
            }
            _ => Err(WorkerRefusal::OtherMove.into()),
        }
    }

    fn check_live(&self, id: &Name) -> Result<(), WorkerError> {
        match workers::load(self.layout, id)? {
            Some(worker) if !worker.state.phase.is_over() => Ok(()),
            Some(worker) => Err(WorkerRefusal::Ended(id.clone(), worker.state.phase).into()),
            None => Err(WorkerRefusal::NoWorker(id.clone()).into()),
        }
    }
}

/// Returns the worker that a start was planned for.
fn planned(start: &PlannedStart) -> Result<Spec, WorkerRefusal> {
    start.spec.clone().ok_or_else(|| WorkerRefusal::Approval(OUTDATED.to_owned()))
}

/// Returns a worker as decisions see it. Leaves out ages and counters: they would wake the loop.
pub fn view(layout: &Layout, worker: &Worker, now: Now) -> WorkerView {
    let (spec, state) = (&worker.spec, &worker.state);
    let verdict = state.verdict.as_ref().map(|verdict| {
        let word = if verdict.ok { "passed" } else { "failed" };
        format!("{} {word} ({}): {}", verdict.name, verdict.status, verdict.tail)
    });
    // The loop can do nothing about a usage limit, so it must not pay for a decision about it.
    let shown = if state.phase == Phase::Limited { Phase::Running } else { state.phase };
    WorkerView {
        id: spec.id.clone(),
        started_ms: Some(spec.created_ms),
        goal: spec.goal.clone(),
        kind: spec.kind.clone(),
        state: shown.to_string(),
        exit: state.exit.map(|exit| exit.to_string()),
        why: state.why.clone(),
        flag: state.flag.as_ref().map(|flag| flag.text.clone()),
        ask: state.ask.clone(),
        verdict,
        branch: state.branch.clone(),
        left: state.left_words(),
        next: spec.next_step(state, &layout.worker(&spec.id).clone_dir().to_string_lossy()),
        reports: state.reports.clone(),
        stuck: is_stuck(worker, now),
    }
}

/// Returns true if a worker runs, is silent for longer than its limit, and has not said that it waits.
pub fn is_stuck(worker: &Worker, now: Now) -> bool {
    worker.state.phase == Phase::Running && now.elapsed_ms(worker.printed_ms) >= worker.spec.limits.idle_ms
}
