//! Starting a child: its pipes, its session, the gate where it waits, and a descriptor for its end.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;

use super::clock::Deadline;
use super::job::{Gate, Input, Job, OutputLimit, ProcessExit};
use super::start::{self, Child, Start, Streams};
use super::wait::{exit_watch, pause_ms};
use super::{executable, sandbox};
use crate::model::sandbox::{Net, Sandbox};

/// The stack of a thread that starts one child, in bytes.
const STACK_BYTES: usize = 128 * 1024;

/// A child, a descriptor that becomes readable at its end, and the read ends of its stdout and stderr.
pub(super) type Spawned = (Child, OwnedFd, File, Option<File>);

/// A started job, or why it failed: a job with a gate did not begin at all, and one without a gate was ended at once.
pub(super) type Begun = Result<Spawned, ProcessExit>;

fn not_started(error: io::Error) -> ProcessExit {
    ProcessExit::NotStarted(error.to_string())
}

/// Starts a job. Returns `None` if it starts on a thread: [`ThreadStarter::begun`] returns it when [`ThreadStarter::bell`] is
/// readable.
pub(super) fn spawn(index: usize, mut job: Job, starter: &mut ThreadStarter) -> Option<Begun> {
    let sandbox = job.sandbox.take().filter(|_| job.gate.is_none());
    let within = sandbox.as_ref().filter(|sandbox| sandbox.has_files());
    let gate = job.gate.take();
    let prepared = match prepare(job, within, gate.is_some()) {
        Ok(made) => made,
        Err(error) => return Some(Err(not_started(error))),
    };
    match sandbox.filter(|sandbox| !sandbox.has_files()) {
        // bubblewrap ends with the thread that started it, so a child with an engine never gets a thread of its own.
        Some(sandbox) => match starter.begin(index, prepared, sandbox) {
            Ok(()) => None,
            Err(error) => Some(Err(not_started(error))),
        },
        None => Some(begin(prepared, gate)),
    }
}

/// A job that can start, and looop's ends of its pipes.
struct Prepared {
    start: Start,
    stdin: Option<PipeWriter>,
    stdout: PipeReader,
    /// `None` if stderr goes to stdout.
    stderr: Option<PipeReader>,
}

fn prepare(job: Job, within: Option<&Sandbox>, has_gate: bool) -> io::Result<Prepared> {
    let (program, args) = match within {
        Some(sandbox) => {
            let inner = std::iter::once(job.program.to_string_lossy().into_owned()).chain(job.args);
            let mut argv = sandbox::argv(sandbox, &job.cwd, &inner.collect::<Vec<_>>())?;
            (PathBuf::from(argv.remove(0)), argv)
        }
        None => (job.program, job.args),
    };
    executable::check_format(&program)?;
    let mut streams = Streams::default();
    let mut stdin = None;
    if has_gate {
        let (read, write) = io::pipe()?;
        (streams.stdin, stdin) = (Some(read.into()), Some(write));
    } else if let Input::File(file) = job.input {
        streams.stdin = Some(file.into());
    }
    let (stdout, write) = io::pipe()?;
    let stderr = match job.keep {
        OutputLimit::All(_) | OutputLimit::Head(_) => {
            let (read, write) = io::pipe()?;
            streams.stderr = Some(write.into());
            Some(read)
        }
        OutputLimit::Tail(_) => {
            streams.stderr = Some(write.try_clone()?.into());
            None
        }
    };
    streams.stdout = Some(write.into());
    let start = Start { program, args, env: job.env, cwd: job.cwd, streams };
    Ok(Prepared { start, stdin, stdout, stderr })
}

fn begin(prepared: Prepared, gate: Option<Gate>) -> Begun {
    let Prepared { start, stdin, stdout, stderr } = prepared;
    let child = try_spawn(&start).map_err(not_started)?;
    drop(start);
    // Before the gate opens: from then on the child has begun, even if something here fails.
    let exited = exit_watch(child.pid()).map_err(|error| {
        // Waiting can only fail if the child is gone already.
        child.kill();
        drop(child.wait());
        not_started(error)
    })?;
    if let Some(gate) = gate {
        open_gate(&child, stdin, gate)?;
    }
    let file = |pipe: PipeReader| File::from(OwnedFd::from(pipe));
    Ok((child, exited, file(stdout), stderr.map(file)))
}

