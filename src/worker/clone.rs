//! The private clone of a worker: made from the human's repository, and its commits brought back as a branch.
//!
//! # Guarantees
//! - Of the human's repository only objects and the refs `refs/looop/ID/base` and `refs/heads/looop/ID` change.
//!   Tree, index, HEAD, stash, config and hooks stay as they are, and no hook of it runs.
//! - The clone belongs to the worker, so nothing in it is believed: git never runs with the clone's own `.git`,
//!   but with a view of it that holds data alone, no config, no hooks, no links.
//! - No branch is ever moved but forward, and none that is in use. A clone with work that is nowhere else is
//!   not removed without a human's word.
//!
//! # Limits
//! - Submodules and LFS files are not fetched: a submodule is an empty directory, an LFS file its pointer.
//! - The clone borrows objects. The base ref keeps all that its commit needs. Git in the clone may also borrow
//!   an object that it finds in the human's repository by chance (the same text on another branch); where the
//!   worker can write there git marks it as fresh, so that only `gc --prune=now` would drop it; where it
//!   cannot, as in the sandbox, git writes a copy into the clone.
//! - A path that is not UTF-8 is refused.

mod collect;
mod git;
mod leftovers;
mod source;
mod trees;
mod user_side;
mod view;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::model::fault::Fault;
use crate::model::name::Name;
use crate::model::worker::Repo;

pub use collect::{Collected, collect, collect_within};
pub use git::Git;
pub use leftovers::{Leftovers, Paths, discard, leftovers};
pub use source::{Source, inspect, stores};
pub use trees::{Change, Grown, Trees, commit_all, is_empty, top_of};

use git::{Place, text};

/// What is written down of a clone of worker `id`, before it is made as well as after.
///
/// # Errors
/// When the path is not UTF-8.
pub fn repo_of(source: &Source, id: &Name) -> Result<Repo> {
    let branch = format!("looop/{}", source::ref_word(id));
    Ok(Repo { source: text(&source.repo)?, base: source.head.clone(), branch })
}

/// Makes the clone of worker `id` in the directory `into`, which must not exist: checked out on `looop/ID` at the
/// source's HEAD commit. A branch of that name in the source plays no part; see [`collect()`].
///
/// # Errors
/// Says what could not be done; nothing is left behind then.
pub fn make(git: &Git, source: &Source, into: &Path, id: &Name) -> Result<Repo> {
    let repo = repo_of(source, id)?;
    let made = fs::DirBuilder::new().mode(0o700).create(into);
    made.with_context(|| format!("could not make the directory `{}`", into.display()))?;
    let filled = source.keep_base(git, &repo).and_then(|kept| {
        fill(git, source, into, &repo).inspect_err(|_| drop(source.delete_ref(git, &kept, &repo.base)))
    });
    // The first error is the one to tell.
    filled.inspect_err(|_| drop(fs::remove_dir_all(into))).map(|()| repo)
}

fn fill(git: &Git, source: &Source, into: &Path, repo: &Repo) -> Result<()> {
    init(git, source, into, &repo.branch)?;
    let place = Place::of(&into.join(".git"))?.with_tree(into)?;
    let branch = format!("refs/heads/{}", repo.branch);
    let id = repo.branch.rsplit('/').next().unwrap_or_default();
    // Who committed is the worker, whoever's config its commands would read.
    git.run(&place, &["config", "user.name", &format!("looop worker {id}")])?;
    git.run(&place, &["config", "user.email", "worker@looop.invalid"])?;
    git.run(&place, &["update-ref", &branch, &repo.base])?;
    git.run(&place, &["reset", "-q", "--hard"])?;
    Ok(())
}

/// An empty repository in `dir` that borrows all objects of the source.
fn init(git: &Git, source: &Source, dir: &Path, branch: &str) -> Result<()> {
    let format = format!("--object-format={}", source.format);
    let place = Place::none(dir);
    git.run(&place, &["init", "-q", "--template=", &format, "-b", branch, "--", &text(dir)?])?;
    let inside = dir.join(".git");
    let write = |name: &str, bytes: &[u8]| {
        let path = inside.join(name);
        fs::write(&path, bytes).with_context(|| format!("could not write `{}`", path.display()))
    };
    fs::create_dir_all(inside.join("objects/info")).context("could not make `objects/info`")?;
    write("objects/info/alternates", alternate(&text(&source.common.join("objects"))?).as_bytes())?;
    match fs::read(source.common.join("shallow")) {
        Ok(bytes) => write("shallow", &bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context("could not read where the history of the repository is cut off"),
    }
}

/// A line of `objects/info/alternates`, quoted so that any path is one line.
fn alternate(path: &str) -> String {
    let mut line = String::from("\"");
    for c in path.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            c => line.push(c),
        }
    }
    line.push_str("\"\n");
    line
}

/// The fault of a clone that cannot be worked with.
fn fault(doing: &str, why: &str) -> anyhow::Error {
    Fault::failed(format!("could not {doing}: {why}")).into()
}
