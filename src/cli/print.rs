//! The only place that prints. It decides about colours, and treats a broken pipe as success.
//!
//! # Guarantees
//! A terminal never interprets foreign text: control characters, bytes that are not UTF-8 and marks that
//! reorder text are escaped ([`terminal::escaped`]). A file or a pipe gets all bytes unchanged.
//!
//! # Exceptions
//! `looop logs --raw` prints what a worker sent to its terminal ([`as_is`]). `looop attach` draws its own
//! screen (`screen::paint`) from cells that a terminal emulator has read.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "this module owns stdout and stderr"
)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Fault, visible};
use crate::os::tty;
use crate::rules::secret::Secrets;
use crate::rules::terminal;

/// The colour policy of stdout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// True if stdout gets colours.
    pub on: bool,
}

/// The value of `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The gap between two columns.
const GAP: &str = "  ";
/// A last column with less room than this wraps instead of being truncated, in columns.
const LEAST_CELLS: usize = 8;
/// The start of looop's own colour codes until they are printed. It is random, so that foreign text cannot imitate it.
static PAINT: LazyLock<String> = LazyLock::new(|| {
    let random = || std::hash::RandomState::new().build_hasher().finish();
    format!("\x1b[{:016x}{:016x};", random(), random())
});

impl Style {
    /// Decides about colours for this process.
    pub fn new(when: ColorWhen, no_color: bool) -> Style {
        let on = match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => !no_color && io::stdout().is_terminal(),
        };
        Style { on }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("{0}{code}m{text}{0}0m", *PAINT) } else { text.to_owned() }
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// A line of a page: its name in bold, then its text.
    pub fn row(self, name: &str, text: &str) -> String {
        format!("{} {text}\n", self.bold(&format!("{name:<9}")))
    }

    /// Less important.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Success.
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Warning.
    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }
}

/// Prints text and a line break to stdout.
pub fn line(text: &str) {
    raw(format!("{text}\n").as_bytes());
}

/// Prints text of any origin to stdout.
pub fn raw(bytes: &[u8]) {
    write_out(&shown(bytes, stdout_is_tty()));
}

/// Prints the last line of a verb that succeeded, and returns its exit status.
pub fn done(text: &str) -> Result<u8> {
    line(text);
    Ok(0)
}

/// Prints the whole text that a verb was asked for, and returns its exit status.
pub fn page(text: impl AsRef<[u8]>) -> Result<u8> {
    raw(text.as_ref());
    Ok(0)
}

/// Prints bytes to stdout unchanged, also on a terminal: only for text of this program, and for output that the
/// user asked for with `--raw`.
pub fn as_is(bytes: &[u8]) {
    write_out(bytes);
}

/// Prints text to stdout over the present content of the terminal.
pub fn screen(text: &str) {
    write_out(&[b"\x1b[H\x1b[J", &*shown(text.as_bytes(), true)].concat());
}

/// The bytes as a terminal, or a file, gets them.
fn shown(bytes: &[u8], is_terminal: bool) -> Vec<u8> {
    match is_terminal {
        true => terminal::escaped(bytes, &PAINT).into_bytes(),
        false => terminal::plain(bytes, &PAINT),
    }
}

/// Writes to stdout. If the reader is gone, the process exits with success.
fn write_out(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            note(&format!("error: could not print: {error}"));
            std::process::exit(1);
        }
    }
}

/// Prints a patch to stdout. The compared texts may be foreign, so every line of the patch is printed as text.
pub fn patch(style: Style, text: &str) {
    for text in text.lines() {
        let shown = visible(text, false);
        line(&match text.as_bytes().first() {
            Some(b'+') => style.green(&shown),
            Some(b'-') => style.red(&shown),
            _ => shown,
        });
    }
}

/// Prints one JSON value and a line break to stdout.
pub fn json(value: &Value) {
    json_text(&format!("{value}\n"));
}

