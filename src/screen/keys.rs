//! Pure. Parser of the user's keys while attached: bytes for the worker, and a few commands for looop.
//!
//! Ctrl-\ begins a command: again to detach, `a` to answer; with any other key both go to the worker. All other bytes
//! pass unchanged, and inside a bracketed paste all bytes do.

/// A parsed input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// Bytes for the worker.
    Pass(Vec<u8>),
    Detach,
    /// Answer the open ask.
    Answer,
}

const ESC: u8 = 0x1b;
/// Ctrl-\ as a plain terminal sends it.
const PREFIX: u8 = 0x1c;
const PASTE_END: &[u8] = b"\x1b[201~";
/// The longest control sequence that can be a key, in bytes.
const SEQUENCE_BYTES: usize = 32;

/// Recognises keys in bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Keys {
    /// The beginning of an incomplete sequence.
    held: Vec<u8>,
    /// The bytes of the Ctrl-\ that waits for its second key.
    prefix: Option<Vec<u8>>,
    pasting: bool,
}

/// The kind of the next token in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Prefix,
    /// The letter that answers.
    Letter,
    /// A released key, which only some terminals report.
    Release,
    /// The beginning or the end of a paste.
    Paste,
    Plain,
    /// The rest may still become any of these.
    Unfinished,
}

impl Keys {
    /// Returns true while a sequence may continue. A lone escape key looks like one, so the caller waits a moment and
    /// flushes.
    pub fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Returns true after a Ctrl-\ that waits for its second key.
    pub fn is_prefixed(&self) -> bool {
        self.prefix.is_some()
    }

    /// Takes the incomplete bytes unchanged, because nothing more came.
    pub fn flush(&mut self) -> Vec<KeyEvent> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Vec::new();
        }
        let mut pass = self.prefix.take().unwrap_or_default();
        pass.extend(held);
        vec![KeyEvent::Pass(pass)]
    }

    /// Takes typed bytes. Drops what follows a detach.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<KeyEvent> {
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(bytes);
        let (mut rest, mut events, mut pass) = (input.as_slice(), Vec::new(), Vec::new());
        while !rest.is_empty() {
            let (token, length) = if self.pasting { in_paste(rest) } else { self.token(rest) };
            let (bytes, behind) = rest.split_at(length);
            match token {
                Token::Unfinished => {
                    self.held = rest.to_vec();
                    break;
                }
                Token::Prefix if self.prefix.is_none() => self.prefix = Some(bytes.to_vec()),
                Token::Prefix => {
                    self.prefix = None;
                    give(&mut events, &mut pass);
                    events.push(KeyEvent::Detach);
                    return events;
                }
                Token::Letter if self.prefix.is_some() => {
                    self.prefix = None;
                    give(&mut events, &mut pass);
                    events.push(KeyEvent::Answer);
                }
                Token::Release if self.prefix.is_some() => {}
                Token::Letter | Token::Release | Token::Plain | Token::Paste => {
                    self.pasting ^= token == Token::Paste;
                    pass.extend(self.prefix.take().unwrap_or_default());
                    pass.extend_from_slice(bytes);
                }
            }
            rest = behind;
        }
        give(&mut events, &mut pass);
        events
    }

    /// Returns the next token outside of a paste, with its length.
    fn token(&self, rest: &[u8]) -> (Token, usize) {
        match rest {
            [PREFIX, ..] => (Token::Prefix, 1),
            [b'a', ..] if self.prefix.is_some() => (Token::Letter, 1),
            [ESC] => (Token::Unfinished, 1),
            [ESC, b'[', body @ ..] => sequence(body),
            [ESC, ..] => (Token::Plain, 1),
            _ => {
                let end = rest.iter().position(|byte| matches!(*byte, ESC | PREFIX));
                (Token::Plain, end.unwrap_or(rest.len()))
            }
        }
    }
}

