//! The data dir: where each kind of file is, and whether the directory may be used at all.

/// Defines methods that return the paths of files: a name, the folder that they are in, and the path from there.
macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident = $folder:tt / $file:literal;)*) => {
        $($(#[$doc])* pub fn $name(&self) -> PathBuf { self.$folder.join($file) })*
    };
}

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::file::{self, Doing, Durability};
use crate::rules::beat::settings::StatusFile;
use crate::rules::fault::Fault;
use crate::rules::name::Name;

/// The layout version that this program writes. A change of it keeps older programs from using the data dir: 0.1 knows 2.
pub const FORMAT: u32 = 4;
/// The content of the file `format` for this version.
pub const FORMAT_TEXT: &str = "{\"format\":4}\n";
/// Names of looop's own files in the data dir that git does not hold, except events and locks.
const UNTRACKED: [&str; 11] = [
    ".git",
    "beat.json",
    "claims",
    "commit.pending",
    "cost",
    "fix",
    "notice.json",
    "paused.json",
    "runs",
    "told.json",
    "workers",
];
/// The oldest version that this program reads and can migrate.
pub const OLDEST: u32 = 1;

/// The paths of one data dir and of the cache that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
    cache: PathBuf,
}

impl Layout {
    /// Makes the layout of a data dir; both paths are absolute.
    pub fn new(root: PathBuf, cache: PathBuf) -> Layout {
        Layout { root, cache }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    paths! {
        format = root / "format";
        playbook = root / "PLAYBOOK.md";
        goals = root / "goals";
        sensors = root / "sensors";
        /// The directory of the readings that the last decision saw.
        snapshots = root / "snapshots";
        /// The context of the last decision.
        world = root / "world.json";
        journal = root / "journal.md";
        /// The directory of older parts of the journal.
        journal_past = root / "journal";
        asks = root / "asks";
        /// The directory of the timers.
        schedules = root / "schedules";
        /// The directory of the spend ledger.
        cost = root / "cost";
        /// Money reserved for calls in progress.
        reserved = root / "cost/reserved.json";
        /// The usage limits of runners.
        runner_limits = root / "cost/limits.json";
        /// Caps that the user has raised, and for how long.
        raised = root / "cost/raised.json";
        /// The directory of prompts and replies of decisions.
        runs = root / "runs";
        /// The memory of the loop.
        beat = root / "beat.json";
        /// Exists while the user has paused the loop.
        paused = root / "paused.json";
        /// Exists once the user has started a pulse of this data dir on a terminal.
        pulse = root / "pulse.json";
        /// Exists while a move waits for its commit, because git could not make it.
        commit_pending = root / "commit.pending";
        /// The machine log.
        events = root / "events.jsonl";
        /// The lock of a whole beat.
        tick_lock = root / "tick.lock";
        /// Held by processes that run sensors outside of a beat, as `looop why` does; several may hold it.
        look_lock = root / "look.lock";
        /// Held by the one pulse of a data dir.
        pulse_lock = root / "pulse.lock";
        /// Held by the one process that shows flags to the user; exists since the first flag.
        alerts_lock = root / "surface.lock";
        /// The ids of the loop's open asks of which the notifier was told.
        notified_asks = root / "told.json";
        /// The notice that a notifier reads, while it runs.
        notice = root / "notice.json";
        /// The lock around short replaces.
        store_lock = root / "store.lock";
        /// The directory of the leases.
        claims = root / "claims";
        /// The epoch from which every lease without a file counts on.
        claims_max_epoch = root / "claims/floor";
        workers = root / "workers";
        /// The directory of archived workers.
        past_workers = root / "workers/past";
        /// Touched when a worker's state has changed, to wake watchers.
        wake = root / "workers/.poke";
        fixes = root / "fix";
        /// Project files that the user has allowed.
        trust = root / "fix/trust.json";
        /// The key for digests of values that an approval covers.
        approval_key = cache / "approval.key";
        /// The time of the last idle beat.
        idle = cache / "idle";
        /// When the present pulse began. One that ends as it was told to removes it.
        pulse_run = cache / "pulse-run";
        /// The last runs of sensors with an interval.
        sensor_runs = cache / "sensors.json";
        /// The last probe of this machine's sandboxes.
        sandbox = cache / "sandbox.json";
        /// The git directories that existed before the command of a `run` move started.
        git_watch = cache / "git-watch.json";
        /// The best sandboxes that this machine ever had, and whether the user was notified that they are weaker now.
        best_sandbox = cache / "sandbox-best.json";
        /// An empty directory for a child that needs no files.
        empty_dir = cache / "empty";
    }

    /// Returns the path of a file of the data dir by its relative path, as an operation names it.
    pub fn file(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The cache dir: its files may be lost.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    pub fn claim(&self, resource: &Name) -> PathBuf {
        self.claims().join(format!("{resource}.json"))
    }

    pub fn worker(&self, id: &Name) -> WorkerDir {
        WorkerDir(self.workers().join(id.as_str()))
    }

    /// The directory of an archived worker.
    pub fn past_worker(&self, dir: &str) -> WorkerDir {
        WorkerDir(self.past_workers().join(dir))
    }

    pub fn fix(&self, id: &Name) -> FixDir {
        FixDir(self.fixes().join(id.as_str()))
    }

    /// Returns true for a path of looop itself: its files in the data dir, which change with each beat, and the cache.
    pub fn is_state(&self, path: &Path) -> bool {
        let part = path.strip_prefix(&self.root).ok().and_then(|inside| inside.iter().next()?.to_str());
        let is_named = |name: &str| {
            UNTRACKED.contains(&name)
                || (TRACKED.contains(&name) && name != ".gitignore")
                || ["journal", "events"].iter().any(|start| name.starts_with(start))
                || [".lock", ".tmp"].iter().any(|end| name.ends_with(end))
        };
        path.starts_with(&self.cache) || part.is_some_and(is_named)
    }

    /// The temporary directory of a sandboxed child.
    pub fn temp(&self, whose: &str) -> PathBuf {
        self.cache.join("tmp").join(whose)
    }

    /// The index of the code map of the project at `root`.
    pub fn map(&self, root: &Path) -> PathBuf {
        let key = blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex();
        self.cache.join("map").join(format!("{}.json", &key[..16]))
    }
}

/// The directory of one worker, live or archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerDir(pub PathBuf);

impl WorkerDir {
    pub fn path(&self) -> &Path {
        &self.0
    }

    paths! {
        /// What the worker was started with.
        spec = 0 / "spec.json";
        /// Its current state.
        state = 0 / "state.json";
        /// Its instructions at the start.
        brief = 0 / "brief.md";
        /// Its supervisor holds the lock of this file for its whole life.
        alive = 0 / "alive";
        /// The newer part of its output, as raw bytes.
        transcript = 0 / "transcript.raw";
        /// The older part of its output, after a rotation.
        old_transcript = 0 / "transcript.old.raw";
        /// Times of the newer part, and sizes of its screen.
        index = 0 / "transcript.idx";
        /// Times of the older part.
        old_index = 0 / "transcript.old.idx";
        /// Messages that it has not read.
        messages = 0 / "told.jsonl";
        /// Messages that it has read.
        inbox_offset = 0 / "told.read.jsonl";
        clone_dir = 0 / "clone";
        /// The git directories that existed before it started.
        git_watch = 0 / "git-watch.json";
        /// The socket for the user's side: attach, flag, kill.
        attach_socket = 0 / "attach.sock";
        /// The socket for the worker's side.
        worker_socket = 0 / "worker.sock";
        /// The flags and asks of the worker that the user was shown.
        shown_state = 0 / "surfaced";
        /// The last notice that its notifier received.
        notice = 0 / "notice.json";
    }

    /// A file that its program loads, to report its status to looop.
    pub fn status(&self, file: StatusFile) -> PathBuf {
        self.0.join(file.name)
    }
}

/// The directory of one fix: of one project and its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixDir(pub PathBuf);

impl FixDir {
    pub fn path(&self) -> &Path {
        &self.0
    }

    paths! {
        /// Held by the process that works in it.
        lock = 0 / "lock";
        /// The state of the run.
        run = 0 / "run.json";
        /// The repository that keeps every attempt.
        attempts = 0 / "attempts";
        /// The clone. The directory around it holds what git keeps beside a clone.
        work = 0 / "work/clone";
        /// An empty directory, for calls that need no files.
        empty = 0 / "empty";
        /// The prompt of the call in progress.
        prompt = 0 / "prompt.md";
        /// The index of the code map of the clone.
        map = 0 / "map.json";
        ledgers = 0 / "ledger";
    }

    pub fn ledger(&self, goal: &Name) -> PathBuf {
        self.ledgers().join(format!("{goal}.jsonl"))
    }

    /// The last test output of an attempt.
    pub fn output(&self, goal: &Name) -> PathBuf {
        self.0.join(format!("output-{goal}.txt"))
    }
}

/// The directory of a worker or a fix, for the private directories of its sandbox.
pub struct PrivateDirs<'a>(pub &'a Path);

impl PrivateDirs<'_> {
    paths! {
        /// Mounted over the home directory.
        home = 0 / "home";
        /// Receives writes to read-only build caches: one directory for each cache.
        caches = 0 / "caches";
        /// Temporary files.
        temp = 0 / "tmp";
    }
}

