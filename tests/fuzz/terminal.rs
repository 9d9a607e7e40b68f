//! What workers print and what comes over their sockets: frames, screens and transcripts.

use std::path::PathBuf;

use looop::rules::worker::protocol::{
    self, Decoder, Hello, MAX_PAYLOAD, Resize, ViewerState, WireFrame, WireReply,
};
use looop::rules::worker::query::{self, Scanner, TerminalQuery as Heard};
use looop::rules::worker::silence;
use looop::rules::{secret::Secrets, strip_ansi::AnsiStripper, text::is_hidden};
use looop::screen::keys::{KeyEvent, Keys};
use looop::screen::{Screen, export, is_plain, render::Renderer};
use looop::store::transcript::{TranscriptEvent, TranscriptReader};
use looop::store::{inbox::InboxMessage, layout::WorkerDir};
use serde::{Serialize, de::DeserializeOwned};

use super::{pieces, strict};

/// Frames are the same however they are cut, hold no more than they may, and what is read of them reads back. Keys of a
/// user are passed on whole or end the connection, and never come twice.
pub fn frames(bytes: &[u8]) {
    let (cut, bytes) = pieces(bytes);
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(decode(bytes, cut), whole, "cut into pieces of {cut}");
    let mut again = Vec::new();
    for frame in &whole.0 {
        assert!(frame.payload.len() <= MAX_PAYLOAD);
        again.extend(protocol::encode(frame.kind, &frame.payload));
        reads_back::<Hello>(&frame.payload);
        reads_back::<WireReply>(&frame.payload);
        reads_back::<Resize>(&frame.payload);
        reads_back::<ViewerState>(&frame.payload);
        reads_back::<InboxMessage>(&frame.payload);
    }
    assert!(bytes.starts_with(&again), "frames are made of other bytes than came");
    let mut keys = Keys::default();
    let mut passed = 0;
    for event in bytes.chunks(cut).flat_map(|piece| keys.push(piece)).collect::<Vec<_>>() {
        match event {
            KeyEvent::Pass(typed) => passed += typed.len(),
            KeyEvent::Detach | KeyEvent::Answer => break,
        }
    }
    assert!(passed <= bytes.len(), "more keys are passed on than were typed");
}

/// The frames up to an error, and whether there was one.
fn decode(bytes: &[u8], cut: usize) -> (Vec<WireFrame>, bool) {
    let (mut decoder, mut frames) = (Decoder::new(MAX_PAYLOAD), Vec::new());
    for piece in bytes.chunks(cut) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fn reads_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let text = serde_json::to_string(&value).expect("what was read has a form");
        assert_eq!(serde_json::from_str::<T>(&text).ok(), Some(value), "{text}");
    }
}

/// Of all that a worker prints, a user's terminal gets cells and no byte of the worker's own; text of it has no control
/// character; and what it asks of its terminal is the same however it is cut.
pub fn screen(bytes: &[u8]) {
    let (cut, bytes) = pieces(bytes);
    let mut screen = Screen::new(20, 6);
    let mut renderer = Renderer::new(18, 5);
    let mut strip = AnsiStripper::default();
    let mut scanner = Scanner::default();
    let (mut text, mut heard) = (String::new(), Vec::new());
    for piece in bytes.chunks(cut.max(8)) {
        screen.feed(piece);
        text += &strip.text(piece);
        scanner.scan(piece, &mut |event| heard.push(event));
        let out = renderer.frame(&mut screen, " w running \x1b]0;x\x07 ");
        assert_eq!(strict::forbidden(&out), None, "{out:?}");
    }
    let is_text = |c: char| matches!(c, '\n' | '\t') || !is_hidden(c);
    assert!(text.chars().all(is_text), "{text:?}");
    assert!(AnsiStripper::default().text(bytes).starts_with(&text), "text depends on how it came");
    assert!(screen.text().chars().all(|c| c == '\n' || is_plain(c)));
    let mut whole = Vec::new();
    Scanner::default().scan(bytes, &mut |event| whole.push(event));
    assert_eq!(heard, whole, "questions depend on how they came");
    for event in whole {
        let printed = match event {
            Heard::Fixed(answer) => answer,
            Heard::Cursor { dec } => query::cursor(dec, screen.cursor()),
            Heard::Status(_) => continue,
        };
        assert!(printed.len() <= 256 && printed.is_ascii(), "{printed:?}");
    }
    let shown = screen.text();
    looop::agents::first_start(&shown);
    silence::question(&shown);
    silence::prompt(&shown);
}

/// Whatever bytes and index a transcript has: it is read to its end, forwards, and exported as text without controls and as
/// a recording of which each line is JSON.
pub fn transcript(bytes: &[u8]) {
    let (cut, bytes) = pieces(bytes);
    // An index and the output that it is about: most lines of the first are short.
    let (index, raw) = bytes.split_at((bytes.len() * cut / 256).min(bytes.len()));
    with_files(index, raw, |dir| {
        let mut reader = TranscriptReader::open(dir).expect("files that are there are read");
        let (mut buffer, mut last, mut events) = ([0; 512], reader.offset(), 0);
        while let Some(event) = reader.next(&mut buffer).expect("a transcript is read on") {
            assert!(reader.offset() >= last, "it goes back");
            last = reader.offset();
            events += 1;
            assert!(events <= 2 * bytes.len() + 10, "it has no end");
            assert!(!matches!(event, TranscriptEvent::Output { length: 0, .. }));
        }
        let mut plain = String::new();
        let open = || TranscriptReader::open(dir).expect("it was read before");
        export::plain(&mut open(), &mut |text| {
            plain.push_str(text);
            Ok(())
        })
        .expect("text of it");
        assert!(plain.chars().all(|c| matches!(c, '\n' | '\t') || is_plain(c)), "{plain:?}");
        let mut cast = String::new();
        let out: export::Sink = &mut |text| {
            cast.push_str(text);
            Ok(())
        };
        export::cast(&mut open(), "w", &Secrets::default(), out).expect("a recording of it");
        for line in cast.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON");
        }
    });
}

/// Runs `look` on a worker's directory that holds these files.
fn with_files(index: &[u8], raw: &[u8], look: impl FnOnce(&WorkerDir)) {
    thread_local! {
        // One directory for all inputs: a million of them are made.
        static TEMP: tempfile::TempDir = {
            let memory = PathBuf::from("/dev/shm");
            let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
            made.expect("a directory")
        };
    }
    TEMP.with(|temp| {
        let dir = WorkerDir(temp.path().to_owned());
        std::fs::write(dir.index(), index).expect("an index");
        std::fs::write(dir.transcript(), raw).expect("output");
        look(&dir);
    });
}
