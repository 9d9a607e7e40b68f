//! Records which git directories existed before a sandboxed child began. The record is a file, so that the next beat
//! can compare after a crash.

use std::path::Path;

use anyhow::Result;

use super::file::{Doing, Durability};
use crate::rules::sandbox::Sandbox;
use crate::rules::user_side::UserSidePath;
use crate::sandbox::GitWatch;
use crate::store::json_file;

/// Writes the record, before the child begins. A child without a sandbox gets none: it may do all that the user may.
/// Leaves out the folder `own`: a worker's clone belongs to the worker, and holds what the worker checks out.
pub fn begin(record: &Path, sandbox: Option<&Sandbox>, own: Option<&Path>) -> Result<()> {
    let Some(sandbox) = sandbox else { return Ok(()) };
    let mut access = sandbox.access.clone();
    access.write.retain(|dir| Some(dir.as_path()) != own);
    json_file::write_json(record, &GitWatch::begin(&access), Durability::Atomic)
}

/// Renames new git directories that can run commands, once the child and its descendants have ended. Does nothing
/// without a record.
///
/// # Errors
/// When the record cannot be read or removed.
pub fn end(record: &Path) -> Result<Vec<UserSidePath>> {
    let Some(watch) = json_file::read_json::<GitWatch>(record)? else { return Ok(Vec::new()) };
    let found = watch.end();
    std::fs::remove_file(record).doing("remove", record)?;
    Ok(found)
}