/// Prints the answer of a verb with `--json`: one value under its key.
pub fn answer(key: &str, value: impl Serialize) -> Result<u8> {
    answer_whole(BTreeMap::from([(key, value)]))
}

/// Prints the answer of a verb with `--json` whose own keys are at the top level.
pub fn answer_whole(value: impl Serialize) -> Result<u8> {
    let mut value = serde_json::to_value(value)?;
    value["schema_version"] = 1.into();
    json(&value);
    Ok(0)
}

/// Prints JSON to stdout. On a terminal, control characters are escaped; the value is the same.
pub fn json_text(text: &str) {
    match stdout_is_tty() {
        true => write_out(terminal::escaped_json(text).as_bytes()),
        false => write_out(text.as_bytes()),
    }
}

/// Prints a line to stderr. Ignores an error, because no other output is left.
pub fn note(text: &str) {
    write_err("", &format!("{text}\n"));
}

/// Prints panics through this module too, because their message may contain foreign text.
pub fn print_panics() {
    std::panic::set_hook(Box::new(|panic| note(&format!("error: looop has a defect and {panic}"))));
}

/// Writes looop's own control characters and then a text to stderr. Ignores errors.
fn write_err(control: &str, text: &str) {
    let mut err = io::stderr().lock();
    let bytes = [control.as_bytes(), &*shown(text.as_bytes(), stderr_is_tty())].concat();
    drop(err.write_all(&bytes).and_then(|()| err.flush()));
}

/// Prints an urgent line to stderr: on a terminal with a bell, over a line that is being redrawn.
pub fn ring(text: &str) {
    write_err(if stderr_is_tty() { "\r\x1b[K\x07" } else { "" }, &format!("{text}\n"));
}

/// Prints an error with its cause and hints to stderr, with secrets removed, and returns its exit code.
pub fn error(error: &anyhow::Error, secrets: &Secrets) -> u8 {
    let fault = error.downcast_ref::<Fault>();
    let mut text = format!("error: {error:#}");
    for hint in fault.iter().flat_map(|fault| &fault.hints) {
        text.push_str(&format!("\nhint: {hint}"));
    }
    note(&secrets.redact(&text));
    fault.map_or(1, |fault| fault.kind.exit_code())
}

pub fn stdin_is_tty() -> bool {
    io::stdin().is_terminal()
}

pub fn stderr_is_tty() -> bool {
    io::stderr().is_terminal()
}

pub fn stdout_is_tty() -> bool {
    io::stdout().is_terminal()
}

/// The number of columns of stdout's terminal; none if stdout is not a terminal.
pub fn columns() -> Option<usize> {
    tty::size().map(|(columns, _)| columns.into())
}

/// Redraws the current line of stderr, without a line break; an empty text clears it.
pub fn redraw(text: &str) {
    write_err("\r\x1b[K", text);
}

/// Asks on the terminal and reads a line; none at the end of input.
pub fn prompt(question: &str) -> Option<String> {
    write_err("", question);
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(bytes) if bytes > 0 => Some(answer.trim().to_owned()),
        _ => None,
    }
}

/// Asks on the terminal for a yes; every other answer, or none, is a no.
pub fn agreed(question: &str) -> bool {
    let typed = prompt(&format!("{question} [y/N] "));
    typed.is_some_and(|typed| ["y", "yes"].iter().any(|yes| typed.eq_ignore_ascii_case(yes)))
}

/// Prints a list: as JSON under its key, or as a table, or as a text if it is empty, and then the problems as warnings.
pub fn list<T: Serialize>(
    json: bool,
    key: &str,
    all: Vec<T>,
    cells: impl Fn(T) -> Vec<String>,
    none: &str,
    problems: &[String],
) -> Result<u8> {
    if json {
        return answer(key, all);
    }
    match all.is_empty() {
        true => line(none),
        false => raw(table(&all.into_iter().map(cells).collect::<Vec<_>>()).as_bytes()),
    }
    warn(problems);
    Ok(0)
}

