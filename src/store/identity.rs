//! The identity of a file or a folder: where it is, what it is, and what it holds.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use crate::rules::digest::record;
use crate::sandbox::git_dirs;

/// The most entries of a covered folder, including those of its folders.
pub const MAX_ENTRIES: usize = 20_000;
/// The most bytes of a folder's files that are read. Further files, and each larger file, count by their size and
/// change time, which no program can set.
const MAX_FOLDER_BYTES: u64 = 64 << 20;
/// The largest file of a folder that is read, in bytes.
const MAX_ENTRY_BYTES: u64 = 4 << 20;

/// Returns a blake3 digest of where a file or a folder is and what it is: its path, each folder above it by device and
/// inode, its mode and owner, and for a file the time of its last change. `real` must contain no symbolic link.
///
/// # Errors
/// When a part of the path cannot be inspected.
pub fn place(real: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    record(&mut hasher, &[real.as_os_str().as_bytes()]);
    for above in real.ancestors() {
        let meta = above.symlink_metadata()?;
        record(&mut hasher, &[&meta.dev().to_le_bytes(), &meta.ino().to_le_bytes()]);
    }
    let meta = real.symlink_metadata()?;
    record(&mut hasher, &[format!("{:o} {} {}", meta.mode(), meta.uid(), meta.gid()).as_bytes()]);
    if meta.is_file() {
        record(&mut hasher, &[times(&meta).as_bytes()]);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Returns how many entries a folder has, and the digest of it with its contents; no digest for more entries than `most`.
/// Leaves out what `skip` excludes. Of a git directory it reads what controls git; it skips objects, which never change,
/// and logs. Calls `stop` before each entry.
///
/// # Errors
/// When `stop` returned true, or the folder itself cannot be read. Unreadable entries are part of the digest.
pub fn folder(
    root: &Path,
    most: usize,
    skip: &dyn Fn(&Path) -> bool,
    stop: &dyn Fn() -> bool,
) -> io::Result<(usize, Option<String>)> {
    let mut walk = FolderWalk { hasher: blake3::Hasher::new(), entries: 0, left: MAX_FOLDER_BYTES, stop };
    let mut dirs = vec![root.to_owned()];
    std::fs::read_dir(root)?;
    while let Some(dir) = dirs.pop() {
        record(&mut walk.hasher, &[b"in", below(root, &dir)]);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if !is_passing(&path) && !skip(&path) {
                names.push(path);
            }
            if walk.entries + names.len() > most {
                return Ok((walk.entries + names.len(), None));
            }
        }
        names.sort();
        for path in names {
            if walk.entry(root, &path)? {
                dirs.push(path);
            }
        }
    }
    Ok((walk.entries, Some(walk.hasher.finalize().to_hex().to_string())))
}

struct FolderWalk<'a> {
    hasher: blake3::Hasher,
    entries: usize,
    left: u64,
    stop: &'a dyn Fn() -> bool,
}

impl FolderWalk<'_> {
    /// Adds one entry; returns true for a folder, whose entries follow.
    fn entry(&mut self, root: &Path, path: &Path) -> io::Result<bool> {
        if (self.stop)() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
        }
        self.entries += 1;
        let name = below(root, path).to_owned();
        let Ok(meta) = path.symlink_metadata() else {
            record(&mut self.hasher, &[b"gone", &name]);
            return Ok(false);
        };
        let kind = format!("{:o}", meta.mode());
        if meta.is_dir() {
            let here = if is_in_git(path) { String::new() } else { format!("{} {}", meta.dev(), meta.ino()) };
            record(&mut self.hasher, &[b"dir", &name, kind.as_bytes(), here.as_bytes()]);
            return Ok(true);
        }
        let target = path.read_link().ok().filter(|_| meta.is_symlink()).unwrap_or_default();
        record(&mut self.hasher, &[b"entry", &name, kind.as_bytes(), target.as_os_str().as_bytes()]);
        // The target of a link is read under the link's name, like a file of the folder.
        let meta = if meta.is_symlink() { path.metadata().ok() } else { Some(meta) };
        if let Some(meta) = meta.filter(Metadata::is_file) {
            self.file(path, &meta);
        }
        Ok(false)
    }

    fn file(&mut self, path: &Path, meta: &Metadata) {
        // git replaces its own files freely, so only their content counts.
        if !is_in_git(path) {
            let mark = format!("{} {} {} {}", meta.dev(), meta.ino(), meta.len(), times(meta));
            record(&mut self.hasher, &[mark.as_bytes()]);
        }
        let index = if is_in_git(path) && path.ends_with("index") { index_content(path) } else { None };
        let is_short = meta.len() <= MAX_ENTRY_BYTES && meta.len() <= self.left;
        let content = index.or_else(|| is_short.then(|| content(path).ok()).flatten());
        match content {
            Some((digest, bytes)) => {
                self.left = self.left.saturating_sub(bytes);
                record(&mut self.hasher, &[digest.as_bytes()]);
            }
            None => {
                let mark = format!("{} {}.{}", meta.len(), meta.ctime(), meta.ctime_nsec());
                record(&mut self.hasher, &[mark.as_bytes()]);
            }
        }
    }
}

