//! Export of a transcript, streamed: as plain text, and as a recording in the format asciicast v2.

use std::fmt::Write;

use anyhow::Result;
use vt100::capture::{
    BasicFormattedCaptureRange, BasicFormattedCaptureState, RowContents, basic_formatted_to_plain,
};

use crate::rules::secret::{RedactStream, Secrets};
use crate::rules::strip_ansi::Utf8Pieces;
use crate::screen::{self, DEFAULT_SIZE, guarded, is_plain};
use crate::store::transcript::{TranscriptEvent, TranscriptReader};

/// How much is read at once, in bytes.
const CHUNK_BYTES: usize = 16 * 1024;
/// How many rows that scrolled off are held back, so that a screen that grows shows them again without printing them
/// twice.
const HELD_ROWS: usize = 500;
/// A longer line is written in parts, in bytes.
const LINE_BYTES: usize = 64 * 1024;

/// Receives the text, piece by piece.
pub type Sink<'a> = &'a mut dyn FnMut(&str) -> Result<()>;

/// Writes all that a worker printed as text: each line of its screen as it scrolled off, and the final screen last.
/// Removes colours, keeps the last version of overwritten text, and joins wrapped lines. The last content of an
/// alternate screen comes at the end.
///
/// # Errors
/// When the transcript cannot be read or the text cannot be written.
pub fn plain(reader: &mut TranscriptReader, out: Sink) -> Result<()> {
    let (cols, rows) = reader.size().unwrap_or(DEFAULT_SIZE);
    let mut parser = screen::parser(cols, rows, HELD_ROWS, Lines::default());
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Some(event) = reader.next(&mut buffer)? {
        let whole = match event {
            TranscriptEvent::Output { length, .. } => guarded(|| parser.process(&buffer[..length])),
            TranscriptEvent::Resize { cols, rows, .. } => {
                let (cols, rows) = screen::size(cols, rows);
                guarded(|| parser.set_size(rows, cols))
            }
            TranscriptEvent::Lost { bytes, .. } => {
                let note = format!("\r\n[{bytes} bytes of output were lost]\r\n");
                guarded(|| parser.process(note.as_bytes()))
            }
        };
        if whole.is_none() {
            parser = start_over(parser);
        }
        parser.callbacks_mut().give(false, out)?;
    }
    let mut lines = finish(parser);
    lines.give(true, out)?;
    if lines.any { out("\n") } else { Ok(()) }
}

type Parser = vt100::Parser<Lines>;

/// If a parser panicked, its screen is written and a new parser continues.
fn start_over(parser: Parser) -> Parser {
    let (rows, cols) = parser.screen().size();
    let mut lines = finish(parser);
    lines.text.push('\n');
    screen::parser(cols.get(), rows.get(), HELD_ROWS, lines)
}

fn finish(mut parser: Parser) -> Lines {
    let alternate = parser.screen().alternate_screen();
    let last = if alternate { parser.screen().contents() } else { String::new() };
    guarded(|| parser.process(b"\x1b[?47l"));
    let (shown, lines) = parser.screen_and_callbacks_mut();
    let mut text = String::new();
    let mut state = std::mem::take(&mut lines.state);
    let range = BasicFormattedCaptureRange::Full(&mut state);
    if guarded(|| shown.write_contents_formatted_basic(&mut text, range)).is_some() {
        lines.text.push_str(&text);
    }
    if alternate {
        // The alternate screen comes below the normal one, whose empty rows at the end are dropped.
        lines.text.truncate(lines.text.trim_end_matches('\n').len());
        lines.text.push_str("\x1b[m\n");
        lines.text.push_str(&last);
    }
    std::mem::take(lines)
}

/// Rows that scrolled off and are not written yet.
#[derive(Debug, Default)]
struct Lines {
    state: BasicFormattedCaptureState,
    text: String,
    /// Line breaks before the next text; those after the last text are never written.
    breaks: usize,
    any: bool,
}

impl vt100::Callbacks for Lines {
    fn on_scroll(&mut self, row: RowContents<'_>, alternate: bool) {
        if !alternate {
            // Writing into a string cannot fail.
            row.write_formatted_basic(&mut self.text, &mut self.state).unwrap_or_default();
        }
    }
}

impl Lines {
    /// Writes the complete lines, or all that is there.
    fn give(&mut self, all: bool, out: Sink) -> Result<()> {
        let long = self.text.len() > LINE_BYTES;
        let end = if all || long { self.text.len() } else { self.text.rfind('\n').map_or(0, |end| end + 1) };
        let text: String = basic_formatted_to_plain(&self.text[..end]).collect();
        self.text.drain(..end);
        let mut given = String::new();
        for (n, line) in text.split('\n').enumerate() {
            self.breaks += usize::from(n > 0);
            let line: String = line.chars().filter(|c| is_plain(*c)).collect();
            let line = line.trim_end();
            if !line.is_empty() {
                given.extend(std::iter::repeat_n('\n', std::mem::take(&mut self.breaks)));
                given.push_str(line);
            }
        }
        self.any |= !given.is_empty();
        if given.is_empty() { Ok(()) } else { out(&given) }
    }
}

/// Writes a recording in the format asciicast v2: a header, then output and changes of size with their times. Except
/// for redacted secrets, the output is raw: a player obeys the escape sequences in it.
///
/// # Errors
/// As [`plain`].
pub fn cast(reader: &mut TranscriptReader, title: &str, secrets: &Secrets, out: Sink) -> Result<()> {
    let mut clean = RedactStream::new(secrets);
    let (width, height) = reader.size().unwrap_or(DEFAULT_SIZE);
    let timestamp = reader.start_ms().unwrap_or(0) / 1000;
    let header = serde_json::json!({
        "version": 2, "width": width, "height": height, "timestamp": timestamp, "title": title,
    });
    out(&format!("{header}\n"))?;
    let (mut buffer, mut utf8, mut last) = (vec![0; CHUNK_BYTES], Utf8Pieces::default(), 0);
    while let Some(event) = reader.next(&mut buffer)? {
        match event {
            TranscriptEvent::Output { ms, length } => {
                last = ms.unwrap_or(last);
                let mut text = utf8.push(&buffer[..length]);
                // Terminals do not show zero bytes, and they only replace lost output.
                text.retain(|c| c != '\0');
                line(last, "o", &clean.feed(&text), out)?;
            }
            TranscriptEvent::Resize { ms, cols, rows } => {
                last = ms;
                line(last, "r", &format!("{cols}x{rows}"), out)?;
            }
            TranscriptEvent::Lost { .. } => {}
        }
    }
    let rest = clean.feed(utf8.end()) + &clean.end();
    line(last, "o", &rest, out)
}

fn line(ms: u64, kind: &str, text: &str, out: Sink) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut row = String::new();
    write!(row, "[{}.{:03},\"{kind}\",{}]", ms / 1000, ms % 1000, serde_json::to_string(text)?)?;
    row.push('\n');
    out(&row)
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
