//! Pure. Claude Code's events (`--output-format stream-json`): the last one, `result`, has the answer and the sums.

use serde_json::Value;

use crate::model::charge::{Basis, Usage};
use crate::model::failing::Class;
use crate::runner::classify;
use crate::runner::said::{Reader, Said, count, is_output_limit, micros};

/// The events that matter.
pub const READER: Reader =
    Reader { wanted: &["system", "assistant", "rate_limit_event", "result"], settles: "result", read };

fn read(said: &mut Said, event: &Value) {
    match event["type"].as_str() {
        Some("system") => system(said, event),
        Some("assistant") => assistant(said, &event["message"]),
        Some("rate_limit_event") => {
            let info = &event["rate_limit_info"];
            if info["status"] == "rejected" {
                said.resets_at_s = info["resetsAt"].as_i64().or(said.resets_at_s);
            }
        }
        _ => result(said, event),
    }
}

fn system(said: &mut Said, event: &Value) {
    match event["subtype"].as_str() {
        Some("init") => said.version = event["claude_code_version"].as_str().map(str::to_owned),
        Some("api_retry") => said.requests += 1,
        _ => {}
    }
}

/// What is known before the end, for a call that never gets there. One message comes as several events.
fn assistant(said: &mut Said, message: &Value) {
    let id = message["id"].as_str().unwrap_or_default();
    // A message of the CLI itself, for an error.
    if message["model"] == "<synthetic>" || (!id.is_empty() && said.message == id) {
        return;
    }
    said.message = id.to_owned();
    said.requests += 1;
    let before = std::mem::replace(&mut said.usage, Usage::unknown());
    let mut usage = tokens(&message["usage"]);
    usage.model = message["model"].as_str().map(str::to_owned);
    usage.basis = Basis::Tokens;
    said.usage = Usage { basis: Basis::Tokens, ..usage.plus(&before) };
}

fn result(said: &mut Said, event: &Value) {
    said.usage = spent(event, said.usage.model.take());
    let words = event["result"].as_str().unwrap_or_default();
    let reason = event["terminal_reason"].as_str().unwrap_or_default();
    // `subtype` says "success" for an answer that is an error of the service.
    if event["is_error"] == true || event["subtype"] != "success" {
        let errors: Vec<&str> =
            event["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let why = match (words, errors.is_empty()) {
            ("", false) => errors.join("; "),
            ("", true) => event["subtype"].as_str().unwrap_or_default().to_owned(),
            _ => words.to_owned(),
        };
        let status = event["api_error_status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let by_words = classify::by_words(&why);
        let class = match (reason, by_words) {
            ("prompt_too_long", _) => Class::TooLong,
            (_, Class::TooLong | Class::Limit | Class::Refused) => by_words,
            _ => status.and_then(classify::by_status).unwrap_or(by_words),
        };
        return said.fails_as(class, &why);
    }
    if event["stop_reason"] == "refusal" {
        return said
            .fails_as(Class::Refused, if words.is_empty() { "the model refused to answer" } else { words });
    }
    said.trouble = None;
    said.truncated = is_output_limit(&event["stop_reason"]);
    said.answers(words);
}

/// What a whole run used. `usage` is of the answer's model; other models in `modelUsage` served the CLI itself.
fn spent(event: &Value, model: Option<String>) -> Usage {
    let mut usage = tokens(&event["usage"]);
    let used = event["modelUsage"].as_object();
    for (name, one) in used.into_iter().flatten() {
        let is_answer = used.is_some_and(|all| all.len() == 1) || model.as_deref() == Some(name);
        if !is_answer {
            let other = Usage {
                tokens_in: count(one, "inputTokens"),
                tokens_cached: count(one, "cacheReadInputTokens"),
                tokens_written: count(one, "cacheCreationInputTokens"),
                tokens_out: count(one, "outputTokens"),
                ..Usage::nothing()
            };
            usage.tokens_background =
                usage.tokens_background.saturating_add(other.tokens_input()).saturating_add(other.tokens_out);
            usage = usage.plus(&other);
        }
    }
    usage.model = model.or_else(|| used?.keys().next().cloned());
    usage.cost_micros = micros(&event["total_cost_usd"]);
    usage.basis = Basis::Reported;
    usage
}

fn tokens(used: &Value) -> Usage {
    Usage {
        tokens_in: count(used, "input_tokens"),
        tokens_cached: count(used, "cache_read_input_tokens"),
        tokens_written: count(used, "cache_creation_input_tokens"),
        tokens_out: count(used, "output_tokens"),
        tokens_reasoning: count(&used["output_tokens_details"], "thinking_tokens"),
        ..Usage::nothing()
    }
}
