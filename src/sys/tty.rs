//! The human's terminal: its size, raw mode that is given back on every way out, and the news that its size changed.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::SigId;
use signal_hook::consts::SIGWINCH;

/// True when stdin and stdout are one human's terminal.
pub fn is_terminal() -> bool {
    isatty(io::stdin()) && isatty(io::stdout())
}

/// The size of the terminal on stdout as width and height in cells; none when there is no terminal, or when it
/// does not know.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// A terminal in raw mode: each key comes as the bytes that it sends, and none of them ends this process. Given
/// back when dropped, which an error and a panic do too; a signal must therefore be turned into an event of the
/// loop, as [`super::signal::Cancel`] does.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
    leave: &'static str,
}

impl Raw {
    /// Makes the terminal raw and writes `enter` to it; `leave` is written when it is given back.
    ///
    /// # Errors
    /// When stdin is no terminal, or one that does not listen.
    pub fn enter(enter: &str, leave: &'static str) -> io::Result<Raw> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        // What was typed before belongs to the worker too, so it is not thrown away.
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let raw = Raw { before, leave };
        write_all(enter.as_bytes())?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        write_all(self.leave.as_bytes()).unwrap_or_default();
        tcsetattr(io::stdin(), OptionalActions::Now, &self.before).unwrap_or_default();
    }
}

/// Writes all of it to the terminal, past every buffer of this process.
///
/// # Errors
/// When the terminal is gone.
pub fn write_all(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Reads what was typed; 0 at its end.
///
/// # Errors
/// When the terminal is gone.
pub fn read(buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(io::stdin(), buffer)?)
}

/// Becomes readable when the terminal has another size.
#[derive(Debug)]
pub struct Resized {
    read: UnixStream,
    id: SigId,
}

impl Resized {
    /// Listens from now on.
    ///
    /// # Errors
    /// When no socket pair or no handler can be had.
    pub fn listen() -> io::Result<Resized> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        let id = signal_hook::low_level::pipe::register(SIGWINCH, write)?;
        Ok(Resized { read, id })
    }

    /// The descriptor to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Takes the news; the size is looked up after that, so that the last one is never missed.
    pub fn take(&self) {
        let mut buffer = [0; 64];
        while matches!((&self.read).read(&mut buffer), Ok(bytes) if bytes > 0) {}
    }
}

impl Drop for Resized {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.id);
    }
}
