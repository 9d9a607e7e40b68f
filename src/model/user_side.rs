//! Pure. The only list of paths that execute on the user's side: files that git, an editor, a shell, a package manager,
//! a coding agent or CI runs or obeys automatically, when the user opens, enters, commits or pushes a project.
//!
//! looop never copies a change of such a path into the user's files silently. Build files (`Makefile`, `build.rs`,
//! `package.json`, `setup.py`) are not in the list: they run only when the user runs the build, as all code of the
//! project.
//!
//! Names are compared as the most lenient file system would: without case, in NFKC form, without invisible characters,
//! without dots and blanks at their ends, up to a `:`, with `\` as `/`, and by short names like `GIT~1`.

use std::path::Path;

use unicode_normalization::UnicodeNormalization;

use super::argument;
pub use super::scope::UserSidePath;

/// How many paths one text names; the others are counted.
const NAMED: usize = 20;
/// The longest target of a link that is examined, in bytes.
const MAX_TARGET_BYTES: usize = 4096;

/// The mode of a symbolic link in git.
const LINK: u32 = 0o120_000;
/// The mode of a submodule in git.
const GITLINK: u32 = 0o160_000;

/// One changed path of a tree, as git compares two trees.
#[derive(Clone, Debug, Default)]
pub struct TreeChange<'a> {
    /// The path, relative to the root of the project.
    pub path: &'a str,
    pub old_mode: Option<u32>,
    pub new_mode: Option<u32>,
    /// The target of a new link; absent if it is too long.
    pub target: Option<&'a [u8]>,
}

/// Names with the same reason.
struct NameGroup {
    reason: &'static str,
    /// Folders, with everything in them.
    folders: &'static [&'static str],
    /// Two consecutive parts of a path, with everything below.
    pairs: &'static [(&'static str, &'static str)],
    /// Names of files.
    files: &'static [&'static str],
    /// Prefixes of file names.
    starts: &'static [&'static str],
    /// Suffixes of file names.
    ends: &'static [&'static str],
}

