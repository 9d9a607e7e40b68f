//! Detection of processes that have a file open for writing, and a guard that makes new writers wait.

#![cfg_attr(
    target_os = "linux",
    allow(unsafe_code, reason = "the kernel's call for file leases has no safe form in our crates")
)]

#[cfg(target_os = "linux")]
pub use linux::WriterGuard;
#[cfg(not(target_os = "linux"))]
pub use other::WriterGuard;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    use crate::sys::openers;

    /// Chooses the signal that reports a waiting writer. The default signal ends the process.
    const F_SETSIG: libc::c_int = 10;

    /// A file that no process has open for writing. A process that tries to open it waits until the guard is dropped.
    #[derive(Debug)]
    pub struct WriterGuard {
        file: File,
        has_lease: bool,
    }

    impl WriterGuard {
        /// Guards a file that was opened for reading. Returns `None` if a process has it open for writing.
        ///
        /// # Errors
        /// When that cannot be found out.
        pub fn take(file: &File) -> io::Result<Option<WriterGuard>> {
            let file = file.try_clone()?;
            let asked = control(&file, F_SETSIG, libc::SIGURG)
                .and_then(|_| control(&file, libc::F_SETLEASE, libc::F_RDLCK));
            match asked {
                Ok(_) => Ok(Some(WriterGuard { file, has_lease: true })),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                // A file of another user, or a file system without leases.
                Err(_) if openers::opener(&file.metadata()?, true)?.is_some() => Ok(None),
                Err(_) => Ok(Some(WriterGuard { file, has_lease: false })),
            }
        }

        /// Returns false if a process waits to write to the file.
        pub fn is_undisturbed(&self) -> bool {
            let read: libc::c_int = libc::F_RDLCK;
            !self.has_lease || control(&self.file, libc::F_GETLEASE, 0).is_ok_and(|held| held == read)
        }
    }

    impl Drop for WriterGuard {
        fn drop(&mut self) {
            if self.has_lease {
                // The lease ends with the descriptor in any case.
                drop(control(&self.file, libc::F_SETLEASE, libc::F_UNLCK));
            }
        }
    }

    fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
        // SAFETY: the descriptor is open during the call, and each of these commands takes one integer.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::fs::File;
    use std::io;

    /// A file on a system that does not report its writers.
    #[derive(Debug)]
    pub struct WriterGuard;

    impl WriterGuard {
        /// Guards nothing.
        pub fn take(_file: &File) -> io::Result<Option<WriterGuard>> {
            Ok(Some(WriterGuard))
        }

        /// Always true.
        pub fn is_undisturbed(&self) -> bool {
            true
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;
    use crate::sys::openers;

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
