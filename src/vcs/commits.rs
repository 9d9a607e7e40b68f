//! The commits of a beat: `human:`, `world:` and `move:`, each with exactly the files that belong to it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::history::ignored::Ignored;
use super::history::{FileEdit, History, Signature};
use crate::os::signal::Cancel;
use crate::rules::digest::Digest;
use crate::rules::name::Name;
use crate::rules::time::Now;
use crate::store::file::{self, Durability, ReadError};
use crate::store::layout::{self, Layout};
use crate::vcs::git::dir::RepoFormat;
use crate::vcs::git::{Git, GitCommand, RepoLink};

/// The largest file that is committed, in bytes; a larger file of the user stays out of git.
const MAX_FILE_BYTES: usize = 10 << 20;
/// `git gc` runs from this many loose objects on.
const LOOSE_OBJECTS: usize = 5_000;
/// The deadline of `git gc`, in milliseconds.
const GC_TIMEOUT_MS: i64 = 120_000;

/// Writes the files of a decision input to disk, and removes readings of sensors that were removed. Skips goals and
/// playbook, which belong to the user, and files that already hold these bytes.
pub fn write_frame(layout: &Layout, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    file::make_dir(&layout.snapshots())?;
    for (path, bytes) in files.iter().filter(|(path, _)| is_machine_made(path)) {
        let target = layout.file(path);
        if file::read(&target, MAX_FILE_BYTES).ok().flatten().as_ref() != Some(bytes) {
            file::write(&target, bytes, 0o600, Durability::Atomic)?;
        }
    }
    let Ok(entries) = std::fs::read_dir(layout.snapshots()) else { return Ok(()) };
    // A directory is not a reading, so it stays.
    let entries = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    // A file with another extension belongs to the user.
    for name in names.filter(|name| name.ends_with(".json")) {
        if !files.contains_key(&format!("snapshots/{name}")) {
            file::remove(&layout.snapshots().join(name))?;
        }
    }
    Ok(())
}

fn is_machine_made(path: &str) -> bool {
    path == "world.json" || path.starts_with("snapshots/")
}

/// Returns true for a file that only looop writes; every other file in git belongs to the user.
fn is_looops(path: &str) -> bool {
    let dirs = ["snapshots/", "journal/", "reports/", "asks/archive/"];
    let ask = path.starts_with("asks/") && !path.ends_with(".answer.json");
    ["world.json", "journal.md", "format"].contains(&path)
        || ask
        || dirs.iter().any(|dir| path.starts_with(dir))
}

fn signature(name: &str, now: Now) -> Signature {
    Signature {
        name: name.to_owned(),
        email: format!("{}@localhost", name.replace(' ', ".")),
        unix_s: now.unix_ms.max(0) / 1000,
        utc_offset_s: now.offset_s(),
    }
}

/// Returns the identity with which looop commits.
pub fn looop_signature(now: Now) -> Signature {
    signature("looop", now)
}

/// Commits files that looop itself made, outside of a beat.
pub(super) fn commit_own(history: &History, message: &str, now: Now, edits: Vec<FileEdit>) -> Result<()> {
    let looop = looop_signature(now);
    history.commit(message, &looop, &looop, &edits).map(drop)
}

/// The repository of a data dir, opened for commits.
pub struct Commits<'a> {
    layout: &'a Layout,
    history: History,
    user: Signature,
    looop: Signature,
    /// Messages about lost history and removed locks.
    pub notes: Vec<String>,
}