const NAME_GROUPS: [NameGroup; 13] = [
    NameGroup {
        reason: "git runs or obeys it",
        folders: &[".git", ".githooks", ".git-hooks"],
        pairs: &[(".config", "git")],
        files: &[".gitattributes", ".gitmodules", ".gitconfig", ".lfsconfig", ".git-blame-ignore-revs"],
        starts: &[".gitconfig"],
        ends: &[],
    },
    NameGroup {
        reason: "git hooks run it at the next commit",
        folders: &[".husky", ".lefthook", ".overcommit", ".captainhook", ".pre-commit"],
        pairs: &[],
        files: &[
            ".overcommit.yml",
            "captainhook.json",
            "simple-git-hooks.js",
            "simple-git-hooks.cjs",
            "simple-git-hooks.json",
        ],
        starts: &[
            ".huskyrc",
            "lefthook.",
            ".lefthook.",
            "lefthook-local.",
            ".lefthook-local.",
            ".pre-commit-config.",
            ".pre-commit-hooks.",
            ".simple-git-hooks.",
            ".lintstagedrc",
            "lint-staged.config.",
        ],
        ends: &[],
    },
    NameGroup {
        reason: "the shell runs it when you enter the folder or open a shell",
        folders: &[".direnv"],
        pairs: &[(".config", "fish"), (".config", "direnv")],
        files: &[
            ".envrc",
            ".direnvrc",
            "direnv.toml",
            ".autoenv",
            ".autoenv.zsh",
            ".autoenv_leave.zsh",
            ".bashrc",
            ".bash_profile",
            ".bash_login",
            ".bash_logout",
            ".bash_aliases",
            ".profile",
            ".zshrc",
            ".zshenv",
            ".zprofile",
            ".zlogin",
            ".zlogout",
            ".kshrc",
            ".inputrc",
        ],
        starts: &[".envrc."],
        ends: &[],
    },
    NameGroup {
        reason: "tools read variables from it, such as the addresses of models",
        folders: &[],
        pairs: &[],
        files: &[".env", ".env.local"],
        starts: &[],
        ends: &[],
    },
    NameGroup {
        reason: "an editor runs or obeys it when you open the project",
        folders: &[".vscode", ".vs", ".idea", ".run", ".fleet", ".zed", ".helix", ".nvim", ".vim"],
        pairs: &[],
        files: &[
            ".nvimrc",
            ".nvim.lua",
            ".exrc",
            ".vimrc",
            ".gvimrc",
            ".lvimrc",
            "_vimrc",
            "_exrc",
            ".dir-locals.el",
            ".dir-locals-2.el",
            ".kakrc",
        ],
        starts: &[".local.vimrc"],
        ends: &[".code-workspace", ".sublime-project", ".sublime-workspace", ".iml"],
    },
    NameGroup {
        reason: "a coding agent runs or obeys it",
        folders: &[
            ".claude",
            ".cursor",
            ".codex",
            ".gemini",
            ".qwen",
            ".opencode",
            ".pi",
            ".windsurf",
            ".clinerules",
            ".cline",
            ".roo",
            ".continue",
            ".kiro",
            ".junie",
            ".augment",
            ".amp",
            ".goose",
            ".factory",
            ".trae",
            ".aider",
            ".agents",
            ".agent",
        ],
        pairs: &[
            (".github", "copilot-instructions.md"),
            (".github", "instructions"),
            (".github", "prompts"),
            (".github", "agents"),
            (".github", "chatmodes"),
        ],
        files: &[
            "claude.md",
            "claude.local.md",
            "agents.md",
            "agents.override.md",
            "agent.md",
            "gemini.md",
            "qwen.md",
            ".cursorrules",
            ".windsurfrules",
            ".roomodes",
            ".goosehints",
            ".mcp.json",
            "mcp.json",
            "opencode.json",
            "opencode.jsonc",
        ],
        starts: &[".roorules", ".aider.", ".clinerules"],
        ends: &[],
    },
    NameGroup {
        reason: "a package manager obeys it or runs it",
        folders: &[".yarn", ".bundle", ".pnpm"],
        pairs: &[(".config", "pip")],
        files: &[
            ".npmrc",
            ".pnp.cjs",
            ".pnp.js",
            ".pnp.loader.mjs",
            ".pnpmfile.cjs",
            ".pnpmfile.mjs",
            "pnpmfile.js",
            "pnpmfile.cjs",
            "bunfig.toml",
            ".pypirc",
            "pip.conf",
            "uv.toml",
            ".condarc",
            ".gemrc",
            "nuget.config",
            ".bazelrc",
            ".bazeliskrc",
            ".bazelversion",
        ],
        starts: &[".yarnrc", ".bazelrc."],
        ends: &[],
    },
    NameGroup {
        reason: "a version manager runs it or chooses programs by it",
        folders: &[".mise", "mise", ".rtx"],
        pairs: &[(".config", "mise")],
        files: &[
            ".tool-versions",
            ".asdfrc",
            "rust-toolchain",
            "rust-toolchain.toml",
            ".sdkmanrc",
            "devbox.json",
            "devenv.nix",
            "devenv.yaml",
        ],
        starts: &[".mise.", "mise.", ".rtx."],
        ends: &[],
    },
    NameGroup {
        reason: "cargo obeys it in every command",
        folders: &[".cargo"],
        pairs: &[],
        files: &[],
        starts: &[],
        ends: &[],
    },
    NameGroup {
        reason: "an editor or a cloud workspace builds a container from it",
        folders: &[".devcontainer", ".idx"],
        pairs: &[],
        files: &[".devcontainer.json", ".gitpod.yml", ".gitpod.yaml", ".gitpod.dockerfile"],
        starts: &[],
        ends: &[],
    },
    NameGroup {
        reason: "CI runs it with the project's rights after a push",
        folders: &[".circleci", ".buildkite", ".woodpecker", ".tekton", ".semaphore", ".azure-pipelines"],
        pairs: &[
            (".github", "workflows"),
            (".github", "actions"),
            (".forgejo", "workflows"),
            (".gitea", "workflows"),
            (".gitlab", "ci"),
        ],
        files: &[
            "jenkinsfile",
            ".travis.yml",
            ".drone.yml",
            ".cirrus.yml",
            "appveyor.yml",
            ".appveyor.yml",
            "azure-pipelines.yml",
            "bitbucket-pipelines.yml",
            "cloudbuild.yaml",
            "cloudbuild.yml",
        ],
        starts: &[".gitlab-ci.", ".woodpecker.", "jenkinsfile."],
        ends: &[],
    },
    NameGroup {
        reason: "an interpreter or a debugger runs it at its start",
        folders: &[],
        pairs: &[],
        files: &[
            "sitecustomize.py",
            "usercustomize.py",
            ".pdbrc",
            ".irbrc",
            ".pryrc",
            ".gdbinit",
            ".lldbinit",
            ".rprofile",
            "desktop.ini",
            "autorun.inf",
        ],
        starts: &[],
        ends: &[".pth"],
    },
    NameGroup {
        reason: "looop runs commands from it",
        folders: &[],
        pairs: &[],
        files: &["leanfile.toml", "looop.json"],
        starts: &[],
        ends: &[],
    },
];

/// Returns why a change of this path executes on the user's side; `None` for normal code.
pub fn runs_on_user_side(path: &str) -> Option<&'static str> {
    let parts: Vec<String> =
        path.split(['/', '\\']).map(folded).filter(|part| !matches!(part.as_str(), "" | ".")).collect();
    NAME_GROUPS.iter().find(|group| group.holds(&parts)).map(|group| group.reason)
}

/// The paths of the list that the arguments of a command name, each once. The first argument is the program. A path is
/// judged from the folder of `bases` that holds it, so that the name of a folder above a project says nothing.
pub fn named_by(argv: &[String], bases: &[&Path]) -> Vec<UserSidePath> {
    let mut found: Vec<UserSidePath> = Vec::new();
    for arg in argv.iter().skip(1).filter(|arg| !argument::leaves_alone(arg)) {
        for part in argument::parts(arg) {
            let Some(reason) = reason_at(Path::new(&part), bases) else { continue };
            // The same path with more text of the argument around it says no more.
            let is_listed = found.iter().any(|one| one.reason == reason && part.contains(&one.path));
            if !is_listed {
                found.retain(|one| one.reason != reason || !one.path.contains(&part));
                found.push(UserSidePath { path: part, reason: reason.to_owned() });
            }
        }
    }
    found
}

