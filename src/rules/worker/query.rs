//! Pure. Finds a program's terminal queries and status reports in its output; the supervisor answers the queries.
//!
//! A worker has no terminal of its own. It must not query the user's terminal: there may be none, or several. So looop
//! answers as a plain xterm with 256 colors would, and ignores queries that such a terminal does not know. Programs
//! also report their status here (OSC 7501, or a title); looop sets a flag when an agent waits for a permission.

mod answer;

pub use answer::cursor;

use crate::rules::sequences::{OutputPart, SequenceReader};

/// A part of the output that is for the terminal and not for the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TerminalQuery {
    /// The terminal must always answer it with this text.
    Fixed(String),
    /// The terminal must answer it with [`cursor`]; `dec` for DECXCPR, the form with a question mark.
    Cursor { dec: bool },
    /// The program reports its status.
    Status(ProgramStatus),
}

/// The status that a program reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStatus {
    pub state: ProgramState,
    /// The kind of status, such as `permission` or `question`; untrusted text.
    pub kind: Option<String>,
    /// The message; untrusted text.
    pub message: Option<String>,
}

/// The states of OSC 7501, by the names that it gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum ProgramState {
    Idle,
    Working,
    /// It waits for the user.
    Blocked,
    /// It has finished its task.
    Done,
    Error,
    /// It withdraws its last status.
    Clear,
}

/// Finds queries in output that arrives in pieces.
#[derive(Debug, Default)]
pub struct Scanner {
    sequences: SequenceReader,
    /// How the titles of programs begin that report their state in their title alone.
    titles: Vec<(&'static str, ProgramState)>,
    /// What the program's title last said.
    titled: Option<ProgramState>,
}

impl Scanner {
    /// A scanner that knows these titles, by how they begin.
    pub fn new(titles: Vec<(&'static str, ProgramState)>) -> Scanner {
        Scanner { titles, ..Scanner::default() }
    }

    /// Reads output and calls `found` for each event in it.
    pub fn scan(&mut self, bytes: &[u8], found: &mut impl FnMut(TerminalQuery)) {
        let Scanner { sequences, titles, titled } = self;
        sequences.read(bytes, &mut |part| match part {
            OutputPart::Csi(body, last) => csi(body, last).into_iter().for_each(&mut *found),
            OutputPart::Osc { text, bell } => {
                if let Some(status) = title(titles, titled, text) {
                    found(TerminalQuery::Status(status));
                }
                osc(text, bell, found);
            }
            OutputPart::Dcs(text) if text.starts_with(b"+q") => found(fixed(answer::CAPABILITY)),
            OutputPart::Dcs(text) if text.starts_with(b"$q") => found(fixed(answer::SETTING)),
            OutputPart::Dcs(_) | OutputPart::Text(_) => {}
        });
    }
}

/// The state that a title reports where it is another one than before. Before a program has begun it is ready too.
fn title(
    titles: &[(&str, ProgramState)],
    titled: &mut Option<ProgramState>,
    osc: &[u8],
) -> Option<ProgramStatus> {
    let words = osc.strip_prefix(b"0;").or(osc.strip_prefix(b"2;"))?;
    let words = std::str::from_utf8(words).ok()?;
    let state = titles.iter().find(|(begin, _)| words.starts_with(begin))?.1;
    let before = titled.replace(state);
    let is_news = before != Some(state) && (before.is_some() || state != ProgramState::Done);
    is_news.then_some(ProgramStatus { state, kind: None, message: None })
}

fn fixed(text: &str) -> TerminalQuery {
    TerminalQuery::Fixed(text.to_owned())
}

/// Returns the query of a control sequence. The kitty keyboard protocol is not supported, so its query gets no answer.
fn csi(body: &[u8], last: u8) -> Option<TerminalQuery> {
    Some(match (body, last) {
        (b"" | b"0", b'c') => fixed(answer::PRIMARY),
        (b">" | b">0", b'c') => fixed(answer::SECONDARY),
        (b"=" | b"=0", b'c') => fixed(answer::TERTIARY),
        (b"5", b'n') => fixed(answer::HEALTH),
        (b"6", b'n') => TerminalQuery::Cursor { dec: false },
        (b"?6", b'n') => TerminalQuery::Cursor { dec: true },
        (b">" | b">0", b'q') => fixed(answer::VERSION),
        (_, b'p') => {
            let number = body.strip_suffix(b"$")?;
            let private = number.strip_prefix(b"?");
            fixed(&answer::mode(private.is_some(), decimal(private.unwrap_or(number))?))
        }
        _ => return None,
    })
}

fn decimal<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    // A plus sign would also parse as a number.
    digits.first().filter(|first| first.is_ascii_digit())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn osc(text: &[u8], bell: bool, found: &mut impl FnMut(TerminalQuery)) {
    let mut parts = text.split(|byte| *byte == b';');
    let Some(number) = parts.next().and_then(decimal::<u16>) else { return };
    match number {
        // Each further part is about the next color.
        10..=12 => {
            for (which, _) in (number..=12).zip(parts).filter(|(_, part)| *part == b"?") {
                found(fixed(&answer::color(which, bell)));
            }
        }
        4 => {
            while let (Some(index), Some(value)) = (parts.next(), parts.next()) {
                if let (Some(index), b"?") = (decimal(index), value) {
                    found(fixed(&answer::palette(index, bell)));
                }
            }
        }
        7501 => match parts.next() {
            Some(b"?") => found(fixed(answer::PROGRAM)),
            body => body.and_then(status).into_iter().for_each(|status| found(TerminalQuery::Status(status))),
        },
        _ => {}
    }
}

/// Parses `state=blocked:app=…:kind=permission:msg=<base64>`, in any order; unknown parts are skipped.
fn status(body: &[u8]) -> Option<ProgramStatus> {
    let mut status = ProgramStatus { state: ProgramState::Idle, kind: None, message: None };
    let mut known = false;
    for pair in body.split(|byte| *byte == b':') {
        let (key, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
        let value = &value[1..];
        match key {
            b"state" => {
                known = true;
                status.state = std::str::from_utf8(value).ok()?.parse().ok()?;
            }
            b"kind" => status.kind = Some(String::from_utf8_lossy(value).into_owned()),
            b"msg" => {
                status.message = base64(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            }
            _ => {}
        }
    }
    known.then_some(status)
}

/// Decodes base64 as in RFC 4648, with or without padding; returns `None` for invalid text.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for character in group {
            let value = ALPHABET.iter().position(|known| known == character)?;
            bits = bits << 6 | value as u32;
        }
        let missing = 4 - group.len();
        let whole = (bits << (6 * missing)).to_be_bytes();
        // Two characters encode one byte, three encode two; one alone encodes none.
        bytes.extend_from_slice(whole.get(1..4_usize.checked_sub(missing).filter(|end| *end > 1)?)?);
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
