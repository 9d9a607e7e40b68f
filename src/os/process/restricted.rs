//! Threads that take on restrictions and then start a child: the child inherits them, at a fraction of the cost of
//! another program in between.
//!
//! The kernel takes longer to prepare some restrictions than to start most programs, and threads inherit them. So one
//! thread takes on what is shared, and makes a thread for each child, which takes on the child's own.

use std::ffi::c_int;
use std::io::{self, PipeReader};
use std::sync::mpsc;
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

/// The threads with shared restrictions, by the name of these. They end when this value is dropped.
#[derive(Default)]
pub(super) struct RestrictedThreads(Vec<(String, mpsc::Sender<Task>)>);

/// A start that goes on while the caller does something else.
pub(super) struct PendingStart {
    /// Disconnected if the thread for it could not be made.
    pub child: mpsc::Receiver<io::Result<Child>>,
    /// At its end when the start is over.
    pub over: PipeReader,
}

impl RestrictedThreads {
    /// Starts a command behind these restrictions and without these descriptors.
    ///
    /// # Errors
    /// When the shared restrictions could not be taken on.
    pub(super) fn start(
        &mut self,
        command: ProcessCommand,
        descriptors: &[c_int],
        with: Restrictions,
    ) -> io::Result<PendingStart> {
        let Restrictions { shared: (name, shared), own } = with;
        let at = match self.0.iter().position(|(other, _)| *other == name) {
            Some(at) => at,
            None => {
                self.0.push((name, restricted(shared)?));
                self.0.len() - 1
            }
        };
        let descriptors = descriptors.to_vec();
        let (sender, child) = mpsc::channel();
        let (over, end) = io::pipe()?;
        let task = move || {
            // Closed last, and also if the thread could not be made or panicked.
            let _end = end;
            // The receiver lives until the start is over.
            drop(sender.send(own().and_then(|()| start_retrying(&command, &descriptors))));
        };
        self.0[at].1.send(Box::new(task)).map_err(|_| no_thread())?;
        Ok(PendingStart { child, over })
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
            // A task that is dropped also closes its pipe.
            drop(small().spawn(task));
        }
    })?;
    receiver.recv().unwrap_or_else(|_| Err(no_thread()))?;
    Ok(tasks)
}
