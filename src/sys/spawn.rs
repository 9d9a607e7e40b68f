//! Starting a child: its pipes, its session, the gate that it waits at, and a descriptor for its end.

#![allow(clippy::disallowed_methods, reason = "like `proc`, this module starts processes")]

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use super::clock::Deadline;
use super::proc::{Exit, Gate, Input, Job, Keep};
use super::{program, sandbox, session};
use crate::model::boxing::{Boxed, Net};

/// The stack of a thread that starts one child, in bytes.
const STACK_BYTES: usize = 128 * 1024;

/// A child, a descriptor that becomes readable at its end, and the read ends of its stdout and stderr.
pub(super) type Spawned = (Child, OwnedFd, Option<File>, Option<File>);

/// A job that was begun, or why it was not: if it has a gate it did not begin at all, and without one it was ended at
/// once.
pub(super) type Begun = Result<Spawned, Exit>;

fn not_started(error: io::Error) -> Exit {
    Exit::NotStarted(error.to_string())
}

/// Starts a job. None: it starts on a thread, and [`Starter::begun`] has it when [`Starter::bell`] rings.
pub(super) fn spawn(index: usize, mut job: Job, starter: &mut Starter) -> Option<Begun> {
    let boxed = job.boxed.take().filter(|_| job.gate.is_none());
    // bubblewrap ends with the thread that started it, so that stays this one; so does a job that waits at a gate.
    let is_plain = boxed.is_none() && job.gate.is_none();
    let within = boxed.as_ref().filter(|boxed| boxed.has_files());
    let (command, tail, gate) = match command(job, within) {
        Ok(made) => made,
        Err(error) => return Some(Err(not_started(error))),
    };
    match boxed.filter(|boxed| !boxed.has_files()) {
        Some(boxed) => match starter.begin(index, command, tail, boxed) {
            Ok(()) => None,
            Err(error) => Some(Err(not_started(error))),
        },
        None if is_plain => match begin_apart(starter, index, command, tail) {
            Ok(()) => None,
            Err(error) => Some(Err(not_started(error))),
        },
        None => Some(begin(command, tail, gate)),
    }
}

/// What starts a job, the read end of its stdout and stderr where that is one pipe, and its gate.
fn command<'a>(
    job: Job<'a>,
    within: Option<&Boxed>,
) -> io::Result<(Command, Option<File>, Option<Gate<'a>>)> {
    let (program, args) = match within {
        Some(boxed) => {
            let inner = std::iter::once(job.program.to_string_lossy().into_owned()).chain(job.args);
            let mut argv = sandbox::argv(boxed, &job.cwd, &inner.collect::<Vec<_>>())?;
            (PathBuf::from(argv.remove(0)), argv)
        }
        None => (job.program, job.args),
    };
    program::check_format(&program)?;
    let mut command = Command::new(&program);
    command.args(&args).env_clear().envs(job.env).current_dir(&job.cwd);
    session::isolate(&mut command);
    match (&job.gate, job.input) {
        (Some(_), _) => command.stdin(Stdio::piped()),
        (None, Input::Null) => command.stdin(Stdio::null()),
        (None, Input::File(file)) => command.stdin(file),
    };
    let tail = match job.keep {
        Keep::All(_) | Keep::Head(_) => {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        }
        Keep::Tail(_) => {
            let (read, write) = io::pipe()?;
            let twin = write.try_clone()?;
            command.stdout(write).stderr(twin);
            Some(File::from(OwnedFd::from(read)))
        }
    };
    Ok((command, tail, job.gate))
}

fn begin(command: Command, tail: Option<File>, gate: Option<Gate>) -> Begun {
    let mut child = try_spawn(command).map_err(not_started)?;
    // Before the gate opens: from then on the child has begun, whatever fails here.
    let exited = exit_watch(&child).map_err(|error| {
        // Both can only fail when the child is gone already.
        drop(child.kill());
        drop(child.wait());
        not_started(error)
    })?;
    if let Some(gate) = gate {
        open_gate(&mut child, gate)?;
    }
    let file = |fd: Option<OwnedFd>| fd.map(File::from);
    let out = tail.or_else(|| file(child.stdout.take().map(OwnedFd::from)));
    let err = file(child.stderr.take().map(OwnedFd::from));
    Ok((child, exited, out, err))
}

/// What a thread behind a filter is told to do.
type Task = Box<dyn FnOnce() + Send>;

/// Starts boxed children from threads that locked themselves in first: what they start is locked in with them, at a
/// fraction of what one more program in between would cost. Several start at the same time, because a thread waits for
/// its child's exec.
///
/// The kernel takes longer to make a filter ready than to start most sensors, and a thread inherits it. So there is one
/// thread for each filter, which makes one for each child; Landlock, which is cheap and differs, is put on there.
pub(super) struct Starter {
    filtered: Vec<(Net, mpsc::Sender<Task>)>,
    said: mpsc::Sender<(usize, Begun)>,
    heard: mpsc::Receiver<(usize, Begun)>,
    rings: Arc<PipeWriter>,
    bell: PipeReader,
}

impl Starter {
    pub(super) fn new() -> io::Result<Starter> {
        let (said, heard) = mpsc::channel();
        let (bell, rings) = io::pipe()?;
        Ok(Starter { filtered: Vec::new(), said, heard, rings: Arc::new(rings), bell })
    }

