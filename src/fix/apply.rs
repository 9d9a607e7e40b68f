//! The end of a fix: applies the state that passed to the project's files, or to a branch.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Severity;
use super::ctx::FixContext;
use super::edits::is_inside;
use crate::os::beneath::{self, FilePlace, Parents};
use crate::rules::digest::Digest;
use crate::rules::exchange::FileChange;
use crate::rules::fix::FixSession;
use crate::rules::json::clip;
use crate::rules::user_side::{self, GITLINK, LINK, TreeDifference, UserSidePath};
use crate::rules::worker::Repo;
use crate::store::exchange::{self, Exchanged, Fallback};
use crate::store::file;
use crate::vcs::clone::{self, Git};

/// Where the result is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyResult {
    /// The files that were written into the project.
    pub files: Vec<String>,
    /// The branch that holds the result.
    pub branch: Option<String>,
    /// The files that changed in the meantime, so that nothing was written.
    pub conflicts: Vec<String>,
    /// The place of the result if neither files nor a branch could take it.
    pub kept: Option<PathBuf>,
    /// The changed paths that execute on the user's side.
    pub user_side: Vec<UserSidePath>,
}

impl ApplyResult {
    /// The place of the result, in one sentence.
    pub fn words(&self) -> String {
        let user_side = match self.user_side.as_slice() {
            [] => String::new(),
            paths => {
                let hint = self.branch.as_ref().map_or(String::new(), |branch| {
                    format!(". Read them with `git diff HEAD...{branch}` before you merge")
                });
                format!("changed files that run on your side: {}{hint}; ", user_side::words(paths))
            }
        };
        let conflicts = match self.conflicts.as_slice() {
            [] => String::new(),
            [first, rest @ ..] => {
                let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                format!("{first}{more} changed in the meantime, so nothing was written into your files; ")
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

/// Applies the result to the project. A second call changes nothing.
pub(super) fn apply(ctx: &FixContext, run: &FixSession) -> Result<ApplyResult> {
    if run.tree == run.base_tree {
        return Ok(ApplyResult::default());
    }
    let git = ctx.git()?;
    let changes = ctx.trees.changes(&git, &run.base_tree, &run.tree)?;
    let is_worker = ctx.deps.socket.is_some();
    let mut applied = ApplyResult { user_side: user_side_of(ctx, &git, &changes)?, ..ApplyResult::default() };
    // Files that execute on the user's side stay on a branch until the user has read them.
    if is_worker || (!ctx.request.branch && applied.user_side.is_empty()) {
        for change in changes.iter().filter(|change| is_inside(&ctx.project, &change.path)) {
            // Temporary files of a crash during this step.
            if let Ok(place) = place_of(ctx, change, Parents::Existing) {
                drop(fs::remove_file(temp_of(ctx, &place.path)));
                exchange::settle_file(&place.path)?;
            }
        }
        applied.conflicts = conflicts(ctx, &git, &changes)?;
        if applied.conflicts.is_empty() {
            applied.conflicts = write_all(ctx, &git, &changes)?;
        }
        if applied.conflicts.is_empty() {
            applied.files = changes.iter().map(|change| shown(&change.path)).collect();
            if is_worker {
                ctx.trees.commit_into(&git, &ctx.project, "project", &message(run))?;
            }
            return Ok(applied);
        }
        ctx.say(Severity::Warn, format!("changed in the meantime: {}", applied.conflicts.join(", ")));
    }
    let commit = ctx.trees.commit(&git, &run.tree, Some(&run.base), &message(run))?;
    match &run.head {
        Some(head) => {
            let last = run.tasks.iter().rev().find(|task| task.status.is_good());
            let name = format!("looop/fix-{}", last.map_or("result", |task| task.goal.as_str()));
            // The branch is fetched from HEAD.
            ctx.trees.begin_at(&git, &commit)?;
            let repo = Repo { source: run.project.clone(), base: head.clone(), branch: name };
            applied.branch = clone::collect(&git, &repo, &ctx.trees.dir)?.branch;
        }
        None => {
            ctx.trees.point(&git, "refs/heads/result", &commit)?;
            applied.kept = Some(ctx.trees.dir.clone());
        }
    }
    Ok(applied)
}

/// A path for display.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The changes that execute on the user's side.
fn user_side_of(ctx: &FixContext, git: &Git, changes: &[TreeDifference]) -> Result<Vec<UserSidePath>> {
    let mut found = Vec::new();
    for change in changes {
        let target = match &change.new {
            Some((LINK, blob)) => Some(ctx.trees.blob(git, blob)?),
            _ => None,
        };
        let reason = user_side::reason_of(change, target.as_deref()).map(str::to_owned);
        found.extend(reason.map(|reason| UserSidePath { path: shown(&change.path), reason }));
    }
    Ok(found)
}

/// The place of a changed file in the project.
fn place_of(ctx: &FixContext, change: &TreeDifference, parents: Parents) -> std::io::Result<FilePlace> {
    beneath::find(&ctx.project, &change.path, parents)
}

fn message(run: &FixSession) -> String {
    let done = run.tasks.iter().filter(|task| task.status.is_good());
    format!("Fix: {}", done.map(|task| task.title.as_str()).collect::<Vec<_>>().join(", "))
}

/// The files that have neither their content from the start nor their new content.
fn conflicts(ctx: &FixContext, git: &Git, changes: &[TreeDifference]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for change in changes {
        let stands = is(ctx, git, change, change.old.as_ref())? || is(ctx, git, change, change.new.as_ref())?;
        if !stands || !is_inside(&ctx.project, &change.path) {
            found.push(shown(&change.path));
        }
    }
    Ok(found)
}

/// True if the project's file has this state.
fn is(ctx: &FixContext, git: &Git, change: &TreeDifference, what: Option<&(u32, String)>) -> Result<bool> {
    let place = place_of(ctx, change, Parents::Existing);
    let found = place.and_then(|place| Ok((fs::symlink_metadata(&place.path)?, place)));
    let (meta, place) = match found.map_err(|error| (error.kind(), error)) {
        Ok(found) => found,
        Err((ErrorKind::NotFound | ErrorKind::NotADirectory, _)) => return Ok(what.is_none()),
        Err((ErrorKind::InvalidInput, _)) => return Ok(false),
        Err((_, error)) => {
            return Err(error).with_context(|| format!("could not inspect `{}`", shown(&change.path)));
        }
    };
    let path = &place.path;
    let Some((mode, blob)) = what else { return Ok(false) };
    if *mode == GITLINK {
        return Ok(meta.is_dir());
    }
    let wanted = ctx.trees.blob(git, blob)?;
    if *mode == LINK {
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

/// Writes all files or none: a file that the user saves in the meantime stays, and the files that were written
/// before it get their old content back. Returns the files that changed in the meantime.
fn write_all(ctx: &FixContext, git: &Git, changes: &[TreeDifference]) -> Result<Vec<String>> {
    for (at, change) in changes.iter().enumerate() {
        if write(ctx, git, change)? {
            continue;
        }
        let mut conflicts = vec![shown(&change.path)];
        for written in changes[..at].iter().rev() {
            let back =
                TreeDifference { old: written.new.clone(), new: written.old.clone(), ..written.clone() };
            if !write(ctx, git, &back)? {
                conflicts.push(shown(&written.path));
            }
        }
        return Ok(conflicts);
    }
    Ok(Vec::new())
}

/// Writes one file. False if it has neither its content from the start nor its new content.
fn write(ctx: &FixContext, git: &Git, change: &TreeDifference) -> Result<bool> {
    let failed = || format!("could not write `{}`", ctx.project.join(&change.path).display());
    let is_gitlink = |side: &Option<(u32, String)>| side.as_ref().is_some_and(|(mode, _)| *mode == GITLINK);
    if is_gitlink(&change.new) || is(ctx, git, change, change.new.as_ref())? {
        return Ok(true);
    }
    if is_gitlink(&change.old) {
        return Ok(false);
    }
    let seen = change.old.as_ref().map(|old| digest(ctx, git, old)).transpose()?;
    let Some((mode, blob)) = &change.new else {
        let Some(seen) = seen else { return Ok(true) };
        let place = place_of(ctx, change, Parents::Existing).with_context(failed)?;
        let done = exchange::remove(&place.path, &seen).with_context(failed)?;
        if done == Exchanged::Made {
            // Git does not track empty directories; a directory that is not empty stays.
            let is_removed = |dir: &Path| {
                let place = beneath::find(&ctx.project, dir, Parents::Existing);
                place.and_then(|place| fs::remove_dir(&place.path)).is_ok()
            };
            let mut dir = change.path.parent();
            while let Some(empty) = dir.filter(|dir| !dir.as_os_str().is_empty() && is_removed(dir)) {
                dir = empty.parent();
            }
        }
        return Ok(done == Exchanged::Made);
    };
    let bytes = ctx.trees.blob(git, blob)?;
    let place = place_of(ctx, change, Parents::Created).with_context(failed)?;
    let path = &place.path;
    let temp = temp_of(ctx, path);
    drop(fs::remove_file(&temp));
    let make = |temp: &Path| match *mode == LINK {
        true => symlink(std::ffi::OsStr::from_bytes(&bytes), temp),
        false => file::write_new(temp, &bytes, rights(path, *mode)),
    };
    let Some(seen) = seen else {
        make(&temp).inspect_err(|_| drop(fs::remove_file(&temp))).with_context(failed)?;
        return file::publish(&temp, path);
    };
    let new = digest(ctx, git, &(*mode, blob.clone()))?;
    let done = exchange::replace(path, &FileChange { new: Some(new), seen }, Fallback::Steps, make);
    Ok(done.with_context(failed)? == Exchanged::Made)
}

/// The rights of a file that a new content replaces, with git's executable bit.
fn rights(path: &Path, mode: u32) -> u32 {
    let had = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    let plain = had.map_or(0o644, |meta| meta.permissions().mode() & 0o777);
    if mode & 0o100 != 0 { plain | (plain & 0o444) >> 2 } else { plain & !0o111 }
}

/// The digest of a blob's content, to compare with a file.
fn digest(ctx: &FixContext, git: &Git, (mode, blob): &(u32, String)) -> Result<Digest> {
    let bytes = ctx.trees.blob(git, blob)?;
    Ok(match *mode == LINK {
        true => exchange::link_digest(Path::new(std::ffi::OsStr::from_bytes(&bytes))),
        false => exchange::digest_of(&bytes),
    })
}

/// The temporary path of a file before it is moved into place: no file of the project has this name, and it is
/// the same after a crash, so that no file is left behind.
fn temp_of(ctx: &FixContext, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{}.{}.looop", clip(&name, 100), ctx.id))
}
