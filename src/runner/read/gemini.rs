//! Pure. Gemini CLI's events (`--output-format stream-json`): pieces of text, and the sums at the end.

use serde_json::Value;

use crate::model::charge::Basis;
use crate::model::failing::Class;
use crate::runner::said::{Reader, Said, count};

/// The events that matter.
pub const READER: Reader =
    Reader { wanted: &["init", "message", "error", "result"], settles: "result", read };

fn read(said: &mut Said, event: &Value) {
    match event["type"].as_str() {
        Some("init") => said.usage.model = event["model"].as_str().map(str::to_owned),
        Some("message") if event["role"] == "assistant" => {
            let text = event["content"].as_str().unwrap_or_default();
            if event["delta"] == true { said.adds(text) } else { said.answers(text) }
        }
        Some("error") if event["severity"] != "warning" => fails(said, &event["message"]),
        Some("result") => result(said, event),
        _ => {}
    }
}

fn fails(said: &mut Said, why: &Value) {
    let why = why.as_str().unwrap_or_default();
    match why.contains("empty response") {
        true => said.fails_as(Class::Empty, why),
        false => said.fails(why),
    }
}

fn result(said: &mut Said, event: &Value) {
    let stats = &event["stats"];
    let usage = &mut said.usage;
    usage.tokens_cached = count(stats, "cached");
    usage.tokens_in = count(stats, "input_tokens").saturating_sub(usage.tokens_cached);
    usage.tokens_out = count(stats, "output_tokens");
    said.counted(Basis::Tokens);
    // It exits 0 after a stream that broke off: this is the only place that says so.
    if event["status"] == "success" {
        said.trouble = None;
    } else if event["error"].is_object() || said.trouble.is_none() {
        fails(said, &event["error"]["message"]);
    }
}