/// Returns the relative path of a goal.
pub fn goal_path(id: &Name) -> String {
    format!("goals/{id}.md")
}

/// Returns the relative path of a sensor that looop writes.
pub fn sensor_path(name: &Name) -> String {
    if name.as_str().contains('.') { format!("sensors/{name}") } else { format!("sensors/{name}.sh") }
}

/// Returns the relative path of a timer.
pub fn schedule_path(name: &Name) -> String {
    format!("schedules/{name}.json")
}

/// Returns the relative path of an ask.
pub fn ask_path(id: &Name) -> String {
    format!("asks/{id}.json")
}

/// Relative paths of files and folders in which git holds something. In the order of a listing.
pub const TRACKED: [&str; 13] = [
    ".gitattributes",
    ".gitignore",
    "format",
    "PLAYBOOK.md",
    "goals",
    "sensors",
    "snapshots",
    "world.json",
    "journal.md",
    "journal",
    "reports",
    "asks",
    "schedules",
];

/// Returns true if git holds this file of the data dir, by its kind. Everything else is private to this machine, or
/// belongs to another program. The user's `.gitignore` can only exclude more files. A file in `sensors` must also be
/// executable.
pub fn is_kept_in_git(path: &str) -> bool {
    let ends = |name: &str, end: &str| !name.starts_with('.') && name.ends_with(end);
    match path.split('/').collect::<Vec<_>>()[..] {
        [".gitattributes" | ".gitignore" | "format" | "PLAYBOOK.md" | "world.json" | "journal.md"] => true,
        ["goals" | "journal", name] | ["goals", "archive", name] => ends(name, ".md"),
        ["snapshots" | "schedules" | "asks", name] | ["asks", "archive", name] => ends(name, ".json"),
        ["sensors", name] => {
            Name::parse(name).is_ok() && !name.ends_with(".lock") && !name.contains(".corrupt-")
        }
        ["reports", worker, name] => Name::parse(worker).is_ok() && Name::parse(name).is_ok(),
        _ => false,
    }
}

