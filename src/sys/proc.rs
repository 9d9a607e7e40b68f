//! Child processes side by side: a deadline, an output cap and a process group for each, one poll loop for all.
//!
//! # Guarantees
//! A child is ended by SIGTERM to its group, then SIGKILL after [`GRACE_MS`]. Its result comes when the child
//! itself has ended, whoever still holds its pipes. What left its group is adopted by this process when it is
//! a subreaper, and [`super::tree::end_strays`] ends it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Child;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::clock::Deadline;
use super::kin;
use super::sandbox;
use super::signal::Cancel;
use super::spawn::{Locker, ignore, spawn, timespec};
use crate::model::boxing::Boxed;

/// How long a group has between SIGTERM and SIGKILL, in milliseconds.
pub const GRACE_MS: i64 = 2_000;
/// How much of the end of stderr is kept, in bytes.
const STDERR_TAIL_BYTES: usize = 8 * 1024;
/// How often a spinner is drawn, in milliseconds.
const FRAME_MS: u64 = 100;

/// What a child reads.
#[derive(Debug)]
pub enum Input {
    /// Nothing: /dev/null.
    Null,
    /// A file from its present position on.
    File(File),
}

/// What is kept of stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All, up to so many bytes; a child that prints more is ended.
    All(usize),
    /// The first so many bytes; what follows is read and dropped.
    Head(usize),
    /// The last so many bytes of stdout and stderr together.
    Tail(usize),
}

/// Called with the child's process id before it may begin; an error keeps it from beginning.
pub type Gate<'a> = Box<dyn FnOnce(u32) -> anyhow::Result<()> + 'a>;

/// Gets each piece of stdout as it comes; false ends the child, as one that printed too much.
pub type Sink<'a> = Box<dyn FnMut(&[u8]) -> bool + 'a>;

/// One child to run.
pub struct Job<'a> {
    /// The executable's path.
    pub program: PathBuf,
    /// Its arguments, the program's own name not among them.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Where it runs.
    pub cwd: PathBuf,
    /// What it reads.
    pub input: Input,
    /// What is kept of its output.
    pub keep: Keep,
    /// Who else reads its stdout.
    pub sink: Option<Sink<'a>>,
    /// Its deadline in milliseconds.
    pub timeout_ms: i64,
    /// A child that waits for one byte on stdin; the gate is called before the byte is sent.
    pub gate: Option<Gate<'a>>,
    /// The box that it runs in; none: it runs as this process does. A child with a gate builds it itself, when it is
    /// told to begin.
    pub boxed: Option<Boxed>,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal that did not come from here.
    Signal(i32),
    /// Its time was up.
    Timeout,
    /// It printed more than it may.
    TooMuch,
    /// It never began; why.
    NotStarted(String),
    /// A human interrupted.
    Cancelled,
}

impl Exit {
    /// The end in words, for a sentence: `exit code 3`, `signal 9`.
    pub fn words(&self) -> String {
        match self {
            Exit::Code(code) => format!("exit code {code}"),
            Exit::Signal(signal) => format!("signal {signal}"),
            Exit::Timeout => "its deadline".to_owned(),
            Exit::TooMuch => "too much output".to_owned(),
            Exit::NotStarted(why) => format!("no start: {why}"),
            Exit::Cancelled => "an interruption".to_owned(),
        }
    }
}

/// What is left of a child.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub exit: Exit,
    /// What was kept of stdout.
    pub stdout: Vec<u8>,
    /// The end of stderr; empty where it went into the tail.
    pub stderr: Vec<u8>,
    /// How long it ran, in milliseconds.
    pub took_ms: i64,
}

impl Ended {
    fn without_start(exit: Exit) -> Ended {
        Ended { exit, stdout: Vec::new(), stderr: Vec::new(), took_ms: 0 }
    }
}

