//! Child processes in parallel: a deadline, an output limit and a process group for each, one poll loop for all.
//!
//! # Guarantees A child is ended by SIGTERM to its group, then SIGKILL after [`GRACE_MS`]. Its result comes when the
//! child itself has ended, even if another process still holds its pipes. If this process is a subreaper, it adopts
//! processes that left the group, and [`super::reaper::reap_orphans`] ends them.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Signal, kill_process, kill_process_group};

use super::command::{Child, ProcessCommand, ProcessExit, inherited_descriptors, start_retrying};
use super::restricted::{PendingStart, RestrictedThreads, Restrictions, no_thread};
use super::tree;
use super::wait::{GRACE_MS, exit_watch, ignore, poll_for};
use crate::os::clock::Deadline;
use crate::os::signal::Cancel;

/// How often a spinner is drawn, in milliseconds.
const FRAME_MS: u64 = 100;
/// How much of the end of stderr is kept, in bytes.
const STDERR_TAIL_BYTES: usize = 8 * 1024;
/// How long the loop waits while children only start.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Which part of stdout is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputLimit {
    /// All, up to this many bytes; a child that prints more is ended.
    All(usize),
    /// The first bytes, up to this number; the rest is read and dropped.
    Head(usize),
    /// The last bytes of stdout and stderr together, up to this number.
    Tail(usize),
}

/// Called with the child's process id before the child may begin; an error keeps it from beginning.
pub type Gate<'a> = Box<dyn FnOnce(u32) -> anyhow::Result<()> + 'a>;

/// Receives each piece of stdout as it comes; false ends the child as if it had printed too much.
pub type Sink<'a> = Box<dyn FnMut(&[u8]) -> bool + 'a>;

/// A layer over a command, such as a sandbox.
pub trait Layer {
    /// Returns the command that starts this one inside the layer.
    fn wrap(&self, command: ProcessCommand) -> io::Result<ProcessCommand>;

    /// Returns the restrictions that do the same as the wrapped command, if there are any: taken on by the thread that
    /// starts the command, they cost less.
    fn restrictions(&self) -> Option<Restrictions> {
        None
    }

    /// Returns true if that command stays the outer process of the program, and kills the program at once when it is
    /// told to end.
    fn has_outer(&self) -> bool;

    /// Interprets the exit code of that command, from the end of its output too.
    fn exit(&self, code: i32, output: &[u8]) -> ProcessExit;
}

/// A child to run. It has a session of its own; its stdout and stderr are read.
pub struct Job<'a> {
    pub command: ProcessCommand,
    pub keep: OutputLimit,
    /// Another reader of its stdout.
    pub sink: Option<Sink<'a>>,
    /// Its timeout in milliseconds.
    pub timeout_ms: i64,
    /// For a child that waits for one byte on stdin: called before the byte is sent.
    pub gate: Option<Gate<'a>>,
    /// A child with a gate builds its layer itself, once its gate opens.
    pub layer: Option<Box<dyn Layer>>,
}

impl Job<'_> {
    /// Returns a job without another reader, gate and layer.
    pub fn new(command: ProcessCommand, keep: OutputLimit, timeout_ms: i64) -> Self {
        Job { command, keep, sink: None, timeout_ms, gate: None, layer: None }
    }
}

/// The result of a child.
#[derive(Debug)]
pub struct ChildResult {
    pub exit: ProcessExit,
    /// The kept part of stdout.
    pub stdout: Vec<u8>,
    /// The end of stderr; empty if it went into the tail.
    pub stderr: Vec<u8>,
    /// How long it ran, in milliseconds.
    pub took_ms: i64,
}

impl ChildResult {
    fn without_start(exit: ProcessExit) -> ChildResult {
        ChildResult { exit, stdout: Vec::new(), stderr: Vec::new(), took_ms: 0 }
    }
}

