//! aider. It prints text: what it used is an estimate.

use super::{Agent, FixMode, WorkMode};
use crate::store::sandboxes::AgentHome;

pub static AGENT: Agent = Agent {
    name: "aider",
    tested: Some("0.86.2"),
    env: "ANTHROPIC_API_KEY OPENAI_API_KEY OPENAI_API_BASE GEMINI_API_KEY OPENROUTER_API_KEY \
        DEEPSEEK_API_KEY GROQ_API_KEY MISTRAL_API_KEY XAI_API_KEY OLLAMA_API_BASE AIDER_MODEL",
    endpoint: None,
    decide: Err("it always sends its own system prompt, and prints the answer among lines of its own"),
    work: Ok(WorkMode {
        // It makes its commits itself, and ends after one answer.
        args: "--no-check-update --no-show-release-notes --no-analytics --no-gitignore --map-tokens 0 \
         --chat-history-file /dev/null --input-history-file /dev/null --message-file {brief}",
        set: &[("LITELLM_LOCAL_MODEL_COST_MAP", "True")],
        ..WorkMode::PLAIN
    }),
    fix: Ok(FixMode {
        // Its repository map and its histories are files in the folder, which would count as edits.
        args: "--yes-always --no-auto-commits --no-suggest-shell-commands --no-detect-urls --no-pretty --no-stream \
         --no-check-update --no-show-release-notes --no-analytics --no-gitignore --map-tokens 0 \
         --chat-history-file /dev/null --input-history-file /dev/null --message-file {brief}",
        set: &[("LITELLM_LOCAL_MODEL_COST_MAP", "True")],
    }),
    effort: Some(|effort| ["--reasoning-effort".to_owned(), effort.to_owned()]),
    home: AgentHome {
        elsewhere: None,
        dirs: ".aider",
        read: ".aider.conf.yml .aider.model.settings.yml .aider.model.metadata.json",
        login: ".aider/oauth-keys.env",
        copied: "",
        trusted: &[],
    },
    events: None,
    first_start: &[],
    login_errors: &[],
};
