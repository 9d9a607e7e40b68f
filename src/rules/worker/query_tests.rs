//! Tests of the query scanner: real queries, split at any byte, and text that must not be taken for a query.

use proptest::prelude::*;

use super::*;
use crate::rules::sequences::STRING_BYTES;

/// Titles as gemini has them.
const TITLES: [(&str, ProgramState); 3] = [
    ("\u{2726}  Working", ProgramState::Working),
    ("\u{270b}  Action Required", ProgramState::Blocked),
    ("\u{25c7}  Ready", ProgramState::Done),
];

fn scan(pieces: &[&[u8]]) -> Vec<TerminalQuery> {
    let (mut scanner, mut found) = (Scanner::new(TITLES.to_vec()), Vec::new());
    for piece in pieces {
        scanner.scan(piece, &mut |event| found.push(event));
        assert!(scanner.sequences.held_bytes() <= 2 * STRING_BYTES, "bounded memory");
    }
    found
}

fn answers(bytes: &[u8]) -> Vec<String> {
    let answer = |event| match event {
        TerminalQuery::Fixed(text) => Some(text),
        TerminalQuery::Cursor { dec } => Some(cursor(dec, (7, 12))),
        TerminalQuery::Status(_) => None,
    };
    scan(&[bytes]).into_iter().filter_map(answer).collect()
}

fn answered(bytes: &[u8]) -> String {
    answers(bytes).concat().replace('\x1b', "^")
}

#[test]
fn a_plain_terminal_answers() {
    let cases: [(&[u8], &str); 17] = [
        (b"\x1b[c", "^[?62;22c"),
        (b"\x1b[0c", "^[?62;22c"),
        (b"\x1b[>c", "^[>41;330;0c"),
        (b"\x1b[>0c", "^[>41;330;0c"),
        (b"\x1b[=c", "^P!|00000000^\\"),
        (b"\x1b[5n", "^[0n"),
        (b"\x1b[6n", "^[7;12R"),
        (b"\x1b[?6n", "^[?7;12R"),
        (b"\x1b[?2004$p\x1b[?25$p\x1b[?2026$p\x1b[4$p", "^[?2004;2$y^[?25;1$y^[?2026;0$y^[4;0$y"),
        (b"\x1b[>0q\x1b[>q", "^P>|looop^\\^P>|looop^\\"),
        (b"\x1b]11;?\x07", "^]11;rgb:0000/0000/0000\x07"),
        (b"\x1b]10;?\x1b\\", "^]10;rgb:e5e5/e5e5/e5e5^\\"),
        (b"\x1b]10;?;?\x07", "^]10;rgb:e5e5/e5e5/e5e5\x07^]11;rgb:0000/0000/0000\x07"),
        (b"\x1b]4;1;?;231;?\x07", "^]4;1;rgb:cdcd/0000/0000\x07^]4;231;rgb:ffff/ffff/ffff\x07"),
        (b"\x1b]7501;?\x07", "^]7501;?^\\"),
        (b"\x1bP+q544e\x1b\\\x1bP$qm\x1b\\", "^P0+r^\\^P0$r^\\"),
        (b"\x1b[?u", ""),
    ];
    for (asked, expected) in cases {
        assert_eq!(answered(asked), expected, "{}", asked.escape_ascii());
    }
    assert_eq!(answers(b"\x1b[?u"), [""; 0], "no answer is the right answer");
}

#[test]
fn text_that_only_looks_like_a_query_is_ignored() {
    let cases: [&[u8]; 14] = [
        b"\x1b[1c",
        b"\x1b[?1c",
        b"\x1b[?62;22c",
        b"\x1b[0n",
        b"\x1b[7;12R",
        b"\x1b[>7u\x1b[<u\x1b[=1u",
        b"\x1b]11;rgb:00/00/00\x07",
        b"\x1b]52;c;?\x07",
        b"\x1b[6\x18n",
        b"\x1b]11;?\x18\x07",
        b"\x1b_\x1b]\x1b\\",
        b"\x1bP\x1b\\\x1b^[6n\x1b\\",
        b"[6n 5n \x9b6n",
        b"\x1b[6;6n\x1b[+6$p\x1b[p\x1b[99999999$p\x1b]4;300;?\x07\x1b];?\x07\x1b]7501\x07",
    ];
    for bytes in cases {
        assert_eq!(scan(&[bytes]), [], "{}", bytes.escape_ascii());
    }
    assert_eq!(answers(b"\x1b[6\rn").len(), 1, "a control inside a sequence does not end it");
    assert_eq!(answers(b"\x1b]0;title\x1b[6n").len(), 1, "a string that an escape ends is no string");
    assert_eq!(answers(b"\x1b[\x1b[6n").len(), 1);
}