/// Checks that the data dir exists, that only this user can access it, and that this program knows its layout.
///
/// # Errors
/// Names the problem and how to fix it.
pub fn check(layout: &Layout) -> Result<()> {
    check_root(layout)?;
    format(layout).map(drop)
}

/// Checks the directory alone: that it is a directory, and that only this user can access it.
///
/// # Errors
/// Names the problem and how to fix it.
pub fn check_root(layout: &Layout) -> Result<()> {
    let root = layout.root();
    let shown = root.display();
    let refused =
        |what: String, hint: String| Err(Fault::failed(format!("could not {what}")).hint(hint).into());
    let Some(meta) = file::present(fs::symlink_metadata(root)).doing("open the data dir", root)? else {
        let what = format!("open the data dir `{shown}`: it does not exist");
        return refused(what, "make it with `looop init`".to_owned());
    };
    let (me, owner, mode) = (rustix::process::geteuid().as_raw(), meta.uid(), meta.mode() & 0o777);
    if !meta.is_dir() {
        let what = format!("use `{shown}` as the data dir: it is not a directory");
        refused(what, "name another with LOOOP_DATA_DIR".to_owned())
    } else if owner != me {
        let what = format!("use the data dir `{shown}`: it belongs to user {owner} and you are {me}");
        refused(what, format!("sudo chown -R {me} {shown}"))
    } else if mode & 0o077 != 0 {
        let what = format!("use the data dir `{shown}`: others can enter it (mode {mode:o})");
        refused(what, format!("chmod 700 {shown}"))
    } else {
        Ok(())
    }
}