/// Runs all jobs, at most `width` at a time, and returns their results in the order of the jobs. Calls `frame` about
/// ten times a second while it waits, for a spinner.
///
/// # Errors
/// When poll itself fails; children are ended then.
pub fn run_all(
    jobs: Vec<Job>,
    width: usize,
    cancel: &Cancel,
    frame: Option<&dyn Fn()>,
) -> io::Result<Vec<ChildResult>> {
    let mut results = BTreeMap::new();
    let mut waiting = jobs.into_iter().enumerate();
    let mut run = Run { descriptors: inherited_descriptors(), ..Run::default() };
    loop {
        while run.live.len() + run.starting.len() < width.max(1) {
            let Some((index, job)) = waiting.next() else { break };
            let begun = if run.cancelled { Err(ProcessExit::Cancelled) } else { run.start(index, job) };
            if let Err(exit) = begun {
                results.insert(index, ChildResult::without_start(exit));
            }
        }
        if run.live.is_empty() && run.starting.is_empty() {
            break;
        }
        let mut ready = match run.wait(cancel, frame.is_some()) {
            Ok(ready) => ready.into_iter(),
            Err(error) => {
                let late = run.starting.into_iter().filter_map(|(start, _)| start.child.recv().ok()?.ok());
                late.for_each(|child| child.signal(true));
                run.live.iter().for_each(|one| one.kill(Signal::KILL));
                return Err(error);
            }
        };
        if let Some(frame) = frame {
            frame();
        }
        let mut is_ready = || ready.next().unwrap_or(false);
        if is_ready() && !run.cancelled {
            run.cancelled = true;
            run.live.iter_mut().for_each(|one| one.end(ProcessExit::Cancelled));
        }
        let exited = run.live.extract_if(.., |one| {
            let has_exited = is_ready();
            let out = one.job.out.is_some() && is_ready();
            let err = one.job.err.is_some() && is_ready();
            one.read(out, err);
            one.check_time();
            has_exited
        });
        for one in exited {
            results.insert(one.job.index, one.finish());
        }
        for (start, job) in run.starting.extract_if(.., |_| is_ready()) {
            let child = start.child.recv().unwrap_or_else(|_| Err(no_thread()));
            let index = job.index;
            match child.map_err(not_started).and_then(|child| Live::of(job, child)) {
                Ok(mut one) => {
                    if run.cancelled {
                        one.end(ProcessExit::Cancelled);
                    }
                    run.live.push(one);
                }
                Err(exit) => drop(results.insert(index, ChildResult::without_start(exit))),
            }
        }
    }
    Ok(results.into_values().collect())
}

/// Runs one job.
///
/// # Errors
/// As [`run_all`].
pub fn run_one(job: Job, cancel: &Cancel, frame: Option<&dyn Fn()>) -> io::Result<ChildResult> {
    let ended = run_all(vec![job], 1, cancel, frame)?.pop();
    ended.ok_or_else(|| io::Error::other("no result"))
}

/// The children of one [`run_all`].
#[derive(Default)]
struct Run<'a> {
    live: Vec<Live<'a>>,
    /// Those that restricted threads start.
    starting: Vec<(PendingStart, PipedJob<'a>)>,
    threads: RestrictedThreads,
    /// Listed once, and not by a restricted thread, which may not be allowed to.
    descriptors: Vec<c_int>,
    cancelled: bool,
}

/// A job whose command has its pipes.
struct PipedJob<'a> {
    index: usize,
    keep: OutputLimit,
    sink: Option<Sink<'a>>,
    layer: Option<Box<dyn Layer>>,
    timeout_ms: i64,
    out: Option<File>,
    err: Option<File>,
}

/// A running child.
struct Live<'a> {
    job: PipedJob<'a>,
    child: Child,
    exited: OwnedFd,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    deadline: Deadline,
    started: Deadline,
    ending: Option<ProcessExit>,
}

fn not_started(error: io::Error) -> ProcessExit {
    ProcessExit::NotStarted(error.to_string())
}

