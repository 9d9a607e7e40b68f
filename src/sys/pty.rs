//! Pseudo-terminals: a command in a terminal of its own, whose other side is a file here. Only this module uses
//! portable-pty.

use std::fs::File;
use std::io;
use std::path::Path;

use filedescriptor::FileDescriptor;
use portable_pty::{CommandBuilder, PtySize, SlavePty, native_pty_system};
use rustix::termios::{Winsize, tcsetwinsize};

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
    ours: File,
    /// Kept open: if programs close their side for a while, the line must not hang up.
    _theirs: Box<dyn SlavePty + Send>,
}

impl Terminal {
    /// Returns looop's side; it never blocks.
    pub fn file(&self) -> &File {
        &self.ours
    }
}

/// Starts a command as the leader of a new session in a new terminal. It gets no descriptor except the terminal's.
/// Returns the terminal and the process id; the caller reaps it.
pub fn spawn(
    argv: &[String],
    env: &[(String, String)],
    cwd: &Path,
    size: Size,
) -> io::Result<(Terminal, u32)> {
    let other = |error: anyhow::Error| io::Error::other(format!("{error:#}"));
    let (program, args) = argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let pty_size = PtySize { rows: size.rows, cols: size.cols, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(pty_size).map_err(other)?;
    let raw = pair.master.as_raw_fd().ok_or_else(|| io::Error::other("the terminal has no descriptor"))?;
    let ours = FileDescriptor::dup(&raw).and_then(|fd| fd.as_file()).map_err(io::Error::other)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let mut command = CommandBuilder::new(program);
    command.args(args);
    command.env_clear();
    env.iter().for_each(|(key, value)| command.env(key, value));
    command.cwd(cwd);
    let child = pair.slave.spawn_command(command).map_err(other)?;
    let pid = child.process_id().ok_or_else(|| io::Error::other("it ended at once"))?;
    Ok((Terminal { ours, _theirs: pair.slave }, pid))
}

/// Changes the size of the terminal and notifies its programs.
pub fn resize(terminal: &Terminal, size: Size) -> io::Result<()> {
    let winsize = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(&terminal.ours, winsize)?)
}
