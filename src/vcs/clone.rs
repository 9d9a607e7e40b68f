//! The private clone of a worker: made from the user's repository; its commits come back as a branch.
//!
//! # Guarantees
//! - Of the user's repository only objects and the refs `refs/looop/ID/base` and `refs/heads/looop/ID` change. Tree,
//!   index, HEAD, stash, config and hooks stay as they are, and none of its hooks runs.
//! - The clone belongs to the worker, so it is not trusted: git never runs with the clone's own `.git`, but with a view
//!   of it that holds only data, without config, hooks and links.
//! - The commits that HEAD reaches come back, whatever branch they were made on.
//! - A branch only moves forward, and only while it is not in use. A clone with work that exists nowhere else is
//!   removed only if the user says so.
//!
//! # Limits
//! - Submodules and LFS files are not fetched: a submodule is an empty directory, an LFS file its pointer.
//! - The clone borrows objects. The base ref keeps all that its commit needs. Git in the clone may also borrow an
//!   object that it finds in the user's repository by chance (the same text on another branch). If the worker can write
//!   there, git marks the object as fresh, so that only `gc --prune=now` would drop it; if it cannot, as in the
//!   sandbox, git writes a copy into the clone.
//! - The repository's own path must be UTF-8. The names of its files may be any bytes.

mod collect;
mod files;
mod leftovers;
mod source;
mod trees;
mod view;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::rules::name::Name;
use crate::rules::worker::{Objects, Repo};
use crate::store::file::Doing;
use crate::vcs::git::{GitCommand, GitDir, text};

pub use crate::rules::worker::leftovers::{Leftovers, Paths};
pub use crate::vcs::git::Git;
pub use collect::{Collected, collect, collect_within};
pub use leftovers::{discard, leftovers};
pub use source::{Source, Unclonable, inspect, stores, top_of};
pub use trees::{Grown, Trees, is_empty};

/// Config of a clone that overrides the user's and the system's, which the worker's git reads as well: no signature,
/// hook, monitor, editor, pager, prompt or filter of theirs can wait for input or run a program.
const QUIET: &str = include_str!("clone/quiet.gitconfig");

/// Describes the clone of worker `id`, before it is made as well as after.
///
/// # Errors
/// When the path is not UTF-8.
pub fn repo_of(source: &Source, id: &Name) -> Result<Repo> {
    let branch = format!("looop/{}", source::ref_word(id));
    Ok(Repo { source: text(&source.repo)?, base: source.head.clone(), branch })
}

/// Makes the clone that `repo` describes in the directory `into`, which must not exist: checked out on `looop/ID` at the
/// source's HEAD commit, with this choice of the source's objects. A branch of that name in the source is ignored; see
/// [`collect()`].
///
/// # Errors
/// Names what failed; the directory is removed then.
pub fn make(git: &Git, source: &Source, into: &Path, repo: &Repo, objects: Objects) -> Result<()> {
    let made = fs::DirBuilder::new().mode(0o700).create(into);
    made.doing("make the directory", into)?;
    let filled = source.keep_base(git, repo).and_then(|kept| {
        fill(git, source, into, repo, objects)
            .inspect_err(|_| drop(source.delete_ref(git, &kept, &repo.base)))
    });
    // The first error is the one to report.
    filled.inspect_err(|_| drop(fs::remove_dir_all(into)))
}

fn fill(git: &Git, source: &Source, into: &Path, repo: &Repo, objects: Objects) -> Result<()> {
    // The worker is the committer, whatever config its commands read.
    let id = repo.branch.rsplit('/').next().unwrap_or_default();
    let (name, address) = author(id);
    let more = format!("[user]\n\tname = \"{}\"\n\temail = {address}\n{QUIET}", name.replace('"', ""));
    let dir = GitDir::create(&into.join(".git"), source.objects_format(), &repo.branch, &more)?;
    match objects {
        Objects::Shared => source.lend(git, &dir, &repo.base)?,
        Objects::Reachable => source.give_pack(git, &dir, &repo.base)?,
    }
    // Counted before git makes a file for each entry.
    git.entries(&dir, &repo.base)?;
    let branch = format!("refs/heads/{}", repo.branch);
    git.run(&dir, &GitCommand::SetRef { name: &branch, to: &repo.base, old: None })?;
    git.run(&dir.with_files(into)?, &GitCommand::CheckOut)?;
    Ok(())
}

/// Returns the identity of commits in a worker's clone: a name and an address.
fn author(id: &str) -> (String, String) {
    (format!("looop worker {id}"), "worker@looop.invalid".to_owned())
}

/// Packs what these lines reach into files with this stem; returns the pack's path.
fn pack(git: &Git, dir: &GitDir, wanted: &str, stem: &Path) -> Result<PathBuf> {
    let hash = git.feed(dir, &GitCommand::Pack { stem: &text(stem)? }, wanted.as_bytes())?;
    let mut name = stem.as_os_str().to_owned();
    name.push(format!("-{}.pack", String::from_utf8_lossy(&hash).trim()));
    Ok(PathBuf::from(name))
}
