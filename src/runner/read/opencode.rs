//! Pure. opencode's events (`run --format json`): steps, each with tokens and price.

use serde_json::Value;

use crate::model::charge::Basis;
use crate::runner::classify;
use crate::runner::said::{Reader, Said, count, is_output_limit, micros};

/// The events that matter.
pub const READER: Reader =
    Reader { wanted: &["step_start", "text", "step_finish", "error"], settles: "step_finish", read };

fn read(said: &mut Said, event: &Value) {
    let part = &event["part"];
    match event["type"].as_str() {
        Some("step_start") => said.text.clear(),
        Some("text") => {
            said.trouble = None;
            said.adds(part["text"].as_str().unwrap_or_default());
        }
        Some("step_finish") => {
            // A broken stream makes it ask for ever, one step after the other.
            said.requests += 1;
            said.truncated = is_output_limit(&part["reason"]);
            let (used, usage) = (&part["tokens"], &mut said.usage);
            usage.tokens_in = usage.tokens_in.saturating_add(count(used, "input"));
            usage.tokens_cached = usage.tokens_cached.saturating_add(count(&used["cache"], "read"));
            usage.tokens_written = usage.tokens_written.saturating_add(count(&used["cache"], "write"));
            usage.tokens_out = usage.tokens_out.saturating_add(count(used, "output"));
            usage.tokens_reasoning = usage.tokens_reasoning.saturating_add(count(used, "reasoning"));
            usage.cost_micros = usage.cost_micros.saturating_add(micros(&part["cost"]));
            said.counted(Basis::Reported);
        }
        Some("error") => {
            let error = &event["error"];
            let words = error["data"]["message"].as_str().or(error["name"].as_str()).unwrap_or_default();
            let status = error["data"]["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
            let by_words = classify::by_words(words);
            said.fails_as(status.and_then(classify::by_status).unwrap_or(by_words), words);
        }
        _ => {}
    }
}
