//! Pure. Policy: whether a move is free, needs the user's approval, or is refused. The model has no influence on it.

use std::path::{Component, Path, PathBuf};

use super::decision::{Action, Move};
use super::settings::{FreeMove, PolicyRules};
use crate::rules::world::sensor::SensorHeader;
use crate::rules::{argument, user_side};

/// The decision of policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyDecision {
    /// The move may be made now.
    Free,
    /// The move needs the user's approval, for this reason.
    Waits(String),
    /// The move is refused, for this reason.
    Refused(String),
}

/// The facts that policy checks besides the move.
#[derive(Clone, Debug)]
pub struct PolicyFacts<'a> {
    /// What the user has allowed in advance.
    pub rules: &'a PolicyRules,
    /// True if the decider had read untrusted text.
    pub tainted: bool,
    /// The data dir, absolute.
    pub data_dir: &'a Path,
    /// Where a `run` would run, or the repository that a worker would clone, absolute and with symbolic links resolved.
    pub place: Option<&'a Path>,
    /// More directories that no move may touch: looop's config.
    pub protected: &'a [PathBuf],
    /// Resolves a path as the kernel would, with symbolic links, even if its end does not exist yet.
    pub resolve: fn(&Path) -> PathBuf,
    /// True if the file that the move replaces was truncated in the prompt, so that its end would be lost.
    pub was_truncated: bool,
    /// True if the process that a worker really starts would run in a full sandbox, and its checks too.
    pub sandbox: bool,
    /// True if the move writes a goal that a worker's report proposes.
    pub proposed: bool,
    /// True if a worker's check is a shell line instead of an entry in the config.
    pub free_check: bool,
    /// True if the repository that a worker would clone is listed: in the config, or by the user in its goal.
    pub repo_listed: bool,
    /// True if a worker costs money and the user has approved no paid worker yet.
    pub first_paid: bool,
}

/// Parts of the data dir that a command may neither name nor run in.
const PROTECTED: [&str; 14] = [
    ".git",
    "asks",
    "claims",
    "beat.json",
    "workers",
    "sensors",
    "PLAYBOOK.md",
    "schedules",
    "format",
    "reports",
    "cost",
    "paused.json",
    "pulse.json",
    // The state of fixes, and which files of projects the user trusts.
    "fix",
];

/// The maximum number of parts of one argument for which links are resolved.
const MAX_RESOLVED: usize = 2048;

pub fn judge(decided: &Move, facts: &PolicyFacts) -> PolicyDecision {
    let is_free = |own| facts.rules.free_moves.contains(&own) && !facts.tainted;
    if facts.was_truncated {
        return refused("its text was truncated in the prompt, and writing it back would lose the rest");
    }
    match &decided.action {
        Action::Run(run) => judge_run(run.sh.is_some(), &run.full_argv(), facts),
        Action::WriteSensor { script, .. } if asks_for_more(script) => {
            waits("its header asks for a credential or a path")
        }
        Action::WritePlaybook { .. } if is_free(FreeMove::WritePlaybook) => PolicyDecision::Free,
        Action::WriteSensor { .. } if is_free(FreeMove::WriteSensor) => PolicyDecision::Free,
        Action::WritePlaybook { .. } | Action::WriteSensor { .. } => {
            waits(&format!("`{}` changes how looop judges or what it runs", decided.action.tag()))
        }
        Action::WriteGoal { .. } if facts.proposed => waits("a worker proposed this goal"),
        Action::StartWorker { repo, grant, .. } => judge_start(repo.is_some(), grant, facts),
        Action::Noop {}
        | Action::WriteGoal { .. }
        | Action::ArchiveGoal { .. }
        | Action::Ask { .. }
        | Action::Schedule { .. }
        | Action::DropSchedule { .. }
        | Action::StopWorker { .. }
        | Action::TellWorker { .. } => PolicyDecision::Free,
    }
}

fn waits(why: &str) -> PolicyDecision {
    PolicyDecision::Waits(why.to_owned())
}

fn refused(why: &str) -> PolicyDecision {
    PolicyDecision::Refused(why.to_owned())
}

fn judge_start(has_repo: bool, grant: &[String], facts: &PolicyFacts) -> PolicyDecision {
    match facts.place {
        None if has_repo => return refused("its repo is not a directory"),
        Some(repo) if has_repo && is_inside(repo, facts) => return refused("its repo is looop's own"),
        _ => {}
    }
    let is_unlisted = has_repo && !facts.repo_listed;
    let reasons = [
        (!grant.is_empty(), "it grants a credential or a path"),
        (facts.free_check, "its check is a shell line, not an entry of `verify` in the config"),
        (is_unlisted && facts.tainted, "untrusted text was read and its repository is not listed in `repos`"),
        (is_unlisted, "its repository is not listed in `repos`"),
        (facts.first_paid, "it is the first worker of this profile that costs money"),
        // Without a full sandbox, a worker has the user's access.
        (!facts.sandbox, "no full sandbox is in force"),
    ];
    let first = reasons.into_iter().find(|(applies, _)| *applies);
    first.map_or(PolicyDecision::Free, |(_, why)| waits(why))
}

/// True for a sensor that asks for more than the default access, or whose header cannot be parsed.
fn asks_for_more(script: &str) -> bool {
    SensorHeader::parse(script.as_bytes())
        .map_or(true, |header| !header.env.is_empty() || !header.write.is_empty())
}

