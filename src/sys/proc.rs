//! Child processes side by side: a deadline, an output cap and a process group for each, one poll loop for all.
//!
//! # Guarantees
//! A child is ended by SIGTERM to its group, then SIGKILL after [`GRACE_MS`]. Its result comes when the child
//! itself has ended, whoever still holds its pipes. What left its group is adopted by this process when it is
//! a subreaper, and [`end_strays`] ends it.

#![allow(clippy::disallowed_methods, reason = "this module owns the spawning of processes")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group};

use super::clock::Deadline;
use super::signal::Cancel;

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
    /// The last so many bytes of stdout and stderr together.
    Tail(usize),
}

/// Called with the child's process id before it may begin; an error keeps it from beginning.
pub type Gate<'a> = Box<dyn FnOnce(u32) -> anyhow::Result<()> + 'a>;

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
    /// Its deadline in milliseconds.
    pub timeout_ms: i64,
    /// A child that waits for one byte on stdin; the gate is called before the byte is sent.
    pub gate: Option<Gate<'a>>,
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

struct Live {
    index: usize,
    child: Child,
    exited: OwnedFd,
    out: Option<File>,
    err: Option<File>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    keep: Keep,
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
    loop {
        while live.len() < width.max(1) {
            let Some((index, job)) = waiting.next() else { break };
            match if cancelled { Err(Exit::Cancelled) } else { start(index, job) } {
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

fn start(index: usize, job: Job) -> Result<Live, Exit> {
    let keep = job.keep;
    let timeout_ms = job.timeout_ms;
    let (child, out, err) = spawn(job)?;
    let failed = |error: io::Error, mut child: Child| {
        // Both can only fail when the child is gone already.
        drop(child.kill());
        drop(child.wait());
        Exit::NotStarted(error.to_string())
    };
    match exit_watch(&child) {
        Ok(exited) => Ok(Live {
            index,
            child,
            exited,
            out,
            err,
            stdout: Vec::new(),
            stderr: Vec::new(),
            keep,
            deadline: Deadline::after_ms(timeout_ms),
            started: Deadline::after_ms(0),
            ending: None,
        }),
        Err(error) => Err(failed(error, child)),
    }
}

type Spawned = (Child, Option<File>, Option<File>);

fn spawn(job: Job) -> Result<Spawned, Exit> {
    let not_started = |error: io::Error| Exit::NotStarted(error.to_string());
    let mut command = Command::new(&job.program);
    command.args(&job.args).env_clear().envs(job.env).current_dir(&job.cwd).process_group(0);
    match (&job.gate, job.input) {
        (Some(_), _) => command.stdin(Stdio::piped()),
        (None, Input::Null) => command.stdin(Stdio::null()),
        (None, Input::File(file)) => command.stdin(file),
    };
    let (out, err) = match job.keep {
        Keep::All(_) => {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            (None, None)
        }
        Keep::Tail(_) => {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .map_err(|e| not_started(e.into()))?;
            let twin = write.try_clone().map_err(not_started)?;
            command.stdout(write).stderr(twin);
            (Some(File::from(read)), None)
        }
    };
    let mut child = try_spawn(&mut command).map_err(not_started)?;
    // The command holds the write ends of the pipe; while it lives the pipe has no end.
    drop(command);
    if let Some(gate) = job.gate {
        open_gate(&mut child, gate)?;
    }
    let file = |fd: Option<OwnedFd>| fd.map(File::from);
    let out = out.or_else(|| file(child.stdout.take().map(OwnedFd::from)));
    let err = err.or_else(|| file(child.stderr.take().map(OwnedFd::from)));
    Ok((child, out, err))
}

/// Spawns; a script that someone else is just writing is tried again for a little while.
fn try_spawn(command: &mut Command) -> io::Result<Child> {
    let patience = Deadline::after_ms(500);
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && !patience.passed() => pause_ms(5),
            other => return other,
        }
    }
}

/// Waits for a moment, as `poll` on nothing.
pub fn pause_ms(ms: u64) {
    let time = timespec(std::time::Duration::from_millis(ms));
    // A signal may cut the pause short; callers loop on a condition of their own.
    drop(poll(&mut [], Some(&time)));
}

fn open_gate(child: &mut Child, gate: Gate) -> Result<(), Exit> {
    let opened = gate(child.id()).map_err(|error| format!("{error:#}")).and_then(|()| {
        let stdin = child.stdin.take().ok_or("it has no stdin")?;
        (&stdin).write_all(b"!").map_err(|error| error.to_string())
    });
    if opened.is_err() {
        // Closing stdin without the byte makes the child end without having begun.
        drop(child.stdin.take());
        drop(child.wait());
    }
    opened.map_err(Exit::NotStarted)
}

/// A descriptor that becomes readable when the child has ended.
#[cfg(target_os = "linux")]
fn exit_watch(child: &Child) -> io::Result<OwnedFd> {
    let pid = Pid::from_child(child);
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// A descriptor that becomes readable when the child has ended: a thread waits for it without reaping it.
#[cfg(not(target_os = "linux"))]
fn exit_watch(child: &Child) -> io::Result<OwnedFd> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let pid = Pid::from_child(child);
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    std::thread::spawn(move || {
        drop(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
        drop(write);
    });
    Ok(read.into())
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
    let mut ready = Ready { cancelled, readable: Vec::with_capacity(live.len()), exited: Vec::with_capacity(live.len()) };
    for one in live {
        ready.exited.push(next());
        let out = one.out.is_some() && next();
        let err = one.err.is_some() && next();
        ready.readable.push((out, err));
    }
    Ok(ready)
}

fn timespec(duration: std::time::Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), tv_nsec: duration.subsec_nanos().into() }
}

impl Live {
    fn kill(&mut self, signal: Signal) {
        // An error means that the group is gone, which is what was wanted.
        drop(kill_process_group(Pid::from_child(&self.child), signal));
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
        match self.keep {
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

/// Makes this process the parent of what its children leave behind, where the system can.
pub fn become_subreaper() {
    #[cfg(target_os = "linux")]
    // Without it strays live on as they do under any other program; nothing else depends on it.
    drop(rustix::process::set_child_subreaper(Some(rustix::process::getpid())));
}

/// Ends and reaps every child that is left, strays of ended children included. Call it only when no child
/// is meant to live. Returns how many were ended.
pub fn end_strays() -> usize {
    let patience = Deadline::after_ms(GRACE_MS);
    let mut ended = 0;
    while !patience.passed() {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let strays = children();
                ended += strays.len();
                for pid in strays {
                    drop(kill_process(pid, Signal::KILL));
                }
                pause_ms(1);
            }
            Err(_) => break,
        }
    }
    ended
}

/// The living children of this process, as the kernel lists them.
fn children() -> Vec<Pid> {
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| stat_fields(*pid).is_some_and(|fields| fields.parent == me && fields.state != 'Z'))
        .filter_map(Pid::from_raw)
        .collect()
}

struct StatFields {
    state: char,
    parent: i32,
    start: u64,
}

/// Fields 3, 4 and 22 of /proc/<pid>/stat (proc(5)); the name in field 2 may hold anything, so counting
/// begins behind its last bracket.
fn stat_fields(pid: i32) -> Option<StatFields> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(StatFields { state, parent, start })
}

