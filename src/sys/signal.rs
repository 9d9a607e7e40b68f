//! Interruption by a human or the system: SIGINT, SIGTERM and SIGHUP as a file descriptor to poll.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::session;

/// Becomes readable, and stays so, once the process was asked to end.
#[derive(Debug)]
pub struct Cancel {
    read: UnixStream,
    _write: Option<UnixStream>,
    deaf: Arc<AtomicBool>,
}

impl Cancel {
    /// Listens for the signals from now on; they no longer end the process by themselves. One that is ignored stays so:
    /// `nohup` ignores SIGHUP.
    ///
    /// # Errors
    /// When no socket pair or no handler can be had.
    pub fn on_signals() -> io::Result<Cancel> {
        let (read, write) = UnixStream::pair()?;
        let deaf = Arc::new(AtomicBool::new(false));
        let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !session::is_ignored(*signal));
        for signal in heeded {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&deaf))?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Cancel { read, _write: Some(write), deaf })
    }

    /// One that never fires, for callers whose process ends by the signal itself.
    ///
    /// # Errors
    /// When no socket pair can be had.
    pub fn never() -> io::Result<Cancel> {
        let (read, write) = UnixStream::pair()?;
        Ok(Cancel { read, _write: Some(write), deaf: Arc::default() })
    }

    /// One that has fired already.
    #[cfg(test)]
    pub fn fired() -> io::Result<Cancel> {
        Ok(Cancel { read: UnixStream::pair()?.0, _write: None, deaf: Arc::default() })
    }

    /// Whether the signals end the process by themselves again, for the moment in which it becomes another program:
    /// one that came then would be heard by nobody.
    pub fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::SeqCst);
    }

    /// The descriptor to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// True once the process was asked to end.
    pub fn is_set(&self) -> bool {
        let mut fds = [PollFd::new(&self.read, PollFlags::IN)];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&zero)).is_ok_and(|ready| ready > 0)
    }
}

/// Becomes readable each time one of some signals came, until it is asked.
#[derive(Debug)]
pub struct Bell {
    read: UnixStream,
}

impl Bell {
    /// Listens for the signals from now on; they no longer do what they do by themselves.
    ///
    /// # Errors
    /// When no socket pair or no handler can be had.
    pub fn on(signals: &[i32]) -> io::Result<Bell> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        for signal in signals {
            signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
        }
        Ok(Bell { read })
    }

    /// The descriptor to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// True when a signal came since this was last asked.
    pub fn rang(&self) -> bool {
        let mut buffer = [0_u8; 64];
        let mut rang = false;
        while rustix::io::read(&self.read, &mut buffer).is_ok_and(|count| count > 0) {
            rang = true;
        }
        rang
    }
}
