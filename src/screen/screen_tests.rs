//! Tests of the screen model: odd sizes, bytes that break the parser, and the screen of a transcript.

use super::*;
use crate::os::pty::Size;
use crate::store::transcript::TranscriptWriter;

#[test]
fn impossible_sizes_are_corrected() {
    for (cols, rows) in [(0, 0), (1, 1), (1, 50), (500, 200), (u16::MAX, u16::MAX)] {
        let mut screen = Screen::new(cols, rows);
        screen.feed("plain \u{4e2d}\u{6587} \u{2764}\u{fe0f}\r\n\x1b[9999;9999Hx\u{4e2d}".as_bytes());
        screen.resize(rows, cols);
        screen.feed(b"\x1b[K\x1b[1J\x1b[5Ttext");
        let (row, col) = screen.cursor();
        assert!(row >= 1 && col >= 1 && row <= CELLS_MAX && col <= CELLS_MAX);
    }
}

#[test]
fn bytes_that_break_the_parser_lose_one_piece_only() {
    // vt100 0.18.1 panics when something is written over an emoji at the end of a full row: each of these does so on a
    // screen of its size, and agents print all of them often.
    let cases = [
        (3, 3, "\x1b[9999Cabc\n\u{2764}\u{fe0f}\x1b[AA"),
        (2, 2, "abc\u{2764}\u{fe0f}\x1b[D\x1b[?6labc"),
        (6, 3, "\x1b[9B\x1b[9999C\u{2764}\u{fe0f}\u{4e2d}\x1b8\x1b[9b"),
    ];
    let mut broken = 0;
    for (cols, rows, bytes) in cases {
        let mut bare = parser(cols, rows, 0, ());
        broken += usize::from(guarded(|| bare.process(bytes.as_bytes())).is_none());
        let mut screen = Screen::new(cols, rows);
        screen.feed(bytes.as_bytes());
        screen.feed(b"\x1b[H\x1b[2Jo");
        assert_eq!(screen.text(), "o\n", "{bytes:?}");
        assert_eq!(screen.cursor(), (1, 2));
    }
    assert_eq!(broken, 3, "without a guard there is a panic");
}

#[test]
fn a_screen_keeps_its_text_after_a_panic() {
    let (drawn, breaks) = ("first\r\nsecond", "\x1b[4;10H\u{2764}\u{fe0f}\x1b[3;10Hx");
    let mut bare = parser(10, 4, 0, ());
    assert!(guarded(|| bare.process(format!("{drawn}{breaks}").as_bytes())).is_none(), "it breaks");
    let mut screen = Screen::new(10, 4);
    screen.feed(drawn.as_bytes());
    screen.feed(breaks.as_bytes());
    screen.feed(b"\x1b[4;1H\x1b[Kfourth");
    let text = screen.text();
    // The emoji scrolled the first line away before it broke anything.
    assert!(text.starts_with("second\n") && text.ends_with("fourth\n"), "{text:?}");
}

#[test]
fn a_worker_is_shown_from_the_end_of_its_transcript() {
    let temp = tempfile::tempdir().unwrap();
    let dir = WorkerDir(temp.path().to_owned());
    assert_eq!(Screen::replay(&dir, REPLAY_BYTES).unwrap().text(), "");
    assert_eq!(cursor_of(&dir), (1, 1));
    let mut writer = TranscriptWriter::create(&dir, 0, Size { cols: 20, rows: 5 }, 1 << 20).unwrap();
    writer.append(b"\x1b[31mred\x1b[m  \r\n\x1b]0;title\x07x\xe2\x80\xaey\r\n", 1);
    writer.resize(30, 6, 2);
    writer.append(b"abc", 3);
    let screen = Screen::replay(&dir, REPLAY_BYTES).unwrap();
    assert_eq!(screen.text(), "red\nxy\nabc\n", "no colour, no title, nothing that reorders text");
    assert_eq!((cursor_of(&dir), screen.cells().size().1.get()), ((3, 4), 30));
}
