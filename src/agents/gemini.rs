//! Gemini CLI, and its events (`--output-format stream-json`): pieces of text, and the sums at the end.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::stream::{EventReader, StreamSummary, ToolCalls, tokens_of_all_input};
use super::{Agent, DecideMode, FirstStart, FixMode, WorkMode};
use crate::rules::cost::charge::Usage;
use crate::rules::worker::query::ProgramState;
use crate::store::sandboxes::AgentHome;

pub static AGENT: Agent = Agent {
    name: "gemini",
    tested: Some("0.61.0"),
    env: "GEMINI_API_KEY GOOGLE_API_KEY GOOGLE_GEMINI_BASE_URL GOOGLE_CLOUD_PROJECT \
        GOOGLE_GENAI_USE_VERTEXAI",
    endpoint: Some(("GOOGLE_GEMINI_BASE_URL", "https://generativelanguage.googleapis.com")),
    decide: Ok(DecideMode {
        args: "--output-format stream-json --approval-mode default -e none --allowed-mcp-server-names none \
         --admin-policy {file}",
        keyed_args: None,
        // Its directory is an empty one of looop's.
        set: &[("GEMINI_SYSTEM_MD", "{system}"), ("GEMINI_CLI_TRUST_WORKSPACE", "true")],
        file: Some((
            "gemini-policy.toml",
            "[[rule]]\ntoolName = \"*\"\ndecision = \"deny\"\npriority = 999\n",
        )),
        model: "-m",
        tools: "off by a policy that denies every tool; no extensions or MCP servers",
        oldest: (0, 60, 0),
    }),
    work: Ok(WorkMode {
        args: "-i {task}",
        resume: "--resume latest -i {task}",
        // It takes hooks only from files of the system's administrator.
        titles: &[
            ("\u{2726}  Working", ProgramState::Working),
            ("\u{270b}  Action Required", ProgramState::Blocked),
            ("\u{25c7}  Ready", ProgramState::Done),
        ],
        waits: "by its title",
        ..WorkMode::PLAIN
    }),
    fix: Ok(FixMode { args: "--output-format stream-json --approval-mode yolo --skip-trust", set: &[] }),
    effort: None,
    home: AgentHome {
        elsewhere: None,
        dirs: ".gemini",
        read: ".gemini/settings.json .gemini/GEMINI.md .gemini/commands .gemini/extensions",
        login: ".gemini/oauth_creds.json .gemini/google_accounts.json",
        copied: ".gemini/trustedFolders.json",
        trusted: &[(".gemini/trustedFolders.json", trust)],
    },
    events: Some(EventReader {
        option: "stream-json",
        is_own: |event| event["type"] == "init",
        wanted: &["init", "message", "error", "result"],
        settles: "result",
        read,
        tools: &["tool_use", "tool_result"],
        read_tools,
    }),
    first_start: &[
        (FirstStart::Trust, &["trust this folder", "trust the files in this"]),
        (FirstStart::Login, &["how would you like to authenticate"]),
    ],
    login_errors: &[],
};

/// Trusts directories in `trustedFolders.json`, which Qwen Code has too; a text that is not JSON stays as it is.
pub(super) fn trust(text: &str, dirs: &[PathBuf]) -> Option<String> {
    let mut all: Value = if text.trim().is_empty() { json!({}) } else { serde_json::from_str(text).ok()? };
    for dir in dirs {
        all.as_object_mut()?.insert(dir.to_string_lossy().into_owned(), json!("TRUST_FOLDER"));
    }
    serde_json::to_string_pretty(&all).ok()
}

fn read(summary: &mut StreamSummary, event: &Value) {
    match event["type"].as_str() {
        Some("init") => summary.set_model(&event["model"]),
        Some("message") if event["role"] == "assistant" => {
            let text = event["content"].as_str().unwrap_or_default();
            if event["delta"] == true { summary.push_text(text) } else { summary.set_text(text) }
        }
        Some("error") if event["severity"] != "warning" => {
            summary.fail(event["message"].as_str().unwrap_or_default());
        }
        Some("result") => result(summary, event),
        _ => {}
    }
}

fn result(summary: &mut StreamSummary, event: &Value) {
    let used = tokens_of_all_input(&event["stats"], ["/input_tokens", "/cached", "", "/output_tokens", ""]);
    summary.usage = Usage { model: summary.usage.model.take(), ..used };
    // It exits 0 after a stream that broke off: this is the only place that says so.
    if event["status"] == "success" {
        summary.failure = None;
    } else if event["error"].is_object() || summary.failure.is_none() {
        summary.fail(event["error"]["message"].as_str().unwrap_or_default());
    }
}

fn read_tools(calls: &mut ToolCalls, event: &Value) {
    match event["type"].as_str() {
        Some("tool_use") => calls.start(&event["tool_id"], &event["tool_name"], &event["parameters"]),
        _ => calls.end(&event["tool_id"], &event["output"]),
    }
}
