//! The checks of a worker's work: entries of the config by name, or a shell line that the user has seen.

use anyhow::{Context, Result};

use super::{WorkerError, WorkerRefusal, WorkerRequest};
use crate::rules::json::clip;
use crate::rules::worker::Check;
use crate::rules::world;
use crate::store::file;
use crate::store::layout;
use crate::store::user_files::MAX_TEXT_BYTES;
use crate::worker::Fleet;

/// How much of a shell line becomes the name of its check, in characters.
const MAX_CHECK_NAME: usize = 80;

impl Fleet<'_> {
    /// Returns the checks of the worker's work.
    pub(super) fn checks(&self, wanted: &WorkerRequest) -> Result<Vec<Check>, WorkerError> {
        let workers = &self.settings.workers;
        let mut verify = Vec::new();
        let names = if wanted.verify.is_empty() { self.of_goal(wanted)? } else { wanted.verify.clone() };
        for name in &names {
            match workers.verify.get(name) {
                Some(checks) => {
                    verify.extend(checks.iter().map(|argv| Check { name: name.clone(), argv: argv.clone() }))
                }
                None if wanted.free_check => {
                    let argv = ["sh", "-c", name].map(str::to_owned).to_vec();
                    verify.push(Check { name: clip(name, MAX_CHECK_NAME), argv });
                }
                None => {
                    let known = workers.verify.keys().cloned().collect();
                    return Err(WorkerRefusal::UnknownCheck(name.clone(), known).into());
                }
            }
        }
        Ok(verify)
    }

    /// Returns the check that the worker's goal asks for.
    fn of_goal(&self, wanted: &WorkerRequest) -> Result<Vec<String>> {
        let Some(goal) = &wanted.goal else { return Ok(Vec::new()) };
        let path = self.layout.file(&layout::goal_path(goal));
        let text = file::read_text(&path, MAX_TEXT_BYTES)
            .with_context(|| format!("could not read the goal {goal}"))?
            .unwrap_or_default();
        Ok(world::marked(&text, "verify")
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .into_iter()
            .collect())
    }
}