/// Returns the next token inside of a paste, with its length.
fn in_paste(rest: &[u8]) -> (Token, usize) {
    match rest.iter().position(|byte| *byte == ESC) {
        Some(0) if rest.starts_with(PASTE_END) => (Token::Paste, PASTE_END.len()),
        Some(0) if PASTE_END.starts_with(rest) => (Token::Unfinished, rest.len()),
        Some(0) => (Token::Plain, 1),
        at => (Token::Plain, at.unwrap_or(rest.len())),
    }
}

fn give(events: &mut Vec<KeyEvent>, pass: &mut Vec<u8>) {
    if !pass.is_empty() {
        events.push(KeyEvent::Pass(std::mem::take(pass)));
    }
}

/// Parses a control sequence, from after its `ESC [`.
fn sequence(body: &[u8]) -> (Token, usize) {
    let Some(end) = body.iter().take(SEQUENCE_BYTES).position(|byte| !(0x20..0x40).contains(byte)) else {
        return (if body.len() < SEQUENCE_BYTES { Token::Unfinished } else { Token::Plain }, 2);
    };
    let token = match (&body[..end], body[end]) {
        (b"200", b'~') => Token::Paste,
        (params, b'u') => key(params),
        // The modifyOtherKeys form of xterm: modifiers, then the key.
        (params, b'~') => match params.split(|byte| *byte == b';').collect::<Vec<_>>().as_slice() {
            [b"27", modifiers, code] => named(number(code), number(modifiers)),
            _ => Token::Plain,
        },
        (_, 0x40..0x7f) => Token::Plain,
        // Not a sequence; the byte that broke it is parsed separately.
        _ => return (Token::Plain, 2 + end),
    };
    (token, 2 + end + 1)
}

/// Parses a key in the form of the kitty protocol: `code:alternates;modifiers:event;text`.
fn key(params: &[u8]) -> Token {
    let mut parts = params.split(|byte| *byte == b';');
    let mut code = parts.next().unwrap_or_default().split(|byte| *byte == b':');
    let mut modifiers = parts.next().unwrap_or_default().split(|byte| *byte == b':');
    let (code, held) =
        (number(code.next().unwrap_or_default()), number(modifiers.next().unwrap_or_default()));
    if modifiers.next() == Some(b"3") { Token::Release } else { named(code, held) }
}

