//! Workers as files: their start parameters, their state, whether they live, and the archive of ended ones.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::file::{self, Doing, Durability};
use super::json_file::{self, json_line, parse_lines, write_lines};
use super::layout::{Layout, WorkerDir};
use super::lock;
use crate::os::process::tree;
use crate::rules::fault::Fault;
use crate::rules::json::clip;
use crate::rules::name::Name;
use crate::rules::process::Started;
use crate::rules::user_side::UserSidePath;
use crate::rules::worker::{CheckResult, Phase, Spec, WorkerExit, WorkerState};

/// A worker as its files describe it.
#[derive(Clone, Debug)]
pub struct Worker {
    /// What it was started with.
    pub spec: Spec,
    /// Its state: [`Phase::Lost`] if the file says that it runs but its supervisor is gone, and [`Phase::Suspended`] if
    /// its supervisor is suspended.
    pub state: WorkerState,
    /// When it last printed something, in milliseconds since the Unix epoch.
    pub printed_ms: i64,
}

/// Returns true while the supervisor of a worker lives, or while one is being started: each holds a lock that the
/// kernel releases on any death. The starter holds its own until the supervisor has one, without a gap.
///
/// # Errors
/// When that cannot be found out; an error never counts as death.
pub fn is_alive(dir: &WorkerDir) -> Result<bool> {
    // A supervisor writes a state only under its lock, so if a state exists, the starter's lock does not matter.
    let has_begun = dir.state().exists();
    let is_supervised = || lock::is_taken(&dir.alive());
    Ok(is_supervised()? || (!has_begun && (lock::is_taken(&dir.spec())? || is_supervised()?)))
}

/// Reads one worker that is not archived; `None` if there is none of that name.
///
/// # Errors
/// When a file of it cannot be read or is corrupt.
pub fn load(layout: &Layout, id: &Name) -> Result<Option<Worker>> {
    load_from(&layout.worker(id))
}

/// Reads a worker from its directory.
///
/// # Errors
/// As [`load`].
pub fn load_from(dir: &WorkerDir) -> Result<Option<Worker>> {
    // Check the lock before reading the state: a supervisor writes its last state and then releases the lock.
    let alive = is_alive(dir)?;
    let Some(spec) = json_file::read_json::<Spec>(&dir.spec())? else { return Ok(None) };
    let state = match json_file::read_json::<WorkerState>(&dir.state())? {
        Some(state) if state.phase.is_over() => state,
        Some(state) if alive && tree::is_stopped(state.supervisor.pid, state.supervisor.start) => {
            WorkerState {
                phase: Phase::Suspended,
                why: Some(format!(
                    "its supervisor, process {}, is suspended; `kill -CONT {0}` resumes it, and `looop kill --force {}` ends it",
                    state.supervisor.pid, state.id
                )),
                ..state
            }
        }
        Some(state) if alive => state,
        Some(state) => WorkerState {
            phase: Phase::Lost,
            why: Some(format!("its supervisor ended while it was {}", state.phase)),
            // An answer would have no reader any more.
            flag: None,
            ask: None,
            ..state
        },
        None => WorkerState {
            phase: if alive { Phase::Starting } else { Phase::Lost },
            why: (!alive).then(|| "its supervisor ended before it started the worker".to_owned()),
            ..WorkerState::new(spec.id.clone(), spec.created_ms, Started::default())
        },
    };
    let printed_ms = fs::metadata(dir.transcript()).map_or(spec.created_ms, |meta| {
        meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000)
    });
    Ok(Some(Worker { spec, state, printed_ms }))
}

/// Lists all workers that are not archived, by name, and a line for each unreadable one.
///
/// # Errors
/// When the directory cannot be listed: an error never counts as "none".
pub fn list(layout: &Layout) -> Result<(Vec<Worker>, Vec<String>)> {
    let (mut workers, mut problems) = (Vec::new(), Vec::new());
    for id in ids(layout)? {
        match load(layout, &id) {
            Ok(Some(worker)) if worker.spec.id == id => workers.push(worker),
            Ok(Some(_)) => problems.push(format!("workers/{id} holds the files of another worker")),
            Ok(None) => problems.push(format!("workers/{id} has no spec.json and is not used")),
            Err(error) => problems.push(format!("workers/{id} is not used: {error:#}")),
        }
    }
    Ok((workers, problems))
}

