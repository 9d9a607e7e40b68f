//! Work of a beat for ended workers: it finds out what a worker without a supervisor left in its clone, and tries again
//! to fetch a branch that could not be fetched. Each result is written once; a beat that finds nothing new writes
//! nothing.

use std::fs;

use anyhow::Result;
use serde_json::Value;

use super::Fleet;
use crate::rules::beat::entry::worker_line;
use crate::rules::worker::leftovers::Leftovers;
use crate::rules::worker::{Phase, Repo, WorkerState};
use crate::store::workers::{self, Worker};
use crate::store::{git_watch, lock, logs};
use crate::vcs::clone::{self, Collected, Git};

/// The timeout of git for one clone, in milliseconds: a beat waits for it.
const GIT_MS: i64 = 30_000;

/// Checks each ended worker that needs it.
///
/// # Errors
/// When the workers cannot be listed, or a result cannot be written.
pub(super) fn ended(fleet: &Fleet) -> Result<()> {
    let (all, _) = workers::list(fleet.layout)?;
    for worker in all.iter().filter(|worker| worker.state.phase.is_over()) {
        let made = git_watch::end(&fleet.layout.worker(&worker.spec.id).git_watch())?;
        if !made.is_empty() {
            keep(fleet, worker, |state| state.user_side.extend(made))?;
        }
        let Some(repo) = &worker.spec.repo else { continue };
        match (&worker.state.unfetched, &worker.state.left) {
            (Some(_), _) => {
                if let Some(fetched) = fetch(fleet, worker, repo) {
                    keep(fleet, worker, |state| take(state, fetched, fleet.now.unix_ms))?;
                }
            }
            (None, None) => {
                let left = left(fleet, worker, repo);
                keep(fleet, worker, |state| state.left = Some(left))?;
            }
            (None, Some(_)) => {}
        }
    }
    Ok(())
}

fn left(fleet: &Fleet, worker: &Worker, repo: &Repo) -> Leftovers {
    let clone = fleet.layout.worker(&worker.spec.id).clone_dir();
    match Git::find(&fleet.settings.path, GIT_MS, fleet.cancel) {
        Ok(git) => clone::leftovers(&git, repo, &clone),
        Err(error) => Leftovers { unclear: Some(format!("{error:#}")), ..Leftovers::default() },
    }
}

/// Fetches a branch. Returns `None` if nothing can have changed; then it does not even make a view of the clone.
fn fetch(fleet: &Fleet, worker: &Worker, repo: &Repo) -> Option<Result<Collected>> {
    let clone = fleet.layout.worker(&worker.spec.id).clone_dir();
    if !fs::symlink_metadata(clone.join(".git")).is_ok_and(|meta| meta.is_dir()) {
        return None;
    }
    let git = Git::find(&fleet.settings.path, GIT_MS, fleet.cancel).ok()?;
    clone::inspect(&git, repo.source.as_ref()).ok()?;
    Some(clone::collect(&git, repo, &clone))
}

/// Writes what was found out about an ended worker, unless another worker has the name by now.
fn keep(fleet: &Fleet, seen: &Worker, change: impl FnOnce(&mut WorkerState)) -> Result<()> {
    let (layout, now) = (fleet.layout, fleet.now);
    let dir = layout.worker(&seen.spec.id);
    let line = {
        let _store = lock::store(&layout.store_lock())?;
        let same = |now: &Worker| now.spec.created_ms == seen.spec.created_ms && now.state.phase.is_over();
        let Some(worker) = workers::load(layout, &seen.spec.id)?.filter(same) else { return Ok(()) };
        let before = worker.state.clone();
        let mut state = worker.state;
        let is_lost = state.phase == Phase::Lost;
        change(&mut state);
        // A branch that was fetched gives the worker another phase.
        let is_news = is_lost || (state.unfetched.is_none() && before.unfetched.is_some());
        clean(fleet, &mut state)?;
        if state == before {
            return Ok(());
        }
        let next = worker.spec.next_step(&state, &dir.clone_dir().to_string_lossy());
        state.flag_leftovers(next.as_deref(), now.unix_ms);
        workers::save_state(&dir, &state)?;
        is_news.then(|| worker_line(&worker.spec, &state.end_words(next.as_deref()), now))
    };
    match line {
        Some(line) => logs::journal(layout, &fleet.settings.secrets.redact(&line)),
        None => Ok(()),
    }
}

fn take(state: &mut WorkerState, fetched: Result<Collected>, now_ms: i64) {
    match fetched {
        Err(error) => {
            let why = format!("{error:#}");
            state.why = Some(format!("its branch could not be fetched: {why}"));
            state.unfetched = Some(why);
        }
        Ok(collected) => {
            (state.branch, state.left) = (collected.branch, Some(collected.left));
            state.user_side.extend(collected.user_side);
            (state.unfetched, state.why, state.flag) = (None, None, None);
            state.phase = if state.verdict.is_some() { Phase::Done } else { Phase::Exited };
            state.since_ms = now_ms;
        }
    }
}

/// Redacts secrets: the worker chose names and messages.
fn clean(fleet: &Fleet, state: &mut WorkerState) -> Result<()> {
    let mut value: Value = serde_json::to_value((&state.left, &state.user_side))?;
    fleet.settings.secrets.redact_json(&mut value);
    (state.left, state.user_side) = serde_json::from_value(value)?;
    for text in [&mut state.why, &mut state.unfetched].into_iter().flatten() {
        *text = fleet.settings.secrets.redact(text).into_owned();
    }
    Ok(())
}