fn times(meta: &Metadata) -> String {
    format!("{}.{}", meta.mtime(), meta.mtime_nsec())
}

fn below<'a>(root: &Path, path: &'a Path) -> &'a [u8] {
    path.strip_prefix(root).unwrap_or(path).as_os_str().as_bytes()
}

fn is_in_git(path: &Path) -> bool {
    path.iter().any(|part| part == ".git")
}

/// Returns true for an entry that comes and goes by itself: a socket, and in a git directory objects, logs, locks, and
/// the refs with which looop keeps the bases of clones; and the empty directories that a sandbox makes in one.
fn is_passing(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let parent = path.parent().unwrap_or(Path::new(""));
    let in_objects = parent.iter().any(|part| part == "objects") && !path.iter().any(|part| part == "info");
    let own_refs = name == "looop" && parent.ends_with("refs");
    let of_git =
        (in_objects || name == "logs" || own_refs || name.as_bytes().ends_with(b".lock")) && is_in_git(path);
    of_git
        || git_dirs::is_empty_part(path)
        || path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket())
}

/// Returns the blake3 digest of a regular file and its length. Does not block if a pipe has replaced the file.
fn content(path: &Path) -> io::Result<(String, u64)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file.take(MAX_ENTRY_BYTES))?;
    Ok((hasher.finalize().to_hex().to_string(), hasher.count()))
}