/// Lists the names of all workers that are not archived, sorted.
pub fn ids(layout: &Layout) -> Result<Vec<Name>> {
    // Reserved words and leftovers are not workers.
    let dirs = file::entries(&layout.workers())?.into_iter();
    let dirs = dirs.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut ids: Vec<Name> = dirs.filter_map(|dir| Name::parse_new(dir.file_name().to_str()?).ok()).collect();
    ids.sort();
    Ok(ids)
}

/// Returns an upper bound for the number of live workers: it counts a supervisor that is about to exit, and workers
/// that cannot be inspected. Much cheaper than reading them all.
pub fn live_at_most(layout: &Layout, ids: &[Name]) -> usize {
    ids.iter().filter(|id| is_alive(&layout.worker(id)).unwrap_or(true)).count()
}

/// Makes the directory of a new worker with its spec and brief in one step, so that one of two starters wins. The
/// starter keeps the returned lock until the supervisor has reported its start, and only then syncs the name: a sync
/// while the command starts would only delay it. Returns `None` if there is a worker of that name.
pub fn create(layout: &Layout, spec: &Spec, brief: &str, staged: &WorkerDir) -> Result<Option<lock::Held>> {
    file::write(&staged.spec(), json_file::json_text(spec)?.as_bytes(), 0o600, Durability::Atomic)?;
    file::write(&staged.brief(), brief.as_bytes(), 0o600, Durability::Atomic)?;
    file::write(&staged.alive(), b"", 0o600, Durability::Atomic)?;
    let held = lock::store(&staged.spec())?;
    let published = file::publish_dir(staged.path(), layout.worker(&spec.id).path(), Durability::Atomic)?;
    Ok(published.then_some(held))
}

/// Prefix of the directories in which workers are prepared; no worker has such a name.
const STAGED: &str = ".new-";

/// Makes a directory in which a worker is prepared, and a lock that shows to others that it is in use.
pub fn prepare_dir(layout: &Layout, id: &Name) -> Result<(WorkerDir, lock::Held)> {
    let pid = std::process::id();
    let staged = WorkerDir(layout.workers().join(format!("{STAGED}{id}-{pid}")));
    // A search for abandoned directories must not come between these two steps.
    let _store = lock::store(&layout.store_lock())?;
    file::make_dir(staged.path())?;
    let held = lock::look(staged.path())?;
    Ok((staged, held))
}

/// Lists the directories of workers whose starters died before the start.
pub fn abandoned(layout: &Layout) -> Result<Vec<WorkerDir>> {
    let _store = lock::store(&layout.store_lock())?;
    let Ok(entries) = fs::read_dir(layout.workers()) else { return Ok(Vec::new()) };
    let staged = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(STAGED));
    let is_abandoned = |path: &Path| {
        File::open(path).is_ok_and(|dir| matches!(lock::is_locked(dir, lock::Mode::Any), Ok(false)))
    };
    Ok(staged.map(|entry| entry.path()).filter(|path| is_abandoned(path)).map(WorkerDir).collect())
}

/// Replaces a worker's state. Transitions survive a power loss; other updates only change times, and these may be lost.
pub fn save_state(dir: &WorkerDir, state: &WorkerState) -> Result<()> {
    json_file::write_json(&dir.state(), state, Durability::Atomic)
}

/// One line of `workers/past/index.jsonl`: an ended worker without its long texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// The directory's name under `workers/past/`.
    pub dir: String,
    pub id: Name,
    pub goal: Option<Name>,
    pub kind: String,
    pub runner: Option<String>,
    /// Who started it: a beat's id, or `human`.
    pub by: String,
    pub phase: Phase,
    /// When it was started, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub ended_ms: i64,
    /// What it spent, in millionths of a US dollar.
    pub cost_micros: u64,
    /// How its command ended. This and the following fields are absent in lines of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<WorkerExit>,
    /// Why it ended in this phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The results of the checks, without their output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<CheckResult>,
    /// The branch with its commits in the user's repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A description of work that is only in its clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// The commands that merge its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The paths on its branch that execute on the user's side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_side: Vec<UserSidePath>,
}

/// The longest text of an ended worker in the index, in characters: a thousand lines are read at once.
const MAX_PAST_CHARS: usize = 400;

