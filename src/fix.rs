//! The fix loop: an agent edits a private clone, tests decide, and an agent that repeats itself is stopped.
//!
//! ```text
//! for each task:   test -> summarize -> diagnosis -> agent -> test    one attempt, one ledger line, one git ref
//!                  rule over the ledger: continue | new plan | roll back | ask the user
//! at the end:      the state that passed goes into the project's files, or onto a branch
//! ```
//!
//! # Guarantees
//! - Until the end the project stays unchanged, except for objects and refs below `refs/looop/` of its repository.
//! - `run.json` is replaced before and after each step: a fix that was killed resumes at the same attempt, with
//!   the agent's edits until then.
//! - At the end a file is written only if it has not changed since the start. If one file has changed, none is
//!   written.
//!
//! # Caveats
//! - Without a sandbox an agent can write wherever the user can. Its changes outside of the clone are not undone.
//! - The clone lacks the files that git ignores.

pub mod agent;
mod attempt;
mod bench;
mod call;
mod compress;
mod context;
mod ctx;
mod edits;
mod endpoint;
mod goal;
mod guard;
mod hands;
pub mod health;
mod land;
pub mod leanfile;
mod plan;
mod retrieve;
mod sources;
mod stuck;
mod testing;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

pub use context::attempt_line;
pub use land::Landed;

use crate::agents::http::Http;
use crate::model::fault::{ErrorKind, Fault};
use crate::model::fix::{FixSession, TaskState, TaskStatus};
use crate::model::name::Name;
use crate::model::settings::Settings;
use crate::store::layout::Layout;
use crate::store::{file, fixes, lock};
use crate::sys::clock;
use crate::sys::process::tree;
use crate::sys::signal::Cancel;
use crate::vcs::clone::{self, Git, InspectError, Source, Trees, Unclonable};
use ctx::FixContext;
use leanfile::{Leanfile, Task};

/// The variable that marks all processes of a fix.
const MARK: &str = "LOOOP_FIX";

/// Severity of a progress line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Information.
    Plain,
    /// Success.
    Good,
    /// Warning.
    Warn,
    /// Failure.
    Bad,
    /// A step in progress: reported about ten times a second without text while an agent or a test runs, and
    /// with text when a new step starts.
    Busy,
}

/// One line of progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub tone: Tone,
    /// The line; parts of it may come from an agent.
    pub text: String,
}

/// A request for a fix.
#[derive(Clone, Debug)]
pub struct FixRequest {
    /// The merged leanfile.
    pub leanfile: Leanfile,
    /// The chosen tasks.
    pub tasks: Vec<Task>,
    /// The absolute path of `project_root`.
    pub root: PathBuf,
    /// The project in which `root` must lie, if a file of that project names `root`.
    pub inside: Option<PathBuf>,
    /// The base directory of a relative `binary`.
    pub near: PathBuf,
    /// The key that tells this fix from other fixes of the project: the leanfiles' paths, or the text of an issue.
    pub key: String,
    /// The runner that the user chose.
    pub leaner: Option<String>,
    /// If true, leave the result on a branch.
    pub branch: bool,
    /// If true, call the agent even if the tests pass.
    pub force: bool,
    /// If true, start over instead of resuming an interrupted run.
    pub fresh: bool,
    /// The supervisor's socket, if a worker runs the fix.
    pub socket: Option<PathBuf>,
}

/// Endpoints without tools of their own, by the names of their runners.
pub type Endpoints = BTreeMap<String, Http>;

/// The dependencies of a fix.
pub struct Means<'a> {
    pub layout: &'a Layout,
    /// The settings from the config.
    pub settings: &'a Settings,
    /// The endpoints from the config.
    pub endpoints: &'a Endpoints,
    /// Interruption by the user.
    pub cancel: &'a Cancel,
    /// If true, report [`Tone::Busy`].
    pub live: bool,
}

/// The result of a fix.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The run, with the status of each task.
    pub run: FixSession,
    /// Where the result is.
    pub landed: Landed,
    /// The id of the fix.
    pub id: Name,
}

