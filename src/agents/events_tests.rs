//! Tests of the parsers over what the real programs printed, whole, split anywhere, with their keys in any order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;

use super::{Agent, claude, find, opencode, pi, qwen};
use crate::agents::stream::{EventStream, MAX_STREAM_BYTES, StreamSummary};
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::{CostSource, Usage};

/// The answer that each recording holds.
const ANSWER: &str = r#"Here it is: {"move":"noop","why":"nothing to do — for now"}"#;

/// What the programs printed, by the agent and the event, such as `pi-noop`.
static RECORDED: LazyLock<BTreeMap<String, (&'static Agent, Vec<u8>)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/runners");
    let recording = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let agent = find(name.split_once('-').unwrap().0).unwrap();
        (name, (agent, fs::read(path).unwrap()))
    };
    fs::read_dir(folder).unwrap().map(|entry| recording(entry.unwrap().path())).collect()
});
const COUNT: usize = 26;

fn noops() -> impl Iterator<Item = (&'static str, &'static Agent, &'static [u8])> {
    let noops = RECORDED.iter().filter_map(|(name, one)| Some((name.strip_suffix("-noop")?, one)));
    noops.map(|(name, (agent, bytes))| (name, *agent, bytes.as_slice()))
}

fn recorded(name: &str) -> StreamSummary {
    let (agent, bytes) = &RECORDED[name];
    read(agent, bytes)
}

fn read(agent: &Agent, bytes: &[u8]) -> StreamSummary {
    let mut stream = EventStream::new(agent.events.unwrap());
    stream.feed(bytes);
    stream.end()
}

fn class(summary: &StreamSummary) -> Option<Class> {
    summary.failure.as_ref().map(|failure| failure.class)
}

#[test]
fn each_recorded_answer_is_read_with_what_it_used() {
    assert_eq!((noops().count(), RECORDED.len()), (6, COUNT));
    for (name, agent, bytes) in noops() {
        let summary = read(agent, bytes);
        assert_eq!((summary.text.as_str(), &summary.failure), (ANSWER, &None), "{name}");
        let usage = &summary.usage;
        let whole = [usage.tokens_in, usage.tokens_cached, usage.tokens_out];
        assert_eq!(whole, [111, 333, 22], "{name}: {usage:?}");
        // Not each of them tells what was written to the cache, and only some know prices.
        let (written, micros, basis) = match name {
            "pi" => (44, 1005, CostSource::Reported),
            "opencode" => (44, 1006, CostSource::Reported),
            "claude" => (44, 585, CostSource::Reported),
            _ => (0, 0, CostSource::Tokens),
        };
        let stated = (usage.tokens_written, usage.cost_micros, usage.basis);
        assert_eq!(stated, (written, micros, basis), "{name}");
        assert_eq!((summary.requests <= 1, usage.tokens_background), (true, 0), "{name}");
    }
}

#[test]
fn each_recorded_failure_has_its_class() {
    for name in RECORDED.keys() {
        let expected = match name.split_once('-').unwrap() {
            (_, "401") => Some(Class::Auth),
            (_, "toolong") => Some(Class::TooLong),
            ("pi" | "codex", "cut") => Some(Class::Transient),
            (_, "noop" | "empty") => None,
            _ => continue,
        };
        let summary = recorded(name);
        assert_eq!(class(&summary), expected, "{name}: {:?}", summary.failure);
    }
}

