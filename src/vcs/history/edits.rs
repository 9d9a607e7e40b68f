//! Contents of a commit: the checked edits, the trees made of them and of HEAD's, and the new index.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, FileTimes};
use std::io::{BufWriter, Write};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::index::entry::{Flags, Mode, Stage, Stat, stat};
use gix::lock::acquire::Fail;
use gix::objs::tree::EntryKind;
use gix::validate::path::component;

use super::scan::on_disk;
use super::{Blocked, FileEdit, History, Leaf, Signature};

/// The edits of one commit by path.
pub(super) struct Edits<'a> {
    by_path: BTreeMap<&'a str, &'a FileEdit>,
    /// The directories of the files that are written.
    dirs: HashSet<&'a str>,
}

impl<'a> Edits<'a> {
    /// Refuses edits that git cannot store, and files that would be below one another.
    pub(super) fn new(edits: &'a [FileEdit]) -> Result<Self> {
        let by_path: BTreeMap<_, _> = edits.iter().map(|edit| (edit.path.as_str(), edit)).collect();
        let mut dirs = HashSet::new();
        // Off, because the rules for Windows refuse names with a colon, which Unix and git allow.
        let rules = component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
        for (path, edit) in &by_path {
            ensure!(!path.contains('\0'), "could not commit {path:?}: it has a NUL byte");
            for name in path.split('/') {
                gix::validate::path::component(name.into(), None, rules)
                    .with_context(|| format!("could not commit {path:?}"))?;
            }
            if edit.bytes.is_some() {
                dirs.extend(parents(path));
            }
        }
        for path in &dirs {
            let is_file = by_path.get(path).is_some_and(|edit| edit.bytes.is_some());
            ensure!(!is_file, "could not commit {path:?}: it is both a file and a directory");
        }
        Ok(Self { by_path, dirs })
    }

    fn written(&self) -> impl Iterator<Item = (&'a FileEdit, &'a [u8])> {
        self.by_path.values().filter_map(|edit| Some((*edit, edit.bytes.as_deref()?)))
    }

    /// Returns true if the index entry at `path` must go: it is edited, is a directory now, or is below a path that is
    /// a file now.
    fn replaces(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
            || self.dirs.contains(path)
            || parents(path).any(|dir| self.by_path.get(dir).is_some_and(|edit| edit.bytes.is_some()))
    }
}

/// Returns the directories above `path`, nearest first.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/').map(|(at, _)| &path[..at])
}

impl History {
    pub(super) fn empty_tree(&self) -> ObjectId {
        ObjectId::empty_tree(self.repo.object_hash())
    }

    /// Takes git's lock of the index, and returns it with its time on the file system.
    pub(super) fn lock_index(&self) -> Result<(gix::lock::File, SystemTime)> {
        let index = self.repo.index_path();
        let mut lock = match gix::lock::File::acquire_to_update_resource(&index, Fail::Immediately, None, 0) {
            Ok(lock) => lock,
            Err(e) if e.is_retryable() => {
                bail!(Blocked::Locked { lock: index.with_extension("lock") })
            }
            Err(e) => return Err(e).context("could not lock the git index"),
        };
        let since =
            lock.with_mut(|file| file.metadata()?.modified()).context("could not lock the git index")?;
        Ok((lock, since))
    }

