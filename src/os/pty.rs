//! Pseudo-terminals: a command in a terminal of its own, whose other side is a file here.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::process::{ChildSession, ProcessCommand};

/// A size in cells. The least is one cell each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub cols: u16,
    pub rows: u16,
}

impl Size {
    /// The size without a viewer.
    pub const DEFAULT: Size = Size { cols: 80, rows: 24 };

    /// Returns the smaller size in each direction, so that both viewers can show all of it.
    pub fn min(self, other: Size) -> Size {
        Size { cols: self.cols.min(other.cols).max(1), rows: self.rows.min(other.rows).max(1) }
    }
}

/// A terminal in which a worker's programs run.
pub struct Terminal {
    /// looop's side; it never blocks.
    pub file: File,
    /// Kept open: if programs close their side for a while, the line must not hang up.
    _theirs: OwnedFd,
}

/// Starts a command as the leader of a new session in a new terminal. It gets no descriptor except the terminal's.
/// Returns the terminal and the process id; the caller reaps it.
pub fn spawn(command: ProcessCommand, size: Size) -> io::Result<(Terminal, u32)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = PathBuf::from(OsString::from_vec(ptsname(&ours, Vec::new())?.into_bytes()));
    // Without NOCTTY it would become the terminal of this process.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(&name, flags, Mode::empty())?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let terminal = Terminal { file: ours.into(), _theirs: theirs };
    resize(&terminal, size)?;
    // Programs of a terminal look for a shell.
    let shell = ("SHELL".to_owned(), "/bin/sh".to_owned());
    let env = std::iter::once(shell).chain(command.env).collect();
    let child = ProcessCommand { env, session: ChildSession::Terminal(name), ..command }.start()?;
    Ok((terminal, child.id()))
}

/// Changes the size of the terminal and notifies its programs.
pub fn resize(terminal: &Terminal, size: Size) -> io::Result<()> {
    let winsize = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(&terminal.file, winsize)?)
}
