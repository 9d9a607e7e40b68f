//! The end of a fix: the state that passed goes into the project's files, or onto a branch of it.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use super::Tone;
use super::desk::Desk;
use crate::model::exchange::FileChange;
use crate::model::fix::Run;
use crate::model::json::clip;
use crate::model::worker::Repo;
use crate::model::world::Digest;
use crate::store::exchange::{self, Exchanged, Fallback};
use crate::store::file;
use crate::worker::clone::{self, Change, Git};

/// Modes of git that are no plain file.
const LINK: u32 = 0o120_000;
const GITLINK: u32 = 0o160_000;

/// Where the result is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Landed {
    /// The files that were written into the project.
    pub files: Vec<String>,
    /// The branch that holds the result.
    pub branch: Option<String>,
    /// The files that had changed meanwhile, for which nothing was written.
    pub conflicts: Vec<String>,
    /// Where the result is when neither files nor a branch could take it.
    pub kept: Option<PathBuf>,
}

impl Landed {
    /// Where the result is, in one sentence.
    pub fn words(&self) -> String {
        let conflicts = match self.conflicts.as_slice() {
            [] => String::new(),
            [one] => format!("{one} changed meanwhile, so nothing was written into your files; "),
            [first, rest @ ..] => {
                format!(
                    "{first} and {} more changed meanwhile, so nothing was written into your files; ",
                    rest.len()
                )
            }
        };
        let place = match (&self.branch, &self.kept, self.files.as_slice()) {
            (Some(branch), ..) => format!("the result is on branch {branch}"),
            (None, Some(dir), _) => format!("the result is the branch `result` of {}", dir.display()),
            (None, None, []) => "nothing was changed".to_owned(),
            (None, None, [one]) => format!("1 file of yours was changed, uncommitted: {one}"),
            (None, None, all) => {
                format!("{} files of yours were changed, uncommitted: {}", all.len(), all.join(", "))
            }
        };
        format!("{conflicts}{place}")
    }
}

/// Brings the result into the project. Doing it twice is doing it once.
pub(super) fn land(desk: &Desk, run: &Run, branch: bool) -> Result<Landed> {
    if run.tree == run.base_tree {
        return Ok(Landed::default());
    }
    let git = desk.git()?;
    let changes = desk.trees.changes(&git, &run.base_tree, &run.tree)?;
    let is_worker = desk.socket.is_some();
    let mut landed = Landed::default();
    if !branch || is_worker {
        for change in changes.iter().filter(|change| is_inside(&desk.project, &change.path)) {
            // What a crash in the middle of this left.
            let path = desk.project.join(&change.path);
            drop(fs::remove_file(temp_of(desk, &path)));
            if path.parent().is_some_and(Path::is_dir) {
                exchange::settle_file(&path)?;
            }
        }
        landed.conflicts = conflicts(desk, &git, &changes)?;
        if landed.conflicts.is_empty() {
            landed.conflicts = write_all(desk, &git, &changes)?;
        }
        if landed.conflicts.is_empty() {
            landed.files = changes.iter().map(|change| change.path.clone()).collect();
            if is_worker {
                clone::commit_all(&git, &desk.project, &message(run))?;
            }
            return Ok(landed);
        }
        desk.say(Tone::Warn, format!("changed meanwhile: {}", landed.conflicts.join(", ")));
    }
    let commit = desk.trees.commit(&git, &run.tree, Some(&run.base), &message(run))?;
    match &run.head {
        Some(head) => {
            let last = run.tasks.iter().rev().find(|task| task.status.is_good());
            let name = format!("looop/fix-{}", last.map_or("result", |task| task.goal.as_str()));
            desk.trees.point(&git, &format!("refs/heads/{name}"), &commit)?;
            let repo = Repo { source: run.project.clone(), base: head.clone(), branch: name };
            landed.branch = clone::collect(&git, &repo, desk.trees.dir())?.branch;
        }
        None => {
            desk.trees.point(&git, "refs/heads/result", &commit)?;
            landed.kept = Some(desk.trees.dir().to_owned());
        }
    }
    Ok(landed)
}

fn message(run: &Run) -> String {
    let done: Vec<&str> =
        run.tasks.iter().filter(|task| task.status.is_good()).map(|task| task.title.as_str()).collect();
    format!("Fix: {}", done.join(", "))
}

/// The files that are neither what they were at the beginning nor what they are to be.
fn conflicts(desk: &Desk, git: &Git, changes: &[Change]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for change in changes {
        let stands =
            is(desk, git, change, change.old.as_ref())? || is(desk, git, change, change.new.as_ref())?;
        if !stands || !is_inside(&desk.project, &change.path) {
            found.push(change.path.clone());
        }
    }
    Ok(found)
}

