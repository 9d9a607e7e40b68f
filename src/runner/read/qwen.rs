//! Pure. Qwen Code's events (`--output-format stream-json`): Claude's form, with OpenAI's way of counting.

use serde_json::Value;

use crate::model::charge::{Basis, Usage};
use crate::model::failing::Class;
use crate::runner::said::{Reader, Said, count, is_output_limit};

/// The events that matter.
pub const READER: Reader = Reader { wanted: &["system", "assistant", "result"], settles: "result", read };

fn read(said: &mut Said, event: &Value) {
    match event["type"].as_str() {
        Some("system") if event["subtype"] == "retry" => said.requests += 1,
        Some("assistant") => {
            let message = &event["message"];
            if let Some(model) = message["model"].as_str() {
                said.usage.model = Some(model.to_owned());
            }
            said.requests += 1;
            said.truncated = is_output_limit(&message["stop_reason"]);
            // What the answers took; what the sum has more was used for something else.
            add(said, &message["usage"], Basis::Tokens);
        }
        Some("result") => result(said, event),
        _ => {}
    }
}

/// Its input is all of it, the cached part among it.
fn add(said: &mut Said, used: &Value, basis: Basis) {
    let usage = &mut said.usage;
    let cached = count(used, "cache_read_input_tokens");
    usage.tokens_cached = usage.tokens_cached.saturating_add(cached);
    usage.tokens_in = usage.tokens_in.saturating_add(count(used, "input_tokens").saturating_sub(cached));
    usage.tokens_out = usage.tokens_out.saturating_add(count(used, "output_tokens"));
    said.counted(basis);
}

fn result(said: &mut Said, event: &Value) {
    let answers = said.usage.tokens_input().saturating_add(said.usage.tokens_out);
    said.usage = Usage { model: said.usage.model.take(), ..Usage::unknown() };
    add(said, &event["usage"], Basis::Tokens);
    let all = said.usage.tokens_input().saturating_add(said.usage.tokens_out);
    said.usage.tokens_background = all.saturating_sub(answers);
    if event["is_error"] == true || event["subtype"] != "success" {
        let why = event["error"]["message"].as_str().or(event["result"].as_str()).unwrap_or_default();
        return match why.contains("empty response") {
            true => said.fails_as(Class::Empty, why),
            false => said.fails(why),
        };
    }
    said.trouble = None;
    said.truncated |= is_output_limit(&event["stop_reason"]);
    said.answers(event["result"].as_str().unwrap_or_default());
}