struct Live<'a> {
    index: usize,
    child: Child,
    exited: OwnedFd,
    out: Option<File>,
    err: Option<File>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    keep: Keep,
    sink: Option<Sink<'a>>,
    /// True: the child is the outer side of a namespace, and what it runs is told for itself.
    is_outer: bool,
    deadline: Deadline,
    started: Deadline,
    ending: Option<Exit>,
}

/// Runs all jobs, at most `width` at a time, and returns their ends in the order of the jobs.
/// `frame` is called about ten times a second while waiting, for a spinner.
///
/// # Errors
/// When poll itself fails; children are ended then.
pub fn run_all(
    jobs: Vec<Job>,
    width: usize,
    cancel: &Cancel,
    mut frame: Option<&mut dyn FnMut()>,
) -> io::Result<Vec<Ended>> {
    let mut results: Vec<Option<Ended>> = jobs.iter().map(|_| None).collect();
    let mut waiting = jobs.into_iter().enumerate();
    let mut live: Vec<Live> = Vec::new();
    let mut cancelled = false;
    let mut locker = Locker::default();
    loop {
        while live.len() < width.max(1) {
            let Some((index, job)) = waiting.next() else { break };
            match if cancelled { Err(Exit::Cancelled) } else { start(index, job, &mut locker) } {
                Ok(one) => live.push(one),
                Err(exit) => results[index] = Some(Ended::without_start(exit)),
            }
        }
        if live.is_empty() {
            break;
        }
        let ready = match wait(&live, cancel, cancelled, frame.is_some()) {
            Ok(ready) => ready,
            Err(error) => {
                live.iter_mut().for_each(|one| one.kill(Signal::KILL));
                return Err(error);
            }
        };
        if let Some(frame) = frame.as_mut() {
            frame();
        }
        if ready.cancelled && !cancelled {
            cancelled = true;
            live.iter_mut().for_each(|one| one.end(Exit::Cancelled));
        }
        for (one, (out, err)) in live.iter_mut().zip(&ready.readable) {
            one.read(*out, *err);
            one.check_time();
        }
        let mut still = Vec::with_capacity(live.len());
        for (one, exited) in live.into_iter().zip(ready.exited) {
            if exited {
                let index = one.index;
                results[index] = Some(one.finish());
            } else {
                still.push(one);
            }
        }
        live = still;
    }
    let missing = || Ended::without_start(Exit::NotStarted("it was never tried".to_owned()));
    Ok(results.into_iter().map(|ended| ended.unwrap_or_else(missing)).collect())
}

/// Runs one job.
///
/// # Errors
/// As [`run_all`].
pub fn run_one(job: Job, cancel: &Cancel, frame: Option<&mut dyn FnMut()>) -> io::Result<Ended> {
    let ended = run_all(vec![job], 1, cancel, frame)?.pop();
    ended.ok_or_else(|| io::Error::other("no result"))
}

fn start<'a>(index: usize, mut job: Job<'a>, locker: &mut Locker) -> Result<Live<'a>, Exit> {
    let sink = job.sink.take();
    let keep = job.keep;
    let timeout_ms = job.timeout_ms;
    let is_outer = job.boxed.as_ref().is_some_and(|boxed| boxed.engine.is_some());
    let (child, exited, out, err) = spawn(job, locker)?;
    Ok(Live {
        index,
        child,
        exited,
        out,
        err,
        stdout: Vec::new(),
        stderr: Vec::new(),
        keep,
        sink,
        is_outer,
        deadline: Deadline::after_ms(timeout_ms),
        started: Deadline::after_ms(0),
        ending: None,
    })
}

struct Ready {
    cancelled: bool,
    readable: Vec<(bool, bool)>,
    exited: Vec<bool>,
}