/// True when the project's file is this.
fn is(desk: &Desk, git: &Git, change: &Change, what: Option<&(u32, String)>) -> Result<bool> {
    let path = desk.project.join(&change.path);
    let meta = match fs::symlink_metadata(&path) {
        Ok(meta) => meta,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(what.is_none());
        }
        Err(error) => return Err(error).with_context(|| format!("could not look at `{}`", path.display())),
    };
    let Some((mode, blob)) = what else { return Ok(false) };
    if *mode == GITLINK {
        return Ok(meta.is_dir());
    }
    let wanted = desk.trees.blob(git, blob)?;
    if *mode == LINK {
        return Ok(
            meta.is_symlink() && fs::read_link(&path).is_ok_and(|to| to.as_os_str().as_bytes() == wanted)
        );
    }
    let is_executable = meta.permissions().mode() & 0o100 != 0;
    Ok(meta.is_file()
        && is_executable == (mode & 0o100 != 0)
        && meta.len() == wanted.len() as u64
        && fs::read(&path).is_ok_and(|bytes| bytes == wanted))
}

/// True for a path that leads into the project and nowhere else: no `..`, no `.git`, no link on the way.
pub(super) fn is_inside(project: &Path, path: &str) -> bool {
    let parts: Vec<Component> = Path::new(path).components().collect();
    let plain = parts.iter().all(|part| match part {
        Component::Normal(name) => !name.eq_ignore_ascii_case(".git"),
        _ => false,
    });
    let mut at = project.to_owned();
    let above = parts.len().saturating_sub(1);
    plain
        && parts[..above].iter().all(|part| {
            at.push(part);
            fs::symlink_metadata(&at).map_or(true, |meta| meta.is_dir())
        })
}

/// Writes all files, or none: a file that a person saves meanwhile stays, and those that were written before it get their
/// old content back. Returns the files that changed meanwhile.
fn write_all(desk: &Desk, git: &Git, changes: &[Change]) -> Result<Vec<String>> {
    for (at, change) in changes.iter().enumerate() {
        if write(desk, git, change)? {
            continue;
        }
        let mut conflicts = vec![change.path.clone()];
        for written in changes[..at].iter().rev() {
            let back = Change { old: written.new.clone(), new: written.old.clone(), ..written.clone() };
            if !write(desk, git, &back)? {
                conflicts.push(written.path.clone());
            }
        }
        return Ok(conflicts);
    }
    Ok(Vec::new())
}

/// Writes one file. False: it is neither what it was at the beginning nor what it is to be.
fn write(desk: &Desk, git: &Git, change: &Change) -> Result<bool> {
    let path = desk.project.join(&change.path);
    let failed = || format!("could not write `{}`", path.display());
    let is_gitlink = |side: &Option<(u32, String)>| side.as_ref().is_some_and(|(mode, _)| *mode == GITLINK);
    if is_gitlink(&change.new) || is(desk, git, change, change.new.as_ref())? {
        return Ok(true);
    }
    if is_gitlink(&change.old) {
        return Ok(false);
    }
    let seen = change.old.as_ref().map(|old| digest(desk, git, old)).transpose()?;
    let Some((mode, blob)) = &change.new else {
        let Some(seen) = seen else { return Ok(true) };
        let done = exchange::remove(&path, &seen)?;
        if done == Exchanged::Made {
            // Git knows no empty directories; one that is not empty stays.
            let mut dir = path.parent();
            while let Some(empty) = dir.filter(|dir| *dir != desk.project && fs::remove_dir(dir).is_ok()) {
                dir = empty.parent();
            }
        }
        return Ok(done == Exchanged::Made);
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(failed)?;
    }
    let bytes = desk.trees.blob(git, blob)?;
    let temp = temp_of(desk, &path);
    drop(fs::remove_file(&temp));
    let make = |temp: &Path| match *mode == LINK {
        true => symlink(std::ffi::OsStr::from_bytes(&bytes), temp),
        false => make_file(temp, &path, *mode, &bytes),
    };
    let Some(seen) = seen else {
        make(&temp).inspect_err(|_| drop(fs::remove_file(&temp))).with_context(failed)?;
        return file::publish(&temp, &path);
    };
    let new = digest(desk, git, &(*mode, blob.clone()))?;
    let done = exchange::replace(&path, &FileChange { new: Some(new), seen }, Fallback::Steps, make)?;
    Ok(done == Exchanged::Made)
}

fn make_file(temp: &Path, path: &Path, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
    let had = fs::symlink_metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .map(|meta| meta.permissions().mode() & 0o777);
    let plain = had.unwrap_or(0o644);
    let mode = if mode & 0o100 != 0 { plain | (plain & 0o444) >> 2 } else { plain & !0o111 };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(temp)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// The digest by which an exchange knows the content of a blob.
fn digest(desk: &Desk, git: &Git, (mode, blob): &(u32, String)) -> Result<Digest> {
    let bytes = desk.trees.blob(git, blob)?;
    Ok(match *mode == LINK {
        true => exchange::link_digest(Path::new(std::ffi::OsStr::from_bytes(&bytes))),
        false => exchange::digest_of(&bytes),
    })
}

/// Where a file is written before it takes its place: a name that no file of the project has, and the same one again
/// after a crash, so that nothing is left behind.
fn temp_of(desk: &Desk, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{}.{}.looop", clip(&name, 100), desk.id))
}
