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

mod agent;
mod attempt;
mod compress;
mod context;
mod ctx;
mod edits;
mod endpoint;
mod goal;
mod guard;
mod land;
pub mod leanfile;
mod plan;
mod sources;
mod stuck;
mod task;
mod testing;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

pub use context::attempt_line;
pub use land::Landed;

use crate::agents::http::Http;
use crate::os::clock;
use crate::os::process::tree;
use crate::os::signal::Cancel;
use crate::rules::beat::settings::Settings;
use crate::rules::fault::{ErrorKind, Fault};
use crate::rules::fix::{FixSession, TaskState, TaskStatus};
use crate::rules::name::Name;
use crate::store::layout::Layout;
use crate::store::{Denied, file, json_file, lock};
use crate::vcs::clone::{self, Git, Source, Trees};
use ctx::{FixContext, MARK};
use leanfile::{Leanfile, Task};
use task::TaskRun;

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
}

/// A progress report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something happened. Parts of the text may come from an agent.
    Line(Tone, String),
    /// A new step starts, and takes some time.
    Step(String),
    /// The step still runs. Reported about ten times a second.
    Heartbeat,
}

/// The dependencies of a fix.
pub struct FixDeps<'a> {
    pub layout: &'a Layout,
    /// The settings from the config.
    pub settings: &'a Settings,
    /// The endpoints from the config.
    pub endpoints: &'a Endpoints,
    /// Interruption by the user.
    pub cancel: &'a Cancel,
    /// The supervisor's socket, if a worker runs the fix.
    pub socket: Option<PathBuf>,
    /// The receiver of progress reports.
    pub report: &'a dyn Fn(&Progress),
    /// If true, report [`Progress::Heartbeat`].
    pub live: bool,
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
}

/// Endpoints without tools of their own, by the names of their runners.
pub type Endpoints = BTreeMap<String, Http>;

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
pub fn run(deps: &FixDeps, request: &FixRequest) -> Result<Finished> {
    let git = Git::find(&deps.settings.path, 10 * 60_000, deps.cancel)?;
    let (project, sub, mut source) = project_of(&git, &request.root, request.inside.as_deref())?;
    if let Some(source) = source.as_mut().filter(|_| deps.socket.is_some()) {
        // A worker's clone borrows objects only as looop arranged.
        source.borrows = false;
    }
    let id = id_of(&project, &request.key);
    let dir = deps.layout.fix(&id);
    file::make_dir(dir.path())?;
    let busy = || Fault {
        kind: ErrorKind::Busy,
        ..Fault::failed(format!("could not start the fix: {id} runs already"))
    };
    let _held = lock::within(&dir.lock(), 500).map_err(|error| error.context(busy()))?;
    // An agent or a test of a killed run may still be alive, and would write into the resumed run.
    tree::end_all(|| tree::marked(MARK, &[dir.path().to_string_lossy().into_owned()]));
    let trees = Trees::open(&git, &dir.attempts(), source.as_ref())?;
    let objects = clone::stores(trees.dir().join(".git/objects"));
    drop(git);
    let agents = agent::chain(request, deps)?;
    let ctx =
        FixContext { deps, dir, objects, request, id, project, sub, source, trees, at: RefCell::default() };
    if let Some(words) = idle_keys(&request.leanfile.lean) {
        ctx.say(Tone::Warn, format!("{words} of [lean] has no effect: {} is called", agents[0].name));
    }
    for task in &request.tasks {
        testing::check(&ctx, task)?;
    }
    let mut session = resumed(&ctx)?;
    for (at, task) in request.tasks.iter().enumerate() {
        let mut run = TaskRun { ctx: &ctx, agents: &agents, task, session: &mut session, at };
        if !run.state().status.is_good() {
            goal::work(&mut run)?;
        }
        if !run.state().status.is_good() {
            break;
        }
    }
    session.landing = true;
    ctx.save(&session)?;
    let landed = land::land(&ctx, &session)?;
    session.end = Some(landed.words());
    ctx.save(&session)?;
    ctx.remove()?;
    Ok(Finished { run: session, landed, id: ctx.id })
}

/// The keys of `[lean]` that have no effect, because the leanfile names no agent.
fn idle_keys(lean: &leanfile::Lean) -> Option<String> {
    let set = lean.values().into_iter().filter_map(|(key, value)| value.is_some().then_some(key));
    let set: Vec<&str> = set.collect();
    (!lean.names_agent() && !set.is_empty()).then(|| set.join(", "))
}

/// Finds the top of the project, the tasks' directory in it, and its repository.
fn project_of(git: &Git, root: &Path, inside: Option<&Path>) -> Result<(PathBuf, PathBuf, Option<Source>)> {
    let real = std::fs::canonicalize(root).map_err(|error| {
        let fault = Fault::usage(format!("could not open the project `{}`: {error}", root.display()));
        fault.hint("set its directory in `project_root` of [defaults], or with --repo")
    })?;
    let refused = |why: &str| Fault::usage(format!("could not use the project `{}`: {why}", root.display()));
    if !real.is_dir() {
        return Err(refused("it is not a directory").into());
    }
    if let Some(project) = inside.filter(|project| !real.starts_with(project)) {
        return Err(refused(&format!("it leads out of `{}`", project.display())).into());
    }
    let Some(top) = clone::top_of(&real) else { return Ok((real, PathBuf::new(), None)) };
    let sub = real.strip_prefix(&top).map(Path::to_owned).unwrap_or_default();
    match clone::inspect(git, &top) {
        Ok(source) => Ok((top, sub, Some(source))),
        // Without a commit the clone starts empty, and no history can be lost.
        Err(Denied::Refused(refused)) if refused.is_unborn => Ok((top, sub, None)),
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
    let text = text.to_lowercase();
    let words: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let short: String = words.join("-").chars().take(48).collect();
    Name::parse_new(short.trim_end_matches('-')).unwrap_or_else(|_| Name::joined("task", other))
}

/// The interrupted run, if it had the same request, else a new one.
fn resumed(ctx: &FixContext) -> Result<FixSession> {
    let FixRequest { tasks, root, branch, fresh, .. } = ctx.request;
    let digest = blake3::hash(format!("{tasks:?}\n{root:?}\n{branch}").as_bytes()).to_hex().to_string();
    if let Some(run) = json_file::read_json::<FixSession>(&ctx.dir.run())?
        && !fresh
        && run.end.is_none()
        && run.asked == digest
        && run.tasks.len() == tasks.len()
    {
        let done = run.tasks.iter().filter(|task| task.status.is_good()).count();
        let at = run.under_way.as_ref().map_or(String::new(), |under| format!(", at attempt {}", under.n));
        ctx.say(Tone::Warn, format!("resuming the interrupted run: {done} tasks are done{at}"));
        return Ok(run);
    }
    begin(ctx, digest)
}

fn begin(ctx: &FixContext, digest: String) -> Result<FixSession> {
    let git = ctx.git()?;
    let base_tree = ctx.project_tree()?;
    let head = ctx.source.as_ref().map(|source| source.head.clone());
    let base = match &head {
        Some(head) if ctx.trees.tree_of(&git, head)? == base_tree => head.clone(),
        head => ctx.trees.commit(&git, &base_tree, head.as_deref(), "The files as they were")?,
    };
    ctx.trees.begin_at(&git, &base)?;
    let mut taken = BTreeSet::new();
    let tasks = ctx.request.tasks.iter().map(|task| {
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
        ..FixSession::default()
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
