//! The workers of this machine, as the loop sees them, and the moves that change them.

use anyhow::Result;

use super::orphans::{end_lost, lost, put_away};
use super::start::{FIX, WorkerRequest, WorkerStarter};
use super::{Described, Fleet, client, recover, surface};
use crate::model::decision::{Action, Move};
use crate::model::entry::MoveOutcome;
use crate::model::name::Name;
use crate::model::scope::ApprovalScope;
use crate::model::step::Probe;
use crate::model::time::Now;
use crate::model::wire::WireRequest;
use crate::model::worker::{Phase, Spec, WorkerExit, WorkerView};
use crate::store::layout::Layout;
use crate::store::workers::Worker;
use crate::store::{lock, mail, workers};

/// The workers of one data dir.
pub struct LocalFleet<'a>(pub WorkerStarter<'a>);

impl Fleet for LocalFleet<'_> {
    fn workers(&self) -> Result<(Vec<WorkerView>, Vec<String>)> {
        let (all, problems) = workers::list(self.0.layout)?;
        Ok((all.iter().map(|worker| view(self.0.layout, worker, self.0.now)).collect(), problems))
    }

    fn describe(&self, decided: &Move) -> Result<Result<Described, String>> {
        let spec = match self.0.spec(&self.wanted(decided, ""))? {
            Ok(spec) => spec,
            Err(why) => return Ok(Err(why)),
        };
        let free_check =
            spec.verify.iter().any(|check| !self.0.settings.workers.verify.contains_key(&check.name));
        let settings = self.0.settings;
        let runner = spec.runner.as_ref().and_then(|name| settings.workers.runners.get(name));
        let paid = if spec.kind == FIX {
            settings.fixes.is_paid()
        } else {
            runner.is_none_or(|runner| !runner.free)
        };
        Ok(Ok(Described { is_full: spec.is_full(), free_check, paid, spec }))
    }

    fn scope(&self, decided: &Move, spec: &Spec) -> Result<Result<ApprovalScope, String>> {
        self.0.scope(&self.wanted(decided, ""), spec)
    }

    fn perform(
        &self,
        beat: &str,
        decided: &Move,
        is_tainted: bool,
        approved: Option<&ApprovalScope>,
    ) -> Result<MoveOutcome> {
        let refused = |why: String| Ok(MoveOutcome::Refused { why });
        match &decided.action {
            Action::StartWorker { .. } => {
                let approved = approved.cloned();
                let wanted = WorkerRequest { is_tainted, approved, ..self.wanted(decided, beat) };
                match self.0.start(&wanted)? {
                    Ok(spec) => Ok(MoveOutcome::Done { note: spec.argv.join(" ") }),
                    Err(why) => refused(why),
                }
            }
            Action::StopWorker { id } => match self.live(id)? {
                Ok(_) => {
                    let notified = client::call(&self.0.layout.worker(id).attach_socket(), WireRequest::Kill);
                    // If the worker ended by itself in the meantime, the goal is reached.
                    if notified.is_err() && self.live(id)?.is_ok() {
                        notified?;
                    }
                    Ok(MoveOutcome::Done { note: String::new() })
                }
                Err(why) => refused(why),
            },
            Action::TellWorker { id, text } => match self.live(id)? {
                Ok(_) => {
                    let dir = self.0.layout.worker(id);
                    let notified = mail::InboxMessage {
                        by: beat.to_owned(),
                        at_ms: self.0.now.unix_ms,
                        text: text.clone(),
                    };
                    let _store = lock::store(&self.0.layout.store_lock())?;
                    mail::tell(&dir, &notified)?;
                    Ok(MoveOutcome::Done { note: String::new() })
                }
                Err(why) => refused(why),
            },
            _ => refused("it is not a move about workers".to_owned()),
        }
    }

    fn probe(&self, beat: &str, decided: &Move) -> Result<Probe> {
        let layout = self.0.layout;
        Ok(match &decided.action {
            Action::StartWorker { id, .. } => {
                let present = workers::load(layout, id)?;
                let past = workers::past(layout)?;
                // A directory without a readable spec was never published, so nothing was started.
                let is_made = present.is_some_and(|worker| worker.spec.by == beat)
                    || past.iter().any(|past| past.id == *id && past.by == beat);
                if is_made { Probe::Made } else { Probe::NotMade }
            }
            // Stopping an ended worker changes nothing.
            Action::StopWorker { .. } => Probe::NotMade,
            Action::TellWorker { id, .. } => {
                if mail::has_from(&layout.worker(id), beat)? {
                    Probe::Made
                } else {
                    Probe::NotMade
                }
            }
            _ => Probe::Unknown("it is not a move about workers".to_owned()),
        })
    }

    fn end_lost(&self) -> Result<()> {
        let layout = self.0.layout;
        if !lost(layout)?.is_empty() {
            // Check again under the lock that a starter takes: all workers of one name have the same socket, and a
            // newly started worker must not be ended because of an earlier one.
            let _store = lock::store(&layout.store_lock())?;
            end_lost(layout, &lost(layout)?);
        }
        recover::ended(&self.0)
    }

    fn put_away(&self, seen: &[WorkerView]) -> Result<()> {
        let _store = lock::store(&self.0.layout.store_lock())?;
        for view in seen {
            // If the worker ended after the decision read its state, a decision must still see that.
            if let Some(worker) = workers::load(self.0.layout, &view.id)?
                && worker.state.phase.is_over()
                && worker.state.phase.word() == view.state
                // Its branch must still be fetched, or its notice must still be sent.
                && worker.state.unfetched.is_none()
                && !surface::is_untold(self.0.layout, &worker)
            {
                put_away(self.0.layout, &worker)?;
            }
        }
        Ok(())
    }
}

