//! The output of processes, and how they end, as bytes and words.

use crate::os::process::ProcessExit;
use crate::rules::worker::WorkerExit;
use crate::sandbox;
use crate::screen::Screen;

/// How much is read at once of a process's output or a client's message, in bytes: a terminal returns no more at once,
/// and each page of a used buffer stays in every supervisor.
pub(super) const READ_BYTES: usize = 4 * 1024;
/// How much of the end of a check's output is kept, in bytes.
pub(super) const TAIL_BYTES: usize = 4_000;

pub(super) fn is_for_now(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}

pub(super) fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8], most: usize) {
    tail.extend_from_slice(bytes);
    if tail.len() > most * 2 {
        tail.drain(..tail.len() - most);
    }
}

/// Renders output as a screen does: its last lines, without control sequences.
pub(super) fn plain(bytes: &[u8]) -> String {
    let mut screen = Screen::new(200, 100);
    screen.feed(&with_returns(bytes));
    screen.text()
}

/// Adds carriage returns: a pipe has no terminal that returns to the left at a line break.
pub(super) fn with_returns(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(b"\r\n".as_slice())
}

/// Returns how a process ended. The outer process of a sandbox reports a signal as a shell does: 128 plus its number.
pub(super) fn exit_of(exit: ProcessExit, is_outer: bool) -> WorkerExit {
    match exit {
        ProcessExit::Code(code) => {
            let signal = sandbox::signal_of(code).filter(|_| is_outer);
            signal.map_or(WorkerExit::Code(code), WorkerExit::Signal)
        }
        ProcessExit::Signal(signal) => WorkerExit::Signal(signal),
        _ => WorkerExit::Signal(0),
    }
}