    /// Stores the blobs and trees of the edits over the tree `base`; returns the new tree and the leaves of the written
    /// files.
    pub(super) fn write_tree<'a>(
        &self,
        base: ObjectId,
        edits: &Edits<'a>,
    ) -> Result<(ObjectId, BTreeMap<&'a str, Leaf>)> {
        let mut blobs = BTreeMap::new();
        if base == self.empty_tree() && edits.written().next().is_none() {
            // The editor would store the empty tree.
            return Ok((base, blobs));
        }
        // gix's own checks at the end would also check the old entries, and refuse some of them.
        let mut editor = self.repo.edit_tree(base).context("could not read HEAD's files")?.detach();
        for (path, _) in edits.by_path.iter().filter(|(_, edit)| edit.bytes.is_none()) {
            let parts = path.split('/').map(BStr::new);
            editor
                .remove_if_leaf(parts)
                .with_context(|| format!("could not delete {path} from the commit"))?;
        }
        for (FileEdit { path, executable, .. }, bytes) in edits.written() {
            let cause = || format!("could not add {path} to the commit");
            let kind = if *executable { EntryKind::BlobExecutable } else { EntryKind::Blob };
            let id = self.repo.write_blob(bytes).with_context(cause)?.detach();
            editor.upsert(path.split('/').map(BStr::new), kind, id).with_context(cause)?;
            blobs.insert(path.as_str(), Leaf { mode: kind.into(), id });
        }
        let tree = editor.write(|tree| self.repo.write_object(tree).map(gix::Id::detach));
        Ok((tree.context("could not store a git tree")?, blobs))
    }

    /// Writes the index after the commit into `lock`, but does not put it in place.
    ///
    /// git and `changed` read an entry again if its file is as new as the index or newer, because stat data cannot
    /// vouch for it. So the new index gets the time `since`, taken before any file was inspected here: a file that
    /// changes later is as new as the index or newer.
    pub(super) fn write_index(
        &self,
        lock: &mut gix::lock::File,
        since: SystemTime,
        base: ObjectId,
        edits: &Edits<'_>,
        blobs: &BTreeMap<&str, Leaf>,
    ) -> Result<()> {
        let mut index = self.index()?;
        ensure!(!index.is_sparse(), "a sparse index is not supported: run `git sparse-checkout disable`");
        if !index.path().exists() {
            index = self.repo.index_from_tree(&base)?;
        }
        index.remove_tree();
        index.remove_entries(|_, path, _| path.to_str().is_ok_and(|path| edits.replaces(path)));
        self.vouch_again(&mut index)?;
        for (path, leaf) in blobs {
            let now = on_disk(&self.dir, BStr::new(path), None)?;
            // Without stat data git reads the file, and finds any difference.
            let stat = now.filter(|(now, _)| now == leaf).map_or(Stat::default(), |(_, stat)| stat);
            index.dangerously_push_entry(stat, leaf.id, Flags::empty(), leaf.mode, BStr::new(path));
        }
        index.sort_entries();
        let mut out = BufWriter::new(&mut *lock);
        index.write_to(&mut out, gix::index::write::Options::default())?;
        out.flush()?;
        drop(out);
        lock.with_mut(|file: &mut File| file.set_times(FileTimes::new().set_modified(since)))?;
        Ok(())
    }

    /// Checks the entries again that the old index could not vouch for, because the new index's time would make them
    /// look safe. Reads their files, and removes the stat data of a file that differs from the staged content. Most
    /// builds of git compare whole seconds only, so the stat data of the same second never count.
    fn vouch_again(&self, index: &mut gix::index::File) -> Result<()> {
        let written = index.timestamp();
        let seconds = stat::Options { use_nsec: false, ..super::scan::STRICT };
        for (entry, path) in index.entries_mut_with_paths() {
            let is_file = matches!(entry.mode, Mode::FILE | Mode::FILE_EXECUTABLE | Mode::SYMLINK);
            let is_doubtful = entry.stat.size == 0 || entry.stat.is_racy(written, seconds);
            if is_file && is_doubtful && entry.stage() == Stage::Unconflicted {
                let now = on_disk(&self.dir, path, None)?;
                let same = now.filter(|(now, _)| *now == Leaf { mode: entry.mode, id: entry.id });
                entry.stat = same.map_or(Stat::default(), |(_, stat)| stat);
            }
        }
        Ok(())
    }
}

/// Converts `who` for gix, if git can store it so that `git fsck` does not complain.
pub(super) fn actor(who: &Signature) -> Result<gix::actor::Signature> {
    let (name, email) = (who.name.trim(), who.email.trim());
    let is_plain = |s: &str| !s.contains(|c: char| c == '<' || c == '>' || c.is_control());
    ensure!(!name.is_empty() && is_plain(name), "could not commit: git cannot store the name {name:?}");
    ensure!(is_plain(email), "could not commit: git cannot store the email {email:?}");
    ensure!(who.unix_s >= 0, "could not commit: the time {} is before 1970", who.unix_s);
    ensure!(who.utc_offset_s.abs() < 86400, "could not commit: no clock is {} s off UTC", who.utc_offset_s);
    let time = gix::date::Time::new(who.unix_s, who.utc_offset_s);
    Ok(gix::actor::Signature { name: name.into(), email: email.into(), time })
}
