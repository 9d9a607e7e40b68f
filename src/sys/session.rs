//! Isolation of a child from looop: a session of its own without a terminal, and default signals.
//!
//! # Guarantees
//! - A child that went through [`isolate`] leads a session and a process group of its own, and has no controlling
//!   terminal: opening `/dev/tty` fails at once with `ENXIO`. Its group is still known by its process id.
//! - It begins with an empty signal mask, and with the default action for each signal.
//!
//! # Exceptions These children keep the session and the terminal of the caller, because the user works in them:
//! - [`super::program::run_interactive`]: the editor;
//! - [`super::program::run_here`]: `systemctl` and `launchctl`, which may ask for a password;
//! - [`super::program::run_again`]: this same command once more.
//!
//! A worker's program is started by [`super::pty`] and has a session and a terminal of its own.

#![allow(
    unsafe_code,
    reason = "the standard library has no safe call for the session, the mask and the signal actions of a child"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{SIG_DFL, SIG_IGN, SIG_SETMASK, SIGHUP, SIGPIPE, c_int, sigset_t};

/// The highest signal number of the systems that looop runs on.
const LAST_SIGNAL: c_int = 64;

/// Starts the command in a session of its own, without a terminal, and with default signals.
pub fn isolate(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec the closure makes only async-signal-safe calls, and it allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            // Of all signals, looop itself may ignore only these two, see `reset_inherited`.
            for signal in [SIGHUP, SIGPIPE] {
                libc::signal(signal, SIG_DFL);
            }
            unblock_all()
        })
    }
}

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
fn unblock_all() -> io::Result<()> {
    let mut none = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: the set is written by `sigemptyset` before it is read.
    let failed = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}
