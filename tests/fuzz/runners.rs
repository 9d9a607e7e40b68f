//! Streams of runners: however they are cut, they say the same; and what they say stays within its bounds.

use looop::agents;
use looop::agents::http::{Protocol, wire::ResponseReader};
use looop::agents::stream::{EventStream, StreamSummary};
use looop::rules::{beat::failing::Class, text::is_hidden};

use super::pieces;

/// The longest answer that is kept, in bytes.
const TEXT_BYTES: usize = 8 << 20;
/// The longest complaint that is kept, in characters, its mark of a cut included.
const WHY_CHARS: usize = 520;
/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// A program that prints events.
pub fn cli(name: &str, bytes: &[u8]) {
    let reader = agents::find(name).and_then(|agent| agent.events).unwrap();
    let (cut, bytes) = pieces(bytes);
    let mut stream = EventStream::new(reader);
    stream.feed(bytes);
    let whole = stream.end();
    let mut stream = EventStream::new(reader);
    for piece in bytes.chunks(cut) {
        // What stops a call is not looked at here: the same bytes say the same all the same.
        stream.feed(piece);
    }
    assert_eq!(stream.end(), whole, "cut into pieces of {cut}");
    is_sane(&whole);
}

/// An endpoint that is asked over HTTP.
pub fn endpoint(protocol: Protocol, bytes: &[u8]) {
    let (cut, bytes) = pieces(bytes);
    let mut reading = ResponseReader::new(protocol);
    reading.feed(bytes);
    let whole = reading.end();
    let mut reading = ResponseReader::new(protocol);
    bytes.chunks(cut).for_each(|piece| reading.feed(piece));
    assert_eq!(reading.end(), whole, "cut into pieces of {cut}");
    is_sane(&whole);
    let mut reading = ResponseReader::new(protocol);
    reading.take_whole(bytes);
    is_sane(&reading.end());
}

fn is_sane(printed: &StreamSummary) {
    assert!(printed.text.len() <= TEXT_BYTES);
    if let Some(failure) = &printed.failure {
        assert!(!failure.why.trim().is_empty(), "a failure without words");
        assert!(failure.why.chars().count() <= WHY_CHARS, "{} characters", failure.why.chars().count());
        assert!(!failure.why.chars().any(is_hidden), "{:?}", failure.why);
    }
    // Whenever a limit is said to end, nobody waits for longer than a day, or not at all.
    for class in [Class::Limit, Class::Transient] {
        let wait_ms = class.wait_ms(1, printed.resets_at_s.map(|at| at.saturating_mul(1000)));
        assert!((1..=DAY_MS).contains(&wait_ms), "{wait_ms}");
    }
    assert!(printed.usage.tokens() >= printed.usage.tokens_out);
}
