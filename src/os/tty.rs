//! The user's terminal: its size, raw mode that is always reset, and notifications of a changed size.

use std::io::{self, Write};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::SIGWINCH;

use super::signal::SignalPipe;

/// Returns true if stdin and stdout are a terminal.
pub fn is_terminal() -> bool {
    isatty(io::stdin()) && isatty(io::stdout())
}

/// Returns the size of the terminal on stdout as width and height in cells; `None` without a terminal, or if its size
/// is unknown.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// A terminal in raw mode: each key comes as the bytes that it sends, and none of them ends this process. Dropping
/// resets the terminal, also on an error or a panic; a signal must therefore be turned into an event of the loop, as
/// [`super::signal::Cancel`] does.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
    leave: &'static str,
}

impl Raw {
    /// Makes the terminal raw and writes `enter` to it; `leave` is written when it is reset.
    ///
    /// # Errors
    /// When stdin is not a terminal, or when it does not respond.
    pub fn enter(enter: &str, leave: &'static str) -> io::Result<Raw> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        // Keys that were typed before also belong to the worker, so keep them.
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let raw = Raw { before, leave };
        write_all(enter.as_bytes())?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no reset.
        write_all(self.leave.as_bytes()).unwrap_or_default();
        tcsetattr(io::stdin(), OptionalActions::Now, &self.before).unwrap_or_default();
    }
}

/// Writes all bytes to the terminal, past every buffer of this process.
pub fn write_all(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Reads typed bytes; 0 at its end.
pub fn read(buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(io::stdin(), buffer)?)
}

/// Returns a pipe that becomes readable when the size of the terminal has changed. Read the size after the pipe, so that
/// the last change is never missed.
pub fn resized() -> io::Result<SignalPipe> {
    SignalPipe::on(&[SIGWINCH])
}
