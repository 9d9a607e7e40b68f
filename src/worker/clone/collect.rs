//! Bringing a worker's commits back: from the clone's own objects, through a check of each, to a branch of the human's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::leftovers::{head, leftovers};
use super::source::{Source, inspect, numbered};
use super::user_side;
use super::view::View;
use crate::model::leftovers::Leftovers;
use crate::model::user_side::UserSidePath;
use crate::model::worker::Repo;
use crate::sys::git::{Git, GitCommand, fault};

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collected {
    /// The branch of the human's repository that holds the commits; none where there were none.
    pub branch: Option<String>,
    /// Its commit.
    pub tip: Option<String>,
    /// How many commits the worker made.
    pub commits: u64,
    /// The paths in them that execute on the user's side.
    #[serde(default)]
    pub user_side: Vec<UserSidePath>,
    /// What is still in the clone alone.
    pub left: Leftovers,
}

/// Brings the commits that HEAD leads to into the source, as the branch that the clone began with, whatever the worker
/// checked out since. Where such a
/// branch is there already, it is moved only forward and only while nobody uses it; else the commits go to
/// `looop/ID-2` and so on. Doing it twice is doing it once.
///
/// # Errors
/// When the commits are not all in the source; then no branch of it changed, and the clone is as it was.
pub fn collect(git: &Git, repo: &Repo, clone: &Path) -> Result<Collected> {
    collect_within(git, repo, clone, &|place| place())
}

/// What a branch is given its place within: it calls what it is given, or says why that must not be done.
pub type Fence<'a> = &'a dyn Fn(&mut dyn FnMut() -> Result<String>) -> Result<String>;

/// As [`collect()`]; the branch gets its place within a fence, which all that takes long comes before.
///
/// # Errors
/// As [`collect()`], and when the fence does not let it pass.
pub fn collect_within(git: &Git, repo: &Repo, clone: &Path, fence: Fence) -> Result<Collected> {
    let source = inspect(git, Path::new(&repo.source))?.map_err(|why| fault("bring commits back", &why))?;
    let brought = {
        let view = View::open(git, &source, clone)?;
        bring(git, &source, &view, repo, fence)?
    };
    let left = leftovers(git, repo, clone);
    Ok(match brought {
        Some(brought) => Collected {
            branch: Some(brought.branch),
            tip: Some(brought.tip),
            commits: brought.commits,
            user_side: brought.user_side,
            left,
        },
        None => Collected { branch: None, tip: None, commits: 0, user_side: Vec::new(), left },
    })
}

/// Commits that were brought back.
struct BranchImport {
    branch: String,
    tip: String,
    commits: u64,
    user_side: Vec<UserSidePath>,
}

/// Brings the commits of the worker's branch, if it has some.
fn bring(git: &Git, source: &Source, view: &View, repo: &Repo, fence: Fence) -> Result<Option<BranchImport>> {
    // Resolved once: whatever the worker's files say from here on, this is the commit.
    let Some(tip) = head(git, view)? else { return Ok(None) };
    let range = format!("{}..{tip}", repo.base);
    let commits = git.line(&view.git_dir, &GitCommand::CountCommits(&range))?;
    let commits: u64 = commits.parse().context("could not count the commits")?;
    if commits == 0 {
        return Ok(None);
    }
    // A commit that a checkout could not hold does not come back.
    git.entries(&view.git_dir, &tip)?;
    let user_side = user_side::between(git, view, &repo.base, &tip)?;
    let kept = carry(git, source, view, &repo.base, &tip)?;
    let placed = fence(&mut || source.set_ref(git, &tip, || pick(git, source, view, repo, &tip)));
    // Only until a ref holds the pack; where no ref does, `gc` may have it.
    drop(fs::remove_file(kept));
    let branch = placed?.trim_start_matches("refs/heads/").to_owned();
    Ok(Some(BranchImport { branch, tip, commits, user_side }))
}

/// Copies what the tip needs besides the base into the source as one pack. Every object is hashed and checked
/// on the way, and so is that what it points to is there, so that a clone with false objects brings nothing;
/// the base is whole by the ref that keeps it. Returns the file that keeps the pack from
/// `gc` until a ref does.
fn carry(git: &Git, source: &Source, view: &View, base: &str, tip: &str) -> Result<PathBuf> {
    let wanted = view.input(&[tip.to_owned(), format!("^{base}")])?;
    source.take_pack(git, &super::pack(git, &view.git_dir, wanted, &view.file("out"))?)
}

/// The first branch that may become the tip, with its present value.
fn pick(git: &Git, source: &Source, view: &View, repo: &Repo, tip: &str) -> Result<(String, Option<String>)> {
    let flat = repo.branch.replace('/', "-");
    let refs = source.refs(git, &["refs/heads/looop", &format!("refs/heads/{flat}*")])?;
    // A branch of the name `looop` leaves no room for `looop/ID`.
    let stem = if refs.contains_key("refs/heads/looop") { &flat } else { &repo.branch };
    for name in numbered(&format!("refs/heads/{stem}")) {
        let below = format!("{name}/");
        let Some(at) = refs.get(&name) else {
            if refs.keys().any(|other| other.starts_with(&below)) {
                continue;
            }
            return Ok((name, None));
        };
        let is_free = || !at.in_use && !source.is_busy();
        if at.oid == tip || (is_free() && git.holds(&view.git_dir, &GitCommand::IsAncestor(&at.oid, tip))?) {
            return Ok((name, Some(at.oid.clone())));
        }
    }
    Err(fault("bring commits back", "no name for a branch is free"))
}
