//! Pure. What a program asks of its terminal, found in its output as it comes, and what the supervisor answers.
//!
//! A worker has no terminal of its own, and the human's is none of its business: it may be absent, or there may be
//! three. So looop answers itself, as a plain xterm with 256 colours would, and leaves unanswered what such a
//! terminal does not know. Programs also say here how they fare (OSC 7501, or a title), which is how a flag is raised for
//! an agent that waits for a permission.

mod answer;

pub use answer::answer;

/// The longest control sequence and control string that are kept, in bytes. Longer ones ask nothing that is known.
const CSI_BYTES: usize = 32;
const STRING_BYTES: usize = 8 * 1024;

/// What stands in the output for the terminal rather than for the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A question that the terminal is to answer.
    Query(Query),
    /// The program says how it fares.
    Status(Status),
}

/// A question to the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// DA1: what it can do.
    Primary,
    /// DA2: what it is.
    Secondary,
    /// DA3: its serial number.
    Tertiary,
    /// DSR 5: whether it works.
    Health,
    /// DSR 6: where the cursor is; `dec` for the form with a question mark.
    Cursor {
        /// True for DECXCPR.
        dec: bool,
    },
    /// DECRQM: whether a mode is set; `dec` for private modes.
    Mode {
        /// True for private modes.
        dec: bool,
        /// The mode.
        number: u16,
    },
    /// XTVERSION: its name and version.
    Version,
    /// The flags of the kitty keyboard protocol, which is not spoken here.
    Keyboard,
    /// OSC 10 to 12: the colour of text, background or cursor. `bell` tells how the question ended.
    Color {
        /// 10, 11 or 12.
        which: u8,
        /// True when it ended with BEL, as the answer must then.
        bell: bool,
    },
    /// OSC 4: a colour of the palette.
    Palette {
        /// Its number.
        index: u8,
        /// As in `Color`.
        bell: bool,
    },
    /// OSC 7501: whether it wants to know how programs fare.
    Program,
    /// XTGETTCAP: a capability by its name.
    Capability,
    /// DECRQSS: a setting.
    Setting,
}

/// How a program says that it fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it stands.
    pub state: Standing,
    /// What kind of it, as `permission` or `question`; untrusted text.
    pub kind: Option<String>,
    /// Its own words; untrusted text.
    pub message: Option<String>,
}

/// The states of OSC 7501.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has nothing to do.
    Idle,
    /// It works.
    Working,
    /// It waits for a human.
    Blocked,
    /// It finished what it was told.
    Done,
    /// It failed.
    Error,
    /// It takes back what it said.
    Clear,
}

impl Standing {
    /// The state of this name.
    pub fn named(name: &[u8]) -> Option<Standing> {
        Some(match name {
            b"idle" => Standing::Idle,
            b"working" => Standing::Working,
            b"blocked" => Standing::Blocked,
            b"done" => Standing::Done,
            b"error" => Standing::Error,
            b"clear" => Standing::Clear,
            _ => return None,
        })
    }
}