fn wait(live: &[Live], cancel: &Cancel, cancelled: bool, frames: bool) -> io::Result<Ready> {
    let mut fds: Vec<PollFd> = Vec::with_capacity(1 + live.len() * 3);
    let cancel_fd = cancel.fd();
    // Once it fired it stays readable; polling it again would spin.
    fds.push(PollFd::new(&cancel_fd, if cancelled { PollFlags::empty() } else { PollFlags::IN }));
    for one in live {
        fds.push(PollFd::new(&one.exited, PollFlags::IN));
        fds.extend(one.out.iter().chain(&one.err).map(|file| PollFd::new(file, PollFlags::IN)));
    }
    let mut left = live.iter().map(|one| one.deadline.left()).min().unwrap_or_default();
    if frames {
        left = left.min(std::time::Duration::from_millis(FRAME_MS));
    }
    // Rounded up, so that a deadline has truly passed when poll returns for it.
    match poll(&mut fds, Some(&timespec(left + std::time::Duration::from_millis(1)))) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut flags = fds.iter().map(|fd| !fd.revents().is_empty());
    let mut next = || flags.next().unwrap_or(false);
    let cancelled = next();
    let mut ready =
        Ready { cancelled, readable: Vec::with_capacity(live.len()), exited: Vec::with_capacity(live.len()) };
    for one in live {
        ready.exited.push(next());
        let out = one.out.is_some() && next();
        let err = one.err.is_some() && next();
        ready.readable.push((out, err));
    }
    Ok(ready)
}

impl Live<'_> {
    fn kill(&mut self, signal: Signal) {
        // An error means that the group or the child is gone, which is what was wanted. The child is told by
        // itself too, because it may have left its group; it is not reaped yet, so its number is still its own.
        let child = Pid::from_child(&self.child);
        // Told to end, the outer side of a box takes with it at once what it runs.
        if self.is_outer && signal == Signal::TERM {
            return kin::signal_all(&kin::below(self.child.id()), false);
        }
        ignore(kill_process_group(child, signal));
        ignore(kill_process(child, signal));
    }

    fn end(&mut self, exit: Exit) {
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
            self.end(Exit::Timeout);
        }
    }

    /// One read of each pipe that is ready. True while there may be more.
    fn read(&mut self, out: bool, err: bool) -> bool {
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
        if self.sink.as_mut().is_some_and(|sink| !sink(bytes)) {
            self.out = None;
            self.sink = None;
            return self.end(Exit::TooMuch);
        }
        match self.keep {
            Keep::Head(cap) => {
                let room = cap.saturating_sub(self.stdout.len()).min(bytes.len());
                self.stdout.extend_from_slice(&bytes[..room]);
            }
            Keep::Tail(cap) => keep_tail(&mut self.stdout, bytes, cap),
            Keep::All(cap) if self.stdout.len() + bytes.len() > cap => {
                self.out = None;
                self.end(Exit::TooMuch);
            }
            Keep::All(_) => self.stdout.extend_from_slice(bytes),
        }
    }

    /// Takes what is still in the pipes, ends the rest of the group and reaps the child.
    fn finish(mut self) -> Ended {
        for file in self.out.iter().chain(&self.err) {
            // Where this fails the pipe is left unread rather than read for ever.
            if rustix::io::ioctl_fionbio(file, true).is_err() {
                break;
            }
        }
        // The pipe's own buffer is all that can be left: 64 KiB, and whoever still writes has no say.
        for _ in 0..32 {
            if !self.read(true, true) {
                break;
            }
        }
        self.kill(Signal::KILL);
        let status = self.child.wait();
        let exit = self.ending.take().unwrap_or_else(|| match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) if self.is_outer => sandbox::outer_exit(
                    code,
                    if self.stderr.is_empty() { &self.stdout } else { &self.stderr },
                ),
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::NotStarted("its exit status is unknown".to_owned()),
            },
            Err(error) => Exit::NotStarted(error.to_string()),
        });
        Ended { exit, stdout: self.stdout, stderr: self.stderr, took_ms: self.started.spent_ms() }
    }
}

/// One read; none when there is nothing now, zero at the end.
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
