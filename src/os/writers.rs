//! Detection of processes that have a file open for writing, and a guard that makes new writers wait.

#![cfg_attr(
    target_os = "linux",
    allow(unsafe_code, reason = "the kernel's call for file leases has no safe form in our crates")
)]

use std::fs::File;
use std::io;

use crate::os::openers;

/// A file that no process has open for writing. A process that tries to open it waits until the guard is dropped, if
/// the kernel and the file system have leases.
#[derive(Debug)]
pub struct WriterGuard {
    file: File,
    has_lease: bool,
}

impl WriterGuard {
    /// Guards a file that was opened for reading. Returns `None` if a process has it open for writing.
    ///
    /// # Errors
    /// When the processes that have it open cannot be listed.
    pub fn take(file: &File) -> io::Result<Option<WriterGuard>> {
        let file = file.try_clone()?;
        let has_lease = match lease::take(&file) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // Another system: it does not report the writers of a file.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
            // A file of another user, or a file system without leases.
            Err(_) if openers::opener(&file.metadata()?, true)?.is_some() => return Ok(None),
            Err(_) => false,
        };
        Ok(Some(WriterGuard { file, has_lease }))
    }

    /// Returns false if a process waits to write to the file.
    pub fn is_undisturbed(&self) -> bool {
        !self.has_lease || lease::is_held(&self.file)
    }
}

impl Drop for WriterGuard {
    fn drop(&mut self) {
        if self.has_lease {
            lease::release(&self.file);
        }
    }
}

/// The kernel's read lease on a file: it delays a process that opens the file for writing.
#[cfg(target_os = "linux")]
mod lease {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    /// Chooses the signal that reports a waiting writer. The default signal ends the process.
    const F_SETSIG: libc::c_int = 10;

    pub(super) fn take(file: &File) -> io::Result<()> {
        control(file, F_SETSIG, libc::SIGURG)?;
        control(file, libc::F_SETLEASE, libc::F_RDLCK).map(drop)
    }

    pub(super) fn is_held(file: &File) -> bool {
        let read: libc::c_int = libc::F_RDLCK;
        control(file, libc::F_GETLEASE, 0).is_ok_and(|held| held == read)
    }

    pub(super) fn release(file: &File) {
        // The lease ends with the descriptor in any case.
        drop(control(file, libc::F_SETLEASE, libc::F_UNLCK));
    }

    fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
        // SAFETY: the descriptor is open during the call, and each of these commands takes one integer.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }
}

/// Other systems lack such a lease.
#[cfg(not(target_os = "linux"))]
mod lease {
    use std::fs::File;
    use std::io;

    pub(super) fn take(_file: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn is_held(_file: &File) -> bool {
        false
    }

    pub(super) fn release(_file: &File) {}
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;
    use crate::os::openers;

    #[test]
    fn a_writer_is_seen_until_it_closes_the_file_and_a_reader_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "text").unwrap();
        let file = File::open(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert!(WriterGuard::take(&file).unwrap().is_some());
        assert_eq!(openers::opener(&file.metadata().unwrap(), true).unwrap(), None);
        let writer = File::options().append(true).open(&path).unwrap();
        assert!(WriterGuard::take(&file).unwrap().is_none());
        let by_proc = openers::opener(&file.metadata().unwrap(), true).unwrap();
        assert_eq!(by_proc, Some(std::process::id()), "also where there are no leases");
        drop(writer);
        assert!(WriterGuard::take(&file).unwrap().is_some());
        drop(reader);
    }

    #[test]
    fn a_later_writer_waits_for_the_guard_and_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "text").unwrap();
        let guard = WriterGuard::take(&File::open(&path).unwrap()).unwrap().unwrap();
        assert!(guard.is_undisturbed());
        let writer = std::thread::spawn({
            let path = path.clone();
            move || File::options().append(true).open(path).unwrap().write_all(b", and more").unwrap()
        });
        while guard.is_undisturbed() {
            std::thread::yield_now();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        drop(guard);
        writer.join().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "text, and more");
    }
}