impl<'a> Commits<'a> {
    /// Opens the repository.
    ///
    /// # Errors
    /// When it cannot be opened, or when a commit is blocked now.
    pub fn open(layout: &'a Layout, now: Now, user: &str) -> Result<Commits<'a>> {
        let history = History::open(layout.root())?;
        let notes = history.heal()?;
        if let Some(blocked) = history.blocked()? {
            return Err(blocked.into());
        }
        Ok(Commits { layout, history, user: signature(user, now), looop: looop_signature(now), notes })
    }

    /// Lists the beats that the newest commits name in their trailers.
    pub fn known_beats(&self, commits: usize) -> Result<BTreeSet<String>> {
        let entries = self.history.log(commits)?;
        let moves = entries.iter().filter(|entry| entry.message.starts_with("move: "));
        let beats =
            moves.flat_map(|entry| entry.message.lines()).filter_map(|line| line.strip_prefix("Beat: "));
        Ok(beats.map(str::to_owned).collect())
    }

    /// Commits the user's edits; returns a message for each file that cannot be committed. If the world holds a file,
    /// its bytes are committed, so that an edit made after the world was read is left for the next beat.
    pub fn people(&self, world: &BTreeMap<String, Vec<u8>>) -> Result<Vec<String>> {
        let (mut edits, mut left_out) = (Vec::new(), Vec::new());
        let changed = self.changed()?;
        for path in changed.iter().filter(|path| !self.is_mine(path, &changed)) {
            let is_text = path == "PLAYBOOK.md" || is_goal(path);
            match (world.get(path), self.on_disk(path)) {
                (Some(bytes), _) => edits.push(self.edit(path, Some(bytes.clone()))),
                (None, Err(why)) => left_out.push(format!("`{path}` is not kept in git: {why}")),
                (None, Ok(FileEdit { bytes: Some(bytes), .. })) if is_text && !world.is_empty() => {
                    // A readable file was created after the world was read.
                    if std::str::from_utf8(&bytes).is_err() {
                        left_out.push(format!("`{path}` is not kept in git: {}", ReadError::NotUtf8));
                    }
                }
                (None, Ok(edit)) => edits.push(edit),
            }
        }
        let names: Vec<&str> = edits.iter().map(|edit| edit.path.as_str()).collect();
        let message = format!("human: edit {}\n", crate::rules::json::clip(&names.join(", "), 200));
        self.commit(&message, &self.user, edits)?;
        Ok(left_out)
    }

    /// Commits the world of a decision from its bytes in memory.
    pub fn world(&self, message: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<Option<String>> {
        let changed = self.changed()?;
        let files = self.wanted(files)?;
        let rest = changed.iter().filter(|path| self.is_mine(path, &changed) && !files.contains_key(*path));
        let mut edits: Vec<FileEdit> = rest.filter_map(|path| self.on_disk(path).ok()).collect();
        edits.extend(files.into_iter().map(|(path, bytes)| self.edit(path, Some(bytes.clone()))));
        self.commit(message, &self.looop, edits)
    }

    /// Commits what looop itself wrote, and those of these paths that still are as looop left them. Readings of a world
    /// that is not yet committed are left to the commit of that world.
    pub fn looop(
        &self,
        message: &str,
        paths: &BTreeMap<String, Option<Digest>>,
        world: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Option<String>> {
        let next = |path: &String| !world.is_empty() && is_machine_made(path);
        let changed = self.changed()?;
        let mut edits = Vec::new();
        for path in changed.iter().filter(|path| !next(path)) {
            let (mine, wrote) = (self.is_mine(path, &changed), paths.get(path));
            let Some(edit) = (mine || wrote.is_some()).then(|| self.on_disk(path).ok()).flatten() else {
                continue;
            };
            let now = edit.bytes.as_ref().map(|bytes| blake3::hash(bytes).to_hex().to_string());
            if mine || wrote == Some(&now) {
                edits.push(edit);
            }
        }
        self.commit(message, &self.looop, edits)
    }

    /// Lists the files that git holds and that differ from HEAD. A file in `sensors` that is not a program, such as a
    /// key or a list, counts only if git already has it.
    fn changed(&self) -> Result<Vec<String>> {
        let mut changed = self.history.changed()?;
        changed.retain(|path| layout::is_kept_in_git(path));
        let is_program = |path: &String| !path.starts_with("sensors/") || self.is_executable(path);
        if !changed.iter().all(is_program) {
            let known = self.history.tracked()?;
            changed.retain(|path| is_program(path) || known.contains(path));
        }
        Ok(changed)
    }

    /// Returns the files of a world, except those that the user's `.gitignore` excludes.
    fn wanted<'w>(&self, files: &'w BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<&'w String, &'w Vec<u8>>> {
        let mut ignored = Ignored::below(self.layout.root());
        let (out, mut wanted): (BTreeMap<_, _>, BTreeMap<_, _>) =
            files.iter().partition(|(path, _)| ignored.leaves_out(path.as_bytes()));
        ignored.check()?;
        if !out.is_empty() {
            // A file that git already holds stays in git.
            let known = self.history.tracked()?;
            wanted.extend(out.into_iter().filter(|(path, _)| known.contains(*path)));
        }
        Ok(wanted)
    }

    /// Returns true for a file that looop made. If an ask or answer is missing, the tick archived it if the archive has
    /// a new copy; otherwise the user removed it.
    fn is_mine(&self, path: &str, changed: &[String]) -> bool {
        let Some(name) = path.strip_prefix("asks/").filter(|name| !name.contains('/')) else {
            return is_looops(path);
        };
        if std::fs::symlink_metadata(self.layout.file(path)).is_ok() {
            return is_looops(path);
        }
        let (id, end) = match name.strip_suffix(".answer.json") {
            Some(id) => (id, ".answer.json"),
            None => (name.trim_end_matches(".json"), ".json"),
        };
        let stamp = |past: &str| {
            let rest = past.strip_prefix("asks/archive/")?.strip_prefix(id)?.strip_prefix('-')?;
            rest.strip_suffix(end)?.parse::<u128>().ok()
        };
        changed.iter().any(|past| stamp(past).is_some())
    }

    fn is_executable(&self, path: &str) -> bool {
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(self.layout.file(path));
        meta.is_ok_and(|meta| meta.permissions().mode() & 0o100 != 0)
    }

    fn commit(&self, message: &str, author: &Signature, edits: Vec<FileEdit>) -> Result<Option<String>> {
        if edits.is_empty() {
            return Ok(None);
        }
        self.history.commit(message, author, &self.looop, &edits)
    }

    /// Reads a file from disk; a missing file means a deletion. A file that is too large or not regular stays out of
    /// git.
    fn on_disk(&self, path: &str) -> Result<FileEdit, ReadError> {
        Ok(self.edit(path, file::read(&self.layout.file(path), MAX_FILE_BYTES)?))
    }

    fn edit(&self, path: &str, bytes: Option<Vec<u8>>) -> FileEdit {
        FileEdit { path: path.to_owned(), bytes, executable: self.is_executable(path) }
    }
}

fn is_goal(path: &str) -> bool {
    let stem = path.strip_prefix("goals/").and_then(|name| name.strip_suffix(".md"));
    stem.is_some_and(|stem| Name::parse_new(stem).is_ok())
}

/// Packs the repository if it has many loose objects and `git` is installed.
pub fn collect_garbage(layout: &Layout, path: &str, cancel: &Cancel) -> Result<()> {
    let history = History::open(layout.root())?;
    if history.loose_objects()? < LOOSE_OBJECTS {
        return Ok(());
    }
    let Ok(git) = Git::find(path, GC_TIMEOUT_MS, cancel) else { return Ok(()) };
    // Uses links: the config of this repository could name programs that git runs.
    let link = RepoLink::open(&layout.root().join(".git"), RepoFormat::default())?;
    git.run(&link.dir, &GitCommand::CollectGarbage).map(drop).context("could not pack the history")
}
