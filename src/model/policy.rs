//! Pure. What a move may do without a human: free, waits for a yes, or refused. Decided outside the model.

use std::path::{Component, Path, PathBuf};

use super::argument;
use super::decision::{Action, Move};
use super::sensor::Header;
use super::settings::Rules;
use super::user_side;

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
    /// Where a `run` would run, or what a worker would get a clone of, absolute and with symbolic links resolved.
    pub place: Option<&'a Path>,
    /// Directories besides the data dir's own that nothing may touch: looop's config.
    pub protected: &'a [PathBuf],
    /// A path as the kernel would follow it, symbolic links and all, whether or not its end is there yet.
    pub resolve: fn(&Path) -> PathBuf,
    /// True when the file that the move replaces was cut in the prompt, so that its end would be lost.
    pub was_cut: bool,
    /// True when the process that a worker really starts would run in a full sandbox, and so would its checks.
    pub boxed: bool,
    /// True when the move writes the goal that a worker's report proposes.
    pub proposed: bool,
    /// True when a worker's check is a shell line and no entry of the config.
    pub free_check: bool,
    /// True when the repository that a worker would get a clone of is listed: in the config, or in its goal by the
    /// user.
    pub repo_listed: bool,
    /// True when a worker costs money and the user has approved none that does.
    pub first_paid: bool,
}

/// Parts of the data dir that no command may name or stand in.
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
    // What a fix keeps, and which files of projects a person trusts.
    "fix",
];

/// The most parts of one argument of which links are followed.
const MAX_RESOLVED: usize = 2048;

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
        Action::WriteSensor { script, .. } if asks_for_more(script) => {
            Verdict::Waits("its header asks for a credential or a path".to_owned())
        }
        Action::WritePlaybook { .. } | Action::WriteSensor { .. } => {
            if facts.rules.free_moves.iter().any(|free| free == tag) && !facts.tainted {
                return Verdict::Free;
            }
            Verdict::Waits(format!("`{tag}` changes how looop judges or what it runs"))
        }
        Action::WriteGoal { .. } if facts.proposed => {
            Verdict::Waits("a worker proposed this goal".to_owned())
        }
        Action::StartWorker { repo: Some(_), .. } if facts.place.is_none() => {
            Verdict::Refused("its repo is not a directory".to_owned())
        }
        Action::StartWorker { repo: Some(_), .. }
            if facts.place.is_some_and(|repo| is_inside(repo, facts)) =>
        {
            Verdict::Refused("its repo is looop's own".to_owned())
        }
        Action::StartWorker { grant, .. } if !grant.is_empty() => {
            Verdict::Waits("it grants a credential or a path".to_owned())
        }
        Action::StartWorker { .. } if facts.free_check => {
            Verdict::Waits("its check is no entry of `verify` in the config but a shell line".to_owned())
        }
        Action::StartWorker { repo: Some(_), .. } if !facts.repo_listed => Verdict::Waits(
            match facts.tainted {
                true => "untrusted text was read and its repository is not listed in `repos`",
                false => "its repository is not listed in `repos`",
            }
            .to_owned(),
        ),
        Action::StartWorker { .. } if facts.first_paid => {
            Verdict::Waits("it is the first worker of this profile that costs money".to_owned())
        }
        // Without a whole sandbox in force a worker is as free as the human.
        Action::StartWorker { .. } if facts.boxed => Verdict::Free,
        Action::StartWorker { .. } => Verdict::Waits("no whole sandbox is in force".to_owned()),
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

/// True for a sensor that is to get more than any other gets, or whose header cannot be told.
fn asks_for_more(script: &str) -> bool {
    Header::parse(script.as_bytes()).map_or(true, |header| !header.env.is_empty() || !header.write.is_empty())
}

/// True for a place in the data dir or beside looop's config.
fn is_inside(path: &Path, facts: &Facts) -> bool {
    path.starts_with(facts.data_dir) || facts.protected.iter().any(|dir| path.starts_with(dir))
}

fn judge_run(is_shell: bool, argv: &[String], facts: &Facts) -> Verdict {
    let Some(cwd) = facts.place else {
        return Verdict::Refused("its cwd is not a directory".to_owned());
    };
    if is_own(cwd, facts) {
        return Verdict::Refused(format!("`{}` is looop's own", cwd.display()));
    }
    if argument::is_in_git_dir(cwd) {
        return Verdict::Refused(format!("`{}` is part of a `.git` directory", cwd.display()));
    }
    for arg in argv {
        if let Some(why) = refused_argument(arg, cwd, facts) {
            return Verdict::Refused(why);
        }
    }
    if is_shell {
        return Verdict::Waits("a shell line always needs a yes".to_owned());
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
            None => return Verdict::Free,
        }
    }
    match too_far {
        Some(why) => Verdict::Waits(why),
        None if facts.tainted => {
            Verdict::Waits("untrusted text was read and no exact rule allows it".to_owned())
        }
        None => Verdict::Waits("no rule allows it".to_owned()),
    }
}

/// Why a command with this argument is not made whatever a rule says: the argument names what is looop's own, or a part
/// of a git directory, from where git would run it. Both as it is written and as it is followed: a link may lead there.
fn refused_argument(arg: &str, cwd: &Path, facts: &Facts) -> Option<String> {
    let parts = argument::parts(arg);
    let written = parts.iter().map(|part| lexical(&cwd.join(part)));
    let followed = parts.iter().take(MAX_RESOLVED).map(|part| (facts.resolve)(&cwd.join(part)));
    let named: Vec<PathBuf> = written.chain(followed).collect();
    if named.iter().any(|path| is_own(path, facts)) {
        return Some(format!("{arg:?} names a file that is looop's own"));
    }
    let is_git = named.iter().any(|path| argument::is_in_git_dir(path));
    (is_git && !argument::leaves_alone(arg)).then(|| {
        format!(
            "{arg:?} names a `.git` directory or a file in one; name the folder of the repository by `cwd`"
        )
    })
}

/// Why a wildcard does not free an argument: it leads out, or it names a path that executes on the user's side, as it is
/// written or as it is followed. looop cannot tell whether the command reads or writes it.
fn beyond_wildcard(arg: &str, cwd: &Path, facts: &Facts) -> Option<String> {
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
fn leads_out(arg: &str, cwd: &Path, facts: &Facts) -> bool {
    let parts = argument::parts(arg);
    parts.len() > MAX_RESOLVED
        || argument::is_expanded(arg)
        || parts.iter().any(|part| is_far(&(facts.resolve)(&cwd.join(part)), cwd, facts))
}

/// True for what is looop's own: parts of the data dir, and its config.
fn is_own(path: &Path, facts: &Facts) -> bool {
    let part = path.strip_prefix(facts.data_dir).ok().and_then(|inside| inside.iter().next()?.to_str());
    part.is_some_and(is_own_part) || facts.protected.iter().any(|dir| path.starts_with(dir))
}

/// True for the name of an entry of the data dir that is looop's own.
pub fn is_own_part(name: &str) -> bool {
    PROTECTED.contains(&name) || name.starts_with("journal") || name.ends_with(".lock")
}

/// True for a place outside of where a command runs, and for one that holds what is looop's own: a copy of a whole
/// directory into it needs no name of what it replaces.
fn is_far(path: &Path, cwd: &Path, facts: &Facts) -> bool {
    let holds_own =
        facts.data_dir.starts_with(path) || facts.protected.iter().any(|dir| dir.starts_with(path));
    holds_own || !(path.starts_with(cwd) || path.starts_with(facts.data_dir))
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
