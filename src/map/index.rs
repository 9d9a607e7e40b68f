//! The index of a project: the definitions, references and imports of each file, keyed by content, so that only
//! changed files are parsed again. It is a cache: an unreadable one is rebuilt.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use super::lang::Lang;
use super::reader::Reader;
use super::tags::Tags;
use super::walk::{self, FoundFile};
use super::{IndexUpdate, MapLimits};
use crate::os::clock::{self, Deadline};
use crate::store::file;

/// The version of the index file. A file of another version is discarded.
const VERSION: u32 = 2;
const MAX_INDEX_BYTES: usize = 512 << 20;
/// A file that changed this shortly before it was read may change again with the same time stamp, in nanoseconds.
const UNSETTLED_NS: i128 = 2_000_000_000;
/// Text with a line longer than this looks generated: a bundle, a data table.
const LONG_LINE: usize = 20_000;

/// The indexed data of one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct IndexEntry {
    /// Its size in bytes and its change time in nanoseconds: if both are equal, the file is not read again.
    size: u64,
    changed_ns: i64,
    /// The beginning of its BLAKE3 digest; empty for a file that is not parsed.
    hash: String,
    pub(super) tags: Tags,
    /// Why the file was not parsed.
    pub(super) skipped: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MapIndex {
    version: u32,
    at_ms: i64,
    pub(super) files: BTreeMap<String, IndexEntry>,
}

impl MapIndex {
    /// The files that define each name, numbered in the order of their paths.
    pub(super) fn definers(&self) -> HashMap<&str, Vec<usize>> {
        let mut definers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, entry) in self.files.values().enumerate() {
            for def in &entry.tags.defs {
                let files = definers.entry(&def.name).or_default();
                if files.last() != Some(&at) {
                    files.push(at);
                }
            }
        }
        definers
    }

    /// True if the entry of a file is certainly up to date.
    fn is_settled(&self, found: &FoundFile) -> bool {
        let known = self.files.get(&found.path);
        known.is_some_and(|entry| entry.size == found.size && entry.changed_ns == found.changed_ns)
            && i128::from(self.at_ms) * 1_000_000 - i128::from(found.changed_ns) > UNSETTLED_NS
    }
}

/// Opens and updates the index of the files below `root`. It is stored in `cache`, if one is given.
///
/// # Errors
/// The root cannot be listed, or the index cannot be written.
pub fn open(root: &Path, cache: Option<&Path>, limits: &MapLimits) -> Result<(MapIndex, IndexUpdate)> {
    let deadline = Deadline::after_ms(limits.timeout_ms);
    let load = |path: &Path| -> Option<MapIndex> {
        serde_json::from_slice(&file::read(path, MAX_INDEX_BYTES).ok()??).ok()
    };
    let old = cache.and_then(load).filter(|index| index.version == VERSION);
    let (mut touched, mut old) = (old.is_none(), old.unwrap_or_default());
    let (found, is_all) = walk::files(root, limits, &deadline)?;
    // An interrupted walk would drop the files that it did not reach.
    let is_interrupted = !is_all && found.len() < limits.files;
    let mut update = IndexUpdate { files: found.len(), all: is_all, ..IndexUpdate::default() };
    touched |= old.files.len() > found.len();
    let mut index = MapIndex { version: VERSION, at_ms: clock::now().unix_ms, files: BTreeMap::new() };
    let (settled, unsure): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| old.is_settled(one));
    for (one, entry) in unsure.iter().zip(read_all(root, &unsure, &old, limits, &deadline)) {
        let Some(entry) = entry else {
            update.late += 1;
            continue;
        };
        let is_known = old.files.get(&one.path).is_some_and(|known| known.hash == entry.hash);
        update.parsed += usize::from(!entry.hash.is_empty() && !is_known);
        touched = true;
        index.files.insert(one.path.clone(), entry);
    }
    index.files.extend(settled.iter().filter_map(|one| old.files.remove_entry(&one.path)));
    update.partial = index.files.values().filter(|entry| entry.tags.partial).count();
    update.skipped = index.files.values().filter(|entry| entry.skipped.is_some()).count();
    if touched
        && !is_interrupted
        && let Some(cache) = cache
    {
        save(cache, &index)?;
    }
    Ok((index, update))
}

