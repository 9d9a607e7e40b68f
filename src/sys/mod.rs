//! The edge to the operating system: clock, processes, signals. Nothing here knows what looop is for.

pub mod clock;
pub mod proc;
pub mod program;
pub mod signal;
pub mod spawn;
pub mod tree;
pub mod watch;