/// A task for a thread behind a filter.
type Task = Box<dyn FnOnce() + Send>;

/// Starts sandboxed children from threads that restricted themselves first: children inherit the restrictions, at a
/// fraction of the cost of another program in between. Several can start in parallel, because a thread waits for its
/// child's exec.
///
/// The kernel takes longer to prepare a filter than to start most sensors, and threads inherit filters. So there is one
/// thread for each filter, which makes one for each child; Landlock, which is cheap and differs, is applied there.
pub(super) struct ThreadStarter {
    filtered: Vec<(Net, mpsc::Sender<Task>)>,
    sender: mpsc::Sender<(usize, Begun)>,
    receiver: mpsc::Receiver<(usize, Begun)>,
    rings: Arc<PipeWriter>,
    bell: PipeReader,
}

impl ThreadStarter {
    pub(super) fn new() -> io::Result<ThreadStarter> {
        let (sender, receiver) = mpsc::channel();
        let (bell, rings) = io::pipe()?;
        Ok(ThreadStarter { filtered: Vec::new(), sender, receiver, rings: Arc::new(rings), bell })
    }

    /// Becomes readable when a job was started on a thread.
    pub(super) fn bell(&self) -> &PipeReader {
        &self.bell
    }

    /// Returns the jobs that were started on threads since the last call, by their number. Call it when the bell is
    /// readable; otherwise it blocks.
    pub(super) fn begun(&mut self) -> Vec<(usize, Begun)> {
        // A thread writes to the bell after it sent its result, so each result is followed by a byte. Unread bytes keep
        // the bell readable.
        drop(self.bell.read(&mut [0; 64]));
        self.receiver.try_iter().collect()
    }

    fn begin(&mut self, index: usize, prepared: Prepared, sandbox: Sandbox) -> io::Result<()> {
        let at = match self.filtered.iter().position(|(net, _)| *net == sandbox.access.net) {
            Some(at) => at,
            None => {
                self.filtered.push((sandbox.access.net.clone(), filtered(sandbox.clone())?));
                self.filtered.len() - 1
            }
        };
        let (sender, rings) = (self.sender.clone(), Arc::clone(&self.rings));
        let word = Word { index, begun: Some(Err(not_started(no_box()))), sender, rings };
        let task = move || {
            let locked = sandbox::lock_files(&sandbox).map_err(not_started);
            word.say(locked.and_then(|()| begin(prepared, None)));
        };
        self.filtered[at].1.send(Box::new(task)).map_err(|_| no_box())
    }
}

fn no_box() -> io::Error {
    io::Error::other("its sandbox could not be made")
}

/// The result that a thread sends for its job, even if the thread could not be made or panicked.
struct Word {
    index: usize,
    begun: Option<Begun>,
    sender: mpsc::Sender<(usize, Begun)>,
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
            // The receiver lives until all threads have sent their result.
            drop(self.sender.send((self.index, begun)));
            drop((&*self.rings).write_all(b"!"));
        }
    }
}

/// Starts a thread behind the filter of this sandbox; it ends when its sender is dropped.
fn filtered(sandbox: Sandbox) -> io::Result<mpsc::Sender<Task>> {
    let small = || thread::Builder::new().stack_size(STACK_BYTES);
    let (tell, notified) = mpsc::channel::<Task>();
    let (sender, receiver) = mpsc::channel();
    small().spawn(move || {
        let put = sandbox::lock_calls(&sandbox);
        let is_on = put.is_ok();
        // The receiver waits for this message.
        drop(sender.send(put));
        for task in notified.into_iter().take_while(|_| is_on) {
            // A dropped task still sends its result.
            drop(small().spawn(task));
        }
    })?;
    receiver.recv().unwrap_or_else(|_| Err(io::Error::other("its filter could not be applied")))?;
    Ok(tell)
}

/// Spawns; if another process is still writing the script, tries again for a short time.
fn try_spawn(start: &Start) -> io::Result<Child> {
    let wait_limit = Deadline::after_ms(500);
    loop {
        match start::spawn(start) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && !wait_limit.passed() => {
                pause_ms(5)
            }
            other => return other,
        }
    }
}

fn open_gate(child: &Child, stdin: Option<PipeWriter>, gate: Gate) -> Result<(), ProcessExit> {
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