impl<'a> Run<'a> {
    /// Starts a job. If that fails, a job with a gate did not begin at all, and one without a gate was ended at once.
    fn start(&mut self, index: usize, job: Job<'a>) -> Result<(), ProcessExit> {
        let Job { mut command, keep, sink, timeout_ms, gate, layer } = job;
        let restrictions = layer.as_ref().filter(|_| gate.is_none()).and_then(|layer| layer.restrictions());
        let layer = layer.filter(|_| restrictions.is_none());
        if let Some(layer) = layer.as_ref().filter(|_| gate.is_none()) {
            command = layer.wrap(command).map_err(not_started)?;
        }
        let pipe = || io::pipe().map_err(not_started);
        let mut stdin = None;
        if gate.is_some() {
            let (read, write) = pipe()?;
            (command.stdin, stdin) = (read.into(), Some(write));
        }
        let (out, write) = pipe()?;
        let mut err = None;
        command.stderr = match keep {
            OutputLimit::All(_) | OutputLimit::Head(_) => {
                let (read, write) = pipe()?;
                err = Some(File::from(OwnedFd::from(read)));
                write.into()
            }
            OutputLimit::Tail(_) => write.try_clone().map_err(not_started)?.into(),
        };
        command.stdout = write.into();
        let out = Some(OwnedFd::from(out).into());
        let job = PipedJob { index, keep, sink, layer, timeout_ms, out, err };
        if let Some(restrictions) = restrictions {
            let start = self.threads.start(command, &self.descriptors, restrictions).map_err(not_started)?;
            self.starting.push((start, job));
            return Ok(());
        }
        let child = start_retrying(&command, &self.descriptors).map_err(not_started)?;
        drop(command);
        // Before the gate opens: from then on the child has begun, even if something here fails.
        let live = Live::of(job, child)?;
        if let Some(gate) = gate {
            open_gate(&live.child, stdin, gate)?;
        }
        self.live.push(live);
        Ok(())
    }

    /// Waits until something happens to a child, the time of one is up, or a frame is due. Returns whether each of these
    /// is ready, in this order: the cancellation; of each running child its exit and its open pipes; the end of each start.
    fn wait(&self, cancel: &Cancel, frames: bool) -> io::Result<Vec<bool>> {
        let mut fds: Vec<PollFd> = Vec::with_capacity(1 + self.live.len() * 3 + self.starting.len());
        // After it fired it stays readable; polling it again would spin.
        let asked = if self.cancelled { PollFlags::empty() } else { PollFlags::IN };
        fds.push(PollFd::from_borrowed_fd(cancel.fd(), asked));
        for one in &self.live {
            fds.extend(one.fds().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        }
        fds.extend(self.starting.iter().map(|(start, _)| PollFd::new(&start.over, PollFlags::IN)));
        let mut left = self.live.iter().map(|one| one.deadline.left()).min().unwrap_or(LONGEST_WAIT);
        if frames {
            left = left.min(Duration::from_millis(FRAME_MS));
        }
        // Rounded up, so that a deadline has really passed when poll returns for it.
        poll_for(&mut fds, left.saturating_add(Duration::from_millis(1)))?;
        Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
    }
}

impl<'a> Live<'a> {
    fn of(job: PipedJob<'a>, child: Child) -> Result<Live<'a>, ProcessExit> {
        let exited = exit_watch(child.pid()).map_err(|error| {
            // Waiting can only fail if the child is gone already.
            child.signal(true);
            drop(child.wait());
            not_started(error)
        })?;
        let (deadline, started) = (Deadline::after_ms(job.timeout_ms), Deadline::after_ms(0));
        let (stdout, stderr) = (Vec::new(), Vec::new());
        Ok(Live { job, child, exited, stdout, stderr, deadline, started, ending: None })
    }

    /// What to poll: its end, and its open pipes.
    fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.exited.as_fd()).chain(self.job.out.iter().chain(&self.job.err).map(AsFd::as_fd))
    }

    fn kill(&self, signal: Signal) {
        // An error means that the group or the child is gone, which is the goal. Signal the child separately too,
        // because it may have left its group; it is not reaped yet, so its number is still its own.
        let child = self.child.pid();
        // The outer process of a layer would kill the program at once.
        if signal == Signal::TERM && self.job.layer.as_ref().is_some_and(|layer| layer.has_outer()) {
            return tree::signal_all(&tree::below(self.child.id(), &[]), false);
        }
        ignore(kill_process_group(child, signal));
        ignore(kill_process(child, signal));
    }

    fn end(&mut self, exit: ProcessExit) {
        if self.ending.is_none() {
            self.ending = Some(exit);
            self.kill(Signal::TERM);
            self.deadline = Deadline::after_ms(GRACE_MS);
        }
    }

