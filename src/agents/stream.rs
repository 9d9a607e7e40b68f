//! Pure. The events that an agent CLI prints as JSON lines: read piece by piece, in bounded memory.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::classify;
use super::lines::LineReader;
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::{CostSource, Usage};
use crate::rules::fix::signature::normalize_run_noise;
use crate::rules::json::clip;
use crate::rules::text::visible;

/// The most text of an answer that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 8 << 20;
/// The most requests to its model that a CLI may tell of in one call. It has no tools: more is a loop.
const MAX_REQUESTS: u32 = 30;
/// The longest result of a tool that is compared, in characters.
const MAX_RESULT_CHARS: usize = 4000;
/// The most bytes of one stream.
pub const MAX_STREAM_BYTES: u64 = 256 << 20;

/// How a CLI's events are read.
#[derive(Clone, Copy, Debug)]
pub struct EventReader {
    /// The argument that makes the CLI print them.
    pub option: &'static str,
    /// True for an event that no other CLI prints.
    pub is_own: fn(&Value) -> bool,
    /// The values of `type` that matter; an event of another type is not even parsed.
    pub wanted: &'static [&'static str],
    /// The one of them after which the usage is a final sum.
    pub settles: &'static str,
    /// What one event changes.
    pub read: fn(&mut StreamSummary, &Value),
    /// The values of `type` of events about tools.
    pub tools: &'static [&'static str],
    /// What one of these says about calls of tools.
    pub read_tools: fn(&mut ToolCalls, &Value),
}

/// Why there is no answer, as the stream reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedFailure {
    /// What kind.
    pub class: Class,
    /// In the CLI's own words.
    pub why: String,
}

/// What a stream adds up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamSummary {
    /// The answer.
    pub text: String,
    /// Why there is none; cleared by a later success.
    pub failure: Option<ReportedFailure>,
    /// True when the model's output limit ended the newest answer.
    pub truncated: bool,
    /// What was used, as far as the stream reports it.
    pub usage: Usage,
    /// Requests to the model that the stream reports.
    pub requests: u32,
    /// When a usage limit ends, in seconds since the epoch, where an event says it.
    pub resets_at_s: Option<i64>,
    /// The message whose usage was counted last: some CLIs report one message in several events.
    pub message: String,
}

impl StreamSummary {
    /// Notes a failure by its words.
    pub fn fail(&mut self, why: &str) {
        self.fail_as(classify::by_words(why), why);
    }

    /// Notes a failure of a known class.
    pub fn fail_as(&mut self, class: Class, why: &str) {
        let why = if why.trim().is_empty() { "it reported an error without words" } else { why.trim() };
        self.failure = Some(ReportedFailure { class, why: clip(&visible(why, false), 500) });
    }

    /// Takes the text of an answer in place of the one before.
    pub fn set_text(&mut self, text: &str) {
        self.text.clear();
        self.push_text(text);
    }

    /// Takes a further piece of the answer.
    pub fn push_text(&mut self, text: &str) {
        let room = MAX_TEXT_BYTES.saturating_sub(self.text.len());
        let end = text.floor_char_boundary(room.min(text.len()));
        self.text.push_str(&text[..end]);
    }

    /// Adds what one report says was used; it also says where all figures come from.
    pub fn add(&mut self, used: Usage) {
        self.usage = Usage { basis: used.basis, ..self.usage.plus(&used) };
    }

    /// Notes the model, where an event names it.
    pub fn set_model(&mut self, name: &Value) {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            self.usage.model = Some(name.to_owned());
        }
    }

    /// Says that the answer is truncated, for an error; empty if it is not.
    pub fn limit_note(&self) -> String {
        if self.truncated { format!(": {OUTPUT_LIMIT}") } else { String::new() }
    }
}

/// What an error says about an answer that the model's output limit ended.
pub const OUTPUT_LIMIT: &str = "the answer was cut off at the model's output limit";