/// True for a path in the data dir or in the directory of looop's config.
fn is_inside(path: &Path, facts: &PolicyFacts) -> bool {
    path.starts_with(facts.data_dir) || facts.protected.iter().any(|dir| path.starts_with(dir))
}

fn judge_run(is_shell: bool, argv: &[String], facts: &PolicyFacts) -> PolicyDecision {
    let Some(cwd) = facts.place else { return refused("its cwd is not a directory") };
    if is_own(cwd, facts) {
        return refused(&format!("`{}` is looop's own", cwd.display()));
    }
    if argument::is_in_git_dir(cwd) {
        return refused(&format!("`{}` is part of a `.git` directory", cwd.display()));
    }
    if let Some(why) = argv.iter().find_map(|arg| refused_argument(arg, cwd, facts)) {
        return refused(&why);
    }
    if is_shell {
        return waits("a shell line always needs an approval");
    }
    let mut too_far = None;
    for rule in &facts.rules.allow {
        let here = match rule.cwd.as_slice() {
            [] => cwd == facts.data_dir,
            dirs => dirs.iter().any(|dir| dir == cwd),
        };
        if !here || (facts.tainted && rule.has_wildcard()) || !matches(&rule.argv, argv) {
            continue;
        }
        let filled = argv.iter().enumerate().filter(|(at, arg)| rule.argv.get(*at) != Some(*arg));
        match filled.map(|(_, arg)| arg).find_map(|arg| beyond_wildcard(arg, cwd, facts)) {
            Some(why) => too_far = Some(why),
            None => return PolicyDecision::Free,
        }
    }
    match too_far {
        Some(why) => waits(&why),
        None if facts.tainted => waits("untrusted text was read and no exact rule allows it"),
        None => waits("no rule allows it"),
    }
}

/// Says why a command with this argument is refused regardless of rules: the argument names looop's own files, or a
/// part of a git directory, whose files git would execute. Checks the written path and the resolved one, because of
/// links.
fn refused_argument(arg: &str, cwd: &Path, facts: &PolicyFacts) -> Option<String> {
    let parts = argument::parts(arg);
    let written = parts.iter().map(|part| lexical(&cwd.join(part)));
    let followed = parts.iter().take(MAX_RESOLVED).map(|part| (facts.resolve)(&cwd.join(part)));
    let named: Vec<PathBuf> = written.chain(followed).collect();
    if named.iter().any(|path| is_own(path, facts)) {
        return Some(format!("{arg:?} names a file that is looop's own"));
    }
    let is_git = named.iter().any(|path| argument::is_in_git_dir(path));
    let why = "names a `.git` directory or a file in one; name the folder of the repository in `cwd`";
    (is_git && !argument::leaves_alone(arg)).then(|| format!("{arg:?} {why}"))
}

/// Why a wildcard does not free an argument: it leads out, or it names a path that executes on the user's side, as it is
/// written or as it is followed. looop cannot tell whether the command reads or writes it.
fn beyond_wildcard(arg: &str, cwd: &Path, facts: &PolicyFacts) -> Option<String> {
    if leads_out(arg, cwd, facts) {
        return Some(format!("{arg:?} reaches further than a wildcard frees"));
    }
    if argument::leaves_alone(arg) {
        return None;
    }
    let parts = argument::parts(arg);
    let mut named = parts.iter().flat_map(|part| [PathBuf::from(part), (facts.resolve)(&cwd.join(part))]);
    let reason = named.find_map(|path| user_side::reason_at(&path, &[cwd]))?;
    Some(format!("{arg:?} names a path that executes on your side ({reason}), which no wildcard frees"))
}

/// True for an argument of which a part leads out of where a command runs. One with more parts than are followed does,
/// and so does one that the program may expand.
fn leads_out(arg: &str, cwd: &Path, facts: &PolicyFacts) -> bool {
    let parts = argument::parts(arg);
    parts.len() > MAX_RESOLVED
        || argument::is_expanded(arg)
        || parts.iter().any(|part| is_far(&(facts.resolve)(&cwd.join(part)), cwd, facts))
}

/// True for looop's own files: parts of the data dir, and its config.
fn is_own(path: &Path, facts: &PolicyFacts) -> bool {
    let part = path.strip_prefix(facts.data_dir).ok().and_then(|inside| inside.iter().next()?.to_str());
    part.is_some_and(is_own_part) || facts.protected.iter().any(|dir| path.starts_with(dir))
}

/// True for the name of an entry of the data dir that belongs to looop.
pub fn is_own_part(name: &str) -> bool {
    PROTECTED.contains(&name) || name.starts_with("journal") || name.ends_with(".lock")
}

/// True for a path outside the working directory, and for a directory that contains looop's own files: a copy of a
/// whole directory into it could replace them without naming them.
fn is_far(path: &Path, cwd: &Path, facts: &PolicyFacts) -> bool {
    let holds_own =
        facts.data_dir.starts_with(path) || facts.protected.iter().any(|dir| dir.starts_with(path));
    holds_own || !(path.starts_with(cwd) || path.starts_with(facts.data_dir))
}

/// Resolves `.` and `..` in a path without the file system.
pub fn lexical(path: &Path) -> PathBuf {
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

/// True if an argument vector matches a pattern: `*` is one argument, `**` at the end is the rest.
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
