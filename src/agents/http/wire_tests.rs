//! Tests of the endpoints' protocols: request bodies, streams split anywhere, whole bodies, streams that break off.

use proptest::prelude::*;

use super::*;

const ANTHROPIC: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m-1\",\"content\":[],",
    "\"usage\":{\"input_tokens\":111,\"cache_read_input_tokens\":333,\"cache_creation_input_tokens\":44,\"output_tokens\":1}}}\n\n",
    ": a comment that keeps the connection\n\n",
    "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"{\\\"move\\\":\"}}\r\n\r\n",
    "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"\\\"noöp\\\"}\"}}\n\n",
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":22}}\n\n",
    "data: {\"type\":\"message_stop\"}\n\n",
);
const OPENAI: &str = concat!(
    "data: {\"model\":\"m-1\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"{\\\"move\\\":\"}}]}\n\n",
    "data:{\"choices\":[{\"delta\":{\"content\":\"\\\"noöp\\\"}\"},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":444,\"completion_tokens\":22,",
    "\"prompt_tokens_details\":{\"cached_tokens\":333},\"completion_tokens_details\":{\"reasoning_tokens\":5}}}\n\n",
    "data: [DONE]\n\n",
);
const BOTH: [(Protocol, &str); 2] = [(Protocol::Anthropic, ANTHROPIC), (Protocol::Openai, OPENAI)];

fn read(protocol: Protocol, text: &str) -> StreamSummary {
    let mut reading = ResponseReader::new(protocol);
    reading.feed(text.as_bytes());
    reading.end()
}

/// The body of a request, in which the stable part comes first.
fn asked(protocol: Protocol, shape: Shape) -> Value {
    let http = Http { protocol, model: "m".to_owned(), effort: Some("low".to_owned()), ..Http::default() };
    let text = String::from_utf8(body(&http, "the norms", "the world", shape).unwrap()).unwrap();
    assert!(text.find("the norms") < text.find("the world"), "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_answer_is_whole_at_its_reason_to_end_and_over_at_the_last_event() {
    for (protocol, text) in BOTH {
        let mut reading = ResponseReader::new(protocol);
        let mut seen = Vec::new();
        for event in text.split_inclusive("\n\n") {
            reading.feed(event.as_bytes());
            seen.push((reading.is_whole(), reading.is_over()));
        }
        let first = |wanted: (bool, bool)| seen.iter().position(|state| *state == wanted);
        assert!(first((true, false)) < first((true, true)), "{seen:?}");
        assert_eq!(first((true, true)), Some(seen.len() - 1), "{seen:?}");
    }
}

#[test]
fn content_can_be_a_list_of_parts() {
    let parts = json!([{ "type": "text", "text": "{\"move\":" }, { "type": "text", "text": "1}" }]);
    let chunk = json!({ "choices": [{ "delta": { "content": parts }, "finish_reason": "stop" }] });
    assert_eq!(read(Protocol::Openai, &format!("data: {chunk}\n\n")).text, "{\"move\":1}");
}

#[test]
fn the_stable_part_goes_first_and_is_marked_for_the_cache() {
    let value = asked(Protocol::Anthropic, Shape::Prompt);
    assert_eq!(value["system"][0]["cache_control"], json!({ "type": "ephemeral" }));
    assert_eq!((&value["stream"], &value["output_config"]["effort"]), (&json!(true), &json!("low")));
    for (shape, format) in [
        (Shape::Prompt, Value::Null),
        (Shape::JsonObject, json!("json_object")),
        (Shape::JsonSchema, json!("json_schema")),
    ] {
        let value = asked(Protocol::Openai, shape);
        assert_eq!(
            (value["reasoning_effort"].as_str(), &value["messages"][0]["role"]),
            (Some("low"), &json!("system"))
        );
        assert_eq!(value["response_format"]["type"], format);
    }
}

#[test]
fn streams_are_read_with_what_they_used() {
    for (protocol, text) in BOTH {
        let summary = read(protocol, text);
        assert_eq!((summary.text.as_str(), &summary.failure), ("{\"move\":\"noöp\"}", &None), "{protocol:?}");
        let usage = summary.usage;
        assert_eq!([usage.tokens_in, usage.tokens_cached, usage.tokens_out], [111, 333, 22], "{protocol:?}");
        assert_eq!((usage.model.as_deref(), usage.basis), (Some("m-1"), CostSource::Tokens));
        let expected = if protocol == Protocol::Openai { (0, 5) } else { (44, 0) };
        assert_eq!((usage.tokens_written, usage.tokens_reasoning), expected);
    }
}

#[test]
fn a_stream_that_breaks_off_is_not_an_answer() {
    for (protocol, text) in BOTH {
        let cut = text.rfind(if protocol == Protocol::Openai {
            "data:{"
        } else {
            "data: {\"type\":\"message_delta"
        });
        let cut = cut.unwrap();
        let summary = read(protocol, &text[..cut]);
        assert_eq!(summary.failure.map(|failure| failure.class), Some(Class::Transient), "{protocol:?}");
        assert!(!summary.text.is_empty());
    }
}

#[test]
fn complete_bodies_are_read_too() {
    let mut anthropic = ResponseReader::new(Protocol::Anthropic);
    anthropic.take_whole(br#"{"type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":3,"output_tokens":1}}"#);
    let mut openai = ResponseReader::new(Protocol::Openai);
    openai.take_whole(br#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"cost":0.002}}"#);
    let (anthropic, openai) = (anthropic.end(), openai.end());
    assert_eq!((anthropic.text.as_str(), openai.text.as_str()), ("hi", "hi"));
    assert_eq!((openai.usage.cost_micros, openai.usage.basis), (2000, CostSource::Reported));
    assert_eq!((anthropic.usage.tokens_in, anthropic.failure), (3, None));
}

#[test]
fn an_answer_that_the_output_limit_ended_is_marked() {
    let rows = [
        (Protocol::Openai, r#"data: {"choices":[{"delta":{"content":"a"},"finish_reason":"length"}]}"#, true),
        (Protocol::Openai, r#"data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#, false),
        (Protocol::Anthropic, r#"data: {"type":"message_delta","delta":{"stop_reason":"max_tokens"}}"#, true),
        (Protocol::Anthropic, r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#, false),
    ];
    for (protocol, text, expected) in rows {
        assert_eq!(read(protocol, text).truncated, expected, "{text}");
    }
}

#[test]
fn errors_and_refusals_in_a_stream_are_failures() {
    use Protocol::{Anthropic, Openai};
    let rows = [
        (
            Anthropic,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Class::Transient,
        ),
        (
            Anthropic,
            r#"{"type":"message_delta","delta":{"stop_reason":"refusal"},"usage":{}}"#,
            Class::Refused,
        ),
        (Openai, r#"{"error":{"message":"insufficient_quota"}}"#, Class::Limit),
        (Openai, r#"{"choices":[{"delta":{"refusal":"I cannot"},"finish_reason":"stop"}]}"#, Class::Refused),
        (Openai, r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#, Class::Refused),
    ];
    for (protocol, event, class) in rows {
        let failure = read(protocol, &format!("data: {event}")).failure;
        assert_eq!(failure.map(|failure| failure.class), Some(class), "{event}");
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same(which in 0_usize..2, cut in 0_usize..2000, other in 0_usize..2000) {
        let (protocol, text) = BOTH[which];
        let (cut, other) = (cut % text.len(), other % text.len());
        let mut reading = ResponseReader::new(protocol);
        for part in [0..cut.min(other), cut.min(other)..cut.max(other), cut.max(other)..text.len()] {
            reading.feed(&text.as_bytes()[part]);
        }
        prop_assert_eq!(reading.end(), read(protocol, text));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        for (protocol, text) in BOTH {
            let mut reading = ResponseReader::new(protocol);
            reading.feed(&noise);
            reading.feed(text.as_bytes());
            reading.feed(&noise);
            prop_assert!(reading.end().text.len() < 2000);
        }
    }
}
