//! Pure. The table of agent CLIs that can decide: how each is started without hands, and how it is read.

use std::path::Path;

use super::read;
use super::said::Reader;

/// What a call has to put into the arguments and the environment.
pub struct Setup<'a> {
    /// The file with the stable part of the prompt. The rest comes on stdin.
    pub system: &'a Path,
    /// The file of [`Row::file`].
    pub file: &'a Path,
    /// The model; none: the CLI's own default.
    pub model: Option<&'a str>,
    /// How hard it thinks; none: the CLI's own default.
    pub effort: Option<&'a str>,
    /// True where the environment has a key, so that no login of the human has to be read.
    pub has_key: bool,
}

/// One agent CLI.
pub struct Row {
    /// Its name in the config, and its program.
    pub name: &'static str,
    /// Its arguments for one decision.
    pub args: fn(&Setup) -> Vec<String>,
    /// Names of variables that it gets where they are set, keys of providers among them.
    pub keys: &'static [&'static str],
    /// Variables that are set for it.
    pub set: fn(&Setup) -> Vec<(&'static str, String)>,
    /// A file that it is given: name and content.
    pub file: Option<(&'static str, &'static str)>,
    /// How its events are read.
    pub reader: Reader,
    /// The argument that makes it print them.
    pub streams: &'static str,
    /// What keeps it from acting.
    pub hands: &'static str,
    /// How it says, as a worker, that it waits for a human.
    pub waits: &'static str,
    /// The oldest version that has all these options.
    pub oldest: (u32, u32, u32),
    /// The version that was driven for real, or whose output was recorded.
    pub tried: &'static str,
    /// True where each change of looop is tried with the real program.
    pub first_class: bool,
}

/// All rows, the default first.
pub const ROWS: [Row; 6] = [PI, CLAUDE, CODEX, GEMINI, OPENCODE, QWEN];

/// The row of this name.
pub fn find(name: &str) -> Option<&'static Row> {
    const { &ROWS }.iter().find(|row| row.name == name)
}

