//! The edge to the operating system: clock, processes, signals. Nothing here knows what looop is for.

pub mod clock;
pub mod proc;
pub mod signal;
pub mod watch;
