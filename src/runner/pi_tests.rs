//! Tests of pi's event stream over a recorded run and over broken ones.

use super::*;
use proptest::prelude::*;

const RECORDED: &[u8] = include_bytes!("../../tests/fixtures/pi-noop.jsonl");

fn end(stop: &str, text: &str, error: Option<&str>) -> String {
    let mut message = serde_json::json!({
        "role": "assistant", "model": "m", "stopReason": stop,
        "content": [{ "type": "text", "text": text }],
        "usage": { "input": 10, "output": 2, "cacheRead": 3, "cacheWrite": 4, "cost": { "total": 0.0005 } },
    });
    if let Some(error) = error {
        message["errorMessage"] = error.into();
    }
    serde_json::json!({ "type": "message_end", "message": message }).to_string() + "\n"
}

#[test]
fn a_recorded_run_is_read() {
    let stream = Stream::read(RECORDED);
    assert_eq!(stream.error, None);
    assert!(stream.text.contains("\"move\""), "{}", stream.text);
    assert_eq!((stream.tokens_in, stream.tokens_cached, stream.tokens_out), (111, 377, 22));
    assert_eq!(stream.cost_micros, 928);
    assert_eq!(stream.usage().basis, Basis::Reported);
}

#[test]
fn usage_is_summed_over_messages_and_the_last_one_decides() {
    let failed = end("error", "", Some("529 overloaded")) + &end("stop", "ok", None);
    let stream = Stream::read(failed.as_bytes());
    assert_eq!((stream.text.as_str(), stream.error.as_deref()), ("ok", None));
    assert_eq!((stream.tokens_in, stream.cost_micros), (20, 1000));
    let ends_badly = end("stop", "ok", None) + &end("error", "", Some("401 no key"));
    assert_eq!(Stream::read(ends_badly.as_bytes()).error.as_deref(), Some("401 no key"));
}

#[test]
fn unknown_events_and_broken_lines_are_passed_over() {
    let noise = format!("not json\n{{\"type\":\"new_thing\"}}\n{}\n\u{0}", end("stop", "ok", None));
    assert_eq!(Stream::read(noise.as_bytes()).text, "ok");
    assert_eq!(Stream::read(b"{\"type\":\"session\"}\n").usage().basis, Basis::Unknown);
}

#[test]
fn errors_have_their_class() {
    let rows = [
        ("429 {\"type\":\"rate_limit_error\"}", Class::Transient),
        ("500 internal", Class::Transient),
        ("401 {\"type\":\"authentication_error\"}", Class::Auth),
        ("400 prompt is too long: 210000 tokens", Class::TooLong),
        ("You have hit your usage limit", Class::Limit),
        ("Model is ambiguous. No matching provider is authenticated", Class::Auth),
        ("something else", Class::Crashed),
    ];
    for (why, class) in rows {
        assert_eq!(classify(why), class, "{why}");
    }
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_is_read_without_a_panic(at in 0..RECORDED.len()) {
        let _unused = Stream::read(&RECORDED[..at]).usage();
    }
}
