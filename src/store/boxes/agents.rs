//! What agents that looop knows keep in the home directory, by what it is to a box.

use std::path::{Path, PathBuf};

/// The places of one agent, below the home directory.
struct Places {
    /// The agent's program.
    agent: &'static str,
    /// The variable by which its human keeps the directory after it elsewhere.
    elsewhere: Option<(&'static str, &'static str)>,
    /// Its directories. What else is in them stays outside: other sessions are nobody's business.
    dirs: &'static [&'static str],
    /// What the human set up. It may run commands, so it is to be read alone.
    read: &'static [&'static str],
    /// Its login, which it renews in place.
    login: &'static [&'static str],
    /// Files that it replaces as a whole: it gets a copy.
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

/// Where an agent's human keeps its directory.
pub(super) struct Elsewhere {
    /// The variable that says so.
    pub(super) var: &'static str,
    /// The directory.
    pub(super) place: PathBuf,
    /// What it stands for, below the home directory.
    pub(super) dir: &'static str,
}

/// What of an agent's places is there.
#[derive(Default)]
pub(super) struct Found {
    pub(super) dirs: Vec<PathBuf>,
    pub(super) read: Vec<PathBuf>,
    pub(super) login: Vec<PathBuf>,
    /// Each with where its copy belongs, below the home directory.
    pub(super) copied: Vec<(PathBuf, PathBuf)>,
    pub(super) elsewhere: Option<Elsewhere>,
}

/// The places of the agent that goes by one of these names, for one with these variables; nothing for one that is not
/// known.
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
        // What lies beside its directory lies in it then.
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
