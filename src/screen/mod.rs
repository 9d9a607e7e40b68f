//! A model of a worker's screen: output goes in, cells and a cursor come out. looop shows output of a worker only
//! through this model, so that no escape sequence of the worker reaches a terminal.

pub mod attach;
pub mod export;
pub mod keys;
pub mod render;

use std::cell::Cell;
use std::num::NonZeroU16;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use anyhow::Result;

use crate::store::layout::WorkerDir;
use crate::store::transcript::{TranscriptEvent, TranscriptReader};

/// The smallest width of the model: vt100 cannot draw a wide character on a screen of one column.
const COLS_MIN: u16 = 2;
/// The largest width and height of the model: a forged size must not cost gigabytes.
const CELLS_MAX: u16 = 1000;
/// How much is parsed at once, in bytes. A few bytes can ask for 65,535 characters, and when the parser panics, only
/// the current piece is lost.
pub const PIECE_BYTES: usize = 512;
/// How much of a transcript is read at most to build a screen, in bytes: earlier output has usually been overwritten
/// many times, and reading a whole long transcript would keep the user waiting.
pub const REPLAY_BYTES: u64 = 8 << 20;
/// The same, to find the cursor.
const CURSOR_BYTES: u64 = 64 << 10;
/// The size of a screen if it is unknown.
pub const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// A screen on which output is drawn.
pub struct Screen {
    parser: vt100::Parser<TerminalBell>,
}

#[derive(Debug, Default)]
struct TerminalBell {
    rung: bool,
}

impl vt100::Callbacks for TerminalBell {
    fn audible_bell(&mut self, _: &mut vt100::Screen) {
        self.rung = true;
    }
}

impl Screen {
    /// Makes an empty screen of a size in cells; corrects an impossible size.
    pub fn new(cols: u16, rows: u16) -> Screen {
        Screen { parser: parser(cols, rows, 0, TerminalBell::default()) }
    }

    /// Builds the screen of a worker from the end of its transcript.
    pub fn replay(dir: &WorkerDir, bytes: u64) -> Result<Screen> {
        let mut reader = TranscriptReader::open(dir)?;
        let end = reader.end_offset()?;
        reader.seek(end.saturating_sub(bytes))?;
        let (cols, rows) = reader.size().unwrap_or(DEFAULT_SIZE);
        let mut screen = Screen::new(cols, rows);
        let mut buffer = vec![0; 16 * 1024];
        // A worker that prints faster than this reads would otherwise keep it here for ever.
        while reader.offset() < end {
            match reader.next(&mut buffer)? {
                Some(event) => screen.apply(event, &buffer),
                None => break,
            }
        }
        Ok(screen)
    }

    /// Draws the next event of a transcript; the bytes of output are in `buffer`.
    pub fn apply(&mut self, event: TranscriptEvent, buffer: &[u8]) {
        match event {
            TranscriptEvent::Output { length, .. } => self.feed(&buffer[..length]),
            TranscriptEvent::Resize { cols, rows, .. } => self.resize(cols, rows),
            TranscriptEvent::Lost { .. } => {}
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE_BYTES) {
            let parser = &mut self.parser;
            if guarded(|| parser.process(piece)).is_none() {
                self.start_over();
            }
        }
    }

    pub fn resize(&mut self, cols: u16, rows: u16) {
        let size = size(cols, rows);
        let parser = &mut self.parser;
        if guarded(|| parser.set_size(size.1, size.0)).is_none() {
            self.parser = self::parser(cols, rows, 0, TerminalBell::default());
        }
    }

    /// A parser that panicked cannot continue. Its cells are drawn into a new one, if possible.
    fn start_over(&mut self) {
        let broken = self.parser.screen();
        let (rows, cols) = broken.size();
        let fresh = || parser(cols.get(), rows.get(), 0, TerminalBell::default());
        let drawn = guarded(|| {
            let mut parser = fresh();
            parser.process(broken.state_formatted().as_bytes());
            parser
        });
        self.parser = drawn.unwrap_or_else(fresh);
    }

    pub fn cells(&self) -> &vt100::Screen {
        self.parser.screen()
    }

    /// Returns true if the bell rang since the last call.
    pub fn take_bell(&mut self) -> bool {
        std::mem::take(&mut self.parser.callbacks_mut().rung)
    }

    /// Returns the cursor as row and column from 1, as a terminal reports it.
    pub fn cursor(&self) -> (u16, u16) {
        let (row, col) = self.cells().cursor_position();
        let (_, cols) = self.cells().size();
        // After the last column the cursor is still on it.
        (row + 1, (col + 1).min(cols.get()))
    }

    /// Returns the text of the screen, as lines without trailing blanks.
    pub fn text(&self) -> String {
        let text: String = self.cells().contents().chars().filter(|c| *c == '\n' || is_plain(*c)).collect();
        let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Returns the cursor of a worker, from the end of its transcript, as row and column from 1. Cheap enough to answer a
/// program's query, and nothing of it stays in memory.
pub fn cursor_of(dir: &WorkerDir) -> (u16, u16) {
    Screen::replay(dir, CURSOR_BYTES).map_or((1, 1), |screen| screen.cursor())
}

/// Returns the text of a worker's screen down to its cursor, or all of it if the cursor's line is empty.
pub fn text_of(dir: &WorkerDir) -> String {
    let Ok(screen) = Screen::replay(dir, CURSOR_BYTES) else { return String::new() };
    let text = screen.text();
    let to_cursor: Vec<&str> = text.lines().take(usize::from(screen.cursor().0)).collect();
    let at_cursor = to_cursor.len() == usize::from(screen.cursor().0)
        && to_cursor.last().is_some_and(|line| !line.trim().is_empty());
    if at_cursor { to_cursor.join("\n") } else { text }
}

/// Returns the whole text of a worker's screen.
pub fn whole_of(dir: &WorkerDir) -> String {
    Screen::replay(dir, CURSOR_BYTES).map(|screen| screen.text()).unwrap_or_default()
}

/// Limits a size to what the model supports.
pub fn size(cols: u16, rows: u16) -> (NonZeroU16, NonZeroU16) {
    let cell = |n: u16| NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN);
    (cell(cols.clamp(COLS_MIN, CELLS_MAX)), cell(rows.clamp(1, CELLS_MAX)))
}

/// Makes a parser of a supported size.
pub fn parser<C: vt100::Callbacks>(
    cols: u16,
    rows: u16,
    scrollback: usize,
    callbacks: C,
) -> vt100::Parser<C> {
    let (cols, rows) = size(cols, rows);
    vt100::Parser::new_with_callbacks(rows, cols, scrollback, callbacks)
}

/// Returns true for a plain character: it does not control a terminal, reorder its neighbours, or hide text (the
/// bidirectional controls of Unicode Standard Annex 9, and tags).
pub fn is_plain(c: char) -> bool {
    let orders =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}');
    !c.is_control() && !orders && !matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs code that hostile bytes can make panic; returns `None` if they did. vt100 has such places at any size of
/// screen. Suppresses the panic message, which would appear on the drawn screen.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work)).ok();
    QUIET.set(false);
    done
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