/// When a process started, in clock ticks since boot; none when it is gone or a zombie.
pub fn start_of(pid: u32) -> Option<u64> {
    let fields = stat_fields(i32::try_from(pid).ok()?)?;
    (fields.state != 'Z').then_some(fields.start)
}

/// The id of this boot; empty where the system has none.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Ends a group whose leader is known by pid and start time. A pid alone is no authority: it may be another's.
/// Returns true when there was something to end.
pub fn end_group(pid: u32, start: u64) -> bool {
    let alive = || start_of(pid) == Some(start);
    let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| alive()) else { return false };
    for signal in [Signal::TERM, Signal::KILL] {
        drop(kill_process_group(group, signal));
        let patience = Deadline::after_ms(GRACE_MS);
        while alive() && !patience.passed() {
            pause_ms(10);
        }
    }
    true
}

/// Finds a program: as it stands when it has a slash, else on `path`. Only executable regular files count.
pub fn find_program(name: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        let regular = std::fs::metadata(file).is_ok_and(|meta| meta.is_file());
        regular && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
    };
    if name.contains('/') {
        return Some(cwd.join(name)).filter(is_program);
    }
    let dirs = path.split(':').filter(|dir| dir.starts_with('/'));
    dirs.map(|dir| Path::new(dir).join(name)).find(is_program)
}

