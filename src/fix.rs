//! The fix loop: an agent edits a private clone, tests decide, and an agent that repeats itself is stopped.
//!
//! ```text
//! for each task:   test -> compress -> diagnosis -> agent -> test     one attempt, one ledger line, one git ref
//!                  rule over the ledger: go on | think again | roll back | ask the human
//! at the end:      the state that passed goes into the project's files, or onto a branch
//! ```
//!
//! # Guarantees
//! - Until the end nothing of the project changes but objects and refs below `refs/looop/` of its repository.
//! - `run.json` is replaced before and after each step: a fix that was killed goes on at the same attempt, and what the
//!   agent had edited until then is there.
//! - At the end a file is written only while it is what it was at the beginning. If one is not, none is written.
//!
//! # Caveats
//! - Without a box an agent can write where the human can. What it does outside of the clone is not undone.
//! - What git ignores is not in the clone.

pub mod agent;
mod attempt;
mod bench;
mod call;
mod compress;
mod context;
mod desk;
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
mod stream;
mod stuck;
mod testing;
pub mod trials;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

pub use context::attempt_line;
pub use land::Landed;

use crate::model::fault::{Fault, Kind};
use crate::model::fix::{Run, Status, TaskState};
use crate::model::name::Name;
use crate::model::settings::Settings;
use crate::runner::http::Http;
use crate::store::layout::Layout;
use crate::store::{file, fixes, lock};
use crate::sys::signal::Cancel;
use crate::sys::{clock, kin};
use crate::worker::clone::{self, Git, Source, Trees};
use desk::Desk;
use leanfile::{Leanfile, Task};

/// The variable by which what a fix has started is known.
const MARK: &str = "LOOOP_FIX";

/// How something sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It is so.
    Plain,
    /// It is well.
    Good,
    /// It wants attention.
    Warn,
    /// It failed.
    Bad,
    /// It goes on: told about ten times a second while an agent or a test runs, without words; with words as something
    /// else begins.
    Busy,
}

/// One line of progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How it sounds.
    pub tone: Tone,
    /// The line; parts of it may be words of an agent.
    pub text: String,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The leanfile, merged.
    pub leanfile: Leanfile,
    /// The tasks that are chosen.
    pub tasks: Vec<Task>,
    /// Where `project_root` is, absolute.
    pub root: PathBuf,
    /// The project that `root` must lie in, where a file of that project names it.
    pub inside: Option<PathBuf>,
    /// Where a relative `binary` begins.
    pub near: PathBuf,
    /// What tells this fix from another one of the same project: the leanfiles' paths, or the text of an issue.
    pub key: String,
    /// The runner that the human chose.
    pub leaner: Option<String>,
    /// True: the result is left on a branch.
    pub branch: bool,
    /// True: the agent is called although the tests pass.
    pub force: bool,
    /// True: a run that was interrupted is not gone on with.
    pub fresh: bool,
    /// The supervisor's socket, where a worker does this.
    pub socket: Option<PathBuf>,
}

/// Models that can be asked and have no hands, by the names of their runners.
pub type Endpoints = BTreeMap<String, Http>;

/// What a fix is done with.
pub struct Means<'a> {
    /// The data dir.
    pub layout: &'a Layout,
    /// What the config decides.
    pub settings: &'a Settings,
    /// Endpoints of the config.
    pub endpoints: &'a Endpoints,
    /// Interruption by a human.
    pub cancel: &'a Cancel,
    /// True: [`Tone::Busy`] is wanted.
    pub live: bool,
}

/// How a fix ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Where each task stands.
    pub run: Run,
    /// Where the result is.
    pub landed: Landed,
    /// The fix's name.
    pub id: Name,
}