/// Why a path executes on the user's side, judged from the folder of `bases` that holds it.
pub fn reason_at(path: &Path, bases: &[&Path]) -> Option<&'static str> {
    let below = bases.iter().filter_map(|base| path.strip_prefix(base).ok());
    let below = below.min_by_key(|below| below.components().count()).unwrap_or(path);
    runs_on_user_side(&below.to_string_lossy())
}

/// Why one change of a tree executes on the user's side: by its path, as a link that leads out of the project, as a
/// submodule, or as a file that becomes executable.
pub fn reason_of(change: &TreeChange) -> Option<&'static str> {
    if let Some(reason) = runs_on_user_side(change.path) {
        return Some(reason);
    }
    match change.new_mode {
        Some(LINK) if change.target.is_none_or(|target| leads_out(change.path, target)) => {
            Some("a link that leads out of the project")
        }
        Some(GITLINK) => Some("a submodule: git checks out another repository there"),
        _ if change.old_mode == Some(GITLINK) => Some("a submodule: git had another repository there"),
        Some(mode) if is_executable(mode) && !change.old_mode.is_some_and(is_executable) => {
            Some("a file that becomes executable")
        }
        _ => None,
    }
}

/// Formats the paths with their reasons as one line that is safe to show.
pub fn words(paths: &[UserSidePath]) -> String {
    let shown = |text: &str| super::text::visible(text, false);
    let mut named: Vec<String> =
        paths.iter().take(NAMED).map(|one| format!("{} ({})", shown(&one.path), one.reason)).collect();
    if paths.len() > NAMED {
        named.push(format!("and {} more", paths.len() - NAMED));
    }
    named.join(", ")
}

fn is_executable(mode: u32) -> bool {
    mode & 0o170_000 == 0o100_000 && mode & 0o111 != 0
}

/// True for a link that leads out of the project or into its `.git`: an absolute target, more `..` than there are
/// folders
/// above the link, or a `..` after a name, which may itself be a link.
fn leads_out(path: &str, target: &[u8]) -> bool {
    let Ok(target) = std::str::from_utf8(target) else { return true };
    if target.is_empty()
        || target.len() > MAX_TARGET_BYTES
        || target.starts_with(['/', '\\', '~'])
        || target.contains(':')
    {
        return true;
    }
    let mut above = path.split('/').filter(|part| !part.is_empty()).count().saturating_sub(1);
    let mut is_below = false;
    for part in target.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." if is_below || above == 0 => return true,
            ".." => above -= 1,
            _ if matches_name(".git", &folded(part)) => return true,
            _ => is_below = true,
        }
    }
    false
}

impl NameGroup {
    fn holds(&self, parts: &[String]) -> bool {
        let Some(name) = parts.last() else { return false };
        self.folders.iter().any(|folder| parts.iter().any(|part| matches_name(folder, part)))
            || self.pairs.iter().any(|(first, second)| {
                parts.windows(2).any(|two| matches_name(first, &two[0]) && matches_name(second, &two[1]))
            })
            || self.files.iter().any(|file| matches_name(file, name))
            || self.starts.iter().any(|start| name.starts_with(start) || is_short_of(start, name))
            || self.ends.iter().any(|end| name.ends_with(end))
    }
}

fn matches_name(known: &str, part: &str) -> bool {
    known == part || is_short_of(known, part)
}

/// True for a name like `git~1`, by which a Windows file system may find a longer name.
fn is_short_of(known: &str, part: &str) -> bool {
    let Some((stem, rest)) = part.split_once('~') else { return false };
    let is_counted = rest.starts_with(|c: char| c.is_ascii_digit());
    let base = match known.rsplit_once('.') {
        Some((base, _)) if !base.is_empty() => base,
        _ => known,
    };
    let short: String = base.chars().filter(|c| !matches!(c, '.' | ' ')).take(6).collect();
    is_counted && stem.len() >= 2 && short == stem
}

/// Normalizes a part of a path as the most lenient file system does.
fn folded(part: &str) -> String {
    let plain: String = part.nfkc().filter(|c| !is_unseen(*c)).flat_map(char::to_lowercase).nfkc().collect();
    // A compatibility form may contain a separator; the name is the part after it.
    let plain = plain.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = match plain.find(':') {
        Some(at) if at > 0 => &plain[..at],
        _ => plain,
    };
    let kept = plain.trim_end_matches(['.', ' ']);
    // `.` and `..` consist of dots only.
    if kept.is_empty() { plain.to_owned() } else { kept.to_owned() }
}

/// True for characters that a file system may ignore, and a reader cannot see.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
#[path = "user_side_tests.rs"]
mod tests;
