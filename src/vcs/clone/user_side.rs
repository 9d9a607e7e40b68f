//! The paths between the base of a worker and its tip that execute on the user's side.

use std::collections::BTreeSet;

use anyhow::Result;

use super::view::View;
use crate::rules::json::clip;
use crate::rules::user_side::{LINK, UserSidePath, reason_of};
use crate::vcs::git::{Git, GitCommand};

/// How many paths are kept; one more line says how many others there are.
const MAX_KEPT: usize = 10;
/// How much of one path is kept, in characters.
const MAX_PATH_CHARS: usize = 200;
/// How many links are read; any further link counts as a link that leads outside.
const MAX_LINKS: usize = 1000;
/// The longest target of a link that is read, in bytes.
const MAX_TARGET_BYTES: u64 = 4096;

/// Compares two commits that the view holds.
///
/// # Errors
/// When git cannot compare them.
pub(super) fn between(git: &Git, view: &View, base: &str, tip: &str) -> Result<Vec<UserSidePath>> {
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
