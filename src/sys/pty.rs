//! Pseudo-terminals: a command in one of its own, and this side of it as a file. portable-pty lives only here.

use std::fs::File;
use std::io;
use std::path::Path;

use filedescriptor::FileDescriptor;
use portable_pty::{CommandBuilder, PtySize, SlavePty, native_pty_system};
use rustix::termios::{Winsize, tcsetwinsize};

/// A size in cells. The least is one cell each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The width.
    pub cols: u16,
    /// The height.
    pub rows: u16,
}

impl Size {
    /// What programs are told where nobody looks.
    pub const DEFAULT: Size = Size { cols: 80, rows: 24 };

    /// The smaller one in each direction, so that both can show all of it.
    pub fn min(self, other: Size) -> Size {
        Size { cols: self.cols.min(other.cols).max(1), rows: self.rows.min(other.rows).max(1) }
    }
}

/// A terminal that somebody else's programs run in.
pub struct Terminal {
    ours: File,
    /// Kept open: programs that close their side for a while must not find the line hung up.
    _theirs: Box<dyn SlavePty + Send>,
}

impl Terminal {
    /// Our side; it never blocks.
    pub fn file(&self) -> &File {
        &self.ours
    }
}

/// Starts a command as the leader of a new session in a new terminal. It gets no descriptor but the terminal's.
/// Returns the terminal and the process id; the caller reaps it.
///
/// # Errors
/// Says why it could not be started.
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

/// Tells the programs in the terminal that it has another size.
///
/// # Errors
/// When the terminal is gone.
pub fn resize(terminal: &Terminal, size: Size) -> io::Result<()> {
    let winsize = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(&terminal.ours, winsize)?)
}
