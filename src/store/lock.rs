//! The two locks of a data dir, both `flock`: the kernel releases them on any death, so they are never stale.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::OFlags;

use super::file::{Doing, open_own, present};
use crate::os::clock::Deadline;
use crate::os::process::wait::pause_ms;
use crate::os::signal::Cancel;
use crate::rules::fault::{ErrorKind, Fault};

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Held(File);

impl Held {
    /// Returns a second descriptor of the lock, with which it can be passed on: the lock lasts until both are closed.
    ///
    /// # Errors
    /// When the process has too many open files.
    pub fn twin(&self) -> std::io::Result<File> {
        self.0.try_clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Another thread may just be starting a process, which has a copy of the descriptor until its exec. A lock
        // lasts until its last copy is closed, so unlock it explicitly.
        drop(self.0.unlock());
    }
}

/// The kernel's list of held locks.
const LOCKS: &str = "/proc/locks";
/// How long to wait while another process only inspects the lock, in milliseconds.
const POLL_MS: i64 = 200;
/// How long to wait for a short lock before it is an error, in milliseconds.
const SHORT_WAIT_MS: i64 = 10_000;

fn open(path: &Path) -> Result<File> {
    open_own(path, OFlags::RDWR).doing("open the lock", path)
}

/// Takes the lock of a whole beat, or fails at once with [`ErrorKind::Busy`] and names the holder.
///
/// # Errors
/// [`ErrorKind::Busy`] if it is held; otherwise when the file cannot be opened.
pub fn tick(path: &Path) -> Result<Held> {
    let file = open(path)?;
    // A process that inspects the lock shares it for a moment, and must never count as a beat.
    let wait_limit = Deadline::after_ms(POLL_MS);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Held(file)),
            // The lock file itself stays empty, because an idle beat must not write a byte.
            Err(TryLockError::WouldBlock) => match Table::read().map(|table| table.of(&file, Mode::Alone)) {
                Some(writers) if writers.is_empty() && !wait_limit.passed() => pause_ms(2),
                writers => return Err(busy(writers.unwrap_or_default().first().copied()).into()),
            },
            Err(TryLockError::Error(error)) => {
                return Err(error).doing("lock", path);
            }
        }
    }
}

/// Takes over a lock from the program that this process ran before: `file` is a [`Held::twin`] of it.
///
/// # Errors
/// When it is another file, or another process has the lock.
pub fn inherit(path: &Path, file: File) -> Result<Held> {
    let its = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let is_it = std::fs::symlink_metadata(path).map(its).ok() == Some(its(file.metadata()?));
    anyhow::ensure!(is_it, "could not continue as the pulse: stdin is not its lock");
    match file.try_lock() {
        Ok(()) => Ok(Held(file)),
        Err(_) => Err(busy(holder(path)).into()),
    }
}

/// Takes the lock of a whole beat, and waits for the current beat to end.
///
/// # Errors
/// [`ErrorKind::Busy`] if it is still held after `wait_ms` or if the user interrupts.
pub fn tick_patiently(path: &Path, wait_ms: i64, cancel: &Cancel) -> Result<Held> {
    let deadline = Deadline::after_ms(wait_ms);
    loop {
        match tick(path) {
            Err(error) if is_busy(&error) && !deadline.passed() && !cancel.is_set() => pause_ms(20),
            other => return other,
        }
    }
}

/// Returns true if an error says that another tick holds the lock.
pub fn is_busy(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Fault>().is_some_and(|fault| fault.kind == ErrorKind::Busy)
}

/// Takes a shared lock for the time of an inspection.
///
/// # Errors
/// When the file cannot be opened or locked.
pub fn look(path: &Path) -> Result<Held> {
    // On a read-only disk the file may still exist and can be locked.
    let file = File::open(path).or_else(|_| open(path))?;
    // A process that asks for the shared holders has the lock exclusively for a moment.
    wait(file, path, POLL_MS, File::try_lock_shared)
}

/// The holders of a lock, for a decision that must not be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holders {
    Nobody,
    /// One of these processes.
    Seen(Vec<u32>),
    /// An unknown process: in another process namespace, or on a system without /proc.
    Unseen,
}

/// Returns the process that holds this lock exclusively; `None` if there is none, or none that is visible here.
pub fn holder(path: &Path) -> Option<u32> {
    match holders([path.to_owned()]) {
        Holders::Seen(pids) => pids.first().copied(),
        Holders::Nobody | Holders::Unseen => None,
    }
}

