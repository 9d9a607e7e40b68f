//! Pure. pi's events (`--mode json`): each answer of the assistant carries its own usage and price.

use serde_json::Value;

use crate::model::charge::Basis;
use crate::runner::said::{Reader, Said, count, is_output_limit, micros, texts};

/// pi tells of a message many times; only its end counts.
pub const READER: Reader = Reader { wanted: &["message_end"], settles: "message_end", read };

fn read(said: &mut Said, event: &Value) {
    let message = &event["message"];
    if message["role"] != "assistant" {
        return;
    }
    let used = &message["usage"];
    let usage = &mut said.usage;
    usage.tokens_in = usage.tokens_in.saturating_add(count(used, "input"));
    usage.tokens_cached = usage.tokens_cached.saturating_add(count(used, "cacheRead"));
    usage.tokens_written = usage.tokens_written.saturating_add(count(used, "cacheWrite"));
    usage.tokens_out = usage.tokens_out.saturating_add(count(used, "output"));
    usage.cost_micros = usage.cost_micros.saturating_add(micros(&used["cost"]["total"]));
    if let Some(model) = message["model"].as_str() {
        usage.model = Some(model.to_owned());
    }
    said.counted(Basis::Reported);
    said.requests += 1;
    said.answers(&texts(&message["content"]));
    said.truncated = is_output_limit(&message["stopReason"]);
    match message["stopReason"].as_str() {
        // pi exits 0 then: the stream is the only place that says so.
        Some("error" | "aborted") => said.fails(message["errorMessage"].as_str().unwrap_or_default()),
        _ => said.trouble = None,
    }
}