/// Finds queries in output that comes in pieces. Holds at most one unfinished sequence.
#[derive(Debug, Default)]
pub struct Scanner {
    state: State,
    kept: Vec<u8>,
    /// How the titles of programs begin that report their state in their title alone.
    titles: Vec<(&'static str, Standing)>,
    /// What the program's title last said.
    titled: Option<Standing>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Csi,
    /// A control string of a kind that may matter.
    Text(Kind),
    /// An escape inside a control string: its end, if a backslash follows.
    TextEscape(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Osc,
    Dcs,
    /// SOS, PM, APC, and what became too long to matter.
    Other,
}

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
/// CAN and SUB end any sequence without effect.
const ABORT: [u8; 2] = [0x18, 0x1a];

impl Scanner {
    /// Takes output and tells what is in it for the terminal.
    pub fn scan(&mut self, mut bytes: &[u8], found: &mut impl FnMut(Event)) {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.state == State::Ground {
                let Some(at) = bytes.iter().position(|byte| *byte == ESC) else { return };
                self.state = State::Escape;
                bytes = &bytes[at + 1..];
                continue;
            }
            self.step(*byte, found);
            bytes = rest;
        }
    }

    fn step(&mut self, byte: u8, found: &mut impl FnMut(Event)) {
        match (self.state, byte) {
            (_, byte) if ABORT.contains(&byte) => self.rest(),
            (State::Ground, _) => {}
            (State::Text(kind), ESC) => self.state = State::TextEscape(kind),
            (_, ESC) => self.begin(State::Escape),
            (State::Escape, b'[') => self.begin(State::Csi),
            (State::Escape, b']') => self.begin(State::Text(Kind::Osc)),
            (State::Escape, b'P') => self.begin(State::Text(Kind::Dcs)),
            (State::Escape, b'X' | b'^' | b'_') => self.begin(State::Text(Kind::Other)),
            // Controls inside a sequence act and do not end it.
            (State::Escape | State::Csi, 0..0x20) => {}
            (State::Csi, 0x20..0x40) if self.kept.len() < CSI_BYTES => self.kept.push(byte),
            (State::Csi, 0x40..0x7f) => {
                if let Some(query) = csi(&self.kept, byte) {
                    found(Event::Query(query));
                }
                self.rest();
            }
            (State::Text(kind), BEL) if kind != Kind::Dcs => self.text(kind, true, found),
            (State::TextEscape(kind), b'\\') => self.text(kind, false, found),
            (State::TextEscape(_), byte) => {
                self.begin(State::Escape);
                self.step(byte, found);
            }
            (State::Text(Kind::Other), _) => {}
            (State::Text(_), byte) if self.kept.len() < STRING_BYTES => self.kept.push(byte),
            (State::Text(_), _) => self.begin(State::Text(Kind::Other)),
            _ => self.rest(),
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.kept.clear();
    }

    fn rest(&mut self) {
        self.state = State::Ground;
        // A supervisor lives for hours and most of them ask nothing.
        self.kept = Vec::new();
    }

    fn text(&mut self, kind: Kind, bell: bool, found: &mut impl FnMut(Event)) {
        let text = std::mem::take(&mut self.kept);
        match kind {
            Kind::Osc => {
                if let Some(status) = self.title(&text) {
                    found(Event::Status(status));
                }
                osc(&text, bell, found);
            }
            Kind::Dcs if text.starts_with(b"+q") => found(Event::Query(Query::Capability)),
            Kind::Dcs if text.starts_with(b"$q") => found(Event::Query(Query::Setting)),
            _ => {}
        }
        self.rest();
    }
}

impl Scanner {
    /// A scanner that knows these titles, by how they begin.
    pub fn new(titles: Vec<(&'static str, Standing)>) -> Scanner {
        Scanner { titles, ..Scanner::default() }
    }

    /// The state that a title reports where it is another one. Before a program has begun it is ready too.
    fn title(&mut self, osc: &[u8]) -> Option<Status> {
        let words = osc.strip_prefix(b"0;").or(osc.strip_prefix(b"2;"))?;
        let words = std::str::from_utf8(words).ok()?;
        let state = self.titles.iter().find(|(begin, _)| words.starts_with(begin))?.1;
        let before = self.titled.replace(state);
        let is_news = before != Some(state) && (before.is_some() || state != Standing::Done);
        is_news.then_some(Status { state, kind: None, message: None })
    }
}

fn csi(body: &[u8], last: u8) -> Option<Query> {
    Some(match (body, last) {
        (b"" | b"0", b'c') => Query::Primary,
        (b">" | b">0", b'c') => Query::Secondary,
        (b"=" | b"=0", b'c') => Query::Tertiary,
        (b"5", b'n') => Query::Health,
        (b"6", b'n') => Query::Cursor { dec: false },
        (b"?6", b'n') => Query::Cursor { dec: true },
        (b">" | b">0", b'q') => Query::Version,
        (b"?", b'u') => Query::Keyboard,
        (_, b'p') => {
            let number = body.strip_suffix(b"$")?;
            let dec = number.first() == Some(&b'?');
            Query::Mode { dec, number: decimal(if dec { &number[1..] } else { number })? }
        }
        _ => return None,
    })
}

fn decimal<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    // A plus sign would be read as a number too.
    digits.first().filter(|first| first.is_ascii_digit())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn osc(text: &[u8], bell: bool, found: &mut impl FnMut(Event)) {
    let mut parts = text.split(|byte| *byte == b';');
    let Some(number) = parts.next().and_then(decimal::<u16>) else { return };
    match number {
        // Each further part is about the next colour.
        10..=12 => {
            for (which, _) in (10..=12).skip(usize::from(number - 10)).zip(parts).filter(|(_, p)| *p == b"?")
            {
                found(Event::Query(Query::Color { which, bell }));
            }
        }
        4 => {
            while let (Some(index), Some(value)) = (parts.next(), parts.next()) {
                if let (Some(index), b"?") = (decimal(index), value) {
                    found(Event::Query(Query::Palette { index, bell }));
                }
            }
        }
        7501 => match parts.next() {
            Some(b"?") => found(Event::Query(Query::Program)),
            Some(body) => {
                if let Some(status) = status(body) {
                    found(Event::Status(status));
                }
            }
            None => {}
        },
        _ => {}
    }
}

/// `state=blocked:app=…:kind=permission:msg=<base64>`, in any order; what is not known is skipped.
fn status(body: &[u8]) -> Option<Status> {
    let mut status = Status { state: Standing::Idle, kind: None, message: None };
    let mut known = false;
    for pair in body.split(|byte| *byte == b':') {
        let (key, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
        let value = &value[1..];
        match key {
            b"state" => {
                known = true;
                status.state = Standing::named(value)?;
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

/// Base64 of RFC 4648, with or without padding; none for anything else.
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
        // Two characters carry one byte, three carry two; one alone carries none.
        bytes.extend_from_slice(whole.get(1..4_usize.checked_sub(missing).filter(|end| *end > 1)?)?);
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
