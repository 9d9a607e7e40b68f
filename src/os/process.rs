//! Processes: one way to start one, one loop that runs many, one reaper, and the process tree as the kernel shows it.
//! Nothing here knows of sandboxes: a sandbox is a [`Layer`], which turns a command into another one or restricts
//! the thread that starts it.

pub mod command;
mod jobs;
pub mod reaper;
mod restricted;
pub mod tree;
pub mod wait;

pub use command::{Child, ChildSession, ProcessCommand, ProcessExit, Stream};
pub use jobs::{ChildResult, Gate, Job, Layer, OutputLimit, Sink, run_all, run_one};
pub use restricted::Restrictions;
pub use wait::GRACE_MS;