#[test]
fn an_answer_that_was_cut_or_empty_differs_from_a_good_one() {
    for name in ["pi-empty", "claude-empty", "codex-empty"] {
        let summary = recorded(name);
        assert_eq!((summary.text.as_str(), class(&summary)), ("", None), "{name}");
        assert!(summary.usage.tokens_in >= 111, "{name}: an empty answer is billed");
    }
    assert!(class(&recorded("gemini-cut")).is_some(), "it exits 0 and says so only here");
    // claude asks again without a stream, and the second answer counts.
    let claude = recorded("claude-cut");
    assert_eq!((claude.text.as_str(), class(&claude)), (r#"{"move":"noop","why":"w"}"#, None));
}

#[test]
fn a_program_that_asks_for_ever_is_stopped() {
    let mut stream = EventStream::new(opencode::AGENT.events.unwrap());
    let (_, lap) = &RECORDED["opencode-cut"];
    assert!(!(0..100).all(|_| stream.feed(lap)));
    assert!(stream.asks_for_ever());
}

#[test]
fn usage_is_summed_over_messages_and_the_last_one_decides() {
    let end = |stop: &str, error: Option<&str>| {
        let mut message = serde_json::json!({
            "role": "assistant", "model": "m", "stopReason": stop, "content": [{ "type": "text", "text": "ok" }],
            "usage": { "input": 10, "output": 2, "cacheRead": 3, "cacheWrite": 4, "cost": { "total": 0.0005 } },
        });
        if let Some(error) = error {
            message["errorMessage"] = error.into();
        }
        serde_json::json!({ "type": "message_end", "message": message }).to_string() + "\n"
    };
    let mended = read(&pi::AGENT, (end("error", Some("529 overloaded")) + &end("stop", None)).as_bytes());
    assert_eq!((mended.text.as_str(), class(&mended)), ("ok", None));
    let usage = mended.usage;
    assert_eq!((usage.tokens_in, usage.tokens_written, usage.cost_micros), (20, 8, 1000));
    let broken = read(&pi::AGENT, (end("stop", None) + &end("error", Some("401 no key"))).as_bytes());
    assert_eq!(class(&broken), Some(Class::Auth));
}

#[test]
fn what_a_program_used_for_itself_is_marked() {
    let events = String::from_utf8_lossy(&RECORDED["claude-noop"].1);
    let mut event: Value = serde_json::from_str(events.lines().nth(2).unwrap()).unwrap();
    let assistant = r#"{"type":"assistant","message":{"id":"m1","model":"claude-sonnet-5-5","usage":{"input_tokens":1}}}"#;
    event["modelUsage"]["small"] = serde_json::json!({ "inputTokens": 7, "outputTokens": 3 });
    let usage = read(&claude::AGENT, format!("{assistant}\n{event}\n").as_bytes()).usage;
    assert_eq!((usage.tokens_background, usage.tokens_in, usage.tokens_out), (10, 118, 25));
    assert_eq!(usage.model.as_deref(), Some("claude-sonnet-5-5"));
    let memory = String::from_utf8_lossy(&RECORDED["qwen-noop"].1).replace(
        r#""usage":{"input_tokens":444,"output_tokens":22,"cache_read_input_tokens":333,"total_tokens":466},"permission"#,
        r#""usage":{"input_tokens":544,"output_tokens":42,"cache_read_input_tokens":333,"total_tokens":586},"permission"#,
    );
    assert_eq!(read(&qwen::AGENT, memory.as_bytes()).usage.tokens_background, 120);
}

#[test]
fn an_answer_that_the_output_limit_ended_is_marked() {
    let rows = [
        (&claude::AGENT, r#"{"type":"result","subtype":"success","result":"{","stop_reason":"max_tokens"}"#),
        (&qwen::AGENT, r#"{"type":"assistant","message":{"stop_reason":"max_tokens"}}"#),
        (&qwen::AGENT, r#"{"type":"result","subtype":"success","result":"{","stop_reason":"max_tokens"}"#),
        (&pi::AGENT, r#"{"type":"message_end","message":{"role":"assistant","stopReason":"length"}}"#),
        (&opencode::AGENT, r#"{"type":"step_finish","part":{"reason":"length"}}"#),
    ];
    for (agent, event) in rows {
        assert!(read(agent, event.as_bytes()).truncated, "{event}");
    }
    for name in RECORDED.keys() {
        assert!(!recorded(name).truncated, "{name}");
    }
}

#[test]
fn a_usage_limit_says_when_it_ends() {
    let event =
        r#"{"rate_limit_info":{"resetsAt":1795270000,"status":"rejected"},"type":"rate_limit_event"}"#;
    assert_eq!(read(&claude::AGENT, event.as_bytes()).resets_at_s, Some(1_795_270_000));
    let allowed = event.replace("rejected", "allowed");
    assert_eq!(read(&claude::AGENT, allowed.as_bytes()).resets_at_s, None);
}

#[test]
fn unknown_events_and_broken_lines_are_passed_over() {
    let good = String::from_utf8_lossy(&RECORDED["pi-noop"].1);
    let deep = format!("{{\"type\":\"message_end\",\"message\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let noise = format!(
        "not json\n{{\"type\":\"new_thing\"}}\n{{\"type\":5}}\n[]\n{{\"type\":\"message_end\"}}\n{deep}\n\u{0}\n{good}\n{{"
    );
    assert_eq!(read(&pi::AGENT, noise.as_bytes()).text, ANSWER);
    assert_eq!(read(&pi::AGENT, b"{\"type\":\"session\"}\n").usage, Usage::unknown());
}

#[test]
fn a_long_stream_takes_bounded_memory_and_has_an_end() {
    let mut stream = EventStream::new(pi::AGENT.events.unwrap());
    // One line of 20 MB, which is passed over, then events that matter and 100 MB of those that do not.
    let piece = vec![b'x'; 1 << 20];
    assert!((0..20).all(|_| stream.feed(&piece)) && stream.feed(b"\n"));
    let update = format!("{{\"type\":\"message_update\",\"text\":\"{}\"}}\n", "y".repeat(1 << 20));
    assert!((0..100).all(|_| stream.feed(update.as_bytes())));
    assert!(stream.held_bytes() <= 64 * 1024, "{}", stream.held_bytes());
    assert!(stream.feed(&RECORDED["pi-noop"].1));
    let rest = (MAX_STREAM_BYTES >> 20) + 1;
    assert!(!(0..rest).all(|_| stream.feed(update.as_bytes())) && !stream.asks_for_ever(), "a flood");
    assert_eq!(stream.end().text, ANSWER);
}

/// The same JSON with the keys of each object in another order.
fn turned(value: &Value, by: usize) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            if !keys.is_empty() {
                let middle = by % keys.len();
                keys.rotate_left(middle);
            }
            let fields =
                keys.iter().map(|key| format!("{}:{}", Value::from(key.as_str()), turned(&map[*key], by)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| turned(item, by)).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

#[test]
fn the_order_of_keys_does_not_matter() {
    for (name, (agent, bytes)) in RECORDED.iter() {
        let whole = read(agent, bytes);
        for by in 0..6 {
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let text: String =
                lines.map(|line| turned(&serde_json::from_slice(line).unwrap(), by) + "\n").collect();
            assert_eq!(read(agent, text.as_bytes()), whole, "{name} by {by}");
        }
    }
}

#[test]
fn byte_by_byte_gives_the_same() {
    for (name, (agent, bytes)) in RECORDED.iter() {
        let mut stream = EventStream::new(agent.events.unwrap());
        for byte in bytes {
            stream.feed(&[*byte]);
        }
        assert_eq!(stream.end(), read(agent, bytes), "{name}");
    }
}

#[test]
fn a_turn_that_has_ended_is_settled() {
    for (name, agent, bytes) in noops() {
        let mut stream = EventStream::new(agent.events.unwrap());
        assert!(stream.feed(bytes));
        assert_eq!(*stream.settled(), read(agent, bytes).usage, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_gives_the_same(which in 0..COUNT, mut cuts in proptest::collection::vec(0_usize..20_000, 0..12)) {
        let (agent, bytes) = RECORDED.values().nth(which).unwrap();
        cuts.iter_mut().for_each(|cut| *cut %= bytes.len() + 1);
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut stream = EventStream::new(agent.events.unwrap());
        for pair in cuts.windows(2) {
            prop_assert!(stream.feed(&bytes[pair[0]..pair[1]]));
        }
        prop_assert_eq!(stream.end(), read(agent, bytes));
    }

    #[test]
    fn any_cut_and_any_bytes_are_read_without_a_panic(which in 0..COUNT, at in 0_usize..20_000, noise in ".{0,40}") {
        let (agent, bytes) = RECORDED.values().nth(which).unwrap();
        let mut broken = bytes[..at % (bytes.len() + 1)].to_vec();
        broken.extend_from_slice(noise.as_bytes());
        let summary = read(agent, &broken);
        prop_assert!(summary.text.len() <= bytes.len() + 40);
    }
}
