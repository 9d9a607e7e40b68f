//! Work that exists only in a clone, and the removal of a clone, which checks for such work first.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;

use super::files::{FileEntry, FileRecord, Folder, Records, walk};
use super::source::{MIDDLES, Source, inspect};
use super::trees::records_of;
use super::view::{self, View};
use crate::rules::user_side::{GITLINK, LINK};
use crate::rules::worker::Repo;
use crate::rules::worker::leftovers::{Leftovers, Paths, Tip};
use crate::store::Denied;
use crate::store::file::{self, Doing};
use crate::vcs::git::{Git, GitCommand, GitDir, fault};
use crate::vcs::history::ignored::Ignored;
use crate::vcs::history::repository::line_of;

/// How many tips and stashes are named with their commits.
const MAX_TIPS: usize = 20;
/// The longest HEAD file that is read, in bytes.
const MAX_HEAD_BYTES: usize = 4096;
/// How many refs to other objects than commits are checked.
const MAX_ODD_REFS: usize = 100;

/// Finds out what exists only in the clone. If that is impossible, the result says so and is not empty.
pub fn leftovers(git: &Git, repo: &Repo, clone: &Path) -> Leftovers {
    if matches!(fs::symlink_metadata(clone), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
        return Leftovers::default();
    }
    look(git, repo, clone)
        .unwrap_or_else(|error| Leftovers { unclear: Some(format!("{error:#}")), ..Leftovers::default() })
}

fn look(git: &Git, repo: &Repo, clone: &Path) -> Result<Leftovers> {
    let source = inspect(git, Path::new(&repo.source)).map_err(|error| error.during("look at the clone"))?;
    let view = View::open(git, &source, clone)?;
    let head = head(git, &view)?;
    let mut left = commits(git, &source, &view, head.as_deref())?;
    let mut others: Vec<String> = view.others.iter().map(|what| (*what).to_owned()).collect();
    let in_git = |mark: &str| fs::symlink_metadata(clone.join(".git").join(mark)).is_ok();
    let middle = MIDDLES.iter().find(|(mark, _)| in_git(mark));
    others.extend(middle.map(|(_, what)| format!("{what} that is not finished")));
    others.extend(head.is_none().then(|| "a branch without a commit is checked out".to_owned()));
    // If there was no commit, files are compared with the commit at which the clone began.
    let head = head.unwrap_or_else(|| repo.base.clone());
    let records = records_of(git, &view.git_dir, &head)?;
    (left.changed, left.untracked) = files(git, &view, clone, &head, &records)?;
    others.extend(submodules(clone, &records));
    let stashes = match git.holds(&view.git_dir, &GitCommand::Resolve("refs/stash"))? {
        true => lines(&git.run(&view.git_dir, &GitCommand::Stashes)?),
        false => Vec::new(),
    };
    left.tips.extend(stashes.iter().enumerate().map(|(nth, oid)| Tip::new(&format!("stash@{{{nth}}}"), oid)));
    left.tips.truncate(MAX_TIPS);
    Ok(Leftovers { stashes: stashes.len() as u64, others, ..left })
}