/// Works on all tasks, one after the other, and applies the result to the project.
///
/// # Errors
/// A usage error if a required program or setting is missing; [`ErrorKind::Busy`] if the same fix runs already; a
/// failure if one of looop's own files or processes fails, or if the user interrupts. A failed task is not an
/// error.
pub fn run(means: &Means, asked: &FixRequest, say: &mut dyn FnMut(&Progress)) -> Result<Finished> {
    let git = Git::find(&means.settings.path, 10 * 60_000, means.cancel)?;
    let (project, sub, mut source) = project_of(&git, &asked.root, asked.inside.as_deref())?;
    if let Some(source) = source.as_mut().filter(|_| asked.socket.is_some()) {
        // A worker's clone borrows objects only as looop arranged.
        source.borrows = false;
    }
    let id = id_of(&project, &asked.key);
    let dir = means.layout.fix(&id);
    file::make_dir(dir.path())?;
    let busy = || Fault {
        kind: ErrorKind::Busy,
        what: format!("could not start the fix: {id} runs already"),
        hints: vec![],
    };
    let _held = lock::within(&dir.lock(), 500).map_err(|error| error.context(busy()))?;
    // An agent or a test of a killed run may still be alive, and would write into the resumed run.
    tree::end_marked(MARK, &[dir.path().to_string_lossy().into_owned()]);
    let trees = Trees::open(&git, &dir.attempts(), source.as_ref())?;
    let objects = clone::stores(trees.dir().join(".git/objects"));
    drop(git);
    let lean = &asked.leanfile.lean;
    let agents = agent::chain(lean, &asked.near, asked.leaner.as_deref(), means.settings, means.endpoints)?;
    let ctx = FixContext {
        layout: means.layout,
        settings: means.settings,
        cancel: means.cancel,
        leanfile: &asked.leanfile,
        id,
        dir,
        project,
        sub,
        source,
        trees,
        objects,
        agents,
        socket: asked.socket.clone(),
        live: means.live,
        at: RefCell::default(),
        deltas: RefCell::default(),
        say: RefCell::new(say),
    };
    if let Some(words) = idle_keys(lean) {
        ctx.say(Tone::Warn, format!("{words} of [lean] has no effect: {} is called", ctx.agents[0].name));
    }
    for task in &asked.tasks {
        ctx.tester().check(task, &ctx.project.join(&ctx.sub))?;
    }
    let mut run = resumed(&ctx, asked)?;
    for at in 0..run.tasks.len() {
        if run.tasks[at].status.is_good() {
            continue;
        }
        goal::work(&ctx, &mut run, at, asked)?;
        if !run.tasks[at].status.is_good() {
            break;
        }
    }
    run.landing = true;
    ctx.save(&run)?;
    let landed = land::land(&ctx, &run, asked.branch)?;
    run.end = Some(landed.words());
    ctx.save(&run)?;
    ctx.remove()?;
    Ok(Finished { run, landed, id: ctx.id })
}

/// The keys of `[lean]` that have no effect, because the leanfile names no agent.
fn idle_keys(lean: &leanfile::Lean) -> Option<String> {
    let named = lean.binary.is_some() || (lean.base_url.is_some() && lean.model.is_some());
    let all = [
        ("base_url", &lean.base_url),
        ("api_key", &lean.api_key),
        ("model", &lean.model),
        ("approval_mode", &lean.approval_mode),
        ("auth_type", &lean.auth_type),
    ];
    let set: Vec<&str> = all.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| *key).collect();
    (!named && !set.is_empty()).then(|| set.join(", "))
}

/// Finds the top of the project, the tasks' directory in it, and its repository.
fn project_of(git: &Git, root: &Path, inside: Option<&Path>) -> Result<(PathBuf, PathBuf, Option<Source>)> {
    let real = std::fs::canonicalize(root).map_err(|error| {
        let fault = Fault::usage(format!("could not open the project `{}`: {error}", root.display()));
        fault.hint("set its directory in `project_root` of [defaults], or with --repo")
    })?;
    if !real.is_dir() {
        return Err(Fault::usage(format!(
            "could not use the project `{}`: it is not a directory",
            root.display()
        ))
        .into());
    }
    if let Some(project) = inside.filter(|project| !real.starts_with(project)) {
        let (shown, project) = (root.display(), project.display());
        return Err(Fault::usage(format!(
            "could not use the project `{shown}`: it leads out of `{project}`"
        ))
        .into());
    }
    let Some(top) = clone::top_of(&real) else { return Ok((real, PathBuf::new(), None)) };
    let sub = real.strip_prefix(&top).map(Path::to_owned).unwrap_or_default();
    match clone::inspect(git, &top) {
        Ok(source) => Ok((top, sub, Some(source))),
        // Without a commit the clone starts empty, and no history can be lost.
        Err(InspectError::Refused(_, Unclonable::NoCommit)) => Ok((top, sub, None)),
        Err(error) => Err(error.during("clone the project")),
    }
}

