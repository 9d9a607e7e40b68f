//! The index of a project: the definitions, references and imports of each file, keyed by content, so that only
//! changed files are parsed again. It is a cache: an unreadable one is rebuilt.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use super::lang::Lang;
use super::reader::Reader;
use super::tags::{Def, Tags};
use super::walk::{self, FoundFile, WalkEnd};
use super::{IndexUpdate, MapLimits};
use crate::os::clock::{self, Deadline};
use crate::store::file;

/// The version of the index file. A file of another version is discarded.
const VERSION: u32 = 1;
const MAX_INDEX_BYTES: usize = 512 << 20;
/// A file that changed this shortly before it was read may change again with the same time stamp, in nanoseconds.
const UNSETTLED_NS: i128 = 2_000_000_000;

/// The indexed data of one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct IndexEntry {
    /// Its size in bytes and its change time in nanoseconds: if both are equal, the file is not read again.
    size: u64,
    changed_ns: i64,
    /// The beginning of its BLAKE3 digest; empty for a file that is not parsed.
    hash: String,
    pub(super) defs: Vec<(u32, String, u32, u32)>,
    /// Names, and the number of references to each.
    pub(super) refs: Vec<(u32, u32)>,
    pub(super) imports: Vec<String>,
    /// True if the grammar could not parse all of it.
    pub(super) partial: bool,
    /// Why the file was not parsed.
    pub(super) skipped: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MapIndex {
    version: u32,
    at_ms: i64,
    /// Every name once; other fields hold indices into it.
    pub(super) names: Vec<String>,
    pub(super) files: BTreeMap<String, IndexEntry>,
}

/// Opens and updates the index of the files below `root`. It is stored in `cache`, if one is given.
///
/// # Errors
/// The root cannot be listed, or the index cannot be written.
pub fn open(root: &Path, cache: Option<&Path>, limits: &MapLimits) -> Result<(MapIndex, IndexUpdate)> {
    let deadline = Deadline::after_ms(limits.timeout_ms);
    let old = cache.and_then(load).filter(|index| index.version == VERSION);
    let had = old.is_some();
    let old = old.unwrap_or_default();
    let (mut found, end) = walk::files(root, limits, &deadline)?;
    let mut update = IndexUpdate { files: found.len(), all: end == WalkEnd::All, ..IndexUpdate::default() };
    let now = clock::now().unix_ms;
    let (kept, unsure): (Vec<_>, Vec<_>) = {
        let settled = |one: &FoundFile| {
            let known = old.files.get(&one.path);
            known.is_some_and(|entry| entry.size == one.size && entry.changed_ns == one.changed_ns)
                && i128::from(old.at_ms) * 1_000_000 - i128::from(one.changed_ns) > UNSETTLED_NS
        };
        found.drain(..).partition(settled)
    };
    let read = read_all(root, &unsure, &old, limits, &deadline);
    let mut index = MapIndex { version: VERSION, at_ms: now, ..MapIndex::default() };
    let gone = old.files.len() > kept.len() + unsure.len();
    let mut files = old.files;
    index.names = old.names;
    for one in kept {
        if let Some((path, entry)) = files.remove_entry(&one.path) {
            index.files.insert(path, entry);
        }
    }
    let mut ids: Option<HashMap<String, u32>> = None;
    let mut touched = gone || !had;
    for (one, outcome) in unsure.into_iter().zip(read) {
        let entry = match outcome {
            ReadResult::Same => files.remove(&one.path).unwrap_or_default(),
            ReadResult::NotRead => IndexEntry::default(),
            ReadResult::Skipped(why) => IndexEntry { skipped: Some(why), ..IndexEntry::default() },
            ReadResult::Read(tags, hash) => {
                update.parsed += 1;
                let ids = ids.get_or_insert_with(|| {
                    (0_u32..).zip(&index.names).map(|(id, name)| (name.clone(), id)).collect()
                });
                interned(tags, hash, ids, &mut index.names)
            }
            ReadResult::Late => {
                update.late += 1;
                continue;
            }
        };
        touched = true;
        index.files.insert(one.path, IndexEntry { size: one.size, changed_ns: one.changed_ns, ..entry });
    }
    update.partial = index.files.values().filter(|entry| entry.partial).count();
    update.skipped = index.files.values().filter(|entry| entry.skipped.is_some()).count();
    // An interrupted update would drop the files that it did not reach.
    if touched
        && end != WalkEnd::Late
        && let Some(cache) = cache
    {
        index.compact();
        save(cache, &index)?;
    }
    Ok((index, update))
}

enum ReadResult {
    /// The content is unchanged.
    Same,
    Read(Tags, String),
    Skipped(String),
    /// Its language is unknown; it counts by its path.
    NotRead,
    /// No time was left.
    Late,
}