/// Finds out which processes hold one of these locks exclusively.
pub fn holders(paths: impl IntoIterator<Item = PathBuf>) -> Holders {
    who_holds(paths.into_iter().collect(), Mode::Alone)
}

/// Finds out which processes hold this lock, exclusively or shared.
pub fn readers(path: &Path) -> Holders {
    who_holds(vec![path.to_owned()], Mode::Any)
}

/// The mode of a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Exclusive.
    Alone,
    /// Exclusive or shared.
    Any,
}

/// Reads the kernel's list only for held locks, and once for all of them: the kernel stops all locking for each read of
/// it, for longer than the rest of a command takes.
fn who_holds(mut paths: Vec<PathBuf>, mode: Mode) -> Holders {
    let mut pids = Vec::new();
    // Check a lock again if it changes hands between the two checks. A lock that stays held and unlisted has an
    // invisible holder.
    for _ in 0..3 {
        paths.retain(|path| is_held(path, mode));
        if paths.is_empty() {
            break;
        }
        let table = Table::read().unwrap_or_default();
        paths.retain(|path| {
            let found = File::open(path).map_or_else(|_| Vec::new(), |file| table.of(&file, mode));
            pids.extend(&found);
            found.is_empty()
        });
    }
    match (paths.is_empty(), pids.is_empty()) {
        (false, _) => Holders::Unseen,
        (true, true) => Holders::Nobody,
        (true, false) => Holders::Seen(pids),
    }
}

fn is_held(path: &Path, mode: Mode) -> bool {
    File::open(path).is_ok_and(|file| is_locked(file, mode).unwrap_or(false))
}

/// Returns true if another process holds this lock exclusively. The lock of an absent file is free.
///
/// # Errors
/// When that cannot be found out.
pub fn is_taken(path: &Path) -> Result<bool> {
    let file = present(File::open(path)).doing("open", path)?;
    let is_locked = file.map_or(Ok(false), |file| is_locked(file, Mode::Alone));
    is_locked.doing("look at the lock", path)
}

