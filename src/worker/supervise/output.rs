//! The output of processes, and how they end, as bytes and words.

use std::io::Read;

use super::stage::Stage;
use super::{Conn, LOOK_MS, MAX_KEYS, Supervisor, now};
use crate::model::query::{self, ProgramState, ProgramStatus, TerminalQuery};
use crate::model::worker::{Phase, WorkerExit};
use crate::screen::{self, Screen};
use crate::sys::clock::Deadline;
use crate::sys::process::ProcessExit;
use crate::sys::sandbox;

/// How much is read at once of a process's output or a client's message, in bytes: a terminal returns no more at once,
/// and each page of a used buffer stays in every supervisor.
pub(super) const READ_BYTES: usize = 4 * 1024;

/// How much of the end of a check's output is kept, in bytes.
pub(super) const TAIL_BYTES: usize = 4_000;
/// How much of the messages about a clone is kept, in bytes: each name in them may be long.
const COLLECT_BYTES: usize = 256 * 1024;

impl Supervisor {
    /// Reads once from the output.
    pub(super) fn take_output(&mut self) -> bool {
        let mut buffer = [0_u8; READ_BYTES];
        let Some(mut output) = self.output() else { return false };
        let count = match output.read(&mut buffer) {
            Ok(0) => None,
            Ok(count) => Some(count),
            Err(error) if is_for_now(&error) => return false,
            // No process has the terminal open any more.
            Err(_) => None,
        };
        let Some(count) = count else {
            match &mut self.stage {
                Stage::Check { piped, .. } | Stage::Collect { piped, .. } => piped.out = None,
                _ => self.terminal = None,
            }
            return false;
        };
        self.took(&buffer[..count]);
        true
    }

    fn took(&mut self, bytes: &[u8]) {
        let at = now().unix_ms;
        match &mut self.stage {
            Stage::Collect { piped, .. } => keep_tail(&mut piped.tail, bytes, COLLECT_BYTES),
            Stage::Check { piped, .. } => {
                keep_tail(&mut piped.tail, bytes, TAIL_BYTES);
                self.write(&with_returns(bytes), at);
            }
            _ => {
                self.write(bytes, at);
                self.stirred();
                self.listen(bytes);
                self.meter(bytes);
            }
        }
        self.conns.iter_mut().for_each(Conn::outdate);
        let limit = self.spec.limits.output_bytes;
        if self.writer.offset() > limit {
            self.end(Phase::Failed, &format!("it printed more than {} MiB", limit >> 20));
        }
    }

    /// Appends to the transcript; lost bytes are in the state within a second.
    fn write(&mut self, bytes: &[u8], at_ms: i64) {
        let lost = self.writer.append(bytes, at_ms);
        self.state.lost_bytes += lost;
        if lost > 0 && self.unsaved.is_none() {
            self.unsaved = Some(Deadline::after_ms(LOOK_MS));
        }
    }

    /// Answers queries of programs to their terminal, and handles their status. However much they print at once, it
    /// costs one read of the screen, one change of the flag and a bounded answer.
    fn listen(&mut self, bytes: &[u8]) {
        let (mut cursor, mut status) = (None, None);
        let (dir, keys) = (&self.dir, &mut self.keys);
        self.scanner.scan(bytes, &mut |event| match event {
            TerminalQuery::Query(_) if keys.len() >= MAX_KEYS => {}
            TerminalQuery::Query(question) => {
                let cursor = || *cursor.get_or_insert_with(|| screen::cursor_of(dir));
                keys.extend(query::answer(&question, cursor).unwrap_or_default());
            }
            // An idle status adds nothing to the status before it.
            TerminalQuery::Status(ProgramStatus { state: ProgramState::Idle, .. }) => {}
            TerminalQuery::Status(stated) => status = Some(stated),
        });
        if let Some(status) = status {
            self.heard(status);
        }
    }

    /// Reads the rest of the output of ended processes.
    pub(super) fn drain(&mut self) {
        for _ in 0..1024 {
            if !self.take_output() {
                break;
            }
        }
    }
}

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
    bytes.iter().flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] }).collect()
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
