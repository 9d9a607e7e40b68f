//! Threads that take on restrictions and then start a child: the child inherits them, at a fraction of the cost of
//! another program in between.
//!
//! The kernel takes longer to prepare some restrictions than to start most programs, and threads inherit them. So one
//! thread takes on what is shared, and makes a thread for each child, which takes on the child's own.

use std::io;
use std::os::raw::c_int;
use std::sync::mpsc;
use std::thread;

use super::command::{Child, ProcessCommand};

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

/// The threads with shared restrictions, by name. They end when this value is dropped.
#[derive(Default)]
pub(super) struct RestrictedThreads(Vec<(String, mpsc::Sender<Task>)>);

impl RestrictedThreads {
    /// Starts a command behind these restrictions.
    ///
    /// # Errors
    /// When a restriction could not be taken on or a thread could not be made, and as [`ProcessCommand::start`].
    pub(super) fn start(
        &mut self,
        command: ProcessCommand,
        restrictions: Restrictions,
        start: fn(&ProcessCommand, &[c_int]) -> io::Result<Child>,
    ) -> io::Result<Child> {
        let Restrictions { shared: (name, shared), own } = restrictions;
        let at = match self.0.iter().position(|(other, _)| *other == name) {
            Some(at) => at,
            None => {
                self.0.push((name, restricted(shared)?));
                self.0.len() - 1
            }
        };
        // Listed here: a restricted thread may not be allowed to.
        let descriptors = command.descriptors_to_close();
        let (sender, receiver) = mpsc::channel();
        let task = move || {
            // The receiver waits for this message.
            drop(sender.send(own().and_then(|()| start(&command, &descriptors))));
        };
        let sent = self.0[at].1.send(Box::new(task));
        sent.ok().and_then(|()| receiver.recv().ok()).unwrap_or_else(|| Err(no_thread()))
    }
}

fn no_thread() -> io::Error {
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
            // A task that is dropped drops its sender, which its receiver sees.
            drop(small().spawn(task));
        }
    })?;
    receiver.recv().unwrap_or_else(|_| Err(no_thread()))?;
    Ok(tasks)
}
