//! Claude Code, and its events (`--output-format stream-json`): the last one, `result`, has the answer and the sums.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::stream::{EventReader, StreamSummary, ToolCalls, is_output_limit, micros, tokens};
use super::{Agent, DecideMode, FirstStart, FixMode, WorkMode, classify};
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::{CostSource, Usage};
use crate::store::sandboxes::AgentHome;

pub static AGENT: Agent = Agent {
    name: "claude",
    tested: Some("2.1.329"),
    env: "ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL CLAUDE_CODE_OAUTH_TOKEN \
        CLAUDE_CONFIG_DIR",
    endpoint: Some(("ANTHROPIC_BASE_URL", "https://api.anthropic.com")),
    decide: Ok(DecideMode {
        args: "-p --output-format stream-json --verbose --tools {nothing} --safe-mode --disable-slash-commands \
         --strict-mcp-config --no-session-persistence --system-prompt-file {system}",
        // The barest mode reads no login of the user.
        keyed_args: Some(
            "-p --output-format stream-json --verbose --tools {nothing} --bare \
             --strict-mcp-config --no-session-persistence --system-prompt-file {system}",
        ),
        set: &[
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            // Ten times, its default, takes three minutes; the loop itself asks again later.
            ("CLAUDE_CODE_MAX_RETRIES", "2"),
        ],
        file: None,
        model: "--model",
        tools: "off: no tools, MCP servers, hooks, skills or memory",
        oldest: (2, 1, 300),
    }),
    work: Ok(WorkMode {
        // It may read its brief and run looop without asking. The option takes words to the end of the line.
        args: "{task} --allowedTools Read(/{brief}) Bash(looop:*)",
        session: "--session-id {session}",
        resume: "--resume {session} {task} --allowedTools Read(/{brief}) Bash(looop:*)",
        waits: "by OSC 7501, its terminal's status protocol",
        ..WorkMode::PLAIN
    }),
    fix: Ok(FixMode {
        args: "-p --output-format stream-json --verbose --permission-mode acceptEdits",
        set: &[],
    }),
    effort: Some(|effort| ["--effort".to_owned(), effort.to_owned()]),
    home: AgentHome {
        elsewhere: Some(("CLAUDE_CONFIG_DIR", ".claude")),
        dirs: ".claude",
        read: ".claude/settings.json .claude/settings.local.json .claude/CLAUDE.md .claude/agents \
            .claude/commands .claude/hooks .claude/skills .claude/plugins .claude/rules \
            .claude/output-styles .claude/keybindings.json .claude/local .local/share/claude",
        login: ".claude/.credentials.json",
        copied: ".claude.json",
        // With a directory of its own, the file is inside that.
        trusted: &[(".claude.json", trust), (".claude/.claude.json", trust)],
    },
    events: Some(EventReader {
        option: "stream-json",
        is_own: |event| event["claude_code_version"].is_string(),
        wanted: &["system", "assistant", "rate_limit_event", "result"],
        settles: "result",
        read,
        tools: &["assistant", "user"],
        read_tools,
    }),
    first_start: &[
        (FirstStart::Trust, &["trust this folder", "trust the files in this"]),
        (FirstStart::Key, &["detected a custom api key"]),
        (FirstStart::Unguarded, &["bypass permissions mode"]),
        (FirstStart::Login, &["select login method", "not logged in", "please run /login"]),
    ],
    login_errors: &["not logged in", "please run /login"],
};

/// Trusts directories in `.claude.json`; a text that is not JSON stays as it is.
fn trust(text: &str, dirs: &[PathBuf]) -> Option<String> {
    let mut all: Value = serde_json::from_str(text).ok()?;
    let projects = all.as_object_mut()?.entry("projects").or_insert_with(|| json!({}));
    for dir in dirs {
        let project = projects.as_object_mut()?.entry(dir.to_string_lossy()).or_insert_with(|| json!({}));
        project.as_object_mut()?.insert("hasTrustDialogAccepted".to_owned(), json!(true));
    }
    serde_json::to_string_pretty(&all).ok()
}

fn read(summary: &mut StreamSummary, event: &Value) {
    match event["type"].as_str() {
        Some("system") => summary.requests += u32::from(event["subtype"] == "api_retry"),
        Some("assistant") => assistant(summary, &event["message"]),
        Some("rate_limit_event") => {
            let info = &event["rate_limit_info"];
            if info["status"] == "rejected" {
                summary.resets_at_s = info["resetsAt"].as_i64().or(summary.resets_at_s);
            }
        }
        _ => result(summary, event),
    }
}

/// What is known before the end, for a call that never gets there. One message comes as several events.
fn assistant(summary: &mut StreamSummary, message: &Value) {
    let id = message["id"].as_str().unwrap_or_default();
    // A message of the CLI itself, for an error.
    if message["model"] == "<synthetic>" || (!id.is_empty() && summary.message == id) {
        return;
    }
    summary.message = id.to_owned();
    summary.requests += 1;
    summary.set_model(&message["model"]);
    summary.add(tokens(&message["usage"], TOKENS));
}

fn result(summary: &mut StreamSummary, event: &Value) {
    summary.usage = spent(event, summary.usage.model.take());
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
        let by_words = classify::by_words(&why);
        let class = match (reason, by_words) {
            ("prompt_too_long", _) => Class::TooLong,
            (_, Class::TooLong | Class::Limit | Class::Refused) => by_words,
            _ => classify::by_reported_status(&event["api_error_status"]).unwrap_or(by_words),
        };
        return summary.fail_as(class, &why);
    }
    if event["stop_reason"] == "refusal" {
        return summary
            .fail_as(Class::Refused, if words.is_empty() { "the model refused to answer" } else { words });
    }
    summary.failure = None;
    summary.truncated = is_output_limit(&event["stop_reason"]);
    summary.set_text(words);
}

/// What a whole run used. `usage` is of the answer's model; other models in `modelUsage` served the CLI itself.
fn spent(event: &Value, model: Option<String>) -> Usage {
    let mut usage = tokens(&event["usage"], TOKENS);
    let used = event["modelUsage"].as_object();
    for (name, one) in used.into_iter().flatten() {
        let is_answer = used.is_some_and(|all| all.len() == 1) || model.as_deref() == Some(name);
        if !is_answer {
            let other = tokens(one, MODEL_TOKENS);
            usage = usage.plus(&Usage { tokens_background: other.tokens(), ..other });
        }
    }
    usage.model = model.or_else(|| used?.keys().next().cloned());
    usage.cost_micros = micros(&event["total_cost_usd"]);
    usage.basis = CostSource::Reported;
    usage
}

const TOKENS: [&str; 5] = [
    "/input_tokens",
    "/cache_read_input_tokens",
    "/cache_creation_input_tokens",
    "/output_tokens",
    "/output_tokens_details/thinking_tokens",
];

/// The same in `modelUsage`.
const MODEL_TOKENS: [&str; 5] =
    ["/inputTokens", "/cacheReadInputTokens", "/cacheCreationInputTokens", "/outputTokens", ""];

/// Reads the blocks of a message that call a tool or hold its result. Qwen Code prints the same.
pub(super) fn read_tools(calls: &mut ToolCalls, event: &Value) {
    for block in event["message"]["content"].as_array().into_iter().flatten() {
        match block["type"].as_str() {
            Some("tool_use") => calls.start(&block["id"], &block["name"], &block["input"]),
            Some("tool_result") => calls.end(&block["tool_use_id"], &block["content"]),
            _ => {}
        }
    }
}
