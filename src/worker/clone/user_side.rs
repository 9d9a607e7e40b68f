//! The paths between the base of a worker and its tip that execute on the user's side.

use std::collections::BTreeSet;

use anyhow::Result;

use super::view::View;
use crate::model::json::clip;
use crate::model::user_side::{TreeChange, UserSidePath, reason_of};
use crate::sys::git::{Git, GitCommand};

/// How many paths are kept; one more line says how many others there are.
const MAX_KEPT: usize = 10;
/// How much of one path is kept, in characters.
const MAX_PATH_CHARS: usize = 200;
/// How many links are read; any further link counts as a link that leads outside.
const MAX_LINKS: usize = 1000;
/// The longest target of a link that is read, in bytes.
const MAX_TARGET_BYTES: u64 = 4096;
/// The mode of a link.
const LINK: u32 = 0o120_000;

/// Compares two commits that the view holds.
///
/// # Errors
/// When git cannot compare them.
pub(super) fn between(git: &Git, view: &View, base: &str, tip: &str) -> Result<Vec<UserSidePath>> {
    let raw = git.run(&view.git_dir, &GitCommand::Changes(base, tip))?;
    let mut parts = raw.split(|byte| *byte == 0);
    let (mut found, mut links, mut others) = (BTreeSet::new(), 0, 0);
    while let (Some(head), Some(path)) = (parts.next().filter(|head| !head.is_empty()), parts.next()) {
        let head = String::from_utf8_lossy(head).into_owned();
        let fields: Vec<&str> = head.trim_start_matches(':').split(' ').collect();
        let mode = |at: usize| {
            fields.get(at).and_then(|text| u32::from_str_radix(text, 8).ok()).filter(|mode| *mode != 0)
        };
        let (old_mode, new_mode) = (mode(0), mode(1));
        let is_link = new_mode == Some(LINK);
        links += usize::from(is_link);
        let oid = fields.get(3).filter(|_| is_link && links <= MAX_LINKS);
        let target = match oid {
            Some(oid) => target_of(git, view, oid)?,
            None => None,
        };
        // Bytes that are not UTF-8 are replaced: the name is only shown.
        let path = String::from_utf8_lossy(path).into_owned();
        let change = TreeChange { path: &path, old_mode, new_mode, target: target.as_deref() };
        let Some(reason) = reason_of(&change) else { continue };
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
