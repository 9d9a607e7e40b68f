//! Cursor's agent, and its events (`--output-format stream-json`): Claude's form, with events of their own for tools.

use serde_json::Value;

use super::stream::{EventReader, StreamSummary, ToolCalls, texts};
use super::{Agent, FixMode, WorkMode};
use crate::store::sandboxes::AgentHome;

pub static AGENT: Agent = Agent {
    name: "cursor-agent",
    tested: None,
    env: "CURSOR_API_KEY CURSOR_AUTH_TOKEN CURSOR_CONFIG_DIR",
    endpoint: None,
    decide: Err("it has no option that takes all tools away: also its mode `ask` reads files"),
    work: Ok(WorkMode::PLAIN),
    fix: Ok(FixMode { args: "-p --output-format stream-json --force --trust {task}", set: &[] }),
    effort: None,
    home: AgentHome {
        elsewhere: Some(("CURSOR_CONFIG_DIR", ".cursor")),
        dirs: ".cursor .config/cursor",
        read: ".cursor/mcp.json .cursor/rules .local/share/cursor-agent",
        login: ".config/cursor/auth.json",
        copied: ".cursor/cli-config.json",
        trusted: &[],
    },
    events: Some(EventReader {
        option: "stream-json",
        // Claude Code, which stands before it in the table, says its version there.
        is_own: |event| event["subtype"] == "init" && event["permissionMode"].is_string(),
        wanted: &["system", "assistant", "result"],
        settles: "result",
        read,
        tools: &["tool_call"],
        read_tools,
    }),
    first_start: &[],
    login_errors: &[],
};

/// It reports no tokens.
fn read(summary: &mut StreamSummary, event: &Value) {
    match event["type"].as_str() {
        Some("system") => summary.set_model(&event["model"]),
        Some("assistant") => {
            summary.requests += 1;
            summary.set_text(&texts(&event["message"]["content"]));
        }
        _ if event["is_error"] == true || event["subtype"] != "success" => {
            summary.fail(event["result"].as_str().unwrap_or_default());
        }
        _ => {
            summary.failure = None;
            summary.set_text(event["result"].as_str().unwrap_or_default());
        }
    }
}

/// A call is an object with one key, the tool's name.
fn read_tools(calls: &mut ToolCalls, event: &Value) {
    let Some((name, call)) = event["tool_call"].as_object().and_then(|tools| tools.iter().next()) else {
        return;
    };
    match event["subtype"].as_str() {
        Some("started") => calls.start(&event["call_id"], &name.as_str().into(), &call["args"]),
        _ => calls.end(&event["call_id"], &call["result"]),
    }
}
