//! Waiting on descriptors: for their input, for the end of a process, or for a moment.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

/// How long a process has between SIGTERM and SIGKILL, in milliseconds.
pub const GRACE_MS: i64 = 2_000;

/// Waits for a moment, with `poll` on nothing.
pub fn pause_ms(ms: u64) {
    let time = timespec(std::time::Duration::from_millis(ms));
    // A signal may shorten the pause; callers loop on a condition of their own.
    ignore(poll(&mut [], Some(&time)));
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
    let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    let mut polled: Vec<PollFd> = borrowed.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let time = timespec(std::time::Duration::from_millis(wait_ms.max(0) as u64));
    poll(&mut polled, Some(&time)).is_ok_and(|ready| ready > 0)
}

/// Converts a duration for `poll`.
pub fn timespec(duration: std::time::Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Ignores a failure that means that the goal is already reached; each caller says why.
pub fn ignore<T>(_: rustix::io::Result<T>) {}