impl LocalFleet<'_> {
    /// Converts a move into a request. Resolves its paths, independently of the directory of the beat.
    fn wanted(&self, decided: &Move, beat: &str) -> WorkerRequest {
        let Action::StartWorker { id, kind, brief, verify, claims, repo, grant, .. } = &decided.action else {
            return WorkerRequest::default();
        };
        let resolved = |text: &String| {
            let path = self.0.settings.path_of(self.0.layout.root(), text);
            // A missing path is refused later.
            std::fs::canonicalize(&path).unwrap_or(path)
        };
        WorkerRequest {
            id: id.to_string(),
            goal: decided.goal.clone(),
            kind: kind.clone(),
            brief: brief.clone(),
            verify: verify.iter().cloned().collect(),
            free_check: true,
            claims: claims.clone(),
            grant: grant.clone(),
            repo: repo.as_ref().map(resolved),
            by: beat.to_owned(),
            ..WorkerRequest::default()
        }
    }

    fn live(&self, id: &Name) -> Result<Result<Worker, String>> {
        Ok(match workers::load(self.0.layout, id)? {
            Some(worker) if !worker.state.phase.is_over() => Ok(worker),
            Some(worker) => Err(format!("worker {id} has ended: {}", worker.state.phase.word())),
            None => Err(format!("there is no worker {id}")),
        })
    }
}

/// Returns a worker as decisions see it. Leaves out ages and counters: they would wake the loop.
pub fn view(layout: &Layout, worker: &Worker, now: Now) -> WorkerView {
    let (spec, state) = (&worker.spec, &worker.state);
    let verdict = state.verdict.as_ref().map(|verdict| {
        let word = if verdict.ok { "passed" } else { "failed" };
        format!("{} {word} ({}): {}", verdict.name, verdict.status, verdict.tail)
    });
    WorkerView {
        id: spec.id.clone(),
        started_ms: Some(spec.created_ms),
        goal: spec.goal.clone(),
        kind: spec.kind.clone(),
        state: state.phase.word().to_owned(),
        exit: state.exit.map(WorkerExit::words),
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
