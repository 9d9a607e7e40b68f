//! One running child: its pipes, its deadline and its end.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::{Signal, kill_process, kill_process_group};

use crate::sys::clock::Deadline;
use crate::sys::job::{ChildResult, GRACE_MS, OutputLimit, ProcessExit, Sink};
use crate::sys::spawn::Spawned;
use crate::sys::start::Child;
use crate::sys::wait::ignore;
use crate::sys::{descendants, sandbox};

/// How much of the end of stderr is kept, in bytes.
const STDERR_TAIL_BYTES: usize = 8 * 1024;

/// The parameters of a child before its start.
pub(super) struct PendingChild<'a> {
    pub(super) index: usize,
    pub(super) keep: OutputLimit,
    pub(super) sink: Option<Sink<'a>>,
    /// True if the child is the outer process of a sandbox; the sandboxed program is then signalled separately.
    pub(super) is_outer: bool,
    pub(super) timeout_ms: i64,
}

/// A running child.
pub(super) struct Live<'a> {
    plan: PendingChild<'a>,
    child: Child,
    exited: OwnedFd,
    out: Option<File>,
    err: Option<File>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    deadline: Deadline,
    started: Deadline,
    ending: Option<ProcessExit>,
}

impl<'a> Live<'a> {
    pub(super) fn new(plan: PendingChild<'a>, (child, exited, out, err): Spawned) -> Live<'a> {
        Live {
            deadline: Deadline::after_ms(plan.timeout_ms),
            started: Deadline::after_ms(0),
            plan,
            child,
            exited,
            out: Some(out),
            err,
            stdout: Vec::new(),
            stderr: Vec::new(),
            ending: None,
        }
    }

    pub(super) fn index(&self) -> usize {
        self.plan.index
    }

    /// What to poll: its end, and its open pipes.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.exited.as_fd()).chain(self.out.iter().chain(&self.err).map(AsFd::as_fd))
    }

    /// Which of its pipes are open, stdout first.
    pub(super) fn open_pipes(&self) -> (bool, bool) {
        (self.out.is_some(), self.err.is_some())
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.left()
    }

    pub(super) fn kill(&mut self, signal: Signal) {
        // An error means that the group or the child is gone, which is the goal. Signal the child separately too,
        // because it may have left its group; it is not reaped yet, so its number is still its own.
        let child = self.child.pid();
        // When the outer process of a sandbox is told to end, it kills the sandboxed program at once.
        if self.plan.is_outer && signal == Signal::TERM {
            return descendants::signal_all(&descendants::below(self.child.id()), false);
        }
        ignore(kill_process_group(child, signal));
        ignore(kill_process(child, signal));
    }

    pub(super) fn end(&mut self, exit: ProcessExit) {
        if self.ending.is_none() {
            self.ending = Some(exit);
            self.kill(Signal::TERM);
            self.deadline = Deadline::after_ms(GRACE_MS);
        }
    }

    pub(super) fn check_time(&mut self) {
        if !self.deadline.passed() {
            return;
        }
        if self.ending.is_some() {
            self.kill(Signal::KILL);
            self.deadline = Deadline::after_ms(GRACE_MS);
        } else {
            self.end(ProcessExit::Timeout);
        }
    }

    /// Reads once from each pipe that is ready. Returns true while there may be more.
    pub(super) fn read(&mut self, out: bool, err: bool) -> bool {
        let mut buffer = [0_u8; 64 * 1024];
        let mut more = false;
        if let Some(bytes) = self.out.as_ref().filter(|_| out).and_then(|file| read_some(file, &mut buffer)) {
            more |= bytes > 0;
            self.take_stdout(&buffer[..bytes]);
            if bytes == 0 {
                self.out = None;
            }
        }
        if let Some(bytes) = self.err.as_ref().filter(|_| err).and_then(|file| read_some(file, &mut buffer)) {
            more |= bytes > 0;
            keep_tail(&mut self.stderr, &buffer[..bytes], STDERR_TAIL_BYTES);
            if bytes == 0 {
                self.err = None;
            }
        }
        more
    }

    fn take_stdout(&mut self, bytes: &[u8]) {
        if self.plan.sink.as_mut().is_some_and(|sink| !sink(bytes)) {
            self.out = None;
            self.plan.sink = None;
            return self.end(ProcessExit::TooMuch);
        }
        match self.plan.keep {
            OutputLimit::Head(cap) => {
                let room = cap.saturating_sub(self.stdout.len()).min(bytes.len());
                self.stdout.extend_from_slice(&bytes[..room]);
            }
            OutputLimit::Tail(cap) => keep_tail(&mut self.stdout, bytes, cap),
            OutputLimit::All(cap) if self.stdout.len() + bytes.len() > cap => {
                self.out = None;
                self.end(ProcessExit::TooMuch);
            }
            OutputLimit::All(_) => self.stdout.extend_from_slice(bytes),
        }
    }

    /// Reads what is still in the pipes, ends the rest of the group and reaps the child.
    pub(super) fn finish(mut self) -> ChildResult {
        for file in self.out.iter().chain(&self.err) {
            // If this fails, leave the pipe unread instead of blocking for ever.
            if rustix::io::ioctl_fionbio(file, true).is_err() {
                break;
            }
        }
        // At most the pipe's own buffer is left, 64 KiB; a process that still writes must not keep this loop going.
        for _ in 0..32 {
            if !self.read(true, true) {
                break;
            }
        }
        self.kill(Signal::KILL);
        let status = self.child.wait();
        let exit = self.ending.take().unwrap_or_else(|| match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) if self.plan.is_outer => sandbox::outer_exit(
                    code,
                    if self.stderr.is_empty() { &self.stdout } else { &self.stderr },
                ),
                (Some(code), _) => ProcessExit::Code(code),
                (None, Some(signal)) => ProcessExit::Signal(signal),
                (None, None) => ProcessExit::NotStarted("its exit status is unknown".to_owned()),
            },
            Err(error) => ProcessExit::NotStarted(error.to_string()),
        });
        ChildResult { exit, stdout: self.stdout, stderr: self.stderr, took_ms: self.started.spent_ms() }
    }
}

/// Reads once; `None` if nothing is there now, zero at the end.
fn read_some(file: &File, buffer: &mut [u8]) -> Option<usize> {
    match rustix::io::read(file, &mut *buffer) {
        Ok(bytes) => Some(bytes),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
        Err(_) => Some(0),
    }
}

fn keep_tail(kept: &mut Vec<u8>, bytes: &[u8], cap: usize) {
    kept.extend_from_slice(bytes);
    if kept.len() > cap * 2 {
        kept.drain(..kept.len() - cap);
    }
}
