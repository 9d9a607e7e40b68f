//! Interruption by the user or the system: SIGINT, SIGTERM and SIGHUP as a file descriptor to poll.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::session;

/// Becomes and stays readable once the process was asked to end.
#[derive(Debug)]
pub struct Cancel {
    read: UnixStream,
    _write: Option<UnixStream>,
    deaf: Arc<AtomicBool>,
}

impl Cancel {
    /// Listens for the signals from now on, so that they do not end the process by themselves. An ignored signal stays
    /// ignored: `nohup` ignores SIGHUP.
    ///
    /// # Errors
    /// When a socket pair or a handler cannot be made.
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

    /// Returns one that never fires, for callers whose process ends by the signal itself.
    ///
    /// # Errors
    /// When a socket pair cannot be made.
    pub fn never() -> io::Result<Cancel> {
        let (read, write) = UnixStream::pair()?;
        Ok(Cancel { read, _write: Some(write), deaf: Arc::default() })
    }

    /// Returns one that has fired already.
    #[cfg(test)]
    pub fn fired() -> io::Result<Cancel> {
        Ok(Cancel { read: UnixStream::pair()?.0, _write: None, deaf: Arc::default() })
    }

    /// If `deaf` is true, lets the signals end the process by themselves again, while it becomes another program by
    /// exec: a signal that came in between would be lost.
    pub fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::SeqCst);
    }

    /// Returns the descriptor to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Returns true once the process was asked to end.
    pub fn is_set(&self) -> bool {
        let mut fds = [PollFd::new(&self.read, PollFlags::IN)];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&zero)).is_ok_and(|ready| ready > 0)
    }
}

/// Becomes readable when one of some signals came, until [`SignalPipe::rang`] is called.
#[derive(Debug)]
pub struct SignalPipe {
    read: UnixStream,
}

impl SignalPipe {
    /// Listens for the signals from now on, in place of their default action.
    ///
    /// # Errors
    /// When a socket pair or a handler cannot be made.
    pub fn on(signals: &[i32]) -> io::Result<SignalPipe> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        for signal in signals {
            signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
        }
        Ok(SignalPipe { read })
    }

    /// Returns the descriptor to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Returns true if a signal came since the last call.
    pub fn rang(&self) -> bool {
        let mut buffer = [0_u8; 64];
        let mut rang = false;
        while rustix::io::read(&self.read, &mut buffer).is_ok_and(|count| count > 0) {
            rang = true;
        }
        rang
    }
}
