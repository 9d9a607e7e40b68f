//! Pure. Paths that execute on the user's side: files that git, an editor, a shell, a package manager, a coding agent
//! or CI runs or obeys automatically, when the user opens, enters, commits or pushes a project. The only list of them
//! is `seed/user-side.txt`.
//!
//! looop never copies a change of such a path into the user's files silently. Build files (`Makefile`, `build.rs`,
//! `package.json`, `setup.py`) are not in the list: they run only when the user runs the build, as all code of the
//! project.
//!
//! Names are compared as the most lenient file system would: without case, in NFKC form, without invisible characters,
//! without dots and blanks at their ends, up to a `:`, with `\` as `/`, and by short names like `GIT~1`.

use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use super::argument;
pub use super::beat::scope::UserSidePath;
use super::text::{is_hidden, visible};

/// How many paths one text names; the others are counted.
const NAMED: usize = 20;
/// The longest target of a link that is examined, in bytes.
const MAX_TARGET_BYTES: usize = 4096;

/// The mode of a symbolic link in git.
pub const LINK: u32 = 0o120_000;
/// The mode of a submodule in git.
pub const GITLINK: u32 = 0o160_000;

/// One path in which two trees differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeDifference {
    /// The path, from the top, with `/`; any bytes.
    pub path: PathBuf,
    /// The old mode and blob; `None` if the path is new.
    pub old: Option<(u32, String)>,
    /// The new mode and blob; `None` if the path was removed.
    pub new: Option<(u32, String)>,
}

/// The list: groups of patterns, each after its reason.
const LIST: &str = include_str!("../../seed/user-side.txt");

/// Returns why a change of this path executes on the user's side; `None` for normal code.
pub fn runs_on_user_side(path: &str) -> Option<&'static str> {
    let parts: Vec<String> =
        path.split(['/', '\\']).map(folded).filter(|part| !matches!(part.as_str(), "" | ".")).collect();
    let mut reason = "";
    for line in LIST.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("    ") {
            None => reason = line,
            Some(pattern) if holds(pattern, &parts) => return Some(reason),
            Some(_) => {}
        }
    }
    None
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
/// submodule, or as a file that becomes executable. `target` is that of a new link; `None` if it is too long.
pub fn reason_of(change: &TreeDifference, target: Option<&[u8]>) -> Option<&'static str> {
    let path = change.path.to_string_lossy();
    if let Some(reason) = runs_on_user_side(&path) {
        return Some(reason);
    }
    let [old, new] = [&change.old, &change.new].map(|side| side.as_ref().map(|(mode, _)| *mode));
    match new {
        Some(LINK) if target.is_none_or(|target| leads_out(&path, target)) => {
            Some("a link that leads out of the project")
        }
        Some(GITLINK) => Some("a submodule: git checks out another repository there"),
        _ if old == Some(GITLINK) => Some("a submodule: git had another repository there"),
        Some(mode) if is_executable(mode) && !old.is_some_and(is_executable) => {
            Some("a file that becomes executable")
        }
        _ => None,
    }
}

/// Formats the paths with their reasons as one line that is safe to show.
pub fn words(paths: &[UserSidePath]) -> String {
    let shown = |one: &UserSidePath| format!("{} ({})", visible(&one.path, false), one.reason);
    let mut named: Vec<String> = paths.iter().take(NAMED).map(shown).collect();
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

/// Returns true if a pattern of the list holds for the parts of a path.
fn holds(pattern: &str, parts: &[String]) -> bool {
    let Some(name) = parts.last() else { return false };
    if let Some(start) = pattern.strip_suffix('*') {
        name.starts_with(start) || is_short_of(start, name)
    } else if let Some(end) = pattern.strip_prefix('*') {
        name.ends_with(end)
    } else if let Some(folder) = pattern.strip_suffix('/') {
        parts.iter().any(|part| matches_name(folder, part))
    } else if let Some((first, second)) = pattern.split_once('/') {
        parts.windows(2).any(|two| matches_name(first, &two[0]) && matches_name(second, &two[1]))
    } else {
        matches_name(pattern, name)
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
    let plain: String = part.nfkc().filter(|c| !is_hidden(*c)).flat_map(char::to_lowercase).nfkc().collect();
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

#[cfg(test)]
#[path = "user_side_tests.rs"]
mod tests;
