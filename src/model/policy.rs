//! Pure. What a move may do without a human: free, waits for a yes, or refused. Decided outside the model.

use std::path::{Component, Path, PathBuf};

use super::decision::{Action, Move};
use super::settings::Rules;

/// The answer of policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be made now.
    Free,
    /// A human must say yes to it first; why.
    Waits(String),
    /// It is not made; why.
    Refused(String),
}

/// What policy looks at besides the move.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What the human allowed ahead of time.
    pub rules: &'a Rules,
    /// True when text of strangers was in front of the decider.
    pub tainted: bool,
    /// The data dir, absolute.
    pub data_dir: &'a Path,
    /// Where a `run` would run, absolute and with symbolic links resolved.
    pub cwd: Option<&'a Path>,
    /// Directories besides the data dir's own that nothing may touch: looop's config.
    pub protected: &'a [PathBuf],
    /// True when the file that the move replaces was cut in the prompt, so that its end would be lost.
    pub was_cut: bool,
}

/// Parts of the data dir that no command may name or stand in.
const PROTECTED: [&str; 5] = [".git", "asks", "claims", "beat.json", "workers"];

/// Judges a move.
pub fn judge(decided: &Move, facts: &Facts) -> Verdict {
    let tag = decided.action.tag();
    if facts.was_cut {
        return Verdict::Refused(
            "its text was cut in the prompt, and writing it back would lose the rest".to_owned(),
        );
    }
    match &decided.action {
        Action::Run(run) => judge_run(run.sh.is_some(), &run.full_argv(), facts),
        Action::WritePlaybook { .. } | Action::WriteSensor { .. } => {
            if facts.rules.free_moves.iter().any(|free| free == tag) && !facts.tainted {
                return Verdict::Free;
            }
            Verdict::Waits(format!("`{tag}` changes how looop judges or what it runs"))
        }
        Action::StartWorker { grant, .. } if !grant.is_empty() => {
            Verdict::Waits("it grants a credential or a path".to_owned())
        }
        // Without a sandbox in force a worker is as free as the human; `Fleet` says when one is.
        Action::StartWorker { .. } => Verdict::Waits("no sandbox is in force".to_owned()),
        Action::Noop {}
        | Action::WriteGoal { .. }
        | Action::ArchiveGoal { .. }
        | Action::Ask { .. }
        | Action::Schedule { .. }
        | Action::DropSchedule { .. }
        | Action::StopWorker { .. }
        | Action::TellWorker { .. } => Verdict::Free,
    }
}

fn judge_run(is_shell: bool, argv: &[String], facts: &Facts) -> Verdict {
    let Some(cwd) = facts.cwd else {
        return Verdict::Refused("its cwd is not a directory".to_owned());
    };
    let protected = |path: &Path| {
        let inside = PROTECTED.iter().any(|part| path.starts_with(facts.data_dir.join(part)));
        inside || facts.protected.iter().any(|dir| path.starts_with(dir))
    };
    if protected(cwd) {
        return Verdict::Refused(format!("`{}` is looop's own", cwd.display()));
    }
    if let Some(arg) = argv.iter().find(|arg| paths_in(arg).any(|path| protected(&lexical(&cwd.join(path)))))
    {
        return Verdict::Refused(format!("{arg:?} names a file that is looop's own"));
    }
    if is_shell {
        return Verdict::Waits("a shell line always needs a yes".to_owned());
    }
    let rule = facts.rules.allow.iter().find(|rule| {
        let here = match rule.cwd.as_slice() {
            [] => cwd == facts.data_dir,
            dirs => dirs.iter().any(|dir| dir == cwd),
        };
        here && (!facts.tainted || !rule.has_wildcard()) && matches(&rule.argv, argv)
    });
    match rule {
        Some(_) => Verdict::Free,
        None if facts.tainted => {
            Verdict::Waits("untrusted text was read and no exact rule allows it".to_owned())
        }
        None => Verdict::Waits("no rule allows it".to_owned()),
    }
}

/// The parts of an argument that may be a path: the whole, and what follows a `=`.
fn paths_in(arg: &str) -> impl Iterator<Item = &str> {
    std::iter::once(arg).chain(arg.split_once('=').map(|(_, value)| value))
}

/// A path with `.` and `..` worked out as text.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// True when an argument vector fits a pattern: `*` is one argument, `**` at the end is the rest.
pub fn matches(pattern: &[String], argv: &[String]) -> bool {
    match (pattern.split_first(), argv.split_first()) {
        (None, None) => true,
        (Some((first, [])), _) if first == "**" => true,
        (Some((first, pattern)), Some((arg, argv))) => {
            (first == "*" || first == arg) && matches(pattern, argv)
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
