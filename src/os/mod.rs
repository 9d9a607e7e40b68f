//! Access to the operating system: clock, processes, signals. Nothing here knows the purpose of looop.

pub mod beneath;
pub mod clock;
pub mod detach;
pub mod disk;
pub mod openers;
pub mod path;
pub mod privacy;
pub mod process;
pub mod program;
pub mod pty;
pub mod renew;
pub mod sealed;
pub mod signal;
pub mod socket;
pub mod tty;
pub mod watch;
pub mod writers;