/// True for a reason to stop by which a provider or a CLI says that the model's output limit ended an answer.
pub fn is_output_limit(reason: &Value) -> bool {
    let reason = reason.as_str().unwrap_or_default();
    matches!(reason, "length" | "max_tokens" | "max_output_tokens" | "MAX_TOKENS" | "model_length")
        || reason == "model_context_window_exceeded"
}

/// The tokens in a report. Their places are JSON pointers: input, cached input, written input, output and reasoning. What
/// is absent or not a whole number counts as 0.
pub fn tokens(report: &Value, places: [&str; 5]) -> Usage {
    let count = |place| report.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let [tokens_in, tokens_cached, tokens_written, tokens_out, tokens_reasoning] = places.map(count);
    Usage {
        tokens_in,
        tokens_cached,
        tokens_written,
        tokens_out,
        tokens_reasoning,
        basis: CostSource::Tokens,
        ..Usage::unknown()
    }
}

/// The same for a report whose input is all of it, the cached and the written part among it.
pub fn tokens_of_all_input(report: &Value, places: [&str; 5]) -> Usage {
    let all = tokens(report, places);
    let tokens_in = all.tokens_in.saturating_sub(all.tokens_cached).saturating_sub(all.tokens_written);
    Usage { tokens_in, ..all }
}

/// Dollars in an event as millionths; what is not there, negative or no number counts as 0.
pub fn micros(value: &Value) -> u64 {
    let dollars = value.as_f64().filter(|cost| cost.is_finite() && *cost > 0.0);
    dollars.map_or(0, |cost| (cost * 1e6).round() as u64)
}

/// The texts of a list of content blocks, joined.
pub fn texts(content: &Value) -> String {
    let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().filter(|block| block["type"] == "text").filter_map(|block| block["text"].as_str()).collect()
}

/// A call of a tool that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The shell command, or the tool's name with its input.
    pub command: String,
    /// Its output, without what differs from one run to the next.
    pub output: String,
}

/// The calls of tools that a stream reports.
#[derive(Debug, Default)]
pub struct ToolCalls {
    open: BTreeMap<String, String>,
    ended: Vec<ToolCall>,
}

impl ToolCalls {
    /// Notes that a call begins.
    pub fn start(&mut self, id: &Value, name: &Value, input: &Value) {
        let command = input["command"].as_str().map(str::to_owned);
        let command = command.unwrap_or_else(|| format!("{} {input}", name.as_str().unwrap_or_default()));
        self.open.insert(id.as_str().unwrap_or_default().to_owned(), command);
    }

    /// Notes that a call has ended.
    pub fn end(&mut self, id: &Value, result: &Value) {
        if let Some(command) = self.open.remove(id.as_str().unwrap_or_default()) {
            let text = result.as_str().map_or_else(|| result.to_string(), str::to_owned);
            let lines: Vec<String> = clip(&text, MAX_RESULT_CHARS).lines().map(normalize_run_noise).collect();
            self.ended.push(ToolCall { command, output: lines.join("\n") });
        }
    }
}

/// A stream that is being read.
#[derive(Debug, Default)]
pub struct EventStream {
    /// None until an event tells which CLI prints.
    reader: Option<EventReader>,
    summary: StreamSummary,
    lines: LineReader,
    bytes: u64,
    settled: Usage,
    /// True for an agent that works; else only the answer matters, and what follows stays empty.
    is_work: bool,
    calls: ToolCalls,
    /// The last text that is not empty: an agent may end with a message that is.
    text: String,
    /// The lines before the first event.
    plain: Vec<u8>,
    has_events: bool,
}

/// The part of an event that says whether it matters. The rest is skipped without being kept.
#[derive(Deserialize)]
struct EventType<'a> {
    #[serde(borrow, default, rename = "type")]
    name: Cow<'a, str>,
}

impl EventStream {
    /// The stream of a CLI that is asked for an answer.
    pub fn new(reader: EventReader) -> EventStream {
        EventStream { reader: Some(reader), ..EventStream::default() }
    }

    /// The output of an agent that works: events, or plain text.
    pub fn of_work(reader: Option<EventReader>) -> EventStream {
        EventStream { reader, is_work: true, ..EventStream::default() }
    }

