//! Pure. The two protocols of model endpoints: request bodies, and response streams.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Http, Protocol};
use crate::agents::lines::{LineReader, MAX_LINE_BYTES};
use crate::agents::stream::{StreamSummary, is_output_limit, micros, texts, tokens_of_all_input};
use crate::rules::beat::decision;
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::{CostSource, Usage};

/// The most output tokens of a decision. A move is short; the rest is room for thoughts.
const MAX_TOKENS: u32 = 32_000;

/// How the endpoint is asked for one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Only in the prompt.
    Prompt,
    /// As any JSON object.
    JsonObject,
    /// With the JSON schema of a move.
    JsonSchema,
}

// Structs instead of maps keep the order of the fields: the stable ones come first.
#[derive(Serialize)]
struct Chat<'a> {
    model: &'a str,
    stream: bool,
    stream_options: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Value>,
    messages: Value,
}

#[derive(Serialize)]
struct Messages<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    system: Value,
    messages: Value,
}

/// Builds the body of a request: the stable part of the prompt, and the rest.
///
/// # Errors
/// The body cannot be written as JSON, which no text causes.
pub fn body(http: &Http, system: &str, user: &str, shape: Shape) -> Result<Vec<u8>, serde_json::Error> {
    let (model, effort) = (http.model.as_str(), http.effort.as_deref());
    let user = json!({ "role": "user", "content": user });
    match http.protocol {
        Protocol::Openai => serde_json::to_vec(&Chat {
            model,
            stream: true,
            stream_options: json!({ "include_usage": true }),
            reasoning_effort: effort,
            response_format: match shape {
                Shape::Prompt => None,
                Shape::JsonObject => Some(json!({ "type": "json_object" })),
                Shape::JsonSchema => Some(json!({
                    "type": "json_schema",
                    "json_schema": { "name": "move", "schema": decision::schema() },
                })),
            },
            messages: json!([{ "role": "system", "content": system }, user]),
        }),
        Protocol::Anthropic => serde_json::to_vec(&Messages {
            model,
            max_tokens: MAX_TOKENS,
            stream: true,
            output_config: effort.map(|effort| json!({ "effort": effort })),
            system: json!([{ "type": "text", "text": system, "cache_control": { "type": "ephemeral" } }]),
            messages: json!([user]),
        }),
    }
}

/// Where chat completions report their tokens.
const CHAT_TOKENS: [&str; 5] = [
    "/prompt_tokens",
    "/prompt_tokens_details/cached_tokens",
    "",
    "/completion_tokens",
    "/completion_tokens_details/reasoning_tokens",
];

/// A response that is read piece by piece: a stream of server-sent events, or one JSON object.
#[derive(Default)]
pub struct ResponseReader {
    protocol: Protocol,
    summary: StreamSummary,
    lines: LineReader,
    /// The data of an event that has not ended.
    data: Vec<u8>,
    overlong: bool,
    /// True once the model has ended its answer; counts of tokens may follow.
    is_closed: bool,
    /// True once the protocol's last event came.
    is_over: bool,
}

impl ResponseReader {
    /// An empty response.
    pub fn new(protocol: Protocol) -> ResponseReader {
        ResponseReader { protocol, ..ResponseReader::default() }
    }