/// How the output of a command is read that is one of these CLIs and was told to print its events.
pub fn streamed_by(argv: &[String]) -> Option<Reader> {
    let (program, args) = argv.split_first()?;
    let row = find(Path::new(program).file_name()?.to_str()?)?;
    args.iter()
        .any(|arg| arg == row.streams || arg.ends_with(&format!("={}", row.streams)))
        .then_some(row.reader)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn option(args: &mut Vec<String>, flag: &str, value: Option<&str>) {
    if let Some(value) = value {
        args.extend([flag.to_owned(), value.to_owned()]);
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

const PI: Row = Row {
    name: "pi",
    args: |setup| {
        let mut args = words(&["-p", "--mode", "json", "-ne", "-nt", "-ns", "-np", "-nc", "--no-session"]);
        args.extend(["--system-prompt".to_owned(), shown(setup.system)]);
        option(&mut args, "--model", setup.model);
        option(&mut args, "--thinking", setup.effort);
        args
    },
    keys: &[
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_OAUTH_TOKEN",
        "OPENAI_API_KEY",
        "AZURE_OPENAI_API_KEY",
        "GEMINI_API_KEY",
        "GROQ_API_KEY",
        "CEREBRAS_API_KEY",
        "XAI_API_KEY",
        "OPENROUTER_API_KEY",
        "MISTRAL_API_KEY",
        "ZAI_API_KEY",
        "DEEPSEEK_API_KEY",
        "PI_CODING_AGENT_DIR",
    ],
    // No update check and no telemetry: a decision makes the one request that it is for.
    set: |_| vec![("PI_OFFLINE", "1".to_owned()), ("PI_TELEMETRY", "0".to_owned())],
    file: None,
    reader: read::pi::READER,
    streams: "json",
    hands: "off: no tools, extensions, skills, context files or session",
    waits: "by an extension that looop gives it",
    oldest: (0, 73, 0),
    tried: "0.87.1",
    first_class: true,
};

const CLAUDE: Row = Row {
    name: "claude",
    args: |setup| {
        let mut args = words(&["-p", "--output-format", "stream-json", "--verbose", "--tools", ""]);
        // The barest mode reads no login of the human; without a key in the environment that is all there is.
        args.extend(match setup.has_key {
            true => words(&["--bare"]),
            false => words(&["--safe-mode", "--disable-slash-commands"]),
        });
        args.extend(words(&["--strict-mcp-config", "--no-session-persistence"]));
        args.extend(["--system-prompt-file".to_owned(), shown(setup.system)]);
        option(&mut args, "--model", setup.model);
        option(&mut args, "--effort", setup.effort);
        args
    },
    keys: &[
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CONFIG_DIR",
    ],
    set: |_| {
        vec![
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
            // Ten times, its default, takes three minutes; the loop itself asks again later.
            ("CLAUDE_CODE_MAX_RETRIES", "2".to_owned()),
        ]
    },
    file: None,
    reader: read::claude::READER,
    streams: "stream-json",
    hands: "off: no tools, MCP servers, hooks, skills or memory",
    waits: "by OSC 7501, its terminal's status protocol",
    oldest: (2, 1, 300),
    tried: "2.1.329",
    first_class: true,
};

/// What codex can do besides answering, by the name of its switch.
const CODEX_FEATURES: [&str; 17] = [
    "shell_tool",
    "unified_exec",
    "multi_agent",
    "goals",
    "view_image",
    "image_generation",
    "apps",
    "plugins",
    "hooks",
    "memories",
    "skill_search",
    "tool_suggest",
    "browser_use",
    "computer_use",
    "code_mode_host",
    "shell_snapshot",
    "daemon_auto_start",
];

/// What codex would tell the model about this machine, and what it would look for on it.
const CODEX_OFF: [&str; 8] = [
    "web_search=\"disabled\"",
    "include_permissions_instructions=false",
    "include_apps_instructions=false",
    "include_environment_context=false",
    "include_collaboration_mode_instructions=false",
    "skills.include_instructions=false",
    "project_doc_max_bytes=0",
    "check_for_update_on_startup=false",
];

const CODEX: Row = Row {
    name: "codex",
    args: |setup| {
        let mut args = words(&["exec", "--json", "--color", "never", "--skip-git-repo-check", "--ephemeral"]);
        // The human's config may name MCP servers, which are hands. A login is still read.
        args.extend(words(&["--ignore-user-config", "--ignore-rules", "-s", "read-only"]));
        for feature in CODEX_FEATURES {
            args.extend(["-c".to_owned(), format!("features.{feature}=false")]);
        }
        for setting in CODEX_OFF {
            args.extend(["-c".to_owned(), setting.to_owned()]);
        }
        // A JSON string is a TOML string.
        let file = serde_json::Value::String(shown(setup.system));
        args.extend(["-c".to_owned(), format!("model_instructions_file={file}")]);
        option(&mut args, "-m", setup.model);
        if let Some(effort) = setup.effort {
            let effort = serde_json::Value::String(effort.to_owned());
            args.extend(["-c".to_owned(), format!("model_reasoning_effort={effort}")]);
        }
        args
    },
    keys: &["CODEX_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_HOME"],
    set: |_| Vec::new(),
    file: None,
    reader: read::codex::READER,
    streams: "--json",
    hands: "off but for one: it can ask the human in plan mode, which is off; in an empty folder, read-only sandbox",
    waits: "by OSC 7501, its terminal's status protocol",
    oldest: (0, 160, 0),
    tried: "0.169.0",
    first_class: true,
};

const GEMINI: Row = Row {
    name: "gemini",
    args: |setup| {
        let mut args = words(&["--output-format", "stream-json", "--approval-mode", "default"]);
        args.extend(words(&["-e", "none", "--allowed-mcp-server-names", "none", "--admin-policy"]));
        args.push(shown(setup.file));
        option(&mut args, "-m", setup.model);
        args
    },
    keys: &[
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GOOGLE_GEMINI_BASE_URL",
        "GOOGLE_CLOUD_PROJECT",
        "GOOGLE_GENAI_USE_VERTEXAI",
    ],
    set: |setup| {
        vec![
            ("GEMINI_SYSTEM_MD", shown(setup.system)),
            // It stands in an empty folder of looop's.
            ("GEMINI_CLI_TRUST_WORKSPACE", "true".to_owned()),
        ]
    },
    file: Some(("gemini-policy.toml", "[[rule]]\ntoolName = \"*\"\ndecision = \"deny\"\npriority = 999\n")),
    reader: read::gemini::READER,
    streams: "stream-json",
    hands: "off by a policy that denies every tool; no extensions or MCP servers",
    waits: "by its title",
    oldest: (0, 60, 0),
    tried: "0.61.0",
    first_class: false,
};

const OPENCODE: Row = Row {
    name: "opencode",
    args: |setup| {
        let mut args =
            words(&["run", "--format", "json", "--pure", "--agent", "looop", "--title", "decision"]);
        option(&mut args, "-m", setup.model);
        option(&mut args, "--variant", setup.effort);
        args
    },
    keys: &["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY", "OPENCODE_CONFIG"],
    set: |setup| {
        let agent = serde_json::json!({
            "mode": "primary",
            "prompt": format!("{{file:{}}}", shown(setup.system)),
            "tools": { "*": false },
            "permission": { "*": "deny" },
        });
        let config =
            serde_json::json!({ "agent": { "looop": agent }, "snapshot": false, "share": "disabled" });
        vec![
            ("OPENCODE_CONFIG_CONTENT", config.to_string()),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1".to_owned()),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1".to_owned()),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1".to_owned()),
            ("OPENCODE_DISABLE_DEFAULT_PLUGINS", "1".to_owned()),
        ]
    },
    file: None,
    reader: read::opencode::READER,
    streams: "json",
    hands: "off: an agent of looop's without tools, every permission denied, no plugins",
    waits: "by a plugin that looop gives it",
    oldest: (1, 18, 0),
    tried: "1.18.33",
    first_class: false,
};

const QWEN: Row = Row {
    name: "qwen",
    args: |setup| {
        let mut args = words(&["--output-format", "stream-json", "--bare", "--approval-mode", "default"]);
        args.extend(words(&[
            "--exclude-tools",
            "edit,write_file,notebook_edit,read_file,run_shell_command,get_goal,update_goal,agent,web_fetch",
        ]));
        option(&mut args, "-m", setup.model);
        args
    },
    keys: &["OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "DASHSCOPE_API_KEY"],
    set: |setup| vec![("QWEN_SYSTEM_MD", shown(setup.system))],
    file: None,
    reader: read::qwen::READER,
    streams: "stream-json",
    hands: "off by name: the tools of the version that was tried; a newer one may have more, which its default mode denies",
    waits: "by hooks that looop gives it",
    oldest: (0, 24, 0),
    tried: "0.24.4",
    first_class: false,
};