    /// Reads a piece, split anywhere. False if no more should be read: the CLI asks its model again and again, or it
    /// printed more than it may.
    pub fn feed(&mut self, mut piece: &[u8]) -> bool {
        self.bytes += piece.len() as u64;
        while let Some(line) = self.lines.next(&mut piece) {
            self.read_line(&line);
        }
        !self.asks_for_ever() && self.bytes <= MAX_STREAM_BYTES
    }

    /// True if the CLI asked its model more often than one answer needs.
    pub fn asks_for_ever(&self) -> bool {
        self.summary.requests > MAX_REQUESTS
    }

    /// What the whole stream adds up to; the last line may lack its end.
    pub fn end(mut self) -> StreamSummary {
        self.end_line();
        self.summary
    }

    /// Why there is no answer so far.
    pub fn failure(&self) -> Option<&ReportedFailure> {
        self.summary.failure.as_ref()
    }

    /// When a usage limit ends that an event told of, in seconds since the epoch.
    pub fn resets_at_s(&self) -> Option<i64> {
        self.summary.resets_at_s
    }

    /// What was used up to the end of the last turn.
    pub fn settled(&self) -> &Usage {
        &self.settled
    }

    /// What it keeps of what was not read to the end of its line, in bytes.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.lines.held_bytes()
    }

    fn end_line(&mut self) {
        let line = self.lines.rest();
        self.read_line(&line);
    }

    fn read_line(&mut self, line: &[u8]) {
        let name = serde_json::from_slice::<EventType>(line).map(|event| event.name).unwrap_or_default();
        if self.reader.is_none() && !name.is_empty() {
            self.reader = serde_json::from_slice(line).ok().and_then(|event| super::reader_of(&event));
        }
        let Some(reader) = self.reader.filter(|_| !name.is_empty()) else {
            if self.is_work && !self.has_events {
                self.plain.extend_from_slice(line);
                self.plain.push(b'\n');
            }
            return;
        };
        let is_wanted = reader.wanted.contains(&name.as_ref());
        let is_tool = self.is_work && reader.tools.contains(&name.as_ref());
        self.has_events = true;
        let event = (is_wanted || is_tool).then(|| serde_json::from_slice::<Value>(line));
        let Some(Ok(event)) = event else { return };
        if is_wanted {
            (reader.read)(&mut self.summary, &event);
            if name == reader.settles {
                self.settled = self.summary.usage.clone();
            }
        }
        if is_tool {
            (reader.read_tools)(&mut self.calls, &event);
        }
        if self.is_work && !self.summary.text.trim().is_empty() {
            self.text.clone_from(&self.summary.text);
        }
    }

    /// The calls of tools that have ended since this was last asked.
    pub fn take_calls(&mut self) -> Vec<ToolCall> {
        std::mem::take(&mut self.calls.ended)
    }

    /// The last text of an agent that has worked, or why it failed; and what it used, where the stream reports it.
    pub fn finish(mut self) -> (Result<String, String>, Option<Usage>) {
        self.end_line();
        if !self.has_events {
            return (Ok(String::from_utf8_lossy(&self.plain).trim().to_owned()), None);
        }
        let text = self.summary.failure.map_or(Ok(self.text), |failure| Err(failure.why));
        let usage =
            Some(self.summary.usage).filter(|usage| usage.basis != CostSource::Unknown && usage.tokens() > 0);
        (text, usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type WorkRead = (Vec<(String, String)>, Result<String, String>, Option<(u64, u64)>);

    fn read(lines: &[&str]) -> WorkRead {
        let mut stream = EventStream::of_work(None);
        let mut steps = Vec::new();
        // In pieces that end anywhere.
        for piece in lines.join("\n").as_bytes().chunks(7) {
            stream.feed(piece);
            steps.extend(stream.take_calls().into_iter().map(|call| (call.command, call.output)));
        }
        let (text, usage) = stream.finish();
        (steps, text, usage.map(|usage| (usage.tokens(), usage.cost_micros)))
    }

    #[test]
    fn each_form_of_events_gives_commands_words_and_tokens() {
        let (steps, text, tokens) = read(&[
            r#"{"type":"tool_execution_start","toolCallId":"1","toolName":"bash","args":{"command":"ls"}}"#,
            r#"{"type":"tool_execution_end","toolCallId":"1","result":"took 3ms"}"#,
            r#"{"type":"message_end","message":{"role":"assistant","content":[{"type":"text","text":"done"}],"usage":{"input":7,"output":2,"cost":{"total":0.5}}}}"#,
        ]);
        assert_eq!(steps, [("ls".to_owned(), "took 0t".to_owned())]);
        assert_eq!((text, tokens), (Ok("done".to_owned()), Some((9, 500_000))));
        let (steps, text, tokens) = read(&[
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Edit","input":{"file":"x"}}]}}"#,
            r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"ok"}]}}"#,
            r#"{"type":"result","is_error":true,"result":"no key","total_cost_usd":0.01,"usage":{"input_tokens":1,"output_tokens":1}}"#,
        ]);
        assert_eq!(steps, [(r#"Edit {"file":"x"}"#.to_owned(), "ok".to_owned())]);
        assert_eq!((text, tokens), (Err("no key".to_owned()), Some((2, 10_000))));
        let others = [
            vec![
                r#"{"type":"thread.started"}"#,
                r#"{"type":"item.completed","item":{"id":"1","type":"command_execution","command":"ls","aggregated_output":"x"}}"#,
                r#"{"type":"item.completed","item":{"id":"2","type":"agent_message","text":"done"}}"#,
            ],
            vec![
                r#"{"type":"init","model":"m"}"#,
                r#"{"type":"tool_use","tool_name":"run_shell_command","tool_id":"1","parameters":{"command":"ls"}}"#,
                r#"{"type":"tool_result","tool_id":"1","status":"success","output":"x"}"#,
                r#"{"type":"message","role":"assistant","content":"done","delta":true}"#,
                r#"{"type":"result","status":"success","stats":{}}"#,
            ],
            vec![
                r#"{"type":"step_start","part":{}}"#,
                r#"{"type":"tool_use","part":{"tool":"bash","callID":"1","state":{"input":{"command":"ls"},"output":"x"}}}"#,
                r#"{"type":"text","part":{"text":"done"}}"#,
            ],
            vec![
                r#"{"type":"system","subtype":"init","model":"m","permissionMode":"default"}"#,
                r#"{"type":"tool_call","subtype":"started","call_id":"1","tool_call":{"shellToolCall":{"args":{"command":"ls"}}}}"#,
                r#"{"type":"tool_call","subtype":"completed","call_id":"1","tool_call":{"shellToolCall":{"result":"x"}}}"#,
                r#"{"type":"result","subtype":"success","is_error":false,"result":"done"}"#,
            ],
        ];
        for lines in others {
            let (steps, text, _) = read(&lines);
            assert_eq!(steps, [("ls".to_owned(), "x".to_owned())], "{lines:?}");
            assert_eq!(text, Ok("done".to_owned()), "{lines:?}");
        }
    }

    #[test]
    fn the_cached_part_of_an_input_is_counted_once() {
        let usage = r#""usage":{"input_tokens":100,"cache_read_input_tokens":60,"output_tokens":5}"#;
        for (init, tokens) in [(r#""claude_code_version":"2""#, 165), (r#""permission_mode":"yolo""#, 105)] {
            let init = format!(r#"{{"type":"system","subtype":"init",{init}}}"#);
            let result = format!(r#"{{"type":"result","subtype":"success","result":"done",{usage}}}"#);
            assert_eq!(read(&[&init, &result]).2, Some((tokens, 0)), "{init}");
        }
    }

    #[test]
    fn a_line_that_is_not_an_event_is_text() {
        let (steps, text, tokens) = read(&["I changed", "{\"a\": 1}", "it."]);
        assert!(steps.is_empty() && tokens.is_none());
        assert_eq!(text, Ok("I changed\n{\"a\": 1}\nit.".to_owned()));
    }
}
