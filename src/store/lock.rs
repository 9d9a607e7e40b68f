//! The two locks of a data dir, both `flock`: released by the kernel on any death, so never stale.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};

use crate::model::fault::{Fault, Kind};
use crate::sys::clock::Deadline;
use crate::sys::signal::Cancel;
use crate::sys::spawn::pause_ms;

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Held(#[allow(dead_code, reason = "held for its drop")] File);

/// Where the kernel lists the locks that are held.
const LOCKS: &str = "/proc/locks";
/// For how long a look at the lock is waited out, in milliseconds.
const LOOK_MS: i64 = 200;
/// How long a short lock is waited for before that is called an error, in milliseconds.
const SHORT_WAIT_MS: i64 = 10_000;

fn open(path: &Path) -> Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    opened.with_context(|| format!("could not open the lock `{}`", path.display()))
}

/// Takes the lock of a whole beat, or fails at once with [`Kind::Busy`] naming who holds it.
///
/// # Errors
/// [`Kind::Busy`] when it is held; else when the file cannot be opened.
pub fn tick(path: &Path) -> Result<Held> {
    let file = open(path)?;
    // A look at the lock has it shared for a moment, and must never pass for a beat.
    let patience = Deadline::after_ms(LOOK_MS);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Held(file)),
            Err(TryLockError::WouldBlock) => match writers(&file) {
                Some(writers) if writers.is_empty() && !patience.passed() => pause_ms(2),
                writers => return Err(busy(writers.unwrap_or_default().first().copied()).into()),
            },
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("could not lock `{}`", path.display()));
            }
        }
    }
}

/// Takes the lock of a whole beat, waiting for the present one to end.
///
/// # Errors
/// [`Kind::Busy`] when it is still held after `wait_ms` or the human interrupts.
pub fn tick_patiently(path: &Path, wait_ms: i64, cancel: &Cancel) -> Result<Held> {
    let deadline = Deadline::after_ms(wait_ms);
    loop {
        match tick(path) {
            Err(error) if is_busy(&error) && !deadline.passed() && !cancel.is_set() => pause_ms(20),
            other => return other,
        }
    }
}

/// True when an error says that another tick holds the lock.
pub fn is_busy(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Fault>().is_some_and(|fault| fault.kind == Kind::Busy)
}

/// Takes a lock that many may hold at once, for the time of a look.
///
/// # Errors
/// When the file cannot be opened or locked.
pub fn look(path: &Path) -> Result<Held> {
    // On a disk that cannot be written the file may still be there to be locked.
    let file = File::open(path).or_else(|_| open(path))?;
    file.try_lock_shared().with_context(|| format!("could not lock `{}`", path.display()))?;
    Ok(Held(file))
}

/// All processes that hold this lock, alone or together.
pub fn lookers(path: &Path) -> Vec<u32> {
    File::open(path).ok().and_then(|file| listed(&file, &["READ", "WRITE"])).unwrap_or_default()
}

/// The process that holds this lock now, as the kernel lists it; none when nobody does, or nobody that can be
/// seen from here. The lock itself is not touched.
pub fn holder(path: &Path) -> Option<u32> {
    writers(&File::open(path).ok()?)?.first().copied()
}

/// Who holds a lock, for a decision that must not be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holders {
    /// Nobody.
    Nobody,
    /// One of these processes.
    Seen(Vec<u32>),
    /// Somebody that cannot be seen from here: in another process namespace, or without /proc.
    Unseen,
}

/// Finds out who holds a lock. Where the kernel's list names nobody the lock itself is tried.
pub fn holders(path: &Path) -> Holders {
    let Ok(file) = File::open(path) else { return Holders::Nobody };
    match writers(&file) {
        Some(pids) if !pids.is_empty() => Holders::Seen(pids),
        _ => match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Holders::Unseen,
            _ => Holders::Nobody,
        },
    }
}

/// Takes the short lock around a replace of a file that others replace too.
///
/// # Errors
/// When it cannot be had within ten seconds.
pub fn store(path: &Path) -> Result<Held> {
    let file = open(path)?;
    let deadline = Deadline::after_ms(SHORT_WAIT_MS);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Held(file)),
            Err(TryLockError::WouldBlock) if !deadline.passed() => pause_ms(2),
            Err(error) => {
                return Err(anyhow::Error::from(error))
                    .with_context(|| format!("could not lock `{}`", path.display()));
            }
        }
    }
}

/// The processes that hold this file's lock for themselves, as the kernel lists them; none where it does not.
/// Nothing is written into the lock file for that, because an idle beat must not write a byte.
fn writers(file: &File) -> Option<Vec<u32>> {
    listed(file, &["WRITE"])
}

fn listed(file: &File, modes: &[&str]) -> Option<Vec<u32>> {
    let inode = format!(":{}", file.metadata().ok()?.ino());
    let table = std::fs::read_to_string(LOCKS).ok()?;
    // `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`, as in proc(5).
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let held = fields.filter(|f| {
        f.get(1) == Some(&"FLOCK")
            && f.get(3).is_some_and(|mode| modes.contains(mode))
            && f.get(5).is_some_and(|id| id.ends_with(&inode))
    });
    Some(held.filter_map(|f| f.get(4)?.parse().ok()).collect())
}

fn busy(holder: Option<u32>) -> Fault {
    let who = holder.map_or("another process".to_owned(), |pid| format!("process {pid}"));
    let what = format!("could not start a beat: {who} is in one");
    let fault = Fault { kind: Kind::Busy, what, hints: Vec::new() };
    fault.hint("wait for it to end, or see `looop status`")
}
