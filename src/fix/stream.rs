//! Pure. What an agent prints while it works: as JSON events its commands, words and tokens, else plain text.
//!
//! Two forms of events are known: that of pi (`tool_execution_start`, `message_end`) and that of claude and qwen
//! (`assistant` with `tool_use`, `user` with `tool_result`, `result`). What is neither is text.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::charge::{Basis, Usage};
use crate::model::signature::steady;
use crate::model::transcript::Step;
use crate::runner::read;
use crate::runner::said::{Reader, Said};

/// The longest result of a command that is compared, in characters.
const MAX_RESULT: usize = 4000;

/// A stream that is read in pieces.
#[derive(Debug, Default)]
pub struct Stream {
    line: Vec<u8>,
    open: BTreeMap<String, String>,
    said: Said,
    /// The last words: an agent may end with a message that has none.
    text: String,
    events: usize,
    is_qwen: bool,
    plain: Vec<u8>,
}

/// The longest line that may be an event, in bytes.
const MAX_LINE: usize = 8 << 20;

impl Stream {
    /// Takes a piece. `ended` is called with each command that has ended and its output.
    pub fn take(&mut self, bytes: &[u8], ended: &mut dyn FnMut(String, String)) {
        for byte in bytes {
            if *byte == b'\n' || self.line.len() > MAX_LINE {
                let line = std::mem::take(&mut self.line);
                self.read(&line, ended);
            } else {
                self.line.push(*byte);
            }
        }
    }

    fn read(&mut self, line: &[u8], ended: &mut dyn FnMut(String, String)) {
        match serde_json::from_slice::<Value>(line) {
            Ok(event) if event["type"].is_string() => {
                self.events += 1;
                self.event(&event, ended);
            }
            _ => {
                self.plain.extend_from_slice(line);
                self.plain.push(b'\n');
            }
        }
    }

    fn event(&mut self, event: &Value, ended: &mut dyn FnMut(String, String)) {
        let parts = || event["message"]["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "tool_execution_start" => self.begin(&event["toolCallId"], &event["toolName"], &event["args"]),
            "tool_execution_end" => self.end(&event["toolCallId"], &event["result"], ended),
            "assistant" => parts().iter().filter(|part| part["type"] == "tool_use").for_each(|part| {
                self.begin(&part["id"], &part["name"], &part["input"]);
            }),
            "user" => parts().iter().filter(|part| part["type"] == "tool_result").for_each(|part| {
                self.end(&part["tool_use_id"], &part["content"], ended);
            }),
            "system" if event["subtype"] == "init" => {
                // Both have this form; only one counts the cached part of its input apart.
                self.is_qwen = event["claude_code_version"].is_null();
            }
            _ => {}
        }
        self.count(event);
    }

    /// Words, usage and trouble are read as those of a decider are.
    fn count(&mut self, event: &Value) {
        let kind = event["type"].as_str().unwrap_or_default();
        let own = if self.is_qwen { &read::qwen::READER } else { &read::claude::READER };
        let readers: [&Reader; 2] = [&read::pi::READER, own];
        if let Some(reader) = readers.iter().find(|reader| reader.wanted.contains(&kind)) {
            (reader.read)(&mut self.said, event);
            if !self.said.text.trim().is_empty() {
                self.text.clone_from(&self.said.text);
            }
        }
    }

    fn begin(&mut self, id: &Value, name: &Value, input: &Value) {
        let command = input["command"].as_str().map(str::to_owned);
        let command = command.unwrap_or_else(|| format!("{} {input}", name.as_str().unwrap_or_default()));
        self.open.insert(id.as_str().unwrap_or_default().to_owned(), command);
    }

    fn end(&mut self, id: &Value, result: &Value, ended: &mut dyn FnMut(String, String)) {
        if let Some(command) = self.open.remove(id.as_str().unwrap_or_default()) {
            let text = result.as_str().map_or_else(|| result.to_string(), str::to_owned);
            let clipped = crate::model::json::clip(&text, MAX_RESULT);
            let lines: Vec<String> = clipped.lines().map(steady).collect();
            ended(command, lines.join("\n"));
        }
    }

    /// What was said, and what was used where the stream tells it; an error where the agent reports one.
    pub fn finish(mut self) -> (Result<String, String>, Option<Usage>) {
        let line = std::mem::take(&mut self.line);
        self.read(&line, &mut |_, _| {});
        if self.events == 0 {
            return (Ok(String::from_utf8_lossy(&self.plain).trim().to_owned()), None);
        }
        let said = self.said.trouble.map_or(Ok(self.text), |trouble| Err(trouble.why));
        let usage = Some(self.said.usage).filter(|usage| usage.basis != Basis::Unknown && usage.tokens() > 0);
        (said, usage)
    }
}

/// A step of a transcript.
pub fn step(command: String, output: String, tree: String) -> Step {
    Step { command, output, tree }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (Vec<(String, String)>, Result<String, String>, Option<(u64, u64)>);

    fn read(lines: &[&str]) -> Read {
        let mut stream = Stream::default();
        let mut steps = Vec::new();
        let text = lines.join("\n");
        // In pieces that end anywhere.
        for piece in text.as_bytes().chunks(7) {
            stream.take(piece, &mut |command, output| steps.push((command, output)));
        }
        let (said, usage) = stream.finish();
        (steps, said, usage.map(|usage| (usage.tokens(), usage.cost_micros)))
    }

    #[test]
    fn both_forms_of_events_give_commands_words_and_tokens() {
        let (steps, said, tokens) = read(&[
            r#"{"type":"tool_execution_start","toolCallId":"1","toolName":"bash","args":{"command":"ls"}}"#,
            r#"{"type":"tool_execution_end","toolCallId":"1","result":"took 3ms"}"#,
            r#"{"type":"message_end","message":{"role":"assistant","content":[{"type":"text","text":"done"}],"usage":{"input":7,"output":2,"cost":{"total":0.5}}}}"#,
        ]);
        assert_eq!(steps, [("ls".to_owned(), "took 0t".to_owned())]);
        assert_eq!((said, tokens), (Ok("done".to_owned()), Some((9, 500_000))));
        let (steps, said, tokens) = read(&[
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Edit","input":{"file":"x"}}]}}"#,
            r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"ok"}]}}"#,
            r#"{"type":"result","is_error":true,"result":"no key","total_cost_usd":0.01,"usage":{"input_tokens":1,"output_tokens":1}}"#,
        ]);
        assert_eq!(steps, [(r#"Edit {"file":"x"}"#.to_owned(), "ok".to_owned())]);
        assert_eq!((said, tokens), (Err("no key".to_owned()), Some((2, 10_000))));
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
    fn what_is_no_event_is_text() {
        let (steps, said, tokens) = read(&["I changed", "{\"a\": 1}", "it."]);
        assert!(steps.is_empty() && tokens.is_none());
        assert_eq!(said, Ok("I changed\n{\"a\": 1}\nit.".to_owned()));
    }
}
