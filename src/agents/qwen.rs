//! Qwen Code, and its events (`--output-format stream-json`): Claude's form, with OpenAI's way of counting.

use serde_json::Value;

use super::stream::{EventReader, StreamSummary, is_output_limit, tokens_of_all_input};
use super::{Agent, DecideMode, FirstStart, FixMode, WorkMode, claude, gemini};
use crate::rules::beat::settings::StatusFile;
use crate::rules::cost::charge::Usage;
use crate::store::sandboxes::AgentHome;

pub static AGENT: Agent = Agent {
    name: "qwen",
    tested: Some("0.24.4"),
    env: "OPENAI_API_KEY OPENAI_BASE_URL OPENAI_MODEL DASHSCOPE_API_KEY",
    endpoint: Some(("OPENAI_BASE_URL", "https://dashscope.aliyuncs.com")),
    decide: Ok(DecideMode {
        args: "--output-format stream-json --bare --approval-mode default --exclude-tools \
         edit,write_file,notebook_edit,read_file,run_shell_command,get_goal,update_goal,agent,web_fetch",
        keyed_args: None,
        set: &[("QWEN_SYSTEM_MD", "{system}")],
        file: None,
        model: "-m",
        tools: "off by name: the tools of the version that was tried; a newer one may have more, which its default mode denies",
        oldest: (0, 24, 0),
    }),
    work: Ok(WorkMode {
        args: "-i {task}",
        session: "--session-id {session}",
        resume: "--resume {session} -i {task}",
        // These are the settings of the machine's administrator. The user's own are in the home and still count.
        set: &[("QWEN_CODE_SYSTEM_SETTINGS_PATH", "{status}")],
        status: Some(StatusFile { name: "hooks.json", text: include_str!("../../seed/qwen-hooks.json") }),
        waits: "by hooks that looop gives it",
        ..WorkMode::PLAIN
    }),
    fix: Ok(FixMode { args: "--bare --output-format stream-json --approval-mode yolo", set: &[] }),
    effort: None,
    home: AgentHome {
        elsewhere: None,
        dirs: ".qwen",
        read: ".qwen/settings.json .qwen/QWEN.md .qwen/commands .qwen/extensions",
        login: ".qwen/oauth_creds.json",
        copied: ".qwen/trustedFolders.json",
        trusted: &[(".qwen/trustedFolders.json", gemini::trust)],
    },
    events: Some(EventReader {
        option: "stream-json",
        is_own: |event| event["permission_mode"].is_string(),
        wanted: &["system", "assistant", "result"],
        settles: "result",
        read,
        tools: &["assistant", "user"],
        read_tools: claude::read_tools,
    }),
    first_start: &[
        (FirstStart::Trust, &["trust this folder", "trust the files in this"]),
        (FirstStart::Login, &["select authentication method"]),
    ],
    login_errors: &[],
};

fn read(summary: &mut StreamSummary, event: &Value) {
    match event["type"].as_str() {
        Some("system") if event["subtype"] == "retry" => summary.requests += 1,
        Some("assistant") => {
            let message = &event["message"];
            summary.set_model(&message["model"]);
            summary.requests += 1;
            summary.truncated = is_output_limit(&message["stop_reason"]);
            // What the answers took; what the sum has more was used for something else.
            summary.add(tokens_of_all_input(&message["usage"], TOKENS));
        }
        Some("result") => result(summary, event),
        _ => {}
    }
}

const TOKENS: [&str; 5] = ["/input_tokens", "/cache_read_input_tokens", "", "/output_tokens", ""];

fn result(summary: &mut StreamSummary, event: &Value) {
    let all = tokens_of_all_input(&event["usage"], TOKENS);
    summary.usage = Usage {
        model: summary.usage.model.take(),
        tokens_background: all.tokens().saturating_sub(summary.usage.tokens()),
        ..all
    };
    if event["is_error"] == true || event["subtype"] != "success" {
        let why = event["error"]["message"].as_str().or(event["result"].as_str()).unwrap_or_default();
        return summary.fail(why);
    }
    summary.failure = None;
    summary.truncated |= is_output_limit(&event["stop_reason"]);
    summary.set_text(event["result"].as_str().unwrap_or_default());
}
