//! Fetching a worker's commits: from the clone's own objects, through a check of each, to a branch of the user.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::leftovers::{head, leftovers};
use super::source::{Source, inspect, numbered};
use super::view::View;
use crate::rules::json::clip;
use crate::rules::user_side::{LINK, UserSidePath, reason_of};
use crate::rules::worker::Repo;
use crate::rules::worker::leftovers::Leftovers;
use crate::vcs::git::{Git, GitCommand, fault};

/// How many paths are kept; one more line says how many others there are.
const MAX_KEPT: usize = 10;
/// How much of one path is kept, in characters.
const MAX_PATH_CHARS: usize = 200;
/// How many links are read; any further link counts as a link that leads outside.
const MAX_LINKS: usize = 1000;
/// The longest target of a link that is read, in bytes.
const MAX_TARGET_BYTES: u64 = 4096;

/// The result of a fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collected {
    /// The branch of the user's repository that holds the commits; `None` if there were none.
    pub branch: Option<String>,
    pub tip: Option<String>,
    /// How many commits the worker made.
    pub commits: u64,
    /// The paths in them that execute on the user's side.
    #[serde(default)]
    pub user_side: Vec<UserSidePath>,
    /// What exists only in the clone.
    pub left: Leftovers,
}

/// Fetches the commits that HEAD reaches into the source, as the branch with which the clone began, whatever the worker
/// has checked out since. An existing branch only moves forward and only while it is not in use; otherwise the commits
/// go to `looop/ID-2` and so on. Repeating the call has no further effect.
///
/// # Errors
/// When the commits are not all in the source; then none of its branches changed, and the clone is as it was.
pub fn collect(git: &Git, repo: &Repo, clone: &Path) -> Result<Collected> {
    collect_within(git, repo, clone, &|place| place())
}

/// A wrapper around the update of a branch: it calls its argument, or says why the update is not allowed.
pub type Fence<'a> = &'a dyn Fn(&mut dyn FnMut() -> Result<String>) -> Result<String>;

/// As [`collect()`]; the branch is updated within a fence, after all slow steps.
///
/// # Errors
/// As [`collect()`], and when the fence refuses the update.
pub fn collect_within(git: &Git, repo: &Repo, clone: &Path, fence: Fence) -> Result<Collected> {
    let source = inspect(git, Path::new(&repo.source)).map_err(|error| error.during("bring commits back"))?;
    let collected = {
        let view = View::open(git, &source, clone)?;
        bring(git, &source, &view, repo, fence)?
    };
    Ok(Collected { left: leftovers(git, repo, clone), ..collected })
}

/// Fetches the commits of the worker's branch, if it has any.
fn bring(git: &Git, source: &Source, view: &View, repo: &Repo, fence: Fence) -> Result<Collected> {
    // Resolved once: this stays the commit, whatever the worker's files say from here on.
    let Some(tip) = head(git, view)? else { return Ok(Collected::default()) };
    let range = format!("{}..{tip}", repo.base);
    let commits = git.line(&view.git_dir, &GitCommand::CountCommits(&range))?;
    let commits: u64 = commits.parse().context("could not count the commits")?;
    if commits == 0 {
        return Ok(Collected::default());
    }
    // A commit that a checkout cannot hold is not fetched.
    git.entries(&view.git_dir, &tip)?;
    let user_side = user_side(git, view, &repo.base, &tip)?;
    // What the tip needs besides the base, as one pack. The hash of every object is checked, and that the objects to
    // which it points exist, so that a clone with false objects adds nothing; the base is complete because a ref keeps
    // it.
    let wanted = format!("{tip}\n^{}\n", repo.base);
    let kept = source.take_pack(git, &super::pack(git, &view.git_dir, &wanted, &view.file("out"))?)?;
    let placed = fence(&mut || source.set_ref(git, &tip, || pick(git, source, view, repo, &tip)));
    // Only needed until a ref holds the pack; without a ref, `gc` may remove the pack.
    drop(fs::remove_file(kept));
    let branch = Some(placed?.trim_start_matches("refs/heads/").to_owned());
    Ok(Collected { branch, tip: Some(tip), commits, user_side, left: Leftovers::default() })
}

/// Returns the first branch that may become the tip, with its current value.
fn pick(git: &Git, source: &Source, view: &View, repo: &Repo, tip: &str) -> Result<(String, Option<String>)> {
    let flat = repo.branch.replace('/', "-");
    let refs = source.refs(git, &["refs/heads/looop", &format!("refs/heads/{flat}*")])?;
    // A branch named `looop` excludes branches named `looop/ID`.
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
    Err(fault("bring commits back", "all names for the branch are taken"))
}

/// Compares two commits that the view holds.
///
/// # Errors
/// When git cannot compare them.
fn user_side(git: &Git, view: &View, base: &str, tip: &str) -> Result<Vec<UserSidePath>> {
    let (mut found, mut links, mut others) = (BTreeSet::new(), 0, 0);
    for change in git.changes(&view.git_dir, base, tip)? {
        let target = match &change.new {
            Some((LINK, oid)) => {
                links += 1;
                if links <= MAX_LINKS { target_of(git, view, oid)? } else { None }
            }
            _ => None,
        };
        let Some(reason) = reason_of(&change, target.as_deref()) else { continue };
        // Bytes that are not UTF-8 are replaced: the name is only shown.
        let path = change.path.to_string_lossy();
        match found.len() < MAX_KEPT {
            true => drop(found.insert((clip(&path, MAX_PATH_CHARS), reason.to_owned()))),
            false => others += 1,
        }
    }
    let mut kept: Vec<UserSidePath> =
        found.into_iter().map(|(path, reason)| UserSidePath { path, reason }).collect();
    if others > 0 {
        kept.push(UserSidePath { path: "…".to_owned(), reason: format!("{others} more paths") });
    }
    Ok(kept)
}

/// Returns the target of a link; `None` if it is too long.
fn target_of(git: &Git, view: &View, oid: &str) -> Result<Option<Vec<u8>>> {
    let size = git.line(&view.git_dir, &GitCommand::Size(oid))?;
    match size.trim().parse::<u64>() {
        Ok(size) if size <= MAX_TARGET_BYTES => git.run(&view.git_dir, &GitCommand::Blob(oid)).map(Some),
        _ => Ok(None),
    }
}