    /// What becomes readable when a job was begun on a thread.
    pub(super) fn bell(&self) -> &PipeReader {
        &self.bell
    }

    /// The jobs that were begun on threads since the last call, by their number. To be called when the bell has rung:
    /// it waits for that.
    pub(super) fn begun(&mut self) -> Vec<(usize, Begun)> {
        // A thread rings after it spoke, so that nothing is said without a ring to come. What could not be read rings on.
        drop(self.bell.read(&mut [0; 64]));
        self.heard.try_iter().collect()
    }

    fn begin(&mut self, index: usize, command: Command, tail: Option<File>, boxed: Boxed) -> io::Result<()> {
        let at = match self.filtered.iter().position(|(net, _)| *net == boxed.walls.net) {
            Some(at) => at,
            None => {
                self.filtered.push((boxed.walls.net.clone(), filtered(boxed.clone())?));
                self.filtered.len() - 1
            }
        };
        let (said, rings) = (self.said.clone(), Arc::clone(&self.rings));
        let word = Word { index, begun: Some(Err(not_started(no_box()))), said, rings };
        let task = move || {
            let locked = sandbox::lock_files(&boxed).map_err(not_started);
            word.say(locked.and_then(|()| begin(command, tail, None)));
        };
        self.filtered[at].1.send(Box::new(task)).map_err(|_| no_box())
    }
}

/// Begins a child outside of a sandbox from a thread of its own, so that several begin at the same time.
fn begin_apart(starter: &Starter, index: usize, command: Command, tail: Option<File>) -> io::Result<()> {
    let (said, rings) = (starter.said.clone(), Arc::clone(&starter.rings));
    let lost = io::Error::other("its thread ended before it began");
    let word = Word { index, begun: Some(Err(not_started(lost))), said, rings };
    let task = move || word.say(begin(command, tail, None));
    thread::Builder::new().stack_size(STACK_BYTES).spawn(task).map(drop)
}

fn no_box() -> io::Error {
    io::Error::other("its box could not be made")
}

/// What a thread says of its job when it is through with it, also where it could not be made or gave up.
struct Word {
    index: usize,
    begun: Option<Begun>,
    said: mpsc::Sender<(usize, Begun)>,
    rings: Arc<PipeWriter>,
}

impl Word {
    fn say(mut self, begun: Begun) {
        self.begun = Some(begun);
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            // Who asked is there until all have spoken.
            drop(self.said.send((self.index, begun)));
            drop((&*self.rings).write_all(b"!"));
        }
    }
}

/// A thread behind the filter of this box, until nobody can tell it anything any more.
fn filtered(boxed: Boxed) -> io::Result<mpsc::Sender<Task>> {
    let small = || thread::Builder::new().stack_size(STACK_BYTES);
    let (tell, told) = mpsc::channel::<Task>();
    let (said, heard) = mpsc::channel();
    small().spawn(move || {
        let put = sandbox::lock_calls(&boxed);
        let is_on = put.is_ok();
        // Who waits for this is there as long as nothing was said.
        drop(said.send(put));
        for task in told.into_iter().take_while(|_| is_on) {
            // A task that is dropped says so.
            drop(small().spawn(task));
        }
    })?;
    heard.recv().unwrap_or_else(|_| Err(io::Error::other("its filter could not be put on")))?;
    Ok(tell)
}

/// Spawns; a script that someone else is just writing is tried again for a little while. The command, which holds the
/// write ends of the child's pipes, is gone then: while it lives a pipe has no end.
fn try_spawn(mut command: Command) -> io::Result<Child> {
    let patience = Deadline::after_ms(500);
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && !patience.passed() => {
                pause_ms(5)
            }
            other => return other,
        }
    }
}

/// Waits for a moment, as `poll` on nothing.
pub fn pause_ms(ms: u64) {
    let time = timespec(std::time::Duration::from_millis(ms));
    // A signal may cut the pause short; callers loop on a condition of their own.
    ignore(poll(&mut [], Some(&time)));
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
pub(super) fn exit_watch(child: &Child) -> io::Result<OwnedFd> {
    let pid = Pid::from_child(child);
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// A descriptor that becomes readable when the child has ended: a thread waits for it without reaping it.
#[cfg(not(target_os = "linux"))]
pub(super) fn exit_watch(child: &Child) -> io::Result<OwnedFd> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let pid = Pid::from_child(child);
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    std::thread::spawn(move || {
        ignore(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
        drop(write);
    });
    Ok(read.into())
}

/// Waits until one of the descriptors is readable or the time is up; true when one is.
pub fn wait_readable(fds: &[&dyn AsFd], wait_ms: i64) -> bool {
    let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    let mut polled: Vec<PollFd> = borrowed.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let time = timespec(std::time::Duration::from_millis(wait_ms.max(0) as u64));
    poll(&mut polled, Some(&time)).is_ok_and(|ready| ready > 0)
}

/// A duration as `poll` takes it.
pub fn timespec(duration: std::time::Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// For calls whose failure means that what was wanted is so already; each place says why.
pub(super) fn ignore<T>(_: rustix::io::Result<T>) {}
