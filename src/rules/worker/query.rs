//! Pure. Finds a program's terminal queries and status reports in its output; the supervisor answers the queries.
//!
//! A worker has no terminal of its own. It must not query the user's terminal: there may be none, or several. So looop
//! answers as a plain xterm with 256 colors would, and ignores queries that such a terminal does not know. Programs
//! also report their status here (OSC 7501, or a title); looop sets a flag when an agent waits for a permission.

mod answer;

pub use answer::cursor;

/// The longest control sequence and control string that are kept, in bytes. No supported query is longer.
const CSI_BYTES: usize = 32;
const STRING_BYTES: usize = 8 * 1024;

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

/// Finds queries in output that arrives in pieces. Keeps at most one unfinished sequence.
#[derive(Debug, Default)]
pub struct Scanner {
    state: ScanState,
    kept: Vec<u8>,
    /// How the titles of programs begin that report their state in their title alone.
    titles: Vec<(&'static str, ProgramState)>,
    /// What the program's title last said.
    titled: Option<ProgramState>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ScanState {
    #[default]
    Ground,
    Escape,
    Csi,
    /// A control string of a supported kind.
    Text(QueryKind),
    /// An escape inside a control string, which ends it if a backslash follows.
    TextEscape(QueryKind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryKind {
    Osc,
    Dcs,
    /// SOS, PM, APC, and sequences that are too long.
    Other,
}

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
/// CAN and SUB abort any sequence.
const ABORT: [u8; 2] = [0x18, 0x1a];

impl Scanner {
    /// Reads output and calls `found` for each event in it.
    pub fn scan(&mut self, mut bytes: &[u8], found: &mut impl FnMut(TerminalQuery)) {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.state == ScanState::Ground {
                let Some(at) = bytes.iter().position(|byte| *byte == ESC) else { return };
                self.state = ScanState::Escape;
                bytes = &bytes[at + 1..];
                continue;
            }
            self.step(*byte, found);
            bytes = rest;
        }
    }

    fn step(&mut self, byte: u8, found: &mut impl FnMut(TerminalQuery)) {
        match (self.state, byte) {
            (_, byte) if ABORT.contains(&byte) => self.rest(),
            (ScanState::Ground, _) => {}
            (ScanState::Text(kind), ESC) => self.state = ScanState::TextEscape(kind),
            (_, ESC) => self.begin(ScanState::Escape),
            (ScanState::Escape, b'[') => self.begin(ScanState::Csi),
            (ScanState::Escape, b']') => self.begin(ScanState::Text(QueryKind::Osc)),
            (ScanState::Escape, b'P') => self.begin(ScanState::Text(QueryKind::Dcs)),
            (ScanState::Escape, b'X' | b'^' | b'_') => self.begin(ScanState::Text(QueryKind::Other)),
            // Control characters inside a sequence take effect and do not end it.
            (ScanState::Escape | ScanState::Csi, 0..0x20) => {}
            (ScanState::Csi, 0x20..0x40) if self.kept.len() < CSI_BYTES => self.kept.push(byte),
            (ScanState::Csi, 0x40..0x7f) => {
                if let Some(query) = csi(&self.kept, byte) {
                    found(query);
                }
                self.rest();
            }
            (ScanState::Text(kind), BEL) if kind != QueryKind::Dcs => self.text(kind, true, found),
            (ScanState::TextEscape(kind), b'\\') => self.text(kind, false, found),
            (ScanState::TextEscape(_), byte) => {
                self.begin(ScanState::Escape);
                self.step(byte, found);
            }
            (ScanState::Text(QueryKind::Other), _) => {}
            (ScanState::Text(_), byte) if self.kept.len() < STRING_BYTES => self.kept.push(byte),
            (ScanState::Text(_), _) => self.begin(ScanState::Text(QueryKind::Other)),
            _ => self.rest(),
        }
    }

    fn begin(&mut self, state: ScanState) {
        self.state = state;
        self.kept.clear();
    }

    fn rest(&mut self) {
        self.state = ScanState::Ground;
        // A supervisor runs for hours, and most programs send no query: free the memory.
        self.kept = Vec::new();
    }

    fn text(&mut self, kind: QueryKind, bell: bool, found: &mut impl FnMut(TerminalQuery)) {
        let text = std::mem::take(&mut self.kept);
        match kind {
            QueryKind::Osc => {
                if let Some(status) = self.title(&text) {
                    found(TerminalQuery::Status(status));
                }
                osc(&text, bell, found);
            }
            QueryKind::Dcs if text.starts_with(b"+q") => found(fixed(answer::CAPABILITY)),
            QueryKind::Dcs if text.starts_with(b"$q") => found(fixed(answer::SETTING)),
            _ => {}
        }
        self.rest();
    }
}

impl Scanner {
    /// A scanner that knows these titles, by how they begin.
    pub fn new(titles: Vec<(&'static str, ProgramState)>) -> Scanner {
        Scanner { titles, ..Scanner::default() }
    }

    /// The state that a title reports where it is another one. Before a program has begun it is ready too.
    fn title(&mut self, osc: &[u8]) -> Option<ProgramStatus> {
        let words = osc.strip_prefix(b"0;").or(osc.strip_prefix(b"2;"))?;
        let words = std::str::from_utf8(words).ok()?;
        let state = self.titles.iter().find(|(begin, _)| words.starts_with(begin))?.1;
        let before = self.titled.replace(state);
        let is_news = before != Some(state) && (before.is_some() || state != ProgramState::Done);
        is_news.then_some(ProgramStatus { state, kind: None, message: None })
    }
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
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for character in group {
            let value = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
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
