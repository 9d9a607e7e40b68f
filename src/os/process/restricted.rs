//! Threads that take on restrictions and then start a child: the child inherits them, at a fraction of the cost of
//! another program in between.
//!
//! The kernel takes longer to prepare some restrictions than to start most programs, and threads inherit them. So one
//! thread takes on what is shared, and makes a thread for each child, which takes on the child's own.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::{Arc, mpsc};
use std::thread;

use super::command::{Child, ProcessCommand, start_retrying};

/// The stack of a thread that starts one child, in bytes.
const STACK_BYTES: usize = 128 * 1024;

/// Restricts the thread that calls it, for good.
pub type Restrict = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// The restrictions of one child.
pub struct Restrictions {
    /// Restrictions that several children share, under a name that says what they are.
    pub shared: (String, Restrict),
    /// Restrictions of this child alone.
    pub own: Restrict,
}

type Task = Box<dyn FnOnce() + Send>;

/// The threads with shared restrictions. They end when this value is dropped.
pub(super) struct RestrictedThreads {
    /// By the name of their restrictions.
    threads: Vec<(String, mpsc::Sender<Task>)>,
    signal: PipeReader,
    signals: Arc<PipeWriter>,
}

impl RestrictedThreads {
    pub(super) fn new() -> io::Result<RestrictedThreads> {
        let (signal, signals) = io::pipe()?;
        Ok(RestrictedThreads { threads: Vec::new(), signal, signals: Arc::new(signals) })
    }

    /// Becomes readable when a start is over.
    pub(super) fn signal(&self) -> &PipeReader {
        &self.signal
    }

    /// Takes signals of starts that are over. Call it when the signal is readable; otherwise it blocks. Each start sends its
    /// result before its signal, and unread signals keep the signal readable.
    pub(super) fn take_signals(&mut self) {
        drop(self.signal.read(&mut [0; 64]));
    }

    /// Starts a command behind these restrictions, while the caller goes on. The receiver gets the result, or is
    /// disconnected if the thread for it could not be made.
    ///
    /// # Errors
    /// When the shared restrictions could not be taken on.
    pub(super) fn start(
        &mut self,
        command: ProcessCommand,
        restrictions: Restrictions,
    ) -> io::Result<mpsc::Receiver<io::Result<Child>>> {
        let Restrictions { shared: (name, shared), own } = restrictions;
        let at = match self.threads.iter().position(|(other, _)| *other == name) {
            Some(at) => at,
            None => {
                self.threads.push((name, restricted(shared)?));
                self.threads.len() - 1
            }
        };
        // Listed here: a restricted thread may not be allowed to.
        let descriptors = command.descriptors_to_close();
        let (sender, receiver) = mpsc::channel();
        let start_result = StartResult { sender: Some(sender), signals: Arc::clone(&self.signals) };
        let task = move || start_result.send(own().and_then(|()| start_retrying(&command, &descriptors)));
        self.threads[at].1.send(Box::new(task)).map_err(|_| no_thread())?;
        Ok(receiver)
    }
}

/// Sends the result of a start and then its signal, which also comes if the thread could not be made or panicked.
struct StartResult {
    sender: Option<mpsc::Sender<io::Result<Child>>>,
    signals: Arc<PipeWriter>,
}

impl StartResult {
    fn send(mut self, result: io::Result<Child>) {
        if let Some(sender) = self.sender.take() {
            // The receiver lives until the start is over.
            drop(sender.send(result));
        }
    }
}

impl Drop for StartResult {
    fn drop(&mut self) {
        drop(self.sender.take());
        drop((&*self.signals).write_all(b"!"));
    }
}

pub(super) fn no_thread() -> io::Error {
    io::Error::other("its restrictions could not be applied")
}

/// Makes a thread that takes on shared restrictions, and then a thread for each task.
fn restricted(shared: Restrict) -> io::Result<mpsc::Sender<Task>> {
    let small = || thread::Builder::new().stack_size(STACK_BYTES);
    let (tasks, received) = mpsc::channel::<Task>();
    let (sender, receiver) = mpsc::channel();
    small().spawn(move || {
        let put = shared();
        let is_on = put.is_ok();
        // The receiver waits for this message.
        drop(sender.send(put));
        for task in received.into_iter().take_while(|_| is_on) {
            // A task that is dropped still sends its signal.
            drop(small().spawn(task));
        }
    })?;
    receiver.recv().unwrap_or_else(|_| Err(no_thread()))?;
    Ok(tasks)
}
