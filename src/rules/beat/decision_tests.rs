//! Tests of moves: the JSON form, its limits, and the parser of replies.

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Move, String> {
    Move::from_json(&serde_json::from_str(text).unwrap())
}

#[test]
fn each_move_survives_a_round_trip_through_json() {
    let all = [
        r#"{"move":"noop","why":"calm","next_beat_s":60}"#,
        r#"{"move":"run","why":"w","argv":["git","status"],"cwd":"/tmp"}"#,
        r#"{"move":"run","why":"w","sh":"a | b"}"#,
        r#"{"move":"write_goal","why":"w","goal":"g","id":"g","body":"text"}"#,
        r#"{"move":"archive_goal","why":"w","id":"g"}"#,
        r##"{"move":"write_sensor","why":"w","name":"s","script":"#!/bin/sh\n"}"##,
        r#"{"move":"write_playbook","why":"w","body":"b"}"#,
        r#"{"move":"start_worker","why":"w","id":"w1","brief":"do it","claims":["x"],"grant":["GH_TOKEN"]}"#,
        r#"{"move":"stop_worker","why":"w","id":"w1"}"#,
        r#"{"move":"tell_worker","why":"w","id":"w1","text":"hi"}"#,
        r#"{"move":"ask","why":"w","text":"which?","options":["a","b"],"ref":"pr/1"}"#,
        r#"{"move":"schedule","why":"w","name":"t","in_s":90,"note":"n"}"#,
        r#"{"move":"drop_schedule","why":"w","name":"t"}"#,
    ];
    for text in all {
        let one = parse(text).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(one.to_json(), value);
        assert_eq!(value["move"], one.action.tag());
        // The stored form (inside an intent) survives too.
        let stored = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Move>(&stored).unwrap(), one);
    }
}

#[test]
fn errors_for_invalid_moves_name_the_problem() {
    let body = "x".repeat(MAX_BODY_BYTES + 1);
    let cases = [
        (r#"{"why":"w"}"#.to_owned(), "`move` is missing"),
        (r#"{"move":"noop"}"#.to_owned(), "`why` is missing"),
        (r#"{"move":"noop","why":" "}"#.to_owned(), "must not be empty"),
        (r#"{"move":"fly","why":"w"}"#.to_owned(), "unknown variant `fly`"),
        (r#"{"move":"noop","why":"w","extra":1}"#.to_owned(), "unknown field `extra`"),
        (r#"{"move":"run","why":"w"}"#.to_owned(), "exactly one of"),
        (r#"{"move":"run","why":"w","argv":["a"],"sh":"b"}"#.to_owned(), "exactly one of"),
        (r#"{"move":"run","why":"w","argv":["a\u0000b"]}"#.to_owned(), "NUL"),
        (r#"{"move":"write_goal","why":"w","id":"../../x","body":"b"}"#.to_owned(), "is not a name"),
        (format!(r#"{{"move":"write_goal","why":"w","id":"x","body":"{body}"}}"#), "is the limit"),
        (r#"{"move":"write_sensor","why":"w","name":"s","script":"echo"}"#.to_owned(), "`#!` line"),
        (r#"{"move":"schedule","why":"w","name":"t","note":"n"}"#.to_owned(), "exactly one of"),
        (r#"{"move":"schedule","why":"w","name":"t","note":"n","every_s":5}"#.to_owned(), "60"),
        (r#"{"move":"schedule","why":"w","name":"t","note":"n","cron":"nope"}"#.to_owned(), "cron"),
        (r#"{"move":"noop","why":"w","next_beat_s":-1}"#.to_owned(), "`next_beat_s`"),
    ];
    for (text, expected) in cases {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(expected), "{text:.80}: {error}");
    }
}

#[test]
fn a_move_is_found_in_prose_and_fences() {
    let noop = r#"{"move":"noop","why":"calm"}"#;
    for reply in [
        noop.to_owned(),
        format!("Sure! Here it is:\n```json\n{noop}\n```\nDone."),
        format!("I thought {{about}} it. {{\"x\":1}} {noop}"),
    ] {
        assert_eq!(parse_reply(&reply).unwrap().action, Action::Noop {}, "{reply}");
    }
}

#[test]
fn replies_without_exactly_one_move_are_refused() {
    let noop = r#"{"move":"noop","why":"calm"}"#;
    assert!(parse_reply("").unwrap_err().contains("no complete JSON"));
    let cut = parse_reply("{\"move\":\"noop\",\"why\":").unwrap_err();
    assert!(cut.contains("no complete JSON") && cut.contains("perhaps at the model's output limit"), "{cut}");
    assert!(parse_reply("{\"a\":1}").unwrap_err().contains("none with a `move` key"));
    let two = parse_reply(&format!("{noop}\n{{\"move\":\"noop\",\"why\":\"b\"}}")).unwrap_err();
    assert!(two.contains("2 moves"), "{two}");
    assert!(parse_reply(&"x".repeat(MAX_REPLY_BYTES + 1)).unwrap_err().contains("is the limit"));
}

#[test]
fn the_schema_names_every_move_and_forbids_other_fields() {
    let schema = schema();
    let moves = schema["oneOf"].as_array().unwrap();
    let tags: Vec<&str> = moves.iter().map(|m| m["properties"]["move"]["const"].as_str().unwrap()).collect();
    assert_eq!(tags.len(), 12);
    assert!(tags.contains(&"run") && tags.contains(&"start_worker"));
    assert!(moves.iter().all(|m| m["additionalProperties"] == false));
    let run = moves.iter().find(|m| m["properties"]["move"]["const"] == "run").unwrap();
    assert!(run["properties"]["argv"].is_object(), "{run}");
}

proptest! {
    #[test]
    fn any_reply_is_answered_without_a_panic(text in "[{}\\[\\]\":a-z,0-9\\\\ \n]{0,200}") {
        let _unused = parse_reply(&text).is_ok();
    }
}
