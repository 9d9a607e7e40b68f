//! Resuming an ended worker: the same agent in the same clone, with its own session where it has one.

use anyhow::{Context, Result};

use super::refusal::{WorkerError, WorkerRefusal};
use super::{Fleet, orphans};
use crate::rules::beat::ask::{AnswerFile, AskReply, QuestionFile};
use crate::rules::beat::entry;
use crate::rules::name::Name;
use crate::rules::worker::limit::OnLost;
use crate::rules::worker::{Phase, Spec};
use crate::store::workers::{self, Worker};
use crate::store::{lock, logs, state_files};

/// How often the loop resumes a worker: one that is lost again and again has a cause of its own.
const MAX_RESUMES: u32 = 2;
/// The beginning of the ids of questions about lost workers.
const LOST: &str = "lost";
/// The answer that resumes them.
const YES: &str = "resume";

impl Fleet<'_> {
    /// Starts an ended worker again, with its directory, its clone, its transcript and its spending. It is what was
    /// started before, with the same sandbox and variables.
    ///
    /// # Errors
    /// When the worker still lives, its work is done, it is no agent, or it cannot be started.
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

    /// Resumes the agents that were lost, or asks the user once about all of them. Does neither while the loop is paused.
    /// Returns a line for each one that could not be resumed.
    ///
    /// # Errors
    /// When the workers or the questions cannot be read, or the question cannot be written.
    pub fn resume_lost(&self) -> Result<Vec<String>> {
        let mut lost = orphans::lost(self.layout)?;
        lost.retain(|worker| worker.spec.runner.is_some() && worker.state.resumes < MAX_RESUMES);
        if lost.is_empty() || state_files::paused(self.layout)?.is_some() {
            return Ok(Vec::new());
        }
        if self.settings.workers.on_lost == OnLost::Ask {
            let asked = self.questions()?;
            let is_in = |worker: &Worker| asked.iter().find(|(keys, _)| keys.contains(&key(worker)));
            let new: Vec<&Worker> = lost.iter().filter(|worker| is_in(worker).is_none()).collect();
            if !new.is_empty() {
                self.ask_about(&new)?;
            }
            lost.retain(|worker| is_in(worker).is_some_and(|(_, answer)| answer.as_deref() == Some(YES)));
        }
        let mut problems = Vec::new();
        for worker in lost {
            let id = &worker.spec.id;
            match self.resume(id) {
                Ok(spec) => {
                    let line = entry::worker_line(&spec, "resumed, because it was lost", self.now);
                    logs::journal(self.layout, &line)?;
                }
                Err(error) => problems.push(format!("could not resume worker {id}: {:#}", error.error())),
            }
        }
        Ok(problems)
    }

    /// Returns true if the user has not answered yet whether a worker is to be resumed.
    pub(super) fn is_asked_about(&self, worker: &Worker) -> Result<bool> {
        let is_lost = worker.state.phase == Phase::Lost && worker.spec.runner.is_some();
        Ok(is_lost
            && self.questions()?.iter().any(|(keys, answer)| answer.is_none() && keys.contains(&key(worker))))
    }

    /// The questions about lost workers: the keys of these, and the answer.
    fn questions(&self) -> Result<Vec<(Vec<String>, Option<String>)>> {
        let (asks, _) = state_files::asks(self.layout)?;
        let asked = asks.into_values().filter(|(ask, _)| ask.id.as_str().starts_with(LOST));
        let read = |(ask, answer): (QuestionFile, Option<_>)| {
            let keys = ask.reference?.split(' ').map(str::to_owned).collect();
            Some((keys, answer.map(words)))
        };
        Ok(asked.filter_map(read).collect())
    }

    fn ask_about(&self, lost: &[&Worker]) -> Result<()> {
        let names: Vec<&str> = lost.iter().map(|worker| worker.spec.id.as_str()).collect();
        let text = format!(
            "Workers were lost, because their supervisors are gone: {}. Resume them?",
            names.join(", ")
        );
        let keys: Vec<String> = lost.iter().map(|worker| key(worker)).collect();
        let at_ms = self.now.unix_ms;
        let ids = (0..100).map(|nth| Name::joined(LOST, &format!("{at_ms:x}{nth}")));
        let ask = |id| QuestionFile {
            options: [YES, "leave them"].map(str::to_owned).into(),
            reference: Some(keys.join(" ")),
            ..QuestionFile::new(id, "", at_ms, text.clone())
        };
        state_files::create_question(self.layout, ids, ask).map(drop)
    }
}

/// What names a loss: a worker that is resumed can be lost again.
fn key(worker: &Worker) -> String {
    format!("{}@{}.{}", worker.spec.id, worker.spec.created_ms, worker.state.resumes)
}

fn words(answer: AnswerFile) -> String {
    match answer.reply {
        AskReply::Answer { text } => text,
        _ => String::new(),
    }
}
