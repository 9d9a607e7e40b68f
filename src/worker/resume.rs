//! Resuming an ended worker: the same agent in the same clone, with its own session where it has one.

use anyhow::Context;

use super::refusal::{WorkerError, WorkerRefusal};
use super::{Fleet, orphans};
use crate::rules::name::Name;
use crate::rules::worker::{Phase, Spec};
use crate::store::{lock, workers};

impl Fleet<'_> {
    /// Starts an ended worker again, with its directory, its clone, its transcript and its spending. It is what was
    /// started before, with the same sandbox and variables.
    ///
    /// # Errors
    /// When it has not ended or its work is done, when it is no agent, or when it cannot be started.
    pub fn resume(&self, id: &Name) -> Result<Spec, WorkerError> {
        self.wait_for_exit(id)?;
        let supervisor = self.launch(id)?;
        let store = lock::store(&self.layout.store_lock())?;
        let worker = workers::load(self.layout, id)?.context("it is archived")?;
        let refused = |why: String| Err(WorkerRefusal::NotResumable(why).into());
        match worker.state.phase {
            Phase::Lost | Phase::Failed | Phase::Killed => {}
            phase if phase.is_over() => return refused(format!("its work is finished ({phase})")),
            phase => return Err(WorkerRefusal::Lives(id.clone(), phase).into()),
        }
        if worker.spec.runner.is_none() {
            return refused("it is a command and not an agent; start it again".to_owned());
        }
        self.check_count()?;
        self.reserve_turn(&worker.spec)?;
        orphans::end_lost(self.layout, std::slice::from_ref(&worker));
        drop(store);
        self.hand_over(supervisor, id)?;
        Ok(worker.spec)
    }
}