    fn check_time(&mut self) {
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
    fn read(&mut self, out: bool, err: bool) -> bool {
        let mut buffer = [0_u8; 64 * 1024];
        let from_out = if out { read_some(&mut self.job.out, &mut buffer) } else { 0 };
        if from_out > 0 {
            self.take_stdout(&buffer[..from_out]);
        }
        let from_err = if err { read_some(&mut self.job.err, &mut buffer) } else { 0 };
        keep_tail(&mut self.stderr, &buffer[..from_err], STDERR_TAIL_BYTES);
        from_out + from_err > 0
    }

    fn take_stdout(&mut self, bytes: &[u8]) {
        if self.job.sink.as_mut().is_some_and(|sink| !sink(bytes)) {
            self.job.out = None;
            self.job.sink = None;
            return self.end(ProcessExit::TooMuch);
        }
        match self.job.keep {
            OutputLimit::Head(cap) => {
                let room = cap.saturating_sub(self.stdout.len()).min(bytes.len());
                self.stdout.extend_from_slice(&bytes[..room]);
            }
            OutputLimit::Tail(cap) => keep_tail(&mut self.stdout, bytes, cap),
            OutputLimit::All(cap) if self.stdout.len() + bytes.len() > cap => {
                self.job.out = None;
                self.end(ProcessExit::TooMuch);
            }
            OutputLimit::All(_) => self.stdout.extend_from_slice(bytes),
        }
    }

    /// Reads what is still in the pipes, ends the rest of the group and reaps the child.
    fn finish(mut self) -> ChildResult {
        for file in self.job.out.iter().chain(&self.job.err) {
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
        let status = self.child.wait().unwrap_or_else(not_started);
        let exit = self.ending.take().unwrap_or_else(|| match (&self.job.layer, status) {
            (Some(layer), ProcessExit::Code(code)) => {
                layer.exit(code, if self.stderr.is_empty() { &self.stdout } else { &self.stderr })
            }
            (_, exit) => exit,
        });
        ChildResult { exit, stdout: self.stdout, stderr: self.stderr, took_ms: self.started.spent_ms() }
    }
}

/// Reads once from a pipe that is still open, and closes it at its end. Zero if nothing is there.
fn read_some(pipe: &mut Option<File>, buffer: &mut [u8]) -> usize {
    match pipe.as_ref().map(|file| rustix::io::read(file, buffer)) {
        Some(Ok(bytes)) if bytes > 0 => return bytes,
        Some(Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)) => {}
        _ => *pipe = None,
    }
    0
}

fn keep_tail(kept: &mut Vec<u8>, bytes: &[u8], cap: usize) {
    kept.extend_from_slice(bytes);
    if kept.len() > cap * 2 {
        kept.drain(..kept.len() - cap);
    }
}

fn open_gate(child: &Child, stdin: Option<io::PipeWriter>, gate: Gate) -> Result<(), ProcessExit> {
    let opened = gate(child.id()).map_err(|error| format!("{error:#}")).and_then(|()| {
        let mut stdin = stdin.ok_or("it has no stdin")?;
        stdin.write_all(b"!").map_err(|error| error.to_string())
    });
    if opened.is_err() {
        // stdin is closed without the byte, so the child ends without having begun.
        drop(child.wait());
    }
    opened.map_err(ProcessExit::NotStarted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_no_descriptor_that_looop_inherited() {
        let left =
            rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        rustix::io::fcntl_setfd(&left, rustix::io::FdFlags::empty()).unwrap();
        let script = format!("[ -e /dev/fd/{} ]", std::os::fd::AsRawFd::as_raw_fd(&left));
        let command = ProcessCommand::new("/bin/sh", ["-c".to_owned(), script], Vec::new(), "/");
        let job = Job::new(command, OutputLimit::Head(0), 60_000);
        assert_eq!(run_one(job, &Cancel::never().unwrap(), None).unwrap().exit, ProcessExit::Code(1));
    }

    #[test]
    fn children_are_ended_at_an_interruption_and_no_more_are_started() {
        let sleeper = || {
            let command = ProcessCommand::new("/bin/sleep", ["600"], Vec::new(), "/");
            Job::new(command, OutputLimit::Head(0), 60_000)
        };
        let jobs = vec![sleeper(), sleeper(), sleeper()];
        let ended = run_all(jobs, 2, &Cancel::fired().unwrap(), None).unwrap();
        let exits: Vec<ProcessExit> = ended.into_iter().map(|one| one.exit).collect();
        assert_eq!(exits, [ProcessExit::Cancelled, ProcessExit::Cancelled, ProcessExit::Cancelled]);
    }
}