/// Reads files in parallel; the entries are in the order of the files, and `None` where no time was left.
fn read_all(
    root: &Path,
    wanted: &[FoundFile],
    old: &MapIndex,
    limits: &MapLimits,
    deadline: &Deadline,
) -> Vec<Option<IndexEntry>> {
    let next = AtomicUsize::new(0);
    let entries: Vec<OnceLock<IndexEntry>> = wanted.iter().map(|_| OnceLock::new()).collect();
    let work = || {
        let mut reader = Reader::default();
        while !deadline.passed()
            && let at = next.fetch_add(1, Ordering::Relaxed)
            && let (Some(one), Some(place)) = (wanted.get(at), entries.get(at))
        {
            let read = read_one(&root.join(&one.path), one, old.files.get(&one.path), limits, &mut reader);
            let read = read.unwrap_or_else(|why| IndexEntry { skipped: Some(why), ..IndexEntry::default() });
            place.get_or_init(|| IndexEntry { size: one.size, changed_ns: one.changed_ns, ..read });
        }
    };
    let threads =
        thread::available_parallelism().map_or(1, usize::from).min(wanted.len().div_ceil(16)).min(8);
    if threads <= 1 {
        work();
    } else {
        thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    }
    entries.into_iter().map(OnceLock::into_inner).collect()
}

/// The data of one file; `old` is what is known of it. A file of an unknown language counts by its path.
///
/// # Errors
/// Why the file is skipped.
fn read_one(
    path: &Path,
    found: &FoundFile,
    old: Option<&IndexEntry>,
    limits: &MapLimits,
    reader: &mut Reader,
) -> Result<IndexEntry, String> {
    let lang = Lang::of(&found.path);
    if lang.is_none() && !is_manifest(&found.path) {
        return Ok(IndexEntry::default());
    }
    if found.size > limits.file_bytes as u64 {
        return Err(format!("it is larger than {} KiB", limits.file_bytes >> 10));
    }
    let text = file::read_text(path, limits.file_bytes).map_err(|error| error.to_string())?;
    let text = text.ok_or("it is gone")?;
    let hash = blake3::hash(text.as_bytes()).to_hex()[..24].to_owned();
    if let Some(old) = old.filter(|old| old.hash == hash) {
        return Ok(old.clone());
    }
    let tags = match lang {
        Some(_) if text.lines().any(|line| line.len() > LONG_LINE) => {
            return Err("it looks generated: its lines are too long".to_owned());
        }
        Some(lang) => reader.read(lang, &text),
        None => Tags { imports: manifest_name(&found.path, &text).into_iter().collect(), ..Tags::default() },
    };
    Ok(IndexEntry { hash, tags, ..IndexEntry::default() })
}

/// True for a file that defines the name by which others import its directory.
fn is_manifest(path: &str) -> bool {
    matches!(path.rsplit('/').next(), Some("go.mod" | "Cargo.toml"))
}

fn manifest_name(path: &str, text: &str) -> Option<String> {
    if path.ends_with("go.mod") {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("module "))?;
        return line.split_whitespace().next().map(|name| name.trim_matches('"').to_owned());
    }
    let table: toml::Table = text.parse().ok()?;
    Some(table.get("package")?.get("name")?.as_str()?.replace('-', "_"))
}

fn save(path: &Path, index: &MapIndex) -> Result<()> {
    let bytes =
        serde_json::to_vec(index).map_err(|error| anyhow!("could not write the map's index: {error}"))?;
    if let Some(dir) = path.parent() {
        file::make_dir(dir)?;
    }
    // A lost index is rebuilt after a crash.
    file::write(path, &bytes, 0o600, file::Durability::Atomic)
}