impl Past {
    /// Summarises an ended worker.
    pub fn of(layout: &Layout, worker: &Worker) -> Past {
        let (spec, state) = (&worker.spec, &worker.state);
        let dir = format!("{}@{}", spec.id, spec.created_ms);
        let clone = layout.past_worker(&dir).clone_dir();
        let short = |text: String| clip(&text, MAX_PAST_CHARS);
        let verify = state.verdict.clone().map(|verdict| CheckResult {
            status: short(verdict.status),
            tail: String::new(),
            ..verdict
        });
        Past {
            dir,
            id: spec.id.clone(),
            goal: spec.goal.clone(),
            kind: spec.kind.clone(),
            runner: spec.runner.clone(),
            by: spec.by.clone(),
            phase: state.phase,
            created_ms: spec.created_ms,
            ended_ms: state.since_ms,
            cost_micros: state.cost_micros,
            exit: state.exit,
            why: state.why.clone().map(short),
            verify,
            branch: state.branch.clone(),
            left: state.left_words().map(short),
            // Not truncated: half a command is useless.
            next: spec.next_step(state, &clone.to_string_lossy()),
            user_side: state.user_side.clone(),
        }
    }
}

/// Archives an ended worker: moves its directory and appends a line to the index. The caller holds the store's lock.
///
/// # Errors
/// When it still lives, or a file cannot be moved or written; the caller can try again.
pub fn put_away(layout: &Layout, worker: &Worker) -> Result<()> {
    let (spec, state) = (&worker.spec, &worker.state);
    let from = layout.worker(&spec.id);
    if is_alive(&from)? {
        let what = format!("could not archive worker {}: its supervisor lives", spec.id);
        return Err(Fault::failed(what).into());
    }
    if state.phase == Phase::Lost {
        // The file still says that it runs; write the known state, which is archived with it.
        save_state(&from, state)?;
    }
    let past = Past::of(layout, worker);
    let name = &past.dir;
    // The line first: readers skip a line without its directory, but they cannot find a directory without a line.
    file::append_line(&index_of_past(layout), &json_line(&past)?, Durability::Durable)?;
    if !file::publish_dir(from.path(), &layout.past_workers().join(name), Durability::Durable)? {
        let what = format!("could not archive worker {}: `workers/past/{name}` already exists", spec.id);
        return Err(Fault::failed(what).into());
    }
    Ok(())
}

/// Lists archived workers, oldest first.
pub fn past(layout: &Layout) -> Result<Vec<Past>> {
    let path = index_of_past(layout);
    let text = file::read_tail(&path, 64 << 20).doing("read", &path)?;
    let mut all: Vec<Past> = parse_lines(&text).collect();
    // A crash between line and move leaves the same line twice.
    all.dedup_by(|a, b| a.dir == b.dir);
    Ok(all)
}

/// Removes deleted workers from the index.
pub fn forget(layout: &Layout, dirs: &[String]) -> Result<()> {
    if dirs.is_empty() {
        return Ok(());
    }
    let _store = lock::store(&layout.store_lock())?;
    let mut kept = past(layout)?;
    kept.retain(|past| !dirs.contains(&past.dir));
    write_lines(&index_of_past(layout), &kept)
}

fn index_of_past(layout: &Layout) -> PathBuf {
    layout.past_workers().join("index.jsonl")
}

/// Lists the live supervisors: processes that must not be taken for leftovers of a beat. If the state of a worker
/// cannot be read, the holder of its lock counts.
///
/// # Errors
/// When the workers cannot be listed: an error never counts as "none".
pub fn supervisors(layout: &Layout) -> Result<Vec<(u32, u64)>> {
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    for id in ids(layout)? {
        let dir = layout.worker(&id);
        match json_file::read_json::<WorkerState>(&dir.state()) {
            Ok(Some(state)) => all.push((state.supervisor.pid, state.supervisor.start)),
            Ok(None) | Err(_) => unread.push(dir.alive()),
        }
    }
    all.retain(|(pid, start)| tree::start_of(*pid) == Some(*start));
    if let lock::Holders::Seen(pids) = lock::holders(unread) {
        all.extend(pids.into_iter().filter_map(|pid| Some((pid, tree::start_of(pid)?))));
    }
    Ok(all)
}

/// Returns the processes that supervise the workers of this data dir now.
pub fn supervising(layout: &Layout) -> lock::Holders {
    lock::holders(ids(layout).unwrap_or_default().iter().map(|id| layout.worker(id).alive()))
}
