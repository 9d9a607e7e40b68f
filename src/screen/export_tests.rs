//! Tests of the exported forms of a transcript.

use serde_json::Value;

use super::*;
use crate::os::pty::Size;
use crate::store::layout::WorkerDir;
use crate::store::transcript::TranscriptWriter;

/// Makes a transcript of 20 x 4 cells, written by `fill`.
fn reader(fill: impl FnOnce(&mut TranscriptWriter)) -> (tempfile::TempDir, TranscriptReader) {
    let temp = tempfile::tempdir().unwrap();
    let dir = WorkerDir(temp.path().to_owned());
    let mut writer =
        TranscriptWriter::create(&dir, 1_700_000_000_000, Size { cols: 20, rows: 4 }, 64 << 20).unwrap();
    fill(&mut writer);
    let reader = TranscriptReader::open(&dir).unwrap();
    (temp, reader)
}

fn text_of(bytes: &[u8]) -> String {
    let (_temp, mut reader) = reader(|writer| {
        writer.append(bytes, 1_700_000_000_000);
    });
    gathered(|write| plain(&mut reader, write))
}

/// Everything that an export writes.
fn gathered(export: impl FnOnce(&mut dyn FnMut(&str) -> Result<()>) -> Result<()>) -> String {
    let mut all = String::new();
    export(&mut |text| {
        all.push_str(text);
        Ok(())
    })
    .unwrap();
    all
}

#[test]
fn line_output_is_unchanged() {
    let lines: String = (0..2000).map(|n| format!("line {n}, longer than the screen is wide\r\n")).collect();
    assert_eq!(text_of(lines.as_bytes()), lines.replace('\r', ""));
    assert_eq!(text_of(b"\x1b[1;31mred\x1b[m\r\n\r\n\r\nend  \r\n\r\n"), "red\n\n\nend\n");
    assert_eq!(text_of(b""), "");
    assert_eq!(text_of(b"10%\r50%\r100%\r\ndone"), "100%\ndone\n", "overwritten text has its last version");
    assert_eq!(text_of(&[b'x'; 300_000]).len(), 300_001, "one line of any length");
    assert_eq!(text_of(b"a\x1b]52;c;eA==\x07b\x1b]0;t\x07\xe2\x80\xaec\x1bPq\x1b\\"), "abc\n");
}

#[test]
fn a_program_that_draws_leaves_its_last_screen() {
    let bytes = b"$ vim\r\n\x1b[?1049h\x1b[H\x1b[2Jold\x1b[Hnew\x1b[2;1Htext";
    assert_eq!(text_of(bytes), "$ vim\nnew\ntext\n");
    assert_eq!(text_of(&[bytes, &b"\x1b[?1049l$ "[..]].concat()), "$ vim\n$\n");
    let redraw = "\x1b[2K\rspin 1\x1b[2K\rspin 2";
    assert_eq!(text_of(redraw.as_bytes()), "spin 2\n");
}

#[test]
fn a_resized_screen_prints_each_line_once() {
    let (_temp, mut reader) = reader(|writer| {
        for n in 0..30 {
            writer.append(format!("line {n}\r\n").as_bytes(), 1_700_000_000_000 + n);
            writer.resize(20 + (n as u16 % 3) * 10, 4 + (n as u16 % 5) * 4, 1_700_000_000_000 + n);
        }
    });
    let all = gathered(|write| plain(&mut reader, write));
    assert_eq!(all, (0..30).map(|n| format!("line {n}\n")).collect::<String>());
}

#[test]
fn bytes_that_break_the_parser_do_not_end_the_text() {
    let bytes = "before\r\n\x1b[3;20H\u{2764}\u{fe0f}\x1b[3;20H".to_owned()
        + &"x".repeat(CHUNK_BYTES)
        + "\r\nafter\r\n";
    let text = text_of(bytes.as_bytes());
    assert!(text.starts_with("before\n") && text.ends_with("after\n"), "{text:.60}");
}

#[test]
fn a_cast_is_what_players_read() {
    let (_temp, mut reader) = reader(|writer| {
        writer.append(b"a\xe2\x82", 1_700_000_000_000);
        writer.append(b"\xac\xff\x1b[31m\"\n\0", 1_700_000_001_500);
        writer.resize(100, 30, 1_700_000_002_000);
        writer.append(b"b\xf0\x9f", 1_700_000_003_007);
    });
    let all = gathered(|write| cast(&mut reader, "w1", &Secrets::default(), write));
    let lines: Vec<&str> = all.lines().collect();
    let header: Value = serde_json::from_str(lines[0]).unwrap();
    let (timestamp, title) = (1_700_000_000, "w1");
    let expected = serde_json::json!({
        "version": 2, "width": 20, "height": 4, "timestamp": timestamp, "title": title,
    });
    assert_eq!(header, expected);
    assert_eq!(
        lines[1..],
        [
            r#"[0.000,"o","a"]"#,
            "[1.500,\"o\",\"\u{20ac}\u{fffd}\\u001b[31m\\\"\\n\"]",
            r#"[2.000,"r","100x30"]"#,
            r#"[3.007,"o","b"]"#,
            "[3.007,\"o\",\"\u{fffd}\"]",
        ]
    );
}
