//! Files of known agents in the home directory, grouped by the access that a sandbox gives to them.

use std::path::{Path, PathBuf};

/// The places of one agent, below the home directory.
struct Places {
    /// The program of the agent.
    agent: &'static str,
    /// The variable with which the user moves the directory named after it.
    elsewhere: Option<(&'static str, &'static str)>,
    /// Its directories. Their other contents stay outside the sandbox, because they belong to other sessions.
    dirs: &'static [&'static str],
    /// Configuration of the user. It may run commands, so the sandbox may only read it.
    read: &'static [&'static str],
    /// Its login, which the agent renews in place.
    login: &'static [&'static str],
    /// Files that the agent replaces as a whole: the sandbox gets a copy.
    copied: &'static [&'static str],
}

const AGENTS: [Places; 6] = [
    Places {
        agent: "claude",
        elsewhere: Some(("CLAUDE_CONFIG_DIR", ".claude")),
        dirs: &[".claude"],
        read: &[
            ".claude/settings.json",
            ".claude/settings.local.json",
            ".claude/CLAUDE.md",
            ".claude/agents",
            ".claude/commands",
            ".claude/hooks",
            ".claude/skills",
            ".claude/plugins",
            ".claude/rules",
            ".claude/output-styles",
            ".claude/keybindings.json",
            ".claude/local",
            ".local/share/claude",
        ],
        login: &[".claude/.credentials.json"],
        copied: &[".claude.json"],
    },
    Places {
        agent: "pi",
        elsewhere: Some(("PI_CODING_AGENT_DIR", ".pi/agent")),
        dirs: &[".pi"],
        read: &[
            ".pi/agent/settings.json",
            ".pi/agent/models.json",
            ".pi/agent/keybindings.json",
            ".pi/agent/AGENTS.md",
            ".pi/agent/SYSTEM.md",
            ".pi/agent/APPEND_SYSTEM.md",
            ".pi/agent/extensions",
            ".pi/agent/skills",
            ".pi/agent/prompts",
            ".pi/agent/themes",
            ".pi/agent/tools",
            ".pi/agent/bin",
            ".pi/agent/npm",
            ".pi/agent/git",
        ],
        login: &[".pi/agent/auth.json"],
        copied: &[],
    },
    Places {
        agent: "codex",
        elsewhere: Some(("CODEX_HOME", ".codex")),
        dirs: &[".codex"],
        read: &[".codex/AGENTS.md", ".codex/prompts", ".codex/rules", ".codex/skills"],
        login: &[".codex/auth.json"],
        copied: &[".codex/config.toml"],
    },
    Places {
        agent: "gemini",
        elsewhere: None,
        dirs: &[".gemini"],
        read: &[".gemini/settings.json", ".gemini/GEMINI.md", ".gemini/commands", ".gemini/extensions"],
        login: &[".gemini/oauth_creds.json", ".gemini/google_accounts.json"],
        copied: &[".gemini/trustedFolders.json"],
    },
    Places {
        agent: "opencode",
        elsewhere: None,
        dirs: &[".config/opencode", ".local/share/opencode"],
        read: &[".config/opencode", ".opencode/bin"],
        login: &[".local/share/opencode/auth.json"],
        copied: &[],
    },
    Places {
        agent: "qwen",
        elsewhere: None,
        dirs: &[".qwen"],
        read: &[".qwen/settings.json", ".qwen/QWEN.md", ".qwen/commands", ".qwen/extensions"],
        login: &[".qwen/oauth_creds.json"],
        copied: &[".qwen/trustedFolders.json"],
    },
];

/// An agent directory that the user moved.
pub(super) struct Elsewhere {
    /// The variable that names the directory.
    pub(super) var: &'static str,
    pub(super) place: PathBuf,
    /// The default directory that it replaces, below the home directory.
    pub(super) dir: &'static str,
}

/// The places of an agent that exist on this machine.
#[derive(Default)]
pub(super) struct Found {
    pub(super) dirs: Vec<PathBuf>,
    pub(super) read: Vec<PathBuf>,
    pub(super) login: Vec<PathBuf>,
    /// Each file with the place of its copy, below the home directory.
    pub(super) copied: Vec<(PathBuf, PathBuf)>,
    pub(super) elsewhere: Option<Elsewhere>,
}

/// Finds the places of the agent with one of these names, given these variables; empty for an unknown agent.
pub(super) fn places(names: &[&str], home: &Path, env: &[(String, String)]) -> Found {
    let Some(agent) = AGENTS.iter().find(|known| names.contains(&known.agent)) else {
        return Found::default();
    };
    let elsewhere = agent.elsewhere.and_then(|(var, dir)| {
        let (_, value) = env.iter().find(|(key, value)| key == var && !value.is_empty())?;
        Some(Elsewhere { var, place: PathBuf::from(value), dir })
    });
    let at = |path: &str| match &elsewhere {
        Some(Elsewhere { place, dir, .. }) if let Ok(rest) = Path::new(path).strip_prefix(dir) => {
            place.join(rest)
        }
        _ => home.join(path),
    };
    let there = |paths: &[&str]| paths.iter().map(|path| at(path)).filter(|path| path.exists()).collect();
    let copied = agent.copied.iter().map(|path| match &elsewhere {
        Some(Elsewhere { dir, .. }) if Path::new(path).starts_with(dir) => (at(path), PathBuf::from(path)),
        // Files beside the default directory are inside the directory that the variable names.
        Some(Elsewhere { place, dir, .. }) => (place.join(path), Path::new(dir).join(path)),
        None => (home.join(path), PathBuf::from(path)),
    });
    let mut dirs: Vec<PathBuf> = there(agent.dirs);
    dirs.extend(elsewhere.iter().map(|elsewhere| elsewhere.place.clone()));
    Found {
        dirs,
        read: there(agent.read),
        login: there(agent.login),
        copied: copied.filter(|(file, _)| file.is_file()).collect(),
        elsewhere,
    }
}