/// Returns the commit of HEAD; `None` while its branch has no commit.
pub(super) fn head(git: &Git, view: &View) -> Result<Option<String>> {
    let commit = || git.answer(&view.git_dir, &GitCommand::Resolve("HEAD^{commit}"));
    if let Some(commit) = commit()? {
        return Ok(Some(commit));
    }
    let named = file::read_text(&view.file(".git").join("HEAD"), MAX_HEAD_BYTES)?.unwrap_or_default();
    let branch = named.strip_prefix("ref: ").map(str::trim_end).unwrap_or_default();
    let is_there = |name: &str| view.file(".git").join(name).exists();
    // A branch that exists and leads nowhere is an error, not a worker without commits.
    if branch.starts_with("refs/heads/")
        && !is_there(branch)
        && !git.holds(&view.git_dir, &GitCommand::Resolve(branch))?
    {
        return Ok(None);
    }
    Err(fault("read the HEAD of the clone", "it names no commit"))
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

/// Splits names that end with NUL.
fn names(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// Finds the commits that only the clone has, and the refs that hold them or other objects of the clone.
fn commits(git: &Git, source: &Source, view: &View, head: Option<&str>) -> Result<Leftovers> {
    let mut tips: Vec<(String, String)> =
        head.iter().map(|head| ((*head).to_owned(), "HEAD".to_owned())).collect();
    let mut odd = Vec::new();
    for line in lines(&git.run(&view.git_dir, &GitCommand::RefKinds)?) {
        match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
            [_, _, "refs/stash"] => {}
            [oid, "commit", name] => tips.push((oid.to_owned(), name.to_owned())),
            [oid, _, name] => odd.push((oid.to_owned(), name.to_owned())),
            _ => {}
        }
    }
    let mut wanted: String = tips.iter().chain(&odd).map(|(oid, _)| format!("{oid}\n")).collect();
    let theirs = source.refs(git, &[])?;
    let theirs = theirs.values().map(|at| &at.oid).chain([&source.head]);
    wanted.extend(theirs.map(|oid| format!("^{oid}\n")));
    let own = git.feed(&view.git_dir, &GitCommand::Commits, wanted.as_bytes())?;
    let own: BTreeSet<String> = lines(&own).into_iter().collect();
    tips.retain(|(oid, _)| own.contains(oid));
    let named = tips.iter().map(|(oid, name)| Tip::new(name, oid)).collect();
    let mut holding: Vec<String> = tips.into_iter().map(|(_, name)| name).collect();
    for (at, (oid, name)) in odd.into_iter().enumerate() {
        if at >= MAX_ODD_REFS || git.run(source.git_dir(), &GitCommand::HasObject(&oid)).is_err() {
            holding.push(name);
        }
    }
    let refs = holding.into_iter().collect();
    Ok(Leftovers { commits: own.len() as u64, refs, tips: named, ..Leftovers::default() })
}

/// Lists changed and untracked files. Compares the contents of files with the last commit, because the worker's index
/// can exclude any file from checks; what is staged in that index is compared separately.
fn files(git: &Git, view: &View, clone: &Path, head: &str, records: &Records) -> Result<(Paths, Paths)> {
    let listing = walk(git, clone, &mut Ignored::with(clone, None), records)?;
    let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let mut changed = BTreeSet::new();
    let mut untracked = BTreeSet::new();
    let mut plain = Vec::new();
    let mut missing: BTreeSet<&Vec<u8>> =
        records.iter().filter(|(_, record)| record.mode != GITLINK).map(|(path, _)| path).collect();
    let folder = Folder::open(clone)?;
    for file in &listing.files {
        missing.remove(&file.path);
        match records.get(&file.path) {
            None => drop(untracked.insert(untracked_name(records, &file.path))),
            Some(record) if record.mode != file.mode => drop(changed.insert(shown(&file.path))),
            Some(record) if file.mode == LINK => {
                if git.run(&view.git_dir, &GitCommand::Blob(&record.oid))? != folder.read_link(&file.path)? {
                    changed.insert(shown(&file.path));
                }
            }
            Some(record) => plain.push((file, record)),
        }
    }
    // Unchanged, and as git would store them if an attribute converts line ends on checkout.
    let place = view.git_dir.clone().with_files(clone)?;
    for raw in [true, false] {
        let oids = hashes(git, &place, &plain, raw)?;
        plain = plain
            .into_iter()
            .zip(oids)
            .filter(|((_, record), oid)| record.oid != *oid)
            .map(|(one, _)| one)
            .collect();
    }
    changed.extend(plain.iter().map(|(file, _)| shown(&file.path)));
    changed.extend(missing.into_iter().map(|path| shown(path)));
    let is_gitlink = |path: &Vec<u8>| records.get(path).is_some_and(|record| record.mode == GITLINK);
    for path in listing.repos.iter().filter(|path| !is_gitlink(path)) {
        untracked.insert(untracked_name(records, &[path.as_slice(), b"/"].concat()));
    }
    let index = view.file(".git/index");
    if index.exists() {
        let staged = view.git_dir.clone().with_index(&index)?;
        changed.extend(names(&git.run(&staged, &GitCommand::Staged(head))?));
    }
    Ok((changed.into_iter().collect(), untracked.iter().map(|path| shown(path)).collect()))
}

/// Computes the git ids of files, in the same order.
fn hashes(git: &Git, place: &GitDir, files: &[(&FileEntry, &FileRecord)], raw: bool) -> Result<Vec<String>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let paths: String = files.iter().map(|(file, _)| line_of(&file.path)).collect();
    let oids = lines(&git.feed(place, &GitCommand::HashFiles { raw }, paths.as_bytes())?);
    if oids.len() == files.len() {
        Ok(oids)
    } else {
        Err(fault("compare files", "git did not hash all of them"))
    }
}

/// Returns the name under which an untracked file is listed: its own, or that of the topmost folder in which git knows
/// no file.
fn untracked_name(records: &Records, path: &[u8]) -> Vec<u8> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
    let is_unknown = |end: &usize| {
        let below = &path[..*end];
        !records.range(below.to_vec()..).next().is_some_and(|(known, _)| known.starts_with(below))
    };
    path[..ends.into_iter().find(is_unknown).unwrap_or(path.len())].to_vec()
}

/// Lists submodules with files in them: git itself would enter those only with their own config.
fn submodules(clone: &Path, records: &Records) -> Vec<String> {
    let paths = records.iter().filter(|(_, record)| record.mode == GITLINK).map(|(path, _)| path);
    let filled = paths.filter(|path| match fs::read_dir(clone.join(OsStr::from_bytes(path))) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    });
    filled.map(|path| format!("the submodule `{}` has files", String::from_utf8_lossy(path))).collect()
}

/// Removes a clone and releases its base. If the clone has work that exists nowhere else, changes nothing and returns
/// that work. Only the user may force the removal.
///
/// # Errors
/// When it could not be removed completely; the caller can try again.
pub fn discard(git: &Git, repo: &Repo, clone: &Path, force: bool) -> Result<Option<Leftovers>> {
    let gone = clone.with_file_name(".gone");
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    if is_there(clone) {
        let left = if force { Leftovers::default() } else { leftovers(git, repo, clone) };
        if !left.is_empty() {
            return Ok(Some(left));
        }
        file::remove_tree(&gone)?;
        // Half a clone under its own name would look like a clone with changes.
        fs::rename(clone, &gone).doing("move", clone)?;
    }
    if is_there(&gone) {
        match inspect(git, Path::new(&repo.source)) {
            Ok(source) => source.release_base(git, repo)?,
            // If the repository is missing, the base commit is unknown.
            Err(Denied::Refused(_)) => {}
            Err(Denied::Failed(error)) => return Err(error),
        }
        file::remove_tree(&gone)?;
    }
    let beside = clone.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    for entry in beside.filter(|entry| entry.file_name().to_string_lossy().starts_with(view::NAME)) {
        file::remove_tree(&entry.path())?;
    }
    Ok(None)
}