#[test]
fn agents_report_their_status() {
    let status = |bytes: &[u8]| match scan(&[bytes]).as_slice() {
        [TerminalQuery::Status(status)] => status.clone(),
        other => panic!("{other:?}"),
    };
    let plain = |state| ProgramStatus { state, kind: None, message: None };
    assert_eq!(status(b"\x1b]7501;state=working:app=codex\x1b\\"), plain(ProgramState::Working));
    assert_eq!(status(b"\x1b]7501;state=clear\x07"), plain(ProgramState::Clear));
    let (kind, message) = ("question".to_owned(), "answer: Which colour? (Red \u{b7} Blue)".to_owned());
    let blocked = ProgramStatus { state: ProgramState::Blocked, kind: Some(kind), message: Some(message) };
    let text = b"\x1b]7501;state=blocked:app=claude-code:kind=question:msg=\
        YW5zd2VyOiBXaGljaCBjb2xvdXI/IChSZWQgwrcgQmx1ZSk=\x07";
    assert_eq!(status(text), blocked);
    let permission = status(b"\x1b]7501;state=blocked:app=codex:kind=permission\x1b\\");
    assert_eq!((permission.state, permission.kind.as_deref()), (ProgramState::Blocked, Some("permission")));
    let broken = status(b"\x1b]7501;state=error:msg=*not base64*\x07");
    assert_eq!(broken, plain(ProgramState::Error), "an invalid message does not hide the state");
    for no_status in [&b"\x1b]7501;state=dancing\x07"[..], b"\x1b]7501;app=x\x07", b"\x1b]7501;state\x07"] {
        assert_eq!(scan(&[no_status]), []);
    }
}

#[test]
fn base64_follows_the_standard() {
    let cases =
        [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob"), ("Zm9vYmE", "fooba")];
    for (text, plain) in cases {
        assert_eq!(base64(text.as_bytes()).as_deref(), Some(plain.as_bytes()), "{text}");
    }
    assert_eq!(base64(b"+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
    for bad in ["Z", "Zm9vY", "Zm 9", "Zm9v===", "=Zm9"] {
        assert_eq!(base64(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn an_unterminated_string_takes_bounded_memory() {
    let mut scanner = Scanner::default();
    scanner.scan(b"\x1b]7501;state=blocked:msg=", &mut |_| panic!());
    for _ in 0..1000 {
        scanner.scan(&[b'A'; 5000], &mut |_| panic!());
    }
    assert!(scanner.sequences.held_bytes() <= 2 * STRING_BYTES);
    let mut found = Vec::new();
    scanner.scan(b"\x07\x1b[6n", &mut |event| found.push(event));
    assert_eq!(found, [TerminalQuery::Cursor { dec: false }], "the end is found");
    assert_eq!(scanner.sequences.held_bytes(), 0, "no memory is kept");
}

#[test]
fn a_title_that_reports_a_state_is_heard_once_each_time_it_changes() {
    let [_, (asks, _), (ready, _)] = TITLES;
    let working = "\u{2726}  Working\u{2026}";
    let mine = format!("mine {ready}");
    let titles = [ready, working, working, asks, working, "", &mine, ready, ready];
    let output = titles.map(|title| format!("\x1b]0;{title} (clone)   \x07drawn")).concat();
    let says = |state| TerminalQuery::Status(ProgramStatus { state, kind: None, message: None });
    let heard =
        [ProgramState::Working, ProgramState::Blocked, ProgramState::Working, ProgramState::Done].map(says);
    assert_eq!(scan(&[output.as_bytes()]), heard, "a program that has not started is not done");
}

/// Bytes with many control sequences.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..6),
        proptest::sample::select(vec![
            &b"\x1b"[..],
            b"\x1b[",
            b"\x1b]",
            b"\x1bP",
            b"\x07",
            b"\x1b\\",
            b"6n",
            b"?2026$p",
            b"10;?",
            b"4;7;?",
            b"7501;?",
            b"7501;state=done:msg=Zm9v",
            "0;\u{2726}  Working\u{2026} (w)".as_bytes(),
            "2;\u{25c7}  Ready (w)".as_bytes(),
            b">0q",
            b"\x18",
            b"\x9b6n",
            b"\xc2\x9b5n",
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    proptest::collection::vec(word, 0..30).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_split_says_the_same(bytes in output(), cuts in proptest::collection::vec(1_usize..9, 1..20)) {
        let whole = scan(&[&bytes]);
        let mut pieces = Vec::new();
        let (mut rest, mut cuts) = (bytes.as_slice(), cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            pieces.push(piece);
            rest = left;
        }
        prop_assert_eq!(scan(&pieces), whole);
    }
}
