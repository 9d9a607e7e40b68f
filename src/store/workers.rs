//! Workers as files: what they were started with, where they stand, who lives, and where ended ones are put away.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::file::{self, Keep};
use super::layout::{Layout, WorkerDir};
use super::{lock, records};
use crate::model::beat::Started;
use crate::model::fault::Fault;
use crate::model::json::clip;
use crate::model::name::Name;
use crate::model::user_side::UserSidePath;
use crate::model::worker::{Exit, Phase, Spec, State, Verdict};
use crate::sys::tree;

/// A worker as its files tell it.
#[derive(Clone, Debug)]
pub struct Worker {
    /// What it was started with.
    pub spec: Spec,
    /// Where it stands: [`Phase::Lost`] where the file says that it runs and its supervisor is gone, and
    /// [`Phase::Stopped`] where its supervisor cannot go on.
    pub state: State,
    /// When it last printed something, in milliseconds since the Unix epoch.
    pub printed_ms: i64,
}

/// True while the supervisor of a worker lives, or while one is being started: each holds a lock that the kernel
/// releases on any death. The starter holds its own until the supervisor has one, so that there is no gap.
///
/// # Errors
/// When that cannot be found out; never taken for death.
pub fn is_alive(dir: &WorkerDir) -> Result<bool> {
    // A supervisor writes a state only under its lock, so where there is one no starter is asked.
    let has_begun = dir.state().exists();
    Ok(is_locked(&dir.alive())? || (!has_begun && (is_locked(&dir.spec())? || is_locked(&dir.alive())?)))
}

fn is_locked(path: &Path) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("could not open `{}`", path.display())),
    };
    lock::is_locked(file, lock::Mode::Alone)
        .with_context(|| format!("could not look at the lock `{}`", path.display()))
}

/// One worker that was not put away; none when there is none of that name.
///
/// # Errors
/// When a file of it cannot be read or is corrupt.
pub fn load(layout: &Layout, id: &Name) -> Result<Option<Worker>> {
    load_from(&layout.worker(id))
}

/// A worker from its directory.
///
/// # Errors
/// As [`load`].
pub fn load_from(dir: &WorkerDir) -> Result<Option<Worker>> {
    // The lock is looked at before the state is read: a supervisor writes its last state and then lets go.
    let alive = is_alive(dir)?;
    let Some(spec) = records::read_json::<Spec>(&dir.spec())? else { return Ok(None) };
    let state = match records::read_json::<State>(&dir.state())? {
        Some(state) if state.phase.is_over() => state,
        Some(state) if alive && tree::is_stopped(state.supervisor.pid, state.supervisor.start) => State {
            phase: Phase::Stopped,
            why: Some(format!(
                "its supervisor, process {}, is stopped; `kill -CONT {0}` lets it go on, and `looop kill --force {}` ends it",
                state.supervisor.pid, state.id
            )),
            ..state
        },
        Some(state) if alive => state,
        Some(state) => State {
            phase: Phase::Lost,
            why: Some(format!("its supervisor ended while it was {}", state.phase.word())),
            // Nobody hears an answer any more.
            flag: None,
            ask: None,
            ..state
        },
        None => unstarted(&spec, alive),
    };
    let printed_ms = fs::metadata(dir.transcript()).map_or(spec.created_ms, |meta| {
        meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000)
    });
    Ok(Some(Worker { spec, state, printed_ms }))
}

fn unstarted(spec: &Spec, alive: bool) -> State {
    State {
        phase: if alive { Phase::Starting } else { Phase::Lost },
        why: (!alive).then(|| "its supervisor ended before it began".to_owned()),
        ..State::new(spec.id.clone(), spec.created_ms, Started { pid: 0, start: 0, boot: String::new() })
    }
}

/// All workers that were not put away, by name, and a line for each that could not be read.
///
/// # Errors
/// When the directory cannot be listed: an error is never taken for "none".
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

