//! Project files that the user has allowed, each by its path and digest. A changed file is not allowed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::exchange::digest_of;
use super::file::{self, Durability};
use super::layout::Layout;
use super::lock;
use crate::rules::fault::Fault;
use crate::rules::time::Now;
use crate::store::json_file;

/// The form of `fix/trust.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    files: BTreeMap<String, TrustEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustEntry {
    /// blake3 of its bytes.
    pub digest: String,
    /// When it was allowed, in milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// Whether a file may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustState {
    /// The user allowed these bytes.
    Allowed,
    /// The user allowed other bytes at this path.
    Changed,
    /// The user has not allowed a file at this path.
    Unknown,
}

/// Lists all allowed files, by their absolute paths.
///
/// # Errors
/// When the record cannot be read, or other users can write it.
pub fn all(layout: &Layout) -> Result<BTreeMap<String, TrustEntry>> {
    use std::os::unix::fs::MetadataExt;
    let path = layout.trust();
    if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.mode() & 0o022 != 0) {
        let shown = path.display();
        let fault = Fault::failed(format!("could not use `{shown}`: other users can write it"));
        return Err(fault.hint(format!("look at it, then run `chmod 600 {shown}`")).into());
    }
    Ok(json_file::read_json::<TrustFile>(&path)?.unwrap_or_default().files)
}

/// Returns whether the file at this path may be used with these bytes.
///
/// # Errors
/// As [`all`].
pub fn state(layout: &Layout, place: &Path, text: &str) -> Result<TrustState> {
    let Some(place) = place.to_str() else { return Ok(TrustState::Unknown) };
    Ok(match all(layout)?.get(place) {
        Some(entry) if entry.digest == digest_of(text.as_bytes()) => TrustState::Allowed,
        Some(_) => TrustState::Changed,
        None => TrustState::Unknown,
    })
}

/// Allows the file at this path with these bytes.
///
/// # Errors
/// When the record cannot be read or written, or the path is not UTF-8.
pub fn allow(layout: &Layout, place: &Path, text: &str, now: Now) -> Result<()> {
    let Some(name) = place.to_str() else {
        let what = format!("could not trust `{}`: its path is not UTF-8 text", place.display());
        return Err(Fault::usage(what).hint("rename the file or its folder").into());
    };
    let entry = TrustEntry { digest: digest_of(text.as_bytes()), at_ms: now.unix_ms };
    change(layout, |files| drop(files.insert(name.to_owned(), entry)))
}

/// Revokes the permission; returns false if there was none.
pub fn revoke(layout: &Layout, place: &Path) -> Result<bool> {
    let mut was_there = false;
    change(layout, |files| was_there = place.to_str().is_some_and(|place| files.remove(place).is_some()))?;
    Ok(was_there)
}

fn change(layout: &Layout, edit: impl FnOnce(&mut BTreeMap<String, TrustEntry>)) -> Result<()> {
    file::make_dir(&layout.fixes())?;
    let _store = lock::store(&layout.store_lock())?;
    let mut files = all(layout)?;
    edit(&mut files);
    json_file::write_json(&layout.trust(), &TrustFile { files }, Durability::Durable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_allowed_by_path_and_bytes_until_it_is_revoked() {
        let (_dir, layout) = crate::store::layout::tests::temporary();
        let now = crate::os::clock::now();
        let (one, two) = (Path::new("/p/leanfile.toml"), Path::new("/q/leanfile.toml"));
        assert_eq!(state(&layout, one, "a").unwrap(), TrustState::Unknown);
        allow(&layout, one, "a", now).unwrap();
        assert_eq!(state(&layout, one, "a").unwrap(), TrustState::Allowed);
        assert_eq!(state(&layout, one, "a ").unwrap(), TrustState::Changed);
        assert_eq!(state(&layout, two, "a").unwrap(), TrustState::Unknown, "another place");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&layout.trust()), 0o600);
        assert!(revoke(&layout, one).unwrap() && !revoke(&layout, one).unwrap());
        assert_eq!(state(&layout, one, "a").unwrap(), TrustState::Unknown);
        std::fs::set_permissions(layout.trust(), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(all(&layout).unwrap_err().to_string().contains("other users can write it"));
    }
}
