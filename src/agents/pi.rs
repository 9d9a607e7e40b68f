//! pi, and its events (`--mode json`): each answer of the assistant carries its own usage and price.

use serde_json::Value;

use super::stream::{EventReader, StreamSummary, ToolCalls, is_output_limit, micros, texts, tokens};
use super::{Agent, DecideMode, FirstStart, FixMode, WorkMode};
use crate::rules::beat::settings::StatusFile;
use crate::rules::cost::charge::{CostSource, Usage};
use crate::store::sandboxes::AgentHome;

pub static AGENT: Agent = Agent {
    name: "pi",
    tested: Some("0.87.1"),
    env: "ANTHROPIC_API_KEY ANTHROPIC_OAUTH_TOKEN OPENAI_API_KEY AZURE_OPENAI_API_KEY GEMINI_API_KEY \
        GROQ_API_KEY CEREBRAS_API_KEY XAI_API_KEY OPENROUTER_API_KEY MISTRAL_API_KEY ZAI_API_KEY \
        DEEPSEEK_API_KEY PI_CODING_AGENT_DIR PI_OFFLINE",
    endpoint: None,
    decide: Ok(DecideMode {
        args: "-p --mode json -ne -nt -ns -np -nc --no-session --system-prompt {system}",
        keyed_args: None,
        // No update check and no telemetry: a decision makes one request.
        set: &[("PI_OFFLINE", "1"), ("PI_TELEMETRY", "0")],
        file: None,
        model: "--model",
        tools: "off: no tools, extensions, skills, context files or session",
        oldest: (0, 73, 0),
    }),
    work: Ok(WorkMode {
        args: "--extension {status} {task}",
        session: "--session-id {session}",
        // It continues the session of this id, if there is one.
        resume: "--session-id {session} --extension {status} {task}",
        status: Some(StatusFile { name: "pi-status.js", text: include_str!("../../seed/pi-status.js") }),
        waits: "by an extension that looop gives it",
        ..WorkMode::PLAIN
    }),
    fix: Ok(FixMode { args: "-p --mode json --no-session", set: &[] }),
    effort: Some(|effort| ["--thinking".to_owned(), effort.to_owned()]),
    home: AgentHome {
        elsewhere: Some(("PI_CODING_AGENT_DIR", ".pi/agent")),
        dirs: ".pi",
        read: ".pi/agent/settings.json .pi/agent/models.json .pi/agent/keybindings.json \
            .pi/agent/AGENTS.md .pi/agent/SYSTEM.md .pi/agent/APPEND_SYSTEM.md .pi/agent/extensions \
            .pi/agent/skills .pi/agent/prompts .pi/agent/themes .pi/agent/tools .pi/agent/bin \
            .pi/agent/npm .pi/agent/git",
        login: ".pi/agent/auth.json",
        copied: "",
        trusted: &[],
    },
    events: Some(EventReader {
        // pi reports a message many times; only its end counts.
        option: "json",
        is_own: |event| event["type"] == "session",
        wanted: &["message_end"],
        settles: "message_end",
        read,
        tools: &["tool_execution_start", "tool_execution_end"],
        read_tools,
    }),
    first_start: &[(FirstStart::Trust, &["trust project folder"])],
    login_errors: &["no auth"],
};

fn read(summary: &mut StreamSummary, event: &Value) {
    let message = &event["message"];
    if message["role"] != "assistant" {
        return;
    }
    let used = &message["usage"];
    summary.set_model(&message["model"]);
    summary.add(Usage {
        cost_micros: micros(&used["cost"]["total"]),
        basis: CostSource::Reported,
        ..tokens(used, ["/input", "/cacheRead", "/cacheWrite", "/output", ""])
    });
    summary.requests += 1;
    summary.set_text(&texts(&message["content"]));
    summary.truncated = is_output_limit(&message["stopReason"]);
    match message["stopReason"].as_str() {
        // pi exits 0 then: the stream is the only place that says so.
        Some("error" | "aborted") => summary.fail(message["errorMessage"].as_str().unwrap_or_default()),
        _ => summary.failure = None,
    }
}

fn read_tools(calls: &mut ToolCalls, event: &Value) {
    match event["type"].as_str() {
        Some("tool_execution_start") => calls.start(&event["toolCallId"], &event["toolName"], &event["args"]),
        _ => calls.end(&event["toolCallId"], &event["result"]),
    }
}
