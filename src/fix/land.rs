//! The end of a fix: the state that passed goes into the project's files, or onto a branch of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use super::Tone;
use super::desk::Desk;
use crate::model::fix::Run;
use crate::model::json::clip;
use crate::model::user_side::{self, TreeChange, UserSidePath};
use crate::model::worker::Repo;
use crate::store::file;
use crate::sys::beneath::{self, FilePlace, Parents};
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
    /// The changed paths that execute on the user's side.
    pub user_side: Vec<UserSidePath>,
}

impl Landed {
    /// Where the result is, in one sentence.
    pub fn words(&self) -> String {
        let user_side = match (self.user_side.as_slice(), &self.branch) {
            ([], _) => String::new(),
            (paths, Some(branch)) => format!(
                "changed files that run on your side: {}. Read them with `git diff HEAD...{branch}` before you merge; ",
                user_side::words(paths)
            ),
            (paths, None) => format!("changed files that run on your side: {}; ", user_side::words(paths)),
        };
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
        format!("{user_side}{conflicts}{place}")
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
    let mut landed = Landed { user_side: user_side_of(desk, &git, &changes)?, ..Landed::default() };
    if !landed.user_side.is_empty() {
        desk.say(
            Tone::Warn,
            format!("changed files that run on your side: {}", user_side::words(&landed.user_side)),
        );
    }
    // What runs on the user's side waits on a branch until a person has read it.
    if is_worker || (!branch && landed.user_side.is_empty()) {
        for change in changes.iter().filter(|change| is_inside(&desk.project, &change.path)) {
            // What a crash in the middle of this left.
            if let Ok(place) = place_of(desk, change, Parents::Existing) {
                drop(fs::remove_file(temp_of(desk, place.path())));
            }
        }
        landed.conflicts = conflicts(desk, &git, &changes)?;
        if landed.conflicts.is_empty() {
            for change in &changes {
                write(desk, &git, change)?;
            }
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

/// The changes that execute on the user's side.
fn user_side_of(desk: &Desk, git: &Git, changes: &[Change]) -> Result<Vec<UserSidePath>> {
    let mut found = Vec::new();
    for change in changes {
        let target = match &change.new {
            Some((LINK, blob)) => Some(desk.trees.blob(git, blob)?),
            _ => None,
        };
        let mode = |side: &Option<(u32, String)>| side.as_ref().map(|(mode, _)| *mode);
        let seen = TreeChange {
            path: &change.path,
            old_mode: mode(&change.old),
            new_mode: mode(&change.new),
            target: target.as_deref(),
        };
        found.extend(
            user_side::reason_of(&seen)
                .map(|reason| UserSidePath { path: change.path.clone(), reason: reason.to_owned() }),
        );
    }
    Ok(found)
}

/// The place of a changed file in the project.
fn place_of(desk: &Desk, change: &Change, parents: Parents) -> std::io::Result<FilePlace> {
    beneath::find(&desk.project, Path::new(&change.path), parents)
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
    let found = place_of(desk, change, Parents::Existing)
        .and_then(|place| Ok((fs::symlink_metadata(place.path())?, place)));
    let (meta, place) = match found {
        Ok(found) => found,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(what.is_none());
        }
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("could not look at `{}`", change.path)),
    };
    let path = place.path();
    let Some((mode, blob)) = what else { return Ok(false) };
    if *mode == GITLINK {
        return Ok(meta.is_dir());
    }
    let wanted = desk.trees.blob(git, blob)?;
    if *mode == LINK {
        use std::os::unix::ffi::OsStrExt;
        return Ok(
            meta.is_symlink() && fs::read_link(path).is_ok_and(|to| to.as_os_str().as_bytes() == wanted)
        );
    }
    let is_executable = meta.permissions().mode() & 0o100 != 0;
    Ok(meta.is_file()
        && is_executable == (mode & 0o100 != 0)
        && meta.len() == wanted.len() as u64
        && file::read(path, wanted.len()).is_ok_and(|bytes| bytes.as_ref() == Some(&wanted)))
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

fn write(desk: &Desk, git: &Git, change: &Change) -> Result<()> {
    let failed = || format!("could not write `{}`", desk.project.join(&change.path).display());
    let Some((mode, blob)) = &change.new else {
        let removed =
            place_of(desk, change, Parents::Existing).and_then(|place| fs::remove_file(place.path()));
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(failed);
            }
            _ => {}
        }
        // Git knows no empty directories; one that is not empty stays.
        let is_removed = |dir: &Path| {
            let place = beneath::find(&desk.project, dir, Parents::Existing);
            place.and_then(|place| fs::remove_dir(place.path())).is_ok()
        };
        let mut dir = Path::new(&change.path).parent();
        while let Some(empty) = dir.filter(|dir| !dir.as_os_str().is_empty() && is_removed(dir)) {
            dir = empty.parent();
        }
        return Ok(());
    };
    if *mode == GITLINK || is(desk, git, change, change.new.as_ref())? {
        return Ok(());
    }
    let bytes = desk.trees.blob(git, blob)?;
    let place = place_of(desk, change, Parents::Created).with_context(failed)?;
    let path = place.path();
    let temp = temp_of(desk, path);
    drop(fs::remove_file(&temp));
    if *mode == LINK {
        use std::os::unix::ffi::OsStrExt;
        let made = symlink(std::ffi::OsStr::from_bytes(&bytes), &temp).and_then(|()| fs::rename(&temp, path));
        return made.with_context(failed);
    }
    let had = fs::symlink_metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .map(|meta| meta.permissions().mode() & 0o777);
    let plain = had.unwrap_or(0o644);
    let mode = if mode & 0o100 != 0 { plain | (plain & 0o444) >> 2 } else { plain & !0o111 };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&temp).with_context(failed)?;
    let written = file
        .write_all(&bytes)
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temp, path));
    written.inspect_err(|_| drop(fs::remove_file(&temp))).with_context(failed)?;
    file::sync_dir(path)
}

/// Where a file is written before it takes its place: a name that no file of the project has, and the same one again
/// after a crash, so that nothing is left behind.
fn temp_of(desk: &Desk, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{}.{}.looop", clip(&name, 100), desk.id))
}
