//! Signals: interruption by the user or the system as a file descriptor to poll, and default signals for this process.

#![allow(unsafe_code, reason = "the standard library has no call for the mask and the actions of signals")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{SIG_DFL, SIG_IGN, SIG_SETMASK, SIGPIPE, c_int, sigset_t};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::process::wait::wait_readable;

/// The highest signal number of the systems that looop runs on.
const LAST_SIGNAL: c_int = 64;

/// Gives this process default signals, whatever its parent ignored or blocked: without SIGCHLD the end of a child would
/// go unnoticed. Call it before the first thread starts.
///
/// An ignored SIGHUP stays ignored for looop itself, because `nohup` asks for that. The Rust runtime ignores SIGPIPE,
/// so that a closed pipe is an error and does not kill the process.
///
/// # Errors
/// When the kernel refuses to change the mask.
pub fn reset_inherited() -> io::Result<()> {
    for signal in (1..=LAST_SIGNAL).filter(|signal| ![SIGHUP, SIGPIPE].contains(signal)) {
        if is_ignored(signal) {
            // SAFETY: no handler is installed; the default action is set for a signal that was ignored.
            unsafe { libc::signal(signal, SIG_DFL) };
        }
    }
    unblock_all()
}

/// Returns true if this process ignores the signal.
pub fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the present one to the place that it is given.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == SIG_IGN
    }
}

/// Unblocks all signals of this thread, and of threads that it starts.
pub(super) fn unblock_all() -> io::Result<()> {
    let mut none = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: the set is written by `sigemptyset` before it is read.
    let failed = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

/// Becomes and stays readable once the process was asked to end.
#[derive(Debug)]
pub struct Cancel {
    read: UnixStream,
    _write: Option<UnixStream>,
    default_action: Arc<AtomicBool>,
}

impl Cancel {
    /// Listens for the signals from now on, so that they do not end the process by themselves. An ignored signal stays
    /// ignored: `nohup` ignores SIGHUP.
    ///
    /// # Errors
    /// When a socket pair or a handler cannot be made.
    pub fn on_signals() -> io::Result<Cancel> {
        let (read, write) = UnixStream::pair()?;
        let default_action = Arc::new(AtomicBool::new(false));
        let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
        for signal in heeded {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&default_action))?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Cancel { read, _write: Some(write), default_action })
    }

    /// Returns one that never fires, for callers whose process ends by the signal itself.
    ///
    /// # Errors
    /// When a socket pair cannot be made.
    pub fn never() -> io::Result<Cancel> {
        let (read, write) = UnixStream::pair()?;
        Ok(Cancel { read, _write: Some(write), default_action: Arc::default() })
    }

    /// Returns one that has fired already.
    #[cfg(test)]
    pub fn fired() -> io::Result<Cancel> {
        Ok(Cancel { read: UnixStream::pair()?.0, _write: None, default_action: Arc::default() })
    }

    /// If `default_action` is true, lets the signals end the process by themselves again, while it becomes another
    /// program by exec: a signal that came in between would be lost.
    pub fn set_default_action(&self, default_action: bool) {
        self.default_action.store(default_action, Ordering::SeqCst);
    }

    /// Returns the descriptor to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Returns true once the process was asked to end.
    pub fn is_set(&self) -> bool {
        wait_readable(&[&self.read], 0)
    }
}

/// Becomes readable when one of some signals came, until [`SignalPipe::triggered`] is called.
#[derive(Debug)]
pub struct SignalPipe {
    read: UnixStream,
    handlers: Vec<SigId>,
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            signal_hook::low_level::unregister(handler);
        }
    }
}

impl SignalPipe {
    /// Listens for the signals from now on, in place of their default action.
    ///
    /// # Errors
    /// When a socket pair or a handler cannot be made.
    pub fn on(signals: &[i32]) -> io::Result<SignalPipe> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        let mut pipe = SignalPipe { read, handlers: Vec::new() };
        for signal in signals {
            pipe.handlers.push(signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?);
        }
        Ok(pipe)
    }

    /// Returns the descriptor to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Returns true if a signal came since the last call.
    pub fn triggered(&self) -> bool {
        drain(&self.read)
    }
}

/// Takes all bytes that wait in a pipe that never blocks; returns true if there was one.
pub(super) fn drain(read: &UnixStream) -> bool {
    let mut buffer = [0_u8; 256];
    let mut any = false;
    while rustix::io::read(read, &mut buffer).is_ok_and(|count| count > 0) {
        any = true;
    }
    any
}
