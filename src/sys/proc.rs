//! Child processes in parallel: a deadline, an output limit and a process group for each, one poll loop for all.
//!
//! # Guarantees A child is ended by SIGTERM to its group, then SIGKILL after [`GRACE_MS`]. Its result comes when the
//! child itself has ended, even if another process still holds its pipes. If this process is a subreaper, it adopts
//! processes that left the group, and [`super::tree::reap_orphans`] ends them.

mod live;

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use self::live::{Live, PendingChild};
pub use super::job::{ChildResult, GRACE_MS, Gate, Input, Job, OutputLimit, ProcessExit, Sink};
use super::signal::Cancel;
use super::spawn::{ThreadStarter, spawn};
use super::wait::timespec;

/// How often a spinner is drawn, in milliseconds.
const FRAME_MS: u64 = 100;

/// Runs all jobs, at most `width` at a time, and returns their results in the order of the jobs. Calls `frame` about
/// ten times a second while it waits, for a spinner.
///
/// # Errors
/// When poll itself fails; children are ended then.
pub fn run_all(
    jobs: Vec<Job>,
    width: usize,
    cancel: &Cancel,
    mut frame: Option<&mut dyn FnMut()>,
) -> io::Result<Vec<ChildResult>> {
    let mut results: Vec<Option<ChildResult>> = jobs.iter().map(|_| None).collect();
    let mut waiting = jobs.into_iter().enumerate();
    let mut all =
        Children { starter: ThreadStarter::new()?, starting: Vec::new(), live: Vec::new(), cancelled: false };
    loop {
        while all.starting.len() + all.live.len() < width.max(1) {
            let Some((index, job)) = waiting.next() else { break };
            if let Err(exit) = if all.cancelled { Err(ProcessExit::Cancelled) } else { all.start(index, job) }
            {
                results[index] = Some(ChildResult::without_start(exit));
            }
        }
        if all.starting.is_empty() && all.live.is_empty() {
            break;
        }
        let ready = match all.wait(cancel, frame.is_some()) {
            Ok(ready) => ready,
            Err(error) => {
                all.kill();
                return Err(error);
            }
        };
        if let Some(frame) = frame.as_mut() {
            frame();
        }
        if ready.cancelled && !all.cancelled {
            all.cancelled = true;
            all.live.iter_mut().for_each(|one| one.end(ProcessExit::Cancelled));
        }
        for (one, (out, err)) in all.live.iter_mut().zip(&ready.readable) {
            one.read(*out, *err);
            one.check_time();
        }
        let mut exited = ready.exited.into_iter();
        for one in all.live.extract_if(.., |_| exited.next().unwrap_or(false)) {
            let index = one.index();
            results[index] = Some(one.finish());
        }
        if ready.rung {
            for (index, exit) in all.take_begun() {
                results[index] = Some(ChildResult::without_start(exit));
            }
        }
    }
    let missing = || ChildResult::without_start(ProcessExit::NotStarted("it was never tried".to_owned()));
    Ok(results.into_iter().map(|ended| ended.unwrap_or_else(missing)).collect())
}

/// Runs one job.
///
/// # Errors
/// As [`run_all`].
pub fn run_one(job: Job, cancel: &Cancel, frame: Option<&mut dyn FnMut()>) -> io::Result<ChildResult> {
    let ended = run_all(vec![job], 1, cancel, frame)?.pop();
    ended.ok_or_else(|| io::Error::other("no result"))
}

/// The running and the starting children.
struct Children<'a> {
    starter: ThreadStarter,
    starting: Vec<PendingChild<'a>>,
    live: Vec<Live<'a>>,
    cancelled: bool,
}

struct ChildPoll {
    cancelled: bool,
    rung: bool,
    readable: Vec<(bool, bool)>,
    exited: Vec<bool>,
}

impl<'a> Children<'a> {
    fn start(&mut self, index: usize, mut job: Job<'a>) -> Result<(), ProcessExit> {
        let plan = PendingChild {
            index,
            sink: job.sink.take(),
            keep: job.keep,
            timeout_ms: job.timeout_ms,
            is_outer: job.sandbox.as_ref().is_some_and(|sandbox| sandbox.has_files()),
        };
        match spawn(index, job, &mut self.starter) {
            Some(begun) => self.live.push(Live::new(plan, begun?)),
            None => self.starting.push(plan),
        }
        Ok(())
    }

    /// Moves children that have started to the running ones; returns those that failed to start.
    fn take_begun(&mut self) -> Vec<(usize, ProcessExit)> {
        let mut not = Vec::new();
        for (index, begun) in self.starter.begun() {
            let Some(at) = self.starting.iter().position(|plan| plan.index == index) else { continue };
            let plan = self.starting.swap_remove(at);
            match begun {
                Ok(spawned) => {
                    let mut one = Live::new(plan, spawned);
                    if self.cancelled {
                        one.end(ProcessExit::Cancelled);
                    }
                    self.live.push(one);
                }
                Err(exit) => not.push((index, exit)),
            }
        }
        not
    }

    /// Kills them all at once, including starting ones.
    fn kill(&mut self) {
        while !self.starting.is_empty() {
            self.take_begun();
        }
        self.live.iter_mut().for_each(|one| one.kill(Signal::KILL));
    }

    fn wait(&self, cancel: &Cancel, frames: bool) -> io::Result<ChildPoll> {
        let live = &self.live;
        let mut fds: Vec<PollFd> = Vec::with_capacity(2 + live.len() * 3);
        let cancel_fd = cancel.fd();
        // After it fired it stays readable; polling it again would spin.
        fds.push(PollFd::new(&cancel_fd, if self.cancelled { PollFlags::empty() } else { PollFlags::IN }));
        fds.push(PollFd::new(self.starter.bell(), PollFlags::IN));
        for one in live {
            fds.extend(one.fds().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        }
        // Starting children only show up through the bell.
        let mut left = live.iter().map(Live::left).min().unwrap_or(Duration::from_secs(60));
        if frames {
            left = left.min(Duration::from_millis(FRAME_MS));
        }
        // Rounded up, so that a deadline has really passed when poll returns for it.
        match poll(&mut fds, Some(&timespec(left.saturating_add(Duration::from_millis(1))))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut flags = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || flags.next().unwrap_or(false);
        let (cancelled, rung) = (next(), next());
        let mut ready = ChildPoll { cancelled, rung, readable: Vec::new(), exited: Vec::new() };
        for one in live {
            ready.exited.push(next());
            let (out, err) = one.open_pipes();
            ready.readable.push((out && next(), err && next()));
        }
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    use crate::model::sandbox::{Access, Sandbox};

    #[test]
    fn a_child_that_is_starting_at_an_interruption_is_ended_too() {
        // With a sandbox, so that it starts on a thread during the interruption.
        let sleeper = || Job {
            program: PathBuf::from("/bin/sleep"),
            args: vec!["600".to_owned()],
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            input: Input::Null,
            keep: OutputLimit::Head(0),
            sink: None,
            timeout_ms: 60_000,
            gate: None,
            sandbox: Some(Sandbox::new(None, Access { allow_all: true, ..Access::default() })),
        };
        let jobs = vec![sleeper(), sleeper(), sleeper()];
        let ended = run_all(jobs, 2, &Cancel::fired().unwrap(), None).unwrap();
        let exits: Vec<ProcessExit> = ended.into_iter().map(|one| one.exit).collect();
        assert_eq!(exits, [ProcessExit::Cancelled, ProcessExit::Cancelled, ProcessExit::Cancelled]);
    }
}
