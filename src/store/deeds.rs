//! Making a move's change to a file of the data dir, and finding out after a crash whether it was made.
//!
//! Every change carries the digest of what it replaces. Where the file is another one by now, somebody else
//! wrote it, and it is left alone.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::file::{self, Keep};
use super::layout::Layout;
use super::{lock, texts};
use crate::model::beat::Deed;
use crate::model::step::{self, CHANGED, Probe};
use crate::model::world::Digest;

/// Makes a change of a file under the store's lock. None: done. A text: refused, because the file is not
/// what the decision saw.
///
/// # Errors
/// When the file system refuses; then the file is as it was.
pub fn perform(layout: &Layout, deed: &Deed) -> Result<Option<String>> {
    let _held = lock::store(&layout.store_lock())?;
    match probe(layout, deed)? {
        Probe::NotMade => {}
        // The change stands there already, byte for byte.
        Probe::Made | Probe::Journaled(_) => return Ok(None),
        Probe::Dropped(why) | Probe::Unknown(why) => return Ok(Some(why)),
    }
    match deed {
        Deed::Write { path, text, executable, replaces } => {
            let target = layout.file(path);
            if let Some(dir) = target.parent() {
                file::make_dir(dir)?;
            }
            let mode = if *executable { 0o700 } else { 0o600 };
            match replaces {
                Some(_) => file::write(&target, text.as_bytes(), mode, Keep::Durable)?,
                None if file::create(&target, text.as_bytes(), mode)? => {}
                None => return Ok(Some(CHANGED.to_owned())),
            }
        }
        Deed::Rename { from, to, .. } => {
            let target = layout.file(to);
            if let Some(dir) = target.parent() {
                file::make_dir(dir)?;
            }
            file::rename_new(&layout.file(from), &target)?;
        }
        Deed::Remove { path, .. } => file::remove(&layout.file(path))?,
        Deed::Nothing | Deed::Exec { .. } | Deed::Fleet => {}
    }
    Ok(None)
}

/// Makes a change that is found made durable.
///
/// # Errors
/// Names the file.
pub fn sync(layout: &Layout, deed: &Deed) -> Result<()> {
    match deed {
        Deed::Write { path, .. } | Deed::Remove { path, .. } => file::sync(&layout.file(path)),
        Deed::Rename { from, to, .. } => {
            file::sync(&layout.file(to)).and_then(|()| file::sync(&layout.file(from)))
        }
        Deed::Nothing | Deed::Exec { .. } | Deed::Fleet => Ok(()),
    }
}

/// Finds out whether a change of a file was made. [`Probe::NotMade`] means that making it is safe.
///
/// # Errors
/// When a file cannot be read.
pub fn probe(layout: &Layout, deed: &Deed) -> Result<Probe> {
    match step::compare(deed, &mut |path| content(layout, path)) {
        // No regular file, or one that may not be read: somebody else put it there, and it stays.
        Err(error) if error.is::<file::ReadError>() => Ok(Probe::Dropped(format!("{error:#}"))),
        other => other,
    }
}

/// blake3 of each sensor and timer by its path. One that cannot be read has the digest of nothing, which never
/// fits, so that no move touches it.
///
/// # Errors
/// When a directory cannot be listed.
pub fn held(layout: &Layout) -> Result<BTreeMap<String, Digest>> {
    let mut held = BTreeMap::new();
    for dir in ["sensors", "schedules"] {
        for name in texts::list(&layout.file(dir))? {
            let path = format!("{dir}/{name}");
            if let Some(digest) = content(layout, &path).unwrap_or(Some(String::new())) {
                held.insert(path, digest);
            }
        }
    }
    Ok(held)
}

/// blake3 of a file of the data dir; none when there is none.
fn content(layout: &Layout, path: &str) -> Result<Option<Digest>> {
    file::digest(&layout.file(path)).with_context(|| format!("could not read `{path}`"))
}

/// Puts an ask and its answer away, after a decision saw it. Done under the store's lock; what is away
/// already is fine.
///
/// # Errors
/// Names the file.
pub fn put_away_ask(layout: &Layout, id: &crate::model::name::Name) -> Result<()> {
    let _held = lock::store(&layout.store_lock())?;
    let past = layout.asks().join("archive");
    file::make_dir(&past)?;
    let ask = layout.asks().join(format!("{id}.json"));
    let answer = layout.asks().join(format!("{id}.answer.json"));
    let stamp = std::fs::metadata(&ask).and_then(|meta| meta.modified()).ok();
    let suffix =
        stamp.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |age| age.as_millis());
    // The answer first: one that stayed behind would be taken for the answer to the next ask of this id,
    // while an ask that stayed behind is known as closed by the memory.
    for (from, name) in [(answer, format!("{id}-{suffix}.answer.json")), (ask, format!("{id}-{suffix}.json"))]
    {
        let to = past.join(name);
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("could not put `{}` away", from.display()));
            }
            Err(_) => {}
            // A power loss must not bring back a yes that was used.
            Ok(()) => file::sync_dir(&to).and_then(|()| file::sync_dir(&from))?,
        }
    }
    Ok(())
}

/// Removes a timer that can never fire again, unless it was made anew since it was read. `remember` is called just
/// before a removal.
///
/// # Errors
/// Names the file.
pub fn drop_schedule(
    layout: &Layout,
    name: &crate::model::name::Name,
    read: &crate::model::schedule::Schedule,
    remember: &mut dyn FnMut(String) -> Result<()>,
) -> Result<()> {
    let _held = lock::store(&layout.store_lock())?;
    let relative = super::layout::schedule_path(name);
    let path = layout.file(&relative);
    let now: Option<crate::model::schedule::Schedule> = super::records::read_json(&path)?;
    if now.as_ref() != Some(read) {
        return Ok(());
    }
    remember(relative)?;
    file::remove(&path)
}
