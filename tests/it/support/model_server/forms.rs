//! The forms in which a scripted answer goes out: Anthropic's messages, OpenAI's chat completions and responses.

use serde_json::{Value, json};

/// A protocol, told by the path of a request.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Form {
    Messages,
    Chat,
    Responses,
}

impl Form {
    pub(super) fn of(path: &str) -> Option<Form> {
        match path.split('?').next() {
            Some("/v1/messages") => Some(Form::Messages),
            Some("/v1/chat/completions") => Some(Form::Chat),
            Some("/v1/responses") => Some(Form::Responses),
            _ => None,
        }
    }

    /// The answer as one JSON object.
    pub(super) fn whole(self, model: &Value, block: &Value, stop: &str, usage: &Value) -> Value {
        match self {
            Form::Messages => message(model, json!([block]), json!(stop), usage),
            Form::Chat => json!({
                "id": "chat_1", "object": "chat.completion", "model": model, "usage": counted(usage, "prompt", "completion"),
                "choices": [{ "index": 0, "finish_reason": finish_reason(stop), "message": { "role": "assistant", "content": block["text"] } }],
            }),
            Form::Responses => {
                response(model, "completed", json!([item(block)]), counted(usage, "input", "output"))
            }
        }
    }

    /// The same as the events of a stream. The content comes in two parts, as nothing says it comes in one.
    pub(super) fn events(self, model: &Value, block: &Value, stop: &str, usage: &Value) -> String {
        let events = match self {
            Form::Messages => as_messages(model, block, stop, usage),
            Form::Chat => return as_chat(model, block, stop, usage),
            Form::Responses => as_responses(model, block, usage),
        };
        let name = |event: &Value| event["type"].as_str().unwrap_or_default().to_owned();
        events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", name(event))).collect()
    }
}

fn message(model: &Value, content: Value, stop: Value, usage: &Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model,
        "content": content, "stop_reason": stop, "stop_sequence": null, "usage": usage,
    })
}

fn as_messages(model: &Value, block: &Value, stop: &str, usage: &Value) -> Vec<Value> {
    let (start, parts) = match block["text"].as_str() {
        Some(text) => {
            let deltas = halves(text).map(|part| json!({"type": "text_delta", "text": part}));
            (json!({"type": "text", "text": ""}), deltas)
        }
        None => {
            let input = block["input"].to_string();
            let deltas = halves(&input).map(|part| json!({"type": "input_json_delta", "partial_json": part}));
            let mut start = block.clone();
            start["input"] = json!({});
            (start, deltas)
        }
    };
    let mut events = vec![
        json!({"type": "message_start", "message": message(model, json!([]), Value::Null, usage)}),
        json!({"type": "content_block_start", "index": 0, "content_block": start}),
    ];
    events.extend(parts.map(|delta| json!({"type": "content_block_delta", "index": 0, "delta": delta})));
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": usage}),
        json!({"type": "message_stop"}),
    ]);
    events
}

/// OpenAI counts the cached part among the input, and knows none that is written.
fn counted(usage: &Value, input: &str, output: &str) -> Value {
    let count = |key: &str| usage[key].as_u64().unwrap_or(0);
    let (cached, out) = (count("cache_read_input_tokens"), count("output_tokens"));
    let all = count("input_tokens") + cached;
    json!({
        format!("{input}_tokens"): all, format!("{input}_tokens_details"): { "cached_tokens": cached },
        format!("{output}_tokens"): out, format!("{output}_tokens_details"): { "reasoning_tokens": 0 },
        "total_tokens": all + out,
    })
}

/// Why a message stopped, in OpenAI's words.
fn finish_reason(stop: &str) -> &'static str {
    match stop {
        "tool_use" => "tool_calls",
        "max_tokens" => "length",
        _ => "stop",
    }
}

fn as_chat(model: &Value, block: &Value, stop: &str, usage: &Value) -> String {
    let delta = |delta: Value, stop: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": stop });
        json!({ "id": "chat_1", "object": "chat.completion.chunk", "model": model, "choices": [choice] })
    };
    let mut chunks: Vec<Value> = match block["type"].as_str() {
        Some("tool_use") => {
            let function = json!({ "name": block["name"], "arguments": block["input"].to_string() });
            let call = json!({ "index": 0, "id": block["id"], "type": "function", "function": function });
            vec![delta(json!({ "role": "assistant", "tool_calls": [call] }), Value::Null)]
        }
        _ => {
            let parts = halves(block["text"].as_str().unwrap_or_default());
            parts.iter().map(|part| delta(json!({ "content": part }), Value::Null)).collect()
        }
    };
    chunks.push(delta(json!({}), json!(finish_reason(stop))));
    chunks.push(json!({ "model": model, "choices": [], "usage": counted(usage, "prompt", "completion") }));
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).chain(["data: [DONE]\n\n".to_owned()]).collect()
}

fn response(model: &Value, status: &str, output: Value, usage: Value) -> Value {
    json!({
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": status, "model": model,
        "output": output, "usage": usage, "error": null, "incomplete_details": null,
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
    })
}

fn item(block: &Value) -> Value {
    match block["text"].as_str() {
        Some(text) => json!({
            "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
            "content": [{ "type": "output_text", "text": text, "annotations": [] }],
        }),
        None => json!({
            "type": "function_call", "id": "fc_1", "status": "completed", "call_id": block["id"],
            "name": block["name"], "arguments": block["input"].to_string(),
        }),
    }
}

fn as_responses(model: &Value, block: &Value, usage: &Value) -> Vec<Value> {
    let item = item(block);
    let begun = response(model, "in_progress", json!([]), Value::Null);
    let whole = response(model, "completed", json!([item]), counted(usage, "input", "output"));
    let mut events = vec![json!({ "type": "response.created", "response": begun })];
    let mut empty = item.clone();
    empty["status"] = "in_progress".into();
    match item["type"].as_str() {
        Some("message") => {
            empty["content"] = json!([]);
            events.push(json!({ "type": "response.output_item.added", "output_index": 0, "item": empty }));
            let text = block["text"].as_str().unwrap_or_default();
            events.extend(halves(text).map(|part| {
                json!({ "type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": part })
            }));
        }
        _ => {
            empty["arguments"] = "".into();
            events.push(json!({ "type": "response.output_item.added", "output_index": 0, "item": empty }));
        }
    }
    events.push(json!({ "type": "response.output_item.done", "output_index": 0, "item": item }));
    events.push(json!({ "type": "response.completed", "response": whole }));
    events.iter_mut().enumerate().for_each(|(n, event)| event["sequence_number"] = n.into());
    events
}

fn halves(text: &str) -> [&str; 2] {
    let middle = text.ceil_char_boundary(text.len() / 2);
    text.split_at(middle).into()
}