/// Returns true if another process holds the lock of this file, which was opened for this check.
///
/// # Errors
/// When the file system lacks such locks.
pub fn is_locked(file: File, mode: Mode) -> std::io::Result<bool> {
    let tried = match mode {
        Mode::Alone => file.try_lock_shared(),
        Mode::Any => file.try_lock(),
    };
    match tried {
        Ok(()) => {
            drop(Held(file));
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes the short lock around a replace of a shared file.
///
/// # Errors
/// When the lock is not free within ten seconds.
pub fn store(path: &Path) -> Result<Held> {
    within(path, SHORT_WAIT_MS)
}

/// Takes a lock that is soon free again.
///
/// # Errors
/// When the lock is not free in time.
pub fn within(path: &Path, wait_ms: i64) -> Result<Held> {
    wait(open(path)?, path, wait_ms, File::try_lock)
}

/// Takes the lock of a directory itself, before the first files in it are made.
///
/// # Errors
/// When the lock is not free within ten seconds.
pub fn dir(path: &Path) -> Result<Held> {
    wait(File::open(path).doing("open", path)?, path, SHORT_WAIT_MS, File::try_lock)
}

fn wait(file: File, path: &Path, wait_ms: i64, take: fn(&File) -> Result<(), TryLockError>) -> Result<Held> {
    let deadline = Deadline::after_ms(wait_ms);
    loop {
        match take(&file) {
            Ok(()) => return Ok(Held(file)),
            Err(TryLockError::WouldBlock) if !deadline.passed() => pause_ms(2),
            Err(error) => {
                return Err(anyhow::Error::from(error)).doing("lock", path);
            }
        }
    }
}

/// The held locks, as the kernel lists them.
#[derive(Default)]
struct Table {
    /// By inode: the device as the kernel names it, the mode and the process.
    rows: BTreeMap<u64, Vec<(String, String, u32)>>,
}

impl Table {
    fn read() -> Option<Table> {
        Some(Table::parse(&std::fs::read_to_string(LOCKS).ok()?))
    }

    fn parse(text: &str) -> Table {
        let mut table = Table::default();
        // `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`, as in proc(5).
        for fields in text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
            if let [_, "FLOCK", _, mode, pid, id, ..] = fields.as_slice()
                && let Some((device, inode)) = id.rsplit_once(':')
                && let (Ok(inode), Ok(pid)) = (inode.parse(), pid.parse())
            {
                table.rows.entry(inode).or_default().push((device.to_owned(), (*mode).to_owned(), pid));
            }
        }
        table
    }

    /// Returns the holders of this file's lock. Looks up the device only if a row has the file's inode.
    fn of(&self, file: &File, mode: Mode) -> Vec<u32> {
        let Ok(meta) = file.metadata() else { return Vec::new() };
        let Some(rows) = self.rows.get(&meta.ino()) else { return Vec::new() };
        let device = device_of(file);
        let is_its = |(of, how, _): &&(String, String, u32)| {
            device.as_ref().is_none_or(|device| of == device) && (mode == Mode::Any || how == "WRITE")
        };
        rows.iter().filter(is_its).map(|(_, _, pid)| *pid).collect()
    }
}

/// Returns the device of a file's whole file system, as the kernel's list names it. A file's own metadata may name
/// another device: that of a subvolume or of an overlay. `None` if it cannot be found out.
fn device_of(file: &File) -> Option<String> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    // `36 35 98:0 / /mnt rw …`, as in proc(5): decimal here, hexadecimal there.
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let (major, minor) = fields.into_iter().find(|f| f.first() == Some(&mount))?.get(2)?.split_once(':')?;
    Some(format!("{:02x}:{:02x}", major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
}

fn busy(holder: Option<u32>) -> Fault {
    let who = holder.map_or("another process".to_owned(), |pid| format!("process {pid}"));
    let what = format!("could not start a beat: {who} is in one");
    let fault = Fault { kind: ErrorKind::Busy, what, hints: Vec::new() };
    fault.hint("wait for it to end, or see `looop status`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_found_by_device_and_inode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = store(&path).unwrap();
        let me = std::process::id();
        assert_eq!((holder(&path), holders([path.clone()])), (Some(me), Holders::Seen(vec![me])));
        let file = File::open(&path).unwrap();
        let (device, inode) = (device_of(&file).unwrap(), file.metadata().unwrap().ino());
        let of = |id: String, mode: &str| {
            let text = format!("1: FLOCK  ADVISORY  {mode} 77 {id} 0 EOF\n");
            [Mode::Alone, Mode::Any].map(|mode| Table::parse(&text).of(&file, mode))
        };
        assert_eq!(of(format!("{device}:{inode}"), "WRITE"), [vec![77], vec![77]]);
        assert_eq!(of(format!("{device}:{inode}"), "READ"), [vec![], vec![77]]);
        let nobody = [Vec::<u32>::new(), Vec::new()];
        assert_eq!(of(format!("fe:fe:{inode}"), "WRITE"), nobody, "a file on another disk");
        assert_eq!(of(format!("{device}:1{inode}"), "WRITE"), nobody);
        drop(held);
        assert_eq!((holder(&path), holders([path])), (None, Holders::Nobody));
    }

    #[test]
    fn a_lock_ends_although_a_starting_child_has_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = store(&path).unwrap();
        let copy = held.0.try_clone().unwrap();
        assert!(is_held(&path, Mode::Alone));
        drop(held);
        assert!(!is_held(&path, Mode::Alone));
        let look = File::open(&path).unwrap();
        let copies = (copy, look.try_clone().unwrap());
        assert!(!is_locked(look, Mode::Any).unwrap());
        assert!(within(&path, 0).is_ok(), "an inspection left the lock held");
        drop(copies);
    }

    #[test]
    fn holders_of_many_locks_are_found_among_free_and_missing_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let me = std::process::id();
        drop(store(&path("free")).unwrap());
        let free = || [path("free"), path("missing")];
        assert_eq!(holders(free()), Holders::Nobody);
        let _held = [store(&path("one")).unwrap(), store(&path("two")).unwrap()];
        let all = free().into_iter().chain([path("one"), path("two")]);
        assert_eq!(holders(all), Holders::Seen(vec![me, me]));
    }

    #[test]
    fn a_shared_lock_is_seen_only_as_a_shared_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let looks = [look(&path).unwrap(), look(&path).unwrap()];
        let me = std::process::id();
        assert_eq!((holders([path.clone()]), readers(&path)), (Holders::Nobody, Holders::Seen(vec![me, me])));
        drop(looks);
        assert_eq!(readers(&path), Holders::Nobody);
    }
}
