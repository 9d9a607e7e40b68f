//! codex, and its events (`exec --json`): items, and one usage for the turn, which has no price.

use std::path::PathBuf;

use serde_json::Value;

use super::stream::{EventReader, StreamSummary, ToolCalls, tokens_of_all_input};
use super::{Agent, DecideMode, FirstStart, FixMode, WorkMode};
use crate::store::sandboxes::AgentHome;

pub static AGENT: Agent = Agent {
    name: "codex",
    tested: Some("0.169.0"),
    env: "CODEX_API_KEY OPENAI_API_KEY OPENAI_BASE_URL CODEX_HOME",
    endpoint: Some(("OPENAI_BASE_URL", "https://api.openai.com")),
    decide: Ok(DecideMode {
        // The user's config may name MCP servers, which are tools; a login is still read. The settings switch off what
        // codex can do besides answering, and what it would tell the model about this machine. A JSON string is one of TOML.
        args: "exec --json --color never --skip-git-repo-check --ephemeral \
         --ignore-user-config --ignore-rules -s read-only -c features.shell_tool=false \
         -c features.unified_exec=false -c features.multi_agent=false -c features.goals=false \
         -c features.view_image=false -c features.image_generation=false -c features.apps=false \
         -c features.plugins=false -c features.hooks=false -c features.memories=false -c features.skill_search=false \
         -c features.tool_suggest=false -c features.browser_use=false -c features.computer_use=false \
         -c features.code_mode_host=false -c features.shell_snapshot=false -c features.daemon_auto_start=false \
         -c web_search=\"disabled\" -c include_permissions_instructions=false -c include_apps_instructions=false \
         -c include_environment_context=false -c include_collaboration_mode_instructions=false \
         -c skills.include_instructions=false -c project_doc_max_bytes=0 -c check_for_update_on_startup=false \
         -c model_instructions_file=\"{system:json}\"",
        keyed_args: None,
        set: &[],
        file: None,
        model: "-m",
        tools: "off but for one: it can ask the user in plan mode, which is off; in an empty folder, read-only sandbox",
        oldest: (0, 160, 0),
    }),
    work: Ok(WorkMode {
        // A daemon would outlive the worker. Its sandbox lets a command reach looop's socket only together with the
        // network; without that it could not even say that it is done. A login shell would set its PATH again, and
        // looop may not be on that.
        args: "--no-daemon -s {box} -a on-request -c sandbox_workspace_write.network_access=true \
         -c allow_login_shell=false -c check_for_update_on_startup=false {task}",
        // The last session of this folder.
        resume: "resume --last --no-daemon -s {box} -a on-request -c sandbox_workspace_write.network_access=true \
         -c allow_login_shell=false -c check_for_update_on_startup=false {task}",
        error_sign: Some("\u{25a0} "),
        waits: "by OSC 7501, its terminal's status protocol",
        ..WorkMode::PLAIN
    }),
    fix: Ok(FixMode {
        args: "exec --json --color never --skip-git-repo-check --ephemeral -s {box} \
         -c features.daemon_auto_start=false -c check_for_update_on_startup=false",
        set: &[],
    }),
    effort: Some(|effort| {
        ["-c".to_owned(), format!("model_reasoning_effort={}", Value::String(effort.to_owned()))]
    }),
    home: AgentHome {
        elsewhere: Some(("CODEX_HOME", ".codex")),
        dirs: ".codex",
        read: ".codex/AGENTS.md .codex/prompts .codex/rules .codex/skills",
        login: ".codex/auth.json",
        copied: ".codex/config.toml",
        trusted: &[(".codex/config.toml", trust)],
    },
    events: Some(EventReader {
        option: "--json",
        is_own: |event| event["type"] == "thread.started",
        wanted: &["item.completed", "error", "turn.started", "turn.completed", "turn.failed"],
        settles: "turn.completed",
        read,
        tools: &["item.completed"],
        read_tools,
    }),
    first_start: &[
        (FirstStart::Trust, &["trust the contents of this"]),
        (FirstStart::Login, &["sign in with chatgpt"]),
    ],
    login_errors: &["not logged in"],
};

/// Trusts directories in `config.toml`; a text that is not TOML stays as it is.
fn trust(text: &str, dirs: &[PathBuf]) -> Option<String> {
    let known: toml::Table = toml::from_str(text).ok()?;
    let projects = known.get("projects").and_then(toml::Value::as_table);
    let mut text = text.to_owned();
    for dir in dirs {
        let dir = dir.to_string_lossy();
        if projects.is_none_or(|projects| !projects.contains_key(dir.as_ref())) {
            // A string of JSON is one of TOML.
            let key = serde_json::to_string(dir.as_ref()).ok()?;
            text.push_str(&format!("\n[projects.{key}]\ntrust_level = \"trusted\"\n"));
        }
    }
    toml::from_str::<toml::Table>(&text).is_ok().then_some(text)
}

const TOKENS: [&str; 5] = [
    "/input_tokens",
    "/cached_input_tokens",
    "/cache_write_input_tokens",
    "/output_tokens",
    "/reasoning_output_tokens",
];

fn read(summary: &mut StreamSummary, event: &Value) {
    match event["type"].as_str() {
        // An item of type `error` is a warning; what ends the turn comes as `turn.failed`.
        Some("item.completed") if event["item"]["type"] == "agent_message" => {
            summary.failure = None;
            summary.set_text(event["item"]["text"].as_str().unwrap_or_default());
        }
        Some("turn.started") => summary.requests += 1,
        Some("error") => {
            let why = event["message"].as_str().unwrap_or_default();
            // It tries again by itself and says so.
            if why.starts_with("Reconnecting") {
                summary.requests += 1;
            } else {
                summary.fail(why);
            }
        }
        Some("turn.failed") => summary.fail(event["error"]["message"].as_str().unwrap_or_default()),
        Some("turn.completed") => {
            summary.failure = None;
            summary.add(tokens_of_all_input(&event["usage"], TOKENS));
        }
        _ => {}
    }
}

fn read_tools(calls: &mut ToolCalls, event: &Value) {
    let item = &event["item"];
    if item["type"] == "command_execution" {
        calls.start(&item["id"], &item["type"], item);
        calls.end(&item["id"], &item["aggregated_output"]);
    }
}