/// Becomes another program, when one byte comes on stdin; the end of file means that it must not begin.
/// Returns only when it did not begin.
pub fn exec_when_told(program: &Path, argv0: &str, args: &[String]) -> io::Error {
    let mut byte = [0_u8; 1];
    match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
        Ok(1) => {}
        Ok(_) => return io::Error::other("it was not told to begin"),
        Err(error) => return error.into(),
    }
    Command::new(program).arg0(argv0).args(args).stdin(Stdio::null()).exec()
}

/// Starts this program again as a child that shares terminal and process group, for the pulse.
///
/// # Errors
/// When it cannot be started.
pub fn spawn_self(args: &[&str]) -> io::Result<Child> {
    Command::new(self_path()).args(args).stdin(Stdio::null()).spawn()
}

/// This program's own file. On Linux it stays the running one even when the file was replaced.
pub fn self_path() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() { link.to_owned() } else { std::env::current_exe().unwrap_or_else(|_| link.to_owned()) }
}

/// Waits for a child of [`spawn_self`] until it ends or the deadline passes; none: it is still alive.
///
/// # Errors
/// When the child cannot be watched.
pub fn wait_child(child: &mut Child, cancel: Option<&Cancel>, wait_ms: i64) -> io::Result<Option<Exit>> {
    let exited = exit_watch(child)?;
    let deadline = Deadline::after_ms(wait_ms);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(match (status.code(), status.signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, signal) => Exit::Signal(signal.unwrap_or(0)),
            }));
        }
        if deadline.passed() || cancel.is_some_and(Cancel::is_set) {
            return Ok(None);
        }
        let cancel_fd = cancel.map(Cancel::fd);
        let mut fds = vec![PollFd::new(&exited, PollFlags::IN)];
        fds.extend(cancel_fd.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // A signal that interrupts the wait is seen by the next turn of the loop.
        drop(poll(&mut fds, Some(&timespec(deadline.left()))));
    }
}

/// Sends a signal to a child that was not waited for yet.
pub fn signal_child(child: &Child, kill: bool) {
    drop(kill_process(Pid::from_child(child), if kill { Signal::KILL } else { Signal::TERM }));
}

/// Waits until one of the descriptors is readable or the time is up; true when one is.
pub fn wait_readable(fds: &[&dyn AsFd], wait_ms: i64) -> bool {
    let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    let mut polled: Vec<PollFd> = borrowed.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let time = timespec(std::time::Duration::from_millis(wait_ms.max(0) as u64));
    poll(&mut polled, Some(&time)).is_ok_and(|ready| ready > 0)
}

/// The processes that this one descends from, nearest first.
pub fn ancestors() -> Vec<u32> {
    let mut all = Vec::new();
    let mut pid = rustix::process::getpid().as_raw_nonzero().get();
    while let Some(fields) = stat_fields(pid).filter(|fields| fields.parent > 1 && all.len() < 1000) {
        pid = fields.parent;
        all.extend(u32::try_from(pid));
    }
    all
}

/// Runs the human's editor on a file, in the foreground of their terminal; true when it ended well.
/// The editor is a shell line, as it is for git.
///
/// # Errors
/// When it cannot be started.
pub fn run_interactive(editor: &str, file: &Path) -> io::Result<bool> {
    let line = format!("{editor} \"$@\"");
    let status = Command::new("sh").arg("-c").arg(line).arg(editor).arg(file).status()?;
    Ok(status.success())
}
