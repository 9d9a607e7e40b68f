//! opencode, and its events (`run --format json`): steps, each with tokens and price.

use serde_json::Value;

use super::stream::{EventReader, StreamSummary, ToolCalls, is_output_limit, micros, tokens};
use super::{Agent, DecideMode, FixMode, WorkMode, classify};
use crate::rules::beat::settings::StatusFile;
use crate::rules::cost::charge::{CostSource, Usage};
use crate::store::sandboxes::AgentHome;

pub static AGENT: Agent = Agent {
    name: "opencode",
    tested: Some("1.18.33"),
    env: "ANTHROPIC_API_KEY OPENAI_API_KEY GEMINI_API_KEY OPENROUTER_API_KEY OPENCODE_CONFIG",
    endpoint: None,
    decide: Ok(DecideMode {
        args: "run --format json --pure --agent looop --title decision",
        keyed_args: None,
        set: &[
            (
                "OPENCODE_CONFIG_CONTENT",
                r#"{"agent":{"looop":{"mode":"primary","prompt":"{file:{system:json}}","tools":{"*":false},"permission":{"*":"deny"}}},"snapshot":false,"share":"disabled"}"#,
            ),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
            ("OPENCODE_DISABLE_DEFAULT_PLUGINS", "1"),
        ],
        file: None,
        model: "-m",
        tools: "off: an agent of looop's without tools, every permission denied, no plugins",
        oldest: (1, 18, 0),
    }),
    work: Ok(WorkMode {
        // Its first word is a directory, so the prompt has an option.
        args: "--prompt {task}",
        resume: "--continue --prompt {task}",
        // The config is merged with the user's own. The program updates itself only when the user asks for it.
        set: &[
            ("OPENCODE_CONFIG_CONTENT", "{\"plugin\":[\"file://{status}\"]}"),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
        ],
        status: Some(StatusFile { name: "status.js", text: include_str!("../../seed/opencode-status.js") }),
        waits: "by a plugin that looop gives it",
        has_effort: false,
        ..WorkMode::PLAIN
    }),
    fix: Ok(FixMode {
        args: "run --format json --auto --title fix",
        set: &[("OPENCODE_DISABLE_AUTOUPDATE", "1")],
    }),
    effort: Some(|effort| ["--variant".to_owned(), effort.to_owned()]),
    home: AgentHome {
        elsewhere: None,
        dirs: ".config/opencode .local/share/opencode",
        read: ".config/opencode .opencode/bin",
        login: ".local/share/opencode/auth.json",
        copied: "",
        trusted: &[],
    },
    events: Some(EventReader {
        option: "json",
        is_own: |event| event["type"] == "step_start",
        wanted: &["step_start", "text", "step_finish", "error"],
        settles: "step_finish",
        read,
        tools: &["tool_use"],
        read_tools,
    }),
    first_start: &[],
    login_errors: &[],
};

fn read(summary: &mut StreamSummary, event: &Value) {
    let part = &event["part"];
    match event["type"].as_str() {
        Some("step_start") => summary.text.clear(),
        Some("text") => {
            summary.failure = None;
            summary.push_text(part["text"].as_str().unwrap_or_default());
        }
        Some("step_finish") => {
            // A broken stream makes it ask for ever, one step after the other.
            summary.requests += 1;
            summary.truncated = is_output_limit(&part["reason"]);
            let places = ["/input", "/cache/read", "/cache/write", "/output", "/reasoning"];
            let used = tokens(&part["tokens"], places);
            let cost_micros = micros(&part["cost"]);
            summary.add(Usage { cost_micros, basis: CostSource::Reported, ..used });
        }
        Some("error") => {
            let error = &event["error"];
            let words = error["data"]["message"].as_str().or(error["name"].as_str()).unwrap_or_default();
            let class = classify::by_reported_status(&error["data"]["statusCode"]);
            summary.fail_as(class.unwrap_or_else(|| classify::by_words(words)), words);
        }
        _ => {}
    }
}

/// A tool is reported once, when it has ended.
fn read_tools(calls: &mut ToolCalls, event: &Value) {
    let (part, state) = (&event["part"], &event["part"]["state"]);
    calls.start(&part["callID"], &part["tool"], &state["input"]);
    calls.end(&part["callID"], state.get("output").unwrap_or(&state["error"]));
}