/// Works on all tasks, one after the other, and brings the result into the project.
///
/// # Errors
/// A usage error when something that is needed is not there; [`Kind::Busy`] when the same fix runs already; a failure
/// when a file or process of looop's own cannot be had, or a human interrupts. A task that fails is no error.
pub fn run(means: &Means, asked: &Asked, say: &mut dyn FnMut(&Progress)) -> Result<Finished> {
    let git = Git::find(&means.settings.path, 10 * 60_000, means.cancel)?;
    let (project, sub, mut source) = project_of(&git, &asked.root, asked.inside.as_deref())?;
    if let Some(source) = source.as_mut().filter(|_| asked.socket.is_some()) {
        // A worker's clone borrows what looop let it borrow.
        source.borrows = false;
    }
    let id = id_of(&project, &asked.key);
    let dir = means.layout.fix(&id);
    file::make_dir(dir.path())?;
    let busy = || Fault {
        kind: Kind::Busy,
        what: format!("could not begin: the fix {id} runs already"),
        hints: vec![],
    };
    let _held = lock::within(&dir.lock(), 500).map_err(|error| error.context(busy()))?;
    // An agent or test of a killed run may have outlived it, and would write into what is gone on with.
    kin::end_marked(MARK, &[dir.path().to_string_lossy().into_owned()]);
    let trees = Trees::open(&git, &dir.attempts(), source.as_ref())?;
    let objects = clone::stores(trees.dir().join(".git/objects"));
    drop(git);
    let lean = &asked.leanfile.lean;
    let agents = agent::chain(lean, &asked.near, asked.leaner.as_deref(), means.settings, means.endpoints)?;
    let desk = Desk {
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
        desk.say(Tone::Warn, format!("{words} of [lean] has no effect: {} is called", desk.agents[0].name));
    }
    for task in &asked.tasks {
        desk.tester().check(task, &desk.project.join(&desk.sub))?;
    }
    let mut run = resumed(&desk, asked)?;
    for at in 0..run.tasks.len() {
        if run.tasks[at].status.is_good() {
            continue;
        }
        goal::work(&desk, &mut run, at, asked)?;
        if !run.tasks[at].status.is_good() {
            break;
        }
    }
    run.landing = true;
    desk.save(&run)?;
    let landed = land::land(&desk, &run, asked.branch)?;
    run.end = Some(landed.words());
    desk.save(&run)?;
    desk.remove()?;
    Ok(Finished { run, landed, id: desk.id })
}

/// What a leanfile says of an agent that it does not name.
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

/// The top of the project, where in it the tasks begin, and its repository.
fn project_of(git: &Git, root: &Path, inside: Option<&Path>) -> Result<(PathBuf, PathBuf, Option<Source>)> {
    let real = std::fs::canonicalize(root).map_err(|error| {
        let fault = Fault::usage(format!("could not open the project `{}`: {error}", root.display()));
        fault.hint("name its directory in `project_root` of [defaults], or with --repo")
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
    match clone::inspect(git, &top)? {
        Ok(source) => Ok((top, sub, Some(source))),
        // There is nothing to build on, and nothing that could be lost.
        Err(why) if why.contains("has no commit yet") => Ok((top, sub, None)),
        Err(why) => Err(Fault::failed(format!("could not clone the project: {why}")).into()),
    }
}

fn id_of(project: &Path, key: &str) -> Name {
    let digest = blake3::hash(format!("{}\0{key}", project.display()).as_bytes()).to_hex();
    let name = project.file_name().unwrap_or_default().to_string_lossy();
    slug(&format!("{}-{}", slug(&name, "project"), &digest[..8]), "fix")
}

/// A text as a name; the second word where nothing is left of it.
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

/// The run that was interrupted, if it asked for the same, else a new one.
fn resumed(desk: &Desk, asked: &Asked) -> Result<Run> {
    let digest = digest_of(asked);
    if let Some(run) = fixes::run(&desk.dir)?
        && !asked.fresh
        && run.end.is_none()
        && run.asked == digest
        && run.tasks.len() == asked.tasks.len()
    {
        let done = run.tasks.iter().filter(|task| task.status.is_good()).count();
        let at = run.under_way.as_ref().map_or(String::new(), |under| format!(", at attempt {}", under.n));
        desk.say(
            Tone::Warn,
            format!("going on with the run that was interrupted: {done} tasks are done{at}"),
        );
        return Ok(run);
    }
    begin(desk, asked, digest)
}

fn digest_of(asked: &Asked) -> String {
    let parts = format!("{:?}\n{:?}\n{}", asked.tasks, asked.root, asked.branch);
    blake3::hash(parts.as_bytes()).to_hex().to_string()
}

fn begin(desk: &Desk, asked: &Asked, digest: String) -> Result<Run> {
    let git = desk.git()?;
    let base_tree = desk.project_tree()?;
    let head = desk.source.as_ref().map(|source| source.head.clone());
    let is_clean = match &head {
        Some(head) => desk.trees.tree_of(&git, head)? == base_tree,
        None => false,
    };
    let base = match &head {
        Some(head) if is_clean => head.clone(),
        head => desk.trees.commit(&git, &base_tree, head.as_deref(), "The files as they were")?,
    };
    desk.trees.begin_at(&git, &base)?;
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
            status: Status::Waiting,
            first: 0,
            before: None,
            note: String::new(),
            took_ms: 0,
            tokens: 0,
            local_tokens: 0,
            estimated: false,
        }
    });
    let run = Run {
        project: desk.project.to_string_lossy().into_owned(),
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
    desk.remove()?;
    desk.save(&run)?;
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
