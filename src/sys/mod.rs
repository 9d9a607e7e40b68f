//! The edge to the operating system: clock, processes, signals. Nothing here knows what looop is for.

pub mod clock;
pub mod detach;
pub mod disk;
pub mod kin;
pub mod openers;
pub mod path;
pub mod proc;
pub mod program;
pub mod pty;
pub mod renew;
pub mod sandbox;
pub mod sealed;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod tree;
pub mod tty;
pub mod watch;
pub mod writers;
