//! What agents that looop knows keep in the home directory, by what it is to a box.

use std::path::{Path, PathBuf};

/// The places of one agent, below the home directory.
struct Places {
    /// The agent's program.
    agent: &'static str,
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
        dirs: &[".codex"],
        read: &[".codex/config.toml", ".codex/AGENTS.md", ".codex/prompts", ".codex/rules", ".codex/skills"],
        login: &[".codex/auth.json"],
        copied: &[],
    },
    Places {
        agent: "gemini",
        dirs: &[".gemini"],
        read: &[".gemini/settings.json", ".gemini/GEMINI.md", ".gemini/commands", ".gemini/extensions"],
        login: &[".gemini/oauth_creds.json", ".gemini/google_accounts.json"],
        copied: &[".gemini/trustedFolders.json"],
    },
    Places {
        agent: "opencode",
        dirs: &[".config/opencode", ".local/share/opencode"],
        read: &[".config/opencode", ".opencode/bin"],
        login: &[".local/share/opencode/auth.json"],
        copied: &[],
    },
    Places {
        agent: "qwen",
        dirs: &[".qwen"],
        read: &[".qwen/settings.json", ".qwen/QWEN.md", ".qwen/commands", ".qwen/extensions"],
        login: &[".qwen/oauth_creds.json"],
        copied: &[".qwen/trustedFolders.json"],
    },
];

/// What of an agent's places is there.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) dirs: Vec<PathBuf>,
    pub(super) read: Vec<PathBuf>,
    pub(super) login: Vec<PathBuf>,
    /// Relative to the home directory.
    pub(super) copied: Vec<PathBuf>,
}

/// The places of the agent that goes by one of these names; nothing for one that is not known.
pub(super) fn places(names: &[&str], home: &Path) -> Found {
    let Some(agent) = AGENTS.iter().find(|known| names.contains(&known.agent)) else {
        return Found::default();
    };
    let there =
        |paths: &[&str]| paths.iter().map(|path| home.join(path)).filter(|path| path.exists()).collect();
    Found {
        dirs: there(agent.dirs),
        read: there(agent.read),
        login: there(agent.login),
        copied: agent.copied.iter().map(PathBuf::from).filter(|path| home.join(path).is_file()).collect(),
    }
}
