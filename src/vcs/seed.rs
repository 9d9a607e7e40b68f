//! The initial contents of a data dir, embedded in the program.

use anyhow::Result;

use super::commits;
use crate::rules::fault::Fault;
use crate::rules::time::Now;
use crate::store::layout::{self, Layout};
use crate::store::{file, lock};
use crate::vcs::history::{self, FileEdit, History, ignored};

/// Seeded files: relative path, content, mode.
const FILES: [(&str, &str, u32); 4] = [
    ("PLAYBOOK.md", include_str!("../../seed/PLAYBOOK.md"), 0o600),
    ("goals/setup.md", include_str!("../../seed/goals/setup.md"), 0o600),
    ("goals/playbook-daily.md", include_str!("../../seed/goals/playbook-daily.md"), 0o600),
    ("sensors/today.sh", include_str!("../../seed/sensors/today.sh"), 0o700),
];

/// Files that git does not hold.
pub(super) const IGNORE: &str = "\
# looop's own state: machine-made, per machine, or private to one run
*.lock
.*.tmp
*.corrupt-*
/beat.json
/paused.json
/pulse.json
/claims/
/workers/
/fix/
/cost/
/runs/
/events.jsonl*
/told.json
/notice.json
/commit.pending
";

/// How git merges files that two machines write.
pub(super) const ATTRIBUTES: &str = "\
# Two machines that pull from each other keep the lines of both journals, and each keeps its own readings
/journal.md merge=union
/journal/*.md merge=union
/world.json merge=looop
/snapshots/*.json merge=looop
";

/// Returns true if looop keeps this file out of git.
pub fn is_private(path: &str) -> bool {
    !layout::is_kept_in_git(path) && ignored::is_matched(IGNORE, path)
}

/// Files of looop's own that the user may add to.
pub(super) const OWN: [(&str, &str); 2] = [(".gitignore", IGNORE), (".gitattributes", ATTRIBUTES)];

const DIRS: [&str; 11] = [
    "goals/archive",
    "sensors",
    "snapshots",
    "asks/archive",
    "schedules",
    "journal",
    "reports",
    "cost",
    "runs",
    "claims",
    "workers/past",
];

/// Returns true if the data dir is initialised.
pub fn is_set_up(layout: &Layout) -> bool {
    layout.format().exists()
}

/// Makes the data dir: directories, repository, seeds. Makes each file only on the first run, so that a file that the
/// user deletes later stays deleted. Running it again changes nothing. Returns what was made.
///
/// # Errors
/// Names what could not be made. Refuses a directory that is not empty and not a data dir.
pub fn set_up(layout: &Layout, now: Now) -> Result<Vec<String>> {
    // Before its contents are checked: a directory of another user looks empty.
    if std::fs::symlink_metadata(layout.root()).is_ok() {
        layout::check_root(layout)?;
    }
    if !is_set_up(layout)
        && let Err(foreign) = refuse_foreign(layout)
        // Another first run may have finished in the meantime, and its first beat may have written files.
        && !is_set_up(layout)
    {
        return Err(foreign);
    }
    let _held = lock::dir(layout.root())?;
    let mut made = Vec::new();
    if is_set_up(layout) {
        layout::check(layout)?;
        History::init(layout.root())?.name_merge_driver()?;
        return Ok(made);
    }
    make_dirs(layout)?;
    History::init(layout.root())?.name_merge_driver()?;
    for (path, text) in OWN {
        file::create(&layout.file(path), text.as_bytes(), 0o600)?;
    }
    for (path, text, mode) in FILES {
        if file::create(&layout.file(path), text.as_bytes(), mode)? {
            made.push(path.to_owned());
        }
    }
    first_commit(layout, now)?;
    // Last: a data dir without it is not initialised, so an interrupted first run is repeated.
    layout::write_format(layout)?;
    layout::check(layout)?;
    Ok(made)
}

/// Makes missing directories: git does not keep empty ones, so a cloned data dir lacks them.
pub fn make_dirs(layout: &Layout) -> Result<()> {
    for dir in DIRS.iter().map(|dir| layout.file(dir)).filter(|dir| !dir.exists()) {
        file::make_dir(&dir)?;
    }
    // Made here, so that commands that only read need not write.
    for lock in
        [layout.tick_lock(), layout.look_lock(), layout.store_lock()].iter().filter(|lock| !lock.exists())
    {
        // Never replace a lock that another process has just made and may hold.
        file::create(lock, b"", 0o600)?;
    }
    Ok(())
}

/// Commits looop's own files, so that the first beat attributes only the user's edits to the user.
fn first_commit(layout: &Layout, now: Now) -> Result<()> {
    let history = History::open(layout.root())?;
    history.heal()?;
    // An interrupted first run may have committed already.
    if history.head()?.is_some() {
        return Ok(());
    }
    let own =
        OWN.into_iter().chain([("format", layout::FORMAT_TEXT)]).map(|(path, text)| (path, text, 0o600));
    let edits = own.chain(FILES).map(|(path, text, mode)| {
        let executable = mode & 0o100 != 0;
        FileEdit { path: path.to_owned(), bytes: Some(text.into()), executable }
    });
    commits::commit_own(&history, "init: a fresh data dir\n", now, edits.collect())
}

/// Refuses a directory with foreign files; files of an interrupted first run are not foreign.
fn refuse_foreign(layout: &Layout) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(layout.root()) else {
        return file::make_dir(layout.root());
    };
    let ours = |name: &str| {
        layout::TRACKED.contains(&name)
            || ["cost", "runs", "claims", "workers", "fix", ".git", history::ASIDE].contains(&name)
            || name.ends_with(".lock")
    };
    let mut names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let Some(name) = names.find(|name| !ours(name) && !name.ends_with(".tmp")) else { return Ok(()) };
    let root = layout.root().display();
    let what = format!("could not set up `{root}`: it holds other files, `{name}` among them");
    Err(Fault::failed(what).hint("name an empty or new directory with LOOOP_DATA_DIR").into())
}
