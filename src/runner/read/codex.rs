//! Pure. codex's events (`exec --json`): items, and one usage for the turn, which has no price.

use serde_json::Value;

use crate::model::charge::Basis;
use crate::runner::said::{Reader, Said, count};

/// The events that matter.
pub const READER: Reader = Reader {
    wanted: &["item.completed", "error", "turn.started", "turn.completed", "turn.failed"],
    settles: "turn.completed",
    read,
};

fn read(said: &mut Said, event: &Value) {
    match event["type"].as_str() {
        // An item of type `error` is a warning; what ends the turn comes as `turn.failed`.
        Some("item.completed") if event["item"]["type"] == "agent_message" => {
            said.trouble = None;
            said.answers(event["item"]["text"].as_str().unwrap_or_default());
        }
        Some("turn.started") => said.requests += 1,
        Some("error") => {
            let why = event["message"].as_str().unwrap_or_default();
            // It tries again by itself and says so.
            if why.starts_with("Reconnecting") {
                said.requests += 1;
            } else {
                said.fails(why);
            }
        }
        Some("turn.failed") => said.fails(event["error"]["message"].as_str().unwrap_or_default()),
        Some("turn.completed") => {
            said.trouble = None;
            let used = &event["usage"];
            let usage = &mut said.usage;
            let (cached, written) =
                (count(used, "cached_input_tokens"), count(used, "cache_write_input_tokens"));
            // Its input is all of it, the cached part among it.
            let fresh = count(used, "input_tokens").saturating_sub(cached).saturating_sub(written);
            usage.tokens_in = usage.tokens_in.saturating_add(fresh);
            usage.tokens_cached = usage.tokens_cached.saturating_add(cached);
            usage.tokens_written = usage.tokens_written.saturating_add(written);
            usage.tokens_out = usage.tokens_out.saturating_add(count(used, "output_tokens"));
            usage.tokens_reasoning =
                usage.tokens_reasoning.saturating_add(count(used, "reasoning_output_tokens"));
            said.counted(Basis::Tokens);
        }
        _ => {}
    }
}