/// Parses files in parallel; the outcomes are in the order of the files.
fn read_all(
    root: &Path,
    wanted: &[FoundFile],
    old: &MapIndex,
    limits: &MapLimits,
    deadline: &Deadline,
) -> Vec<ReadResult> {
    let next = AtomicUsize::new(0);
    let outcomes: Vec<Mutex<ReadResult>> = wanted.iter().map(|_| Mutex::new(ReadResult::Late)).collect();
    let work = || {
        let mut reader = Reader::default();
        while !deadline.passed()
            && let at = next.fetch_add(1, Ordering::Relaxed)
            && let (Some(one), Some(place)) = (wanted.get(at), outcomes.get(at))
        {
            let outcome = read_one(root, one, old, limits, &mut reader);
            match place.lock() {
                Ok(mut place) => *place = outcome,
                Err(poisoned) => *poisoned.into_inner() = outcome,
            }
        }
    };
    let threads =
        thread::available_parallelism().map_or(1, usize::from).min(wanted.len().div_ceil(16)).min(8);
    if threads <= 1 {
        work();
    } else {
        thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    }
    outcomes.into_iter().map(|place| place.into_inner().unwrap_or(ReadResult::Late)).collect()
}

fn read_one(
    root: &Path,
    one: &FoundFile,
    old: &MapIndex,
    limits: &MapLimits,
    reader: &mut Reader,
) -> ReadResult {
    let lang = Lang::of(&one.path);
    let manifest = is_manifest(&one.path);
    if lang.is_none() && !manifest {
        return ReadResult::NotRead;
    }
    if one.size > limits.file_bytes as u64 {
        return ReadResult::Skipped(format!("it is larger than {} KiB", limits.file_bytes >> 10));
    }
    let bytes = match file::read(&root.join(&one.path), limits.file_bytes) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return ReadResult::Skipped("it is gone".to_owned()),
        Err(error) => return ReadResult::Skipped(error.to_string()),
    };
    let hash = blake3::hash(&bytes).to_hex()[..24].to_owned();
    if old.files.get(&one.path).is_some_and(|entry| entry.hash == hash) {
        return ReadResult::Same;
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return ReadResult::Skipped("it is not UTF-8 text".to_owned());
    };
    if lang.is_some() && is_generated(&text) {
        return ReadResult::Skipped("it looks generated: its lines are too long".to_owned());
    }
    let tags = match lang {
        Some(lang) => reader.read(lang, &text),
        None => Tags { imports: manifest_name(&one.path, &text).into_iter().collect(), ..Tags::default() },
    };
    ReadResult::Read(tags, hash)
}

/// True for text that looks generated: a bundle, a data table.
fn is_generated(text: &str) -> bool {
    const LONG_LINE: usize = 20_000;
    text.lines().any(|line| line.len() > LONG_LINE)
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

fn interned(tags: Tags, hash: String, ids: &mut HashMap<String, u32>, names: &mut Vec<String>) -> IndexEntry {
    let mut id = |name: String| match ids.get(&name) {
        Some(id) => *id,
        None => {
            let id = u32::try_from(names.len()).unwrap_or(u32::MAX);
            names.push(name.clone());
            ids.insert(name, id);
            id
        }
    };
    IndexEntry {
        hash,
        defs: tags.defs.into_iter().map(|def| (id(def.name), def.kind, def.line, def.end)).collect(),
        refs: tags.refs.into_iter().map(|(name, count)| (id(name), count)).collect(),
        imports: tags.imports,
        partial: tags.partial,
        ..IndexEntry::default()
    }
}

impl MapIndex {
    /// The name with this index.
    pub(super) fn name(&self, id: u32) -> &str {
        self.names.get(id as usize).map_or("", String::as_str)
    }

    /// The definitions in a file.
    pub(super) fn defs(&self, path: &str) -> Vec<Def> {
        let of = |(name, kind, line, end): &(u32, String, u32, u32)| Def {
            name: self.name(*name).to_owned(),
            kind: kind.clone(),
            line: *line,
            end: *end,
        };
        self.files.get(path).map(|entry| entry.defs.iter().map(of).collect()).unwrap_or_default()
    }

    /// Removes names that no file uses.
    fn compact(&mut self) {
        let mut place: Vec<Option<u32>> = vec![None; self.names.len()];
        let mut names = Vec::new();
        let old = std::mem::take(&mut self.names);
        let mut moved = |id: &mut u32| {
            let at = *id as usize;
            let Some(slot) = place.get_mut(at) else { return };
            *id = *slot.get_or_insert_with(|| {
                names.push(old[at].clone());
                u32::try_from(names.len() - 1).unwrap_or(u32::MAX)
            });
        };
        for entry in self.files.values_mut() {
            entry.defs.iter_mut().for_each(|def| moved(&mut def.0));
            entry.refs.iter_mut().for_each(|one| moved(&mut one.0));
        }
        self.names = names;
    }
}

fn load(path: &Path) -> Option<MapIndex> {
    let bytes = file::read(path, MAX_INDEX_BYTES).ok()??;
    serde_json::from_slice(&bytes).ok()
}

fn save(path: &Path, index: &MapIndex) -> Result<()> {
    let bytes =
        serde_json::to_vec(index).map_err(|error| anyhow!("could not write the map's index: {error}"))?;
    if let Some(dir) = path.parent() {
        file::make_dir(dir)?;
    }
    // A lost index is rebuilt after a crash.
    file::write(path, &bytes, 0o600, file::Durability::Whole)
}