fn id_of(project: &Path, key: &str) -> Name {
    let digest = blake3::hash(format!("{}\0{key}", project.display()).as_bytes()).to_hex();
    let name = project.file_name().unwrap_or_default().to_string_lossy();
    slug(&format!("{}-{}", slug(&name, "project"), &digest[..8]), "fix")
}

/// Turns a text into a name; `other` is used if no character is left.
fn slug(text: &str, other: &str) -> Name {
    let mut out = String::new();
    for c in text.chars() {
        match c.to_lowercase().next() {
            Some(c) if c.is_ascii_alphanumeric() => out.push(c),
            _ if out.ends_with('-') || out.is_empty() => {}
            _ => out.push('-'),
        }
    }
    let short: String = out.chars().take(48).collect();
    Name::parse_new(short.trim_matches('-')).unwrap_or_else(|_| Name::joined("task", other))
}

/// The interrupted run, if it had the same request, else a new one.
fn resumed(ctx: &FixContext, asked: &FixRequest) -> Result<FixSession> {
    let digest = digest_of(asked);
    if let Some(run) = fixes::run(&ctx.dir)?
        && !asked.fresh
        && run.end.is_none()
        && run.asked == digest
        && run.tasks.len() == asked.tasks.len()
    {
        let done = run.tasks.iter().filter(|task| task.status.is_good()).count();
        let at = run.under_way.as_ref().map_or(String::new(), |under| format!(", at attempt {}", under.n));
        ctx.say(Tone::Warn, format!("resuming the interrupted run: {done} tasks are done{at}"));
        return Ok(run);
    }
    begin(ctx, asked, digest)
}

fn digest_of(asked: &FixRequest) -> String {
    let parts = format!("{:?}\n{:?}\n{}", asked.tasks, asked.root, asked.branch);
    blake3::hash(parts.as_bytes()).to_hex().to_string()
}

fn begin(ctx: &FixContext, asked: &FixRequest, digest: String) -> Result<FixSession> {
    let git = ctx.git()?;
    let base_tree = ctx.project_tree()?;
    let head = ctx.source.as_ref().map(|source| source.head.clone());
    let is_clean = match &head {
        Some(head) => ctx.trees.tree_of(&git, head)? == base_tree,
        None => false,
    };
    let base = match &head {
        Some(head) if is_clean => head.clone(),
        head => ctx.trees.commit(&git, &base_tree, head.as_deref(), "The files as they were")?,
    };
    ctx.trees.begin_at(&git, &base)?;
    let mut taken = BTreeSet::new();
    let tasks = asked.tasks.iter().map(|task| {
        let first = slug(&task.name, "task");
        let mut goal = first.clone();
        for nth in 2.. {
            if taken.insert(goal.clone()) {
                break;
            }
            goal = slug(&format!("{first}-{nth}"), "task");
        }
        TaskState {
            goal,
            title: task.name.clone(),
            status: TaskStatus::Waiting,
            first: 0,
            before: None,
            note: String::new(),
            took_ms: 0,
            tokens: 0,
            local_tokens: 0,
            estimated: false,
        }
    });
    let run = FixSession {
        project: ctx.project.to_string_lossy().into_owned(),
        asked: digest,
        began_ms: clock::now().unix_ms,
        head,
        base,
        tree: base_tree.clone(),
        base_tree,
        tasks: tasks.collect(),
        under_way: None,
        looped: None,
        landing: false,
        end: None,
    };
    ctx.remove()?;
    ctx.save(&run)?;
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_became_a_link_since_the_leanfile_was_read_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let top = tmp.path().canonicalize().unwrap();
        let (project, outside) = (top.join("project"), top.join("outside"));
        std::fs::create_dir(&project).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, project.join("root")).unwrap();
        let cancel = Cancel::never().unwrap();
        let git = Git::find("/usr/local/bin:/usr/bin:/bin", 60_000, &cancel).unwrap();
        let root = project.join("root");
        let error = project_of(&git, &root, Some(&project)).unwrap_err().to_string();
        assert!(error.contains("it leads out of"), "{error}");
        assert_eq!(project_of(&git, &root, None).unwrap().0, outside, "a person may name it");
    }
}