/// The names of all workers that were not put away, sorted.
///
/// # Errors
/// When the directory cannot be listed.
pub fn ids(layout: &Layout) -> Result<Vec<Name>> {
    let dir = layout.workers();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("could not list `{}`", dir.display())),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("could not list `{}`", dir.display()))?;
        let name = entry.file_name().into_string().ok().and_then(|name| Name::parse_new(&name).ok());
        // Reserved words and debris are no workers.
        ids.extend(name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())));
    }
    ids.sort();
    Ok(ids)
}

/// How many workers live at most: a supervisor that has done its work and is about to leave still counts, and so does
/// what cannot be looked at. It is much cheaper than to read them all.
pub fn live_at_most(layout: &Layout, ids: &[Name]) -> usize {
    ids.iter().filter(|id| is_alive(&layout.worker(id)).unwrap_or(true)).count()
}

/// Makes the directory of a new worker with its spec and brief in one step, so that of two starters one wins.
/// The starter keeps the lock that comes back until the supervisor has said that it is there, and makes the name
/// durable then: while the command starts the disk would only be waited for.
/// None: there is a worker of that name.
///
/// # Errors
/// Names what could not be written.
pub fn create(layout: &Layout, spec: &Spec, brief: &str, staged: &WorkerDir) -> Result<Option<lock::Held>> {
    file::write(&staged.spec(), records::json_text(spec)?.as_bytes(), 0o600, Keep::Whole)?;
    file::write(&staged.brief(), brief.as_bytes(), 0o600, Keep::Whole)?;
    file::write(&staged.alive(), b"", 0o600, Keep::Whole)?;
    let held = lock::store(&staged.spec())?;
    let published = file::publish_dir(staged.path(), layout.worker(&spec.id).path(), Keep::Whole)?;
    Ok(published.then_some(held))
}

/// How the directories begin in which workers are prepared; no worker has such a name.
const STAGED: &str = ".new-";

/// A directory in which a worker is prepared, and the lock by which others see that somebody does.
///
/// # Errors
/// When it cannot be made.
pub fn stage(layout: &Layout, id: &Name) -> Result<(WorkerDir, lock::Held)> {
    let pid = std::process::id();
    let staged = WorkerDir(layout.workers().join(format!("{STAGED}{id}-{pid}")));
    // Whoever looks for abandoned ones must not come between these two.
    let _store = lock::store(&layout.store_lock())?;
    file::make_dir(staged.path())?;
    let held = lock::look(staged.path())?;
    Ok((staged, held))
}

/// The directories of workers whose starters died before they were started.
///
/// # Errors
/// When they cannot be listed.
pub fn abandoned(layout: &Layout) -> Result<Vec<WorkerDir>> {
    let _store = lock::store(&layout.store_lock())?;
    let Ok(entries) = fs::read_dir(layout.workers()) else { return Ok(Vec::new()) };
    let staged = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(STAGED));
    let is_abandoned = |path: &Path| {
        File::open(path).is_ok_and(|dir| matches!(lock::is_locked(dir, lock::Mode::Any), Ok(false)))
    };
    Ok(staged.map(|entry| entry.path()).filter(|path| is_abandoned(path)).map(WorkerDir).collect())
}

/// Removes what was prepared for a worker that is not started.
pub fn unstage(staged: &WorkerDir) {
    // What stays behind has a hidden name, and the next start tries again.
    drop(file::remove_tree(staged.path()));
}

/// Replaces a worker's state. Transitions survive a power loss; what is lost without one is only a clock.
///
/// # Errors
/// Names the file.
pub fn save_state(dir: &WorkerDir, state: &State) -> Result<()> {
    records::write_json(&dir.state(), state, Keep::Whole)
}

/// One line of `workers/past/index.jsonl`: an ended worker without its long texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// The directory's name under `workers/past/`.
    pub dir: String,
    /// The worker's name.
    pub id: Name,
    /// Its goal.
    pub goal: Option<Name>,
    /// What kind of worker.
    pub kind: String,
    /// Its runner.
    pub runner: Option<String>,
    /// Who started it: a beat's id, or `human`.
    pub by: String,
    /// How it ended.
    pub phase: Phase,
    /// When it was started, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub ended_ms: i64,
    /// What it spent, in millionths of a US dollar.
    pub cost_micros: u64,
    /// How its command ended. This and what follows is absent in lines of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Why it ended as it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the checks said, without their output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verdict>,
    /// The branch on which its commits are in the user's repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What of its work is in its clone alone, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// The commands that bring its work in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The paths on its branch that execute on the user's side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_side: Vec<UserSidePath>,
}