fn named(code: Option<u32>, modifiers: Option<u32>) -> Token {
    const CTRL: u32 = 4;
    // Caps lock and num lock are ignored.
    let modifiers = modifiers.unwrap_or(1).saturating_sub(1) & 0x3f;
    match (code.and_then(char::from_u32), modifiers) {
        (Some('\\'), CTRL) => Token::Prefix,
        (Some('a'), 0) => Token::Letter,
        _ => Token::Plain,
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pass(bytes: &[u8]) -> KeyEvent {
        KeyEvent::Pass(bytes.to_vec())
    }

    #[test]
    fn detach_is_known_in_every_encoding() {
        let encodings: [&[u8]; 7] = [
            b"\x1c",
            b"\x1b[92;5u",
            b"\x1b[27;5;92~",
            b"\x1b[92;5:1u",
            b"\x1b[92:124;5u",
            b"\x1b[92;133u",
            b"\x1b[92::92;69:1u",
        ];
        for first in encodings {
            for second in encodings {
                let mut keys = Keys::default();
                assert_eq!(keys.push(first), []);
                assert!(keys.is_prefixed());
                assert_eq!(keys.push(second), [KeyEvent::Detach], "{first:?} {second:?}");
                let between = keys.push(&[b"ab", first, second, b"cd"].concat());
                assert_eq!(between, [pass(b"ab"), KeyEvent::Detach]);
            }
        }
        let released = b"\x1b[92;5u\x1b[92;5:3u\x1b[92;5u";
        assert_eq!(Keys::default().push(released), [KeyEvent::Detach], "a released key does not count");
    }

    #[test]
    fn one_prefix_and_another_key_pass_both() {
        let mut keys = Keys::default();
        assert_eq!(keys.push(b"\x1cx"), [pass(b"\x1cx")]);
        assert_eq!(keys.push(b"\x1b[92;5u\x1b[A"), [pass(b"\x1b[92;5u\x1b[A")]);
        assert_eq!(keys.push(b"\x1ca\x1b[92;5u\x1b[97u"), [KeyEvent::Answer, KeyEvent::Answer]);
        assert_eq!(keys.push(b"a\x1b[97u"), [pass(b"a\x1b[97u")]);
        assert_eq!(keys.push(b"\x1c"), []);
        assert_eq!(keys.push(b"\x1b"), []);
        assert_eq!(keys.flush(), [pass(b"\x1c\x1b")]);
    }

    #[test]
    fn other_keys_do_not_start_a_command() {
        let others: [&[u8]; 8] = [
            b"\x1b[92u",
            b"\x1b[92;6u",
            b"\x1b[93;5u",
            b"\x1b[27;5;93~",
            b"\x1b[27;6;92~",
            b"\x1b[92;5R",
            b"\x1b\\",
            b"\x1b[<0;92;5M",
        ];
        for bytes in others {
            let mut keys = Keys::default();
            let twice = [bytes, bytes].concat();
            assert_eq!(keys.push(&twice), [pass(&twice)]);
            assert!(!keys.is_prefixed() && !keys.is_waiting());
        }
    }

    #[test]
    fn a_paste_is_never_a_command() {
        let mut keys = Keys::default();
        let text = b"\x1b[200~x\x1c\x1c\x1b[92;5u\x1b[92;5u\x1ca\x1b[2\x1b[201~";
        assert_eq!(keys.push(text), [pass(text)]);
        assert_eq!(keys.push(b"\x1c\x1c"), [KeyEvent::Detach]);
    }

    #[test]
    fn a_lone_escape_is_passed_after_a_moment() {
        let mut keys = Keys::default();
        assert_eq!(keys.push(b"\x1b"), []);
        assert!(keys.is_waiting());
        assert_eq!(keys.flush(), [pass(b"\x1b")]);
        assert_eq!(keys.flush(), []);
        let long = [b"\x1b[".as_slice(), &[b'1'; 100]].concat();
        assert_eq!(keys.push(&long), [pass(&long)], "no key is that long");
    }

    fn typed() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..6),
            proptest::sample::select(vec![
                &b"\x1b"[..],
                b"\x1b[",
                b"\x1c",
                b"\x1b[92;5u",
                b"\x1b[27;5;92~",
                b"\x1b[200~",
                b"\x1b[201~",
                b"a",
                b"\x1b[92;5:3u",
                b"\xff\xfe"
            ])
            .prop_map(<[u8]>::to_vec),
        ];
        proptest::collection::vec(word, 0..20).prop_map(|words| words.concat())
    }

    /// Joins neighbouring bytes in events.
    fn joined(events: impl IntoIterator<Item = KeyEvent>) -> Vec<KeyEvent> {
        let mut all: Vec<KeyEvent> = Vec::new();
        for event in events {
            match (all.last_mut(), event) {
                (Some(KeyEvent::Pass(have)), KeyEvent::Pass(more)) => have.extend(more),
                (_, event) => all.push(event),
            }
        }
        all
    }

    proptest! {
        #[test]
        fn any_split_types_the_same(bytes in typed(), cut in 1_usize..9) {
            let mut whole = Keys::default();
            let mut once = whole.push(&bytes);
            once.extend(whole.flush());
            let (mut keys, mut split) = (Keys::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                split.extend(keys.push(piece));
                if split.contains(&KeyEvent::Detach) {
                    break;
                }
            }
            if !split.contains(&KeyEvent::Detach) {
                split.extend(keys.flush());
            }
            prop_assert_eq!(joined(split), joined(once));
        }

        #[test]
        fn every_byte_passes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != PREFIX).collect();
            let mut keys = Keys::default();
            let mut events = keys.push(&bytes);
            events.extend(keys.flush());
            let passed: Vec<u8> = joined(events).into_iter().flat_map(|event| match event {
                KeyEvent::Pass(bytes) => bytes,
                _ => Vec::new(),
            }).collect();
            prop_assert_eq!(passed, bytes);
        }
    }
}