/// Returns the device and the inode of an initialised data dir. They change when the data dir is moved away, unmounted
/// or replaced.
pub fn identity(layout: &Layout) -> Option<(u64, u64)> {
    let meta = fs::symlink_metadata(layout.root()).ok().filter(|_| layout.format().exists())?;
    Some((meta.dev(), meta.ino()))
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DataFormat {
    format: u32,
}

/// Returns the layout version of a data dir: this program's, or an older one that it reads.
///
/// # Errors
/// When it is newer, when the data dir was never initialised, and when it cannot be read.
pub fn format(layout: &Layout) -> Result<u32> {
    let (path, shown, version) = (layout.format(), layout.root().display(), env!("CARGO_PKG_VERSION"));
    let Some(text) = file::read_text(&path, 4096).doing("read", &path)? else {
        let what = format!("could not use the data dir `{shown}`: it was never set up");
        return Err(Fault::failed(what).hint("set it up with `looop init`").into());
    };
    let fault = match serde_json::from_str(&text) {
        Ok(DataFormat { format: format @ OLDEST..=FORMAT }) => return Ok(format),
        Ok(DataFormat { format }) if format > FORMAT => Fault::failed(format!(
            "could not use the data dir `{shown}`: its format is {format} and this program, looop {version}, knows {FORMAT}"
        ))
        .hint("install a newer looop; nothing was changed"),
        Ok(DataFormat { format }) => {
            Fault::failed(format!("could not use the data dir: format {format} was never released"))
        }
        Err(error) => Fault::failed(format!("could not read `{}`: {error}", path.display()))
            .hint(format!("it should hold {{\"format\":{FORMAT}}}")),
    };
    Err(fault.into())
}

/// Writes this program's layout version.
pub fn write_format(layout: &Layout) -> Result<()> {
    file::write(&layout.format(), FORMAT_TEXT.as_bytes(), 0o600, Durability::Durable)
}

#[cfg(test)]
pub mod tests {
    use super::{Layout, is_kept_in_git};

    /// A data dir and a cache that last as long as the test.
    pub fn temporary() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned(), dir.path().join("cache"));
        (dir, layout)
    }

    #[test]
    fn git_holds_files_by_their_kind_and_not_by_their_folder() {
        for kept in [
            ".gitattributes",
            ".gitignore",
            "format",
            "PLAYBOOK.md",
            "world.json",
            "journal.md",
            "journal/2026-11-20.md",
            "goals/release.md",
            "goals/my notes.md",
            "goals/archive/release-1.md",
            "sensors/disk.sh",
            "sensors/disk",
            "sensors/mail.py",
            "snapshots/disk.json",
            "schedules/daily.json",
            "asks/ap-1.json",
            "asks/ap-1.answer.json",
            "asks/archive/ap-1-5.json",
            "reports/fix-ci/summary.md",
            "reports/fix-ci/chart.png",
        ] {
            assert!(is_kept_in_git(kept), "{kept}");
        }
        for private in [
            "goals",
            "sensors",
            "goals/.env",
            "goals/.draft.md",
            "goals/key.pem",
            "goals/drafts/a.md",
            "goals/x.md.lock",
            "goals/x.md.corrupt-1",
            "sensors/.env",
            "sensors/lib/key",
            "sensors/x.lock",
            "sensors/x.corrupt-1",
            "snapshots/stray",
            "snapshots/deep/x.json",
            "schedules/id_rsa",
            "asks/notes.txt",
            "asks/archive/deep/x.json",
            "journal/2026.tar",
            "reports/loose.txt",
            "reports/fix-ci/.env",
            "reports/fix-ci/deep/x",
            "workers/w/spec.json",
            "beat.json",
            "mine.txt",
        ] {
            assert!(!is_kept_in_git(private), "{private}");
        }
    }
}