/// The longest text of an ended worker in the index, in characters: a thousand lines are read at once.
const MAX_PAST_CHARS: usize = 400;

impl Past {
    /// What there is to say of an ended worker.
    pub fn of(layout: &Layout, worker: &Worker) -> Past {
        let (spec, state) = (&worker.spec, &worker.state);
        let dir = format!("{}@{}", spec.id, spec.created_ms);
        let clone = WorkerDir(layout.past_workers().join(&dir)).clone_dir();
        let short = |text: String| clip(&text, MAX_PAST_CHARS);
        let verify = state.verdict.clone().map(|verdict| Verdict {
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
            // Whole: half a command is none.
            next: spec.next_step(state, &clone.to_string_lossy()),
            user_side: state.user_side.clone(),
        }
    }
}

/// Puts an ended worker away: its directory moves, and the index gets a line. The caller holds the store's lock.
///
/// # Errors
/// When it still lives, or a file cannot be moved or written; it can be tried again then.
pub fn put_away(layout: &Layout, worker: &Worker) -> Result<()> {
    let (spec, state) = (&worker.spec, &worker.state);
    let from = layout.worker(&spec.id);
    if is_alive(&from)? {
        let what = format!("could not put away worker {}: its supervisor lives", spec.id);
        return Err(Fault::failed(what).into());
    }
    if state.phase == Phase::Lost {
        // The file still says that it runs; what is known now is kept with it.
        save_state(&from, state)?;
    }
    let past = Past::of(layout, worker);
    let name = &past.dir;
    // The line first: a line without its directory is skipped by readers, a directory without one is not found.
    let line = serde_json::to_string(&past).context("could not write a line of the index of past workers")?;
    file::append_line(&layout.past_workers().join("index.jsonl"), &line, Keep::Durable)?;
    if !file::publish_dir(from.path(), &layout.past_workers().join(name), Keep::Durable)? {
        let what = format!("could not put away worker {}: `workers/past/{name}` is there already", spec.id);
        return Err(Fault::failed(what).into());
    }
    Ok(())
}

/// Workers that were put away, oldest first.
///
/// # Errors
/// When the index cannot be read.
pub fn past(layout: &Layout) -> Result<Vec<Past>> {
    let path = layout.past_workers().join("index.jsonl");
    let text =
        file::read_tail(&path, 64 << 20).with_context(|| format!("could not read `{}`", path.display()))?;
    let mut all: Vec<Past> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    // A crash between line and move leaves the same line twice.
    all.dedup_by(|a, b| a.dir == b.dir);
    Ok(all)
}

/// Takes removed workers out of the index.
///
/// # Errors
/// When the index cannot be read or written.
pub fn forget(layout: &Layout, dirs: &[String]) -> Result<()> {
    if dirs.is_empty() {
        return Ok(());
    }
    let _store = lock::store(&layout.store_lock())?;
    let mut lines = String::new();
    for past in past(layout)?.into_iter().filter(|past| !dirs.contains(&past.dir)) {
        lines.push_str(&serde_json::to_string(&past).context("could not write the index of past workers")?);
        lines.push('\n');
    }
    file::write(&layout.past_workers().join("index.jsonl"), lines.as_bytes(), 0o600, Keep::Durable)
}

/// The supervisors that live: processes that must not be taken for what a beat left behind. Where the state of a worker
/// cannot be read, whoever holds its lock is one.
///
/// # Errors
/// When the workers cannot be listed: an error is never taken for "none".
pub fn supervisors(layout: &Layout) -> Result<Vec<(u32, u64)>> {
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    for id in ids(layout)? {
        let dir = layout.worker(&id);
        match records::read_json::<State>(&dir.state()) {
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

/// Who supervises the workers of this data dir now.
pub fn supervising(layout: &Layout) -> lock::Holders {
    lock::holders(ids(layout).unwrap_or_default().iter().map(|id| layout.worker(id).alive()))
}