/// Prints the error of something that the command can do without.
pub fn warn_of(done: Result<()>) {
    if let Err(error) = done {
        warn(&[format!("{error:#}")]);
    }
}

/// Prints problems as warnings to stderr.
pub fn warn(problems: &[String]) {
    problems.iter().for_each(|problem| note(&format!("warning: {}", visible(problem, false))));
}

/// Lays text out in columns, each as wide as its widest cell. On a terminal the last column is truncated at the
/// end of the line. A cell may be painted as a whole.
pub fn table(rows: &[Vec<String>]) -> String {
    table_within(rows, columns())
}

fn table_within(rows: &[Vec<String>], room: Option<usize>) -> String {
    let shown = |cell: &String| {
        let (paint, text) = unpaint(cell);
        (paint.to_owned(), visible(text, false))
    };
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(shown).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|(_, c)| c.width()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let before: usize = widths.iter().rev().skip(1).map(|width| width + GAP.len()).sum();
    // If hardly any of the last column would be left, the line wraps instead.
    let left = room.and_then(|room| room.checked_sub(before)).filter(|left| *left >= LEAST_CELLS);
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(i, (paint, text))| {
            let end = if paint.is_empty() { String::new() } else { format!("{}0m", *PAINT) };
            let text = match left {
                Some(left) if i + 1 == columns => cut(text, left),
                _ => text.as_str().into(),
            };
            let pad = if i + 1 < row.len() { widths[i].saturating_sub(text.width()) } else { 0 };
            format!("{paint}{text}{end}{}", " ".repeat(pad))
        });
        out.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
        out.push('\n');
    }
    out
}

/// Truncates a text to a number of terminal columns.
fn cut(text: &str, cells: usize) -> Cow<'_, str> {
    if text.width() <= cells {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        if out.width() + c.width().unwrap_or(0) >= cells {
            break;
        }
        out.push(c);
    }
    (out + "…").into()
}

/// Splits a cell that [`Style`] has painted into its colour code and its text.
fn unpaint(cell: &str) -> (&str, &str) {
    let end = format!("{}0m", *PAINT);
    let painted = cell.strip_prefix(PAINT.as_str()).and_then(|rest| rest.strip_suffix(&end)?.split_once('m'));
    match painted {
        Some((code, text)) if code.chars().all(|c| c.is_ascii_digit()) => {
            (&cell[..PAINT.len() + code.len() + 1], text)
        }
        _ => ("", cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_painted_cell_is_as_wide_as_its_text_and_shows_control_characters() {
        let style = Style { on: true };
        let rows =
            [vec![style.red("a\x1b[2Jb"), "x".to_owned()], vec!["long enough".to_owned(), String::new()]];
        let printed = String::from_utf8(shown(table(&rows).as_bytes(), true)).unwrap();
        assert_eq!(printed, "\x1b[31ma\\u{1b}[2Jb\x1b[0m  x\nlong enough\n");
    }

    #[test]
    fn a_table_fits_its_terminal() {
        let row = |name: &str, text: &str| vec![name.to_owned(), text.to_owned()];
        let long = "x".repeat(90);
        let rows = [row("名前", &long), row("b", "日本語日本語日本語日本語"), row("c", "short")];
        for room in [20, 40, 80] {
            for line in table_within(&rows, Some(room)).lines() {
                assert!(line.width() <= room, "{room}: {line}");
            }
        }
        let at_20 = table_within(&rows, Some(20));
        let lines: Vec<&str> = at_20.lines().collect();
        assert_eq!(lines, ["名前  xxxxxxxxxxxxx…", "b     日本語日本語…", "c     short"]);
        assert!(table_within(&rows, None).contains(&long), "a file or a pipe gets all of it");
        assert!(table_within(&rows, Some(9)).contains(&long), "too narrow for anything");
    }
}
