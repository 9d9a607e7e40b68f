//! Waiting on descriptors: for their input, for the end of a process, or for a moment.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use crate::os::clock::Deadline;

/// How long a process has between SIGTERM and SIGKILL, in milliseconds.
pub const GRACE_MS: i64 = 2_000;

/// Waits for a moment, with `poll` on nothing.
pub fn pause_ms(ms: u64) {
    // A signal may shorten the pause; callers loop on a condition of their own.
    drop(poll_for(&mut [], Duration::from_millis(ms)));
}

/// Waits until a condition holds, which is checked again and again; false if the time is up before.
pub fn wait_until(wait_ms: i64, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Deadline::after_ms(wait_ms);
    loop {
        match (holds(), deadline.passed()) {
            (true, _) => return true,
            (false, true) => return false,
            (false, false) => pause_ms(10),
        }
    }
}

/// Polls these descriptors until one is ready or the time is over. A signal ends the wait early without an error.
pub fn poll_for(fds: &mut [PollFd], limit: Duration) -> io::Result<()> {
    let time = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    match poll(fds, Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns a descriptor that becomes readable when the child has ended.
#[cfg(target_os = "linux")]
pub fn exit_watch(pid: Pid) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Returns a descriptor that becomes readable when the child has ended: a thread waits for it without reaping it.
#[cfg(not(target_os = "linux"))]
pub fn exit_watch(pid: Pid) -> io::Result<OwnedFd> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    std::thread::spawn(move || {
        ignore(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
        drop(write);
    });
    Ok(read.into())
}

/// Waits until one of the descriptors is readable or the time is up; returns true if one is readable.
pub fn wait_readable(fds: &[&dyn AsFd], wait_ms: i64) -> bool {
    let polled = fds.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
    let mut polled: Vec<PollFd> = polled.collect();
    let polled_for = poll_for(&mut polled, Duration::from_millis(wait_ms.max(0) as u64));
    polled_for.is_ok() && polled.iter().any(|fd| !fd.revents().is_empty())
}

/// Ignores a failure that means that the goal is already reached; each caller says why.
pub fn ignore<T>(_: rustix::io::Result<T>) {}
