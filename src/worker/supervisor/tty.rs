//! The terminal of a worker's command: its keys, its size, its transcript, and the queries of its programs.

use std::fs::File;
use std::io::Write;

use super::output::is_for_now;
use crate::os::clock::{self, Deadline};
use crate::os::pty::{self, Size, Terminal};
use crate::rules::worker::query::{self, ProgramState, ProgramStatus, Scanner, TerminalQuery};
use crate::store::layout::WorkerDir;
use crate::store::transcript::TranscriptWriter;
use crate::{agents, screen};

/// How many typed bytes may wait for the terminal; further ones are not read from their sockets.
const MAX_KEYS: usize = 64 * 1024;
/// How long a program may take to redraw its screen for another size, in milliseconds.
const REDRAW_MS: i64 = 2_000;

/// A terminal with its transcript. The transcript goes on after the terminal is closed.
pub(super) struct Tty {
    terminal: Option<Terminal>,
    pub(super) writer: TranscriptWriter,
    scanner: Scanner,
    /// Typed keys and answers that the terminal has not taken yet.
    keys: Vec<u8>,
    pub(super) size: Size,
    /// Until when output may only be a redraw for another size.
    redraws: Deadline,
}

impl Tty {
    pub(super) fn new(terminal: Option<Terminal>, writer: TranscriptWriter, size: Size) -> Tty {
        let (scanner, redraws) = (Scanner::new(agents::titles()), Deadline::after_ms(0));
        Tty { terminal, writer, scanner, keys: Vec::new(), size, redraws }
    }

    /// Returns the side of the supervisor; `None` once the terminal is closed.
    pub(super) fn file(&self) -> Option<&File> {
        self.terminal.as_ref().map(|terminal| &terminal.file)
    }

    /// Takes the terminal of the next command.
    pub(super) fn open(&mut self, terminal: Terminal) {
        (self.terminal, self.scanner) = (Some(terminal), Scanner::new(agents::titles()));
    }

    pub(super) fn close(&mut self) {
        self.terminal = None;
    }

    /// Returns true if output may only be a redraw: that says nothing about the program.
    pub(super) fn redraws(&self) -> bool {
        !self.redraws.passed()
    }

    /// Answers queries of programs to their terminal, and returns the last status that they report. However much they
    /// print at once, it costs one read of the screen and a bounded answer.
    pub(super) fn scan(&mut self, bytes: &[u8], dir: &WorkerDir) -> Option<ProgramStatus> {
        let (mut cursor, mut status) = (None, None);
        let keys = &mut self.keys;
        self.scanner.scan(bytes, &mut |event| match event {
            TerminalQuery::Fixed(_) | TerminalQuery::Cursor { .. } if keys.len() >= MAX_KEYS => {}
            TerminalQuery::Fixed(answer) => keys.extend(answer.into_bytes()),
            TerminalQuery::Cursor { dec } => {
                let cursor = *cursor.get_or_insert_with(|| screen::cursor_of(dir));
                keys.extend(query::cursor(dec, cursor).into_bytes());
            }
            // An idle status adds nothing to the status before it.
            TerminalQuery::Status(ProgramStatus { state: ProgramState::Idle, .. }) => {}
            TerminalQuery::Status(stated) => status = Some(stated),
        });
        status
    }

    /// Takes typed keys.
    pub(super) fn press(&mut self, keys: &[u8]) {
        if self.terminal.is_some() {
            self.keys.extend_from_slice(keys);
        }
    }

    pub(super) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Returns true if it takes further keys.
    pub(super) fn has_room(&self) -> bool {
        self.keys.len() < MAX_KEYS
    }

    /// Writes typed keys, as many as the terminal takes.
    pub(super) fn type_keys(&mut self) {
        let Some(terminal) = &self.terminal else { return self.keys.clear() };
        match (&terminal.file).write(&self.keys) {
            Ok(count) => drop(self.keys.drain(..count)),
            Err(error) if is_for_now(&error) => {}
            Err(_) => self.keys.clear(),
        }
    }

    /// Sets the size. Without a viewer, programs keep theirs.
    pub(super) fn resize(&mut self, size: Option<Size>) {
        let Some(size) = size.map(|size| size.min(size)).filter(|size| *size != self.size) else { return };
        self.size = size;
        self.redraws = Deadline::after_ms(REDRAW_MS);
        if let Some(terminal) = &self.terminal {
            // A terminal whose programs are gone needs no size.
            drop(pty::resize(terminal, size));
        }
        self.writer.resize(size.cols, size.rows, clock::unix_ms());
    }
}
