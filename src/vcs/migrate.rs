//! Migration of an older data dir to this program's layout, in steps that can be repeated.
//!
//! # Guarantees `format` is written last, so a crash leaves a data dir of the older layout, and the next migration
//! repeats every step. Commands that only read use the older layout as it is, and an older program refuses the newer
//! layout.

use anyhow::{Result, ensure};

use super::{commits, seed};
use crate::rules::time::Now;
use crate::store::exchange::{self, Exchanged, Fallback};
use crate::store::file::{self, Doing};
use crate::store::layout::{self, Layout};
use crate::store::lock::{self, Held};
use crate::vcs::history::{FileEdit, History};

/// The largest `.gitignore` or `.gitattributes`, in bytes.
const MAX_LIST_BYTES: usize = 1 << 20;

/// The result of a migration.
#[derive(Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The format before the migration.
    pub from: u32,
    /// Which files are not yet in git, and why.
    pub uncommitted: Option<String>,
}

/// Migrates the data dir if no beat runs: a beat of an older program knows only the older layout. Returns `None` if
/// nothing was to do, or if the next beat will do it.
pub fn between_beats(layout: &Layout, now: Now) -> Result<Option<Migrated>> {
    if layout::format(layout)? == layout::FORMAT {
        return Ok(None);
    }
    match lock::tick(&layout.tick_lock()) {
        Ok(held) => in_beat(layout, now, &held),
        Err(error) if lock::is_busy(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Migrates the data dir; `_beat` is the lock of the beat that calls this.
pub fn in_beat(layout: &Layout, now: Now, _beat: &Held) -> Result<Option<Migrated>> {
    if layout::format(layout)? == layout::FORMAT {
        return Ok(None);
    }
    let _held = lock::store(&layout.store_lock())?;
    let from = layout::format(layout)?;
    // The changes of formats 2, 3 and 4.
    let mut written = Vec::new();
    for (name, wanted) in seed::OWN {
        written.extend(complete(layout, name, wanted)?);
    }
    layout::write_format(layout)?;
    written.push("format");
    // If a commit cannot be made now, the next beat makes it, as for every commit.
    let committed = commit(layout, now, from, &written);
    Ok(Some(Migrated { from, uncommitted: committed.err().map(|error| format!("{error:#}")) }))
}

fn commit(layout: &Layout, now: Now, from: u32, paths: &[&str]) -> Result<()> {
    let history = History::open(layout.root())?;
    history.heal()?;
    history.name_merge_driver()?;
    let mut edits = Vec::new();
    for path in paths {
        let bytes = file::read(&layout.file(path), MAX_LIST_BYTES)?;
        edits.push(FileEdit { path: (*path).to_owned(), bytes, executable: false });
    }
    let message = format!("init: the data dir of format {from} has format {} now\n", layout::FORMAT);
    commits::commit_own(&history, &message, now, edits)
}

/// Adds the lines that a file of looop's own lacks. Lines that the user added stay. Returns the name if it wrote.
fn complete(layout: &Layout, name: &'static str, wanted: &str) -> Result<Option<&'static str>> {
    let path = layout.file(name);
    let present = file::read_text(&path, MAX_LIST_BYTES).doing("read", &path)?;
    let seen = present.as_ref().map(|text| exchange::digest_of(text.as_bytes()));
    let mut text = present.unwrap_or_default();
    let missing: Vec<&str> =
        wanted.lines().filter(|line| !text.lines().any(|known| known == *line)).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    missing.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    let done = exchange::write(&path, text.as_bytes(), 0o600, seen.as_ref(), Fallback::Steps)?;
    ensure!(done == Exchanged::Made, "could not write `{}`: changed by someone else", path.display());
    Ok(Some(name))
}