/// Returns the content of a git index without the stat data of files: commands that show the state of a repository
/// rewrite these. `None` for an unknown format.
fn index_content(path: &Path) -> Option<(String, u64)> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FOLDER_BYTES).read_to_end(&mut bytes).ok()?;
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if !bytes.starts_with(b"DIRC") || !matches!(number(4)?, 2 | 3) {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    let mut at = 12;
    for _ in 0..number(8)? {
        let (mode, id) = (bytes.get(at + 24..at + 28)?, bytes.get(at + 40..at + 60)?);
        let flags = u16::from_be_bytes(bytes.get(at + 60..at + 62)?.try_into().ok()?);
        let name = at + if flags & 0x4000 == 0 { 62 } else { 64 };
        let length = bytes.get(name..)?.iter().position(|byte| *byte == 0)?;
        // If names do not end where their lengths say, ids have another length.
        if flags & 0xfff != 0xfff && usize::from(flags & 0xfff) != length {
            return None;
        }
        record(&mut hasher, &[mode, id, &(flags & 0xb000).to_le_bytes(), &bytes[name..name + length]]);
        at += ((name + length - at) / 8 + 1) * 8;
    }
    Some((hasher.finalize().to_hex().to_string(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions, create_dir_all, hard_link, rename, write};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    fn digest(root: &Path) -> Option<String> {
        folder(root, 100, &|path| path.ends_with("skipped"), &|| false).unwrap().1
    }

    /// A change of a folder's contents.
    type Swap = fn(&Path);

    #[test]
    fn each_change_in_a_folder_changes_its_digest() {
        let swaps: [(&str, Swap); 14] = [
            ("content", |d| write(d.join("sub/lib.sh"), "evil").unwrap()),
            ("a new file", |d| write(d.join("sub/new"), "").unwrap()),
            ("a file less", |d| fs::remove_file(d.join("sub/lib.sh")).unwrap()),
            ("mode", |d| fs::set_permissions(d.join("sub/lib.sh"), Permissions::from_mode(0o755)).unwrap()),
            ("time", |d| {
                let past = SystemTime::UNIX_EPOCH + Duration::from_secs(9000);
                File::open(d.join("sub/lib.sh")).unwrap().set_modified(past).unwrap();
            }),
            ("a link in its place", |d| {
                rename(d.join("sub/lib.sh"), d.join("sub/skipped")).unwrap();
                symlink("skipped", d.join("sub/lib.sh")).unwrap();
            }),
            ("another target", |d| {
                fs::remove_file(d.join("link")).unwrap();
                symlink("other", d.join("link")).unwrap();
            }),
            ("another target of a link to a folder", |d| {
                fs::remove_file(d.join("folder")).unwrap();
                symlink(".git", d.join("folder")).unwrap();
            }),
            ("what a link leads to", |d| write(d.join("skipped"), "evil").unwrap()),
            ("a hard link with the same text", |d| {
                write(d.join("sub/skipped"), "text").unwrap();
                fs::remove_file(d.join("sub/lib.sh")).unwrap();
                hard_link(d.join("sub/skipped"), d.join("sub/lib.sh")).unwrap();
            }),
            ("letter case", |d| rename(d.join("sub/lib.sh"), d.join("sub/LIB.sh")).unwrap()),
            ("Unicode form", |d| rename(d.join("caf\u{e9}"), d.join("cafe\u{301}")).unwrap()),
            ("a branch of git", |d| write(d.join(".git/refs/heads/main"), "2").unwrap()),
            ("the index of git", |d| write(d.join(".git/index"), "2").unwrap()),
        ];
        for (what, swap) in swaps {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            create_dir_all(root.join("sub")).unwrap();
            create_dir_all(root.join(".git/refs/heads")).unwrap();
            create_dir_all(root.join(".git/objects/aa")).unwrap();
            for name in ["sub/lib.sh", "caf\u{e9}", ".git/refs/heads/main", ".git/index", "skipped"] {
                write(root.join(name), "text").unwrap();
            }
            symlink("skipped", root.join("link")).unwrap();
            symlink("sub", root.join("folder")).unwrap();
            let before = digest(root);
            write(root.join(".git/objects/aa/bb"), "an object").unwrap();
            write(root.join(".git/index.lock"), "").unwrap();
            assert!(before.is_some() && before == digest(root), "{what}");
            swap(root);
            assert_ne!(before, digest(root), "{what}");
        }
    }

    #[test]
    fn the_directories_that_a_sandbox_makes_in_a_git_directory_change_no_digest() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for git in [root.join(".git"), root.join("bare")] {
            create_dir_all(git.join("objects")).unwrap();
            create_dir_all(git.join("refs")).unwrap();
            write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        }
        let before = digest(root);
        git_dirs::mounts(root);
        git_dirs::mounts(&root.join("bare"));
        assert!(root.join(".git/modules").is_dir() && root.join("bare/hooks").is_dir());
        assert_eq!(before, digest(root));
        for part in [".git/modules/x", "bare/hooks/post-commit", ".git/info/attributes"] {
            write(root.join(part), "").unwrap();
            assert_ne!(before, digest(root), "{part}");
            fs::remove_file(root.join(part)).unwrap();
        }
        create_dir_all(root.join("modules")).unwrap();
        assert_ne!(before, digest(root), "an empty folder elsewhere counts");
    }

    #[test]
    fn a_large_file_counts_by_its_change_time() {
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(MAX_ENTRY_BYTES + 1).unwrap();
        let modified = fs::metadata(&large).unwrap().modified().unwrap();
        let before = digest(dir.path());
        std::os::unix::fs::FileExt::write_at(&File::options().write(true).open(&large).unwrap(), b"x", 9)
            .unwrap();
        File::open(&large).unwrap().set_modified(modified).unwrap();
        assert_ne!(before, digest(dir.path()));
    }

    #[test]
    fn a_folder_that_is_too_large_has_no_digest() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        for name in ["a", "sub/b", "sub/c"] {
            symlink("x", dir.path().join(name)).unwrap();
        }
        let digest = |most| folder(dir.path(), most, &|_| false, &|| false).unwrap().1;
        assert!(digest(4).is_some() && digest(3).is_none());
    }

    #[test]
    fn a_replaced_parent_changes_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        create_dir_all(root.join("a/b")).unwrap();
        write(root.join("a/b/file"), "text").unwrap();
        let places = || ["a/b", "a/b/file"].map(|path| place(&root.join(path)).unwrap());
        let before = places();
        rename(root.join("a"), root.join("old")).unwrap();
        create_dir_all(root.join("a")).unwrap();
        rename(root.join("old/b"), root.join("a/b")).unwrap();
        for (old, new) in before.into_iter().zip(places()) {
            assert_ne!(old, new, "the file is the same one and its parent is not");
        }
    }
}
