//! Pure. What an agent prints while it works: as JSON events its commands, words and tokens, else plain text.
//!
//! Two forms of events are known: that of pi (`tool_execution_start`, `message_end`) and that of claude and qwen
//! (`assistant` with `tool_use`, `user` with `tool_result`, `result`). What is neither is text.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::signature::normal;
use crate::model::transcript::Step;

/// The longest result of a command that is compared, in characters.
const MAX_RESULT: usize = 4000;

/// A stream that is read in pieces.
#[derive(Debug, Default)]
pub struct Stream {
    line: Vec<u8>,
    open: BTreeMap<String, String>,
    text: String,
    events: usize,
    tokens: u64,
    error: Option<String>,
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
            "message_end" if event["message"]["role"] == "assistant" => {
                let usage = &event["message"]["usage"];
                self.tokens += sum(usage, &["input", "output", "cacheRead", "cacheWrite"]);
                let said: String = parts().iter().filter_map(|part| part["text"].as_str()).collect();
                if !said.trim().is_empty() {
                    self.text = said;
                }
                self.error = event["message"]["errorMessage"].as_str().map(str::to_owned);
            }
            "result" => {
                let keys = [
                    "input_tokens",
                    "output_tokens",
                    "cache_read_input_tokens",
                    "cache_creation_input_tokens",
                ];
                self.tokens += sum(&event["usage"], &keys);
                let said = event["result"].as_str().unwrap_or_default().to_owned();
                if event["is_error"] == true {
                    self.error = Some(if said.is_empty() { "it reports an error".to_owned() } else { said });
                } else {
                    self.text = said;
                }
            }
            _ => {}
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
            let lines: Vec<String> = clipped.lines().map(normal).collect();
            ended(command, lines.join("\n"));
        }
    }

    /// What was said, and how many tokens were used where the stream tells it; an error where the agent reports one.
    pub fn finish(mut self) -> (Result<String, String>, Option<u64>) {
        let line = std::mem::take(&mut self.line);
        self.read(&line, &mut |_, _| {});
        if self.events == 0 {
            return (Ok(String::from_utf8_lossy(&self.plain).trim().to_owned()), None);
        }
        let said = self.error.map_or(Ok(self.text), Err);
        (said, (self.tokens > 0).then_some(self.tokens))
    }
}

fn sum(usage: &Value, keys: &[&str]) -> u64 {
    keys.iter().filter_map(|key| usage[*key].as_u64()).fold(0, u64::saturating_add)
}

/// A step of a transcript.
pub fn step(command: String, output: String, tree: String) -> Step {
    Step { command, output, tree }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (Vec<(String, String)>, Result<String, String>, Option<u64>);

    fn read(lines: &[&str]) -> Read {
        let mut stream = Stream::default();
        let mut steps = Vec::new();
        let text = lines.join("\n");
        // In pieces that end anywhere.
        for piece in text.as_bytes().chunks(7) {
            stream.take(piece, &mut |command, output| steps.push((command, output)));
        }
        let (said, tokens) = stream.finish();
        (steps, said, tokens)
    }

    #[test]
    fn both_forms_of_events_give_commands_words_and_tokens() {
        let (steps, said, tokens) = read(&[
            r#"{"type":"tool_execution_start","toolCallId":"1","toolName":"bash","args":{"command":"ls"}}"#,
            r#"{"type":"tool_execution_end","toolCallId":"1","result":"took 3ms"}"#,
            r#"{"type":"message_end","message":{"role":"assistant","content":[{"type":"text","text":"done"}],"usage":{"input":7,"output":2}}}"#,
        ]);
        assert_eq!(steps, [("ls".to_owned(), "took 0t".to_owned())]);
        assert_eq!((said, tokens), (Ok("done".to_owned()), Some(9)));
        let (steps, said, tokens) = read(&[
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Edit","input":{"file":"x"}}]}}"#,
            r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"ok"}]}}"#,
            r#"{"type":"result","is_error":true,"result":"no key","usage":{"input_tokens":1,"output_tokens":1}}"#,
        ]);
        assert_eq!(steps, [(r#"Edit {"file":"x"}"#.to_owned(), "ok".to_owned())]);
        assert_eq!((said, tokens), (Err("no key".to_owned()), Some(2)));
    }

    #[test]
    fn what_is_no_event_is_text() {
        let (steps, said, tokens) = read(&["I changed", "{\"a\": 1}", "it."]);
        assert!(steps.is_empty() && tokens.is_none());
        assert_eq!(said, Ok("I changed\n{\"a\": 1}\nit.".to_owned()));
    }
}