    /// Reads a piece of an event stream; it may be split anywhere.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while let Some(line) = self.lines.next(&mut piece) {
            self.line(&line);
        }
    }

    /// Reads a complete body with one JSON object.
    pub fn take_whole(&mut self, body: &[u8]) {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => {
                self.is_closed = true;
                match self.protocol {
                    Protocol::Openai => self.chunk(&value, "message"),
                    Protocol::Anthropic => self.message(&value),
                }
            }
            Err(_) => {
                self.summary.fail_as(Class::Crashed, "the endpoint answered with something that is not JSON")
            }
        }
    }

    /// What was said, and in case of a stream that broke off, that it did.
    pub fn end(mut self) -> StreamSummary {
        let rest = self.lines.rest();
        self.line(&rest);
        self.end_event();
        if !self.is_closed && self.summary.failure.is_none() {
            self.summary.fail_as(Class::Transient, "the stream ended before the answer did");
        }
        self.summary
    }

    /// True if the whole answer is here.
    pub fn is_whole(&self) -> bool {
        self.is_closed
    }

    /// True if no event follows, whether or not the connection ends.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The usage so far.
    pub fn usage(&self) -> &Usage {
        &self.summary.usage
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(data) = line.strip_prefix(b"data:") {
            self.overlong |= self.data.len() + data.len() > MAX_LINE_BYTES;
            if self.overlong {
                return self.data.clear();
            }
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        } else if line.is_empty() {
            self.end_event();
        }
    }

    fn end_event(&mut self) {
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.overlong) || data.is_empty() {
            return;
        }
        if data == b"[DONE]" {
            (self.is_closed, self.is_over) = (true, true);
        } else if let Ok(event) = serde_json::from_slice::<Value>(&data) {
            match self.protocol {
                Protocol::Openai => self.chunk(&event, "delta"),
                Protocol::Anthropic => self.event(&event),
            }
        }
    }

    fn fail(&mut self, error: &Value) {
        let words = [&error["message"], &error["type"], error];
        let why = words.iter().find_map(|word| word.as_str()).unwrap_or("the endpoint reported an error");
        let kind = error["type"].as_str().unwrap_or_default();
        match why.contains(kind) {
            true => self.summary.fail(why),
            false => self.summary.fail(&format!("{why} ({kind})")),
        }
    }

    /// Reads one chunk of chat completions, or a complete response.
    fn chunk(&mut self, chunk: &Value, part: &str) {
        self.summary.set_model(&chunk["model"]);
        if !chunk["error"].is_null() {
            self.fail(&chunk["error"]);
        }
        let choice = &chunk["choices"][0];
        let summary = &mut self.summary;
        // Usually a text; some servers send a list of parts.
        let content = &choice[part]["content"];
        summary.push_text(content.as_str().map_or_else(|| texts(content), str::to_owned).as_str());
        if let Some(refusal) = choice[part]["refusal"].as_str().filter(|text| !text.is_empty()) {
            summary.fail_as(Class::Refused, refusal);
        }
        match choice["finish_reason"].as_str() {
            Some("content_filter") => {
                summary.fail_as(Class::Refused, "the endpoint's filter stopped the answer");
                self.is_closed = true;
            }
            Some(_) => {
                self.is_closed = true;
                summary.truncated = is_output_limit(&choice["finish_reason"]);
            }
            None => {}
        }
        let used = &chunk["usage"];
        if used.is_object() {
            let cost_micros = micros(&used["cost"]);
            summary.usage = Usage {
                model: summary.usage.model.take(),
                cost_micros,
                basis: if cost_micros > 0 { CostSource::Reported } else { CostSource::Tokens },
                ..tokens_of_all_input(used, CHAT_TOKENS)
            };
        }
    }

    /// Reads one event of an Anthropic stream.
    fn event(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("message_start") => self.message(&event["message"]),
            Some("content_block_delta") => {
                self.summary.push_text(event["delta"]["text"].as_str().unwrap_or_default());
            }
            Some("message_delta") => {
                self.stops(&event["delta"]["stop_reason"]);
                self.counts(&event["usage"]);
            }
            Some("message_stop") => (self.is_closed, self.is_over) = (true, true),
            Some("error") => self.fail(&event["error"]),
            _ => {}
        }
    }

    /// Reads an Anthropic message, complete or at the start of its stream.
    fn message(&mut self, message: &Value) {
        if message["type"] == "error" {
            return self.fail(&message["error"]);
        }
        self.summary.set_model(&message["model"]);
        self.summary.push_text(&texts(&message["content"]));
        self.stops(&message["stop_reason"]);
        self.counts(&message["usage"]);
    }

    fn stops(&mut self, reason: &Value) {
        if reason == "refusal" {
            self.summary.fail_as(Class::Refused, "the model refused to answer");
        }
        self.is_closed |= reason.is_string();
        self.summary.truncated |= is_output_limit(reason);
    }

    /// Later counts cover the whole message, so they replace earlier ones.
    fn counts(&mut self, used: &Value) {
        let usage = &mut self.summary.usage;
        let fields = [
            ("input_tokens", &mut usage.tokens_in),
            ("cache_read_input_tokens", &mut usage.tokens_cached),
            ("cache_creation_input_tokens", &mut usage.tokens_written),
            ("output_tokens", &mut usage.tokens_out),
        ];
        for (key, place) in fields {
            if let Some(tokens) = used[key].as_u64() {
                *place = tokens;
                usage.basis = CostSource::Tokens;
            }
        }
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
