//! One run of the real fix loop over a project in a directory of its own, with a scripted agent and the breaker on or off.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fix::leanfile::{Defaults, Lean, Leanfile, Task, Tests};
use crate::fix::{self, Asked, Endpoints, Means, Progress, Tone};
use crate::model::attempt::{Line, Thresholds};
use crate::model::boxing::{Boxes, Boxing, Wanted};
use crate::model::fix::Status;
use crate::model::settings::{Fixes, Settings};
use crate::store::layout::Layout;
use crate::store::{file, fixes, seed};
use crate::sys::proc::{self, Exit, Input, Job, Keep};
use crate::sys::program;
use crate::sys::signal::Cancel;

/// The longest prompt that is read back, in bytes.
const MAX_PROMPT_BYTES: usize = 1 << 20;

/// What a trial is made of.
pub struct Setup<'a> {
    /// The project's files.
    pub files: &'a [(String, String)],
    /// The agent, a shell script. `$BENCH_STATE` is a directory in which it may keep what it has to remember.
    pub script: &'a str,
    /// The files that the task lists.
    pub listed: Vec<String>,
    /// What is to be done.
    pub prompt: &'a str,
    /// The test command.
    pub check: &'a [&'a str],
    /// The breaker, as it ships or as one that never fires.
    pub breaker: bool,
    /// Whether the code map adds files.
    pub map: bool,
    /// How many attempts there are at most.
    pub most: u32,
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Came {
    /// How many attempts were made.
    pub attempts: u32,
    /// The attempt behind which it was halted first.
    pub halted: Option<u32>,
    /// True when a human was asked in the end.
    pub asked: bool,
    /// True when the check passed.
    pub solved: bool,
    /// Tokens of all calls.
    pub tokens: u64,
    /// Tokens of the attempts up to the first halt; of all where there was none.
    pub tokens_to_halt: u64,
    /// What each attempt was like, as the ledger has it: `no_change`, `rework`, …; empty where it was like none.
    pub like: Vec<String>,
}

/// A directory that goes away with everything in it.
pub struct Place(PathBuf);

impl Place {
    /// Makes it anew.
    ///
    /// # Errors
    /// Names it.
    pub fn new(dir: PathBuf) -> Result<Place> {
        file::make_dir(&dir)?;
        Ok(Place(dir))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left in a temporary directory is no reason to fail.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Runs it in a new directory at `dir`. Nothing outside of it is written or read, but programs on `path`. Returns how it
/// ended, and the first prompt where the agent keeps it as `prompt.1` of its state.
///
/// # Errors
/// When a file cannot be written, git is not there, or a human interrupts.
pub fn run(setup: &Setup, dir: PathBuf, path: &str, cancel: &Cancel) -> Result<(Came, Option<String>)> {
    let place = Place::new(dir)?;
    let [project, state, home] = ["project", "state", "home"].map(|name| place.dir().join(name));
    for dir in [&project, &state, &home] {
        file::make_dir(dir)?;
    }
    for (name, text) in setup.files {
        let to = project.join(name);
        let written = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&to, text));
        written.with_context(|| format!("could not write `{}`", to.display()))?;
    }
    let agent = place.dir().join("agent.sh");
    fs::write(&agent, setup.script)
        .and_then(|()| fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("could not write `{}`", agent.display()))?;
    let env = environment(path, &home, &state);
    commit(&project, path, &env, cancel)?;
    let layout = Layout::new(place.dir().join("data"), place.dir().join("cache"));
    file::make_dir(layout.root())?;
    seed::make_dirs(&layout)?;
    let settings = Settings {
        path: path.to_owned(),
        base_env: env.clone(),
        full_env: env,
        home: Some(home.clone()),
        // The agents are the bench's own scripts, and keep what they remember beside their clone.
        boxes: Boxes { fix: Boxing { wanted: Wanted::None, ..Boxing::default() }, ..Boxes::default() },
        fixes: Fixes { map: setup.map, ..breaker(setup.breaker) },
        ..Settings::default()
    };
    let endpoints = Endpoints::new();
    let means = Means { layout: &layout, settings: &settings, endpoints: &endpoints, live: false, cancel };
    let looped = Cell::new(false);
    let mut say = |progress: &Progress| {
        let is_loop = progress.tone == Tone::Warn && progress.text.starts_with("it ran the same");
        looped.set(looped.get() || is_loop);
    };
    let finished = fix::run(&means, &asked(setup, &project, &agent), &mut say)?;
    let task = finished.run.tasks.first().context("could not find the task in what came of it")?;
    let lines = fixes::ledger(&layout.fix(&finished.id), &task.goal)?;
    let prompt = file::read_text(&state.join("prompt.1"), MAX_PROMPT_BYTES)?;
    Ok((came(&lines, task.status, task.tokens, looped.get()), prompt))
}

fn came(lines: &[Line], status: Status, tokens: u64, looped: bool) -> Came {
    let attempts = || {
        lines.iter().filter_map(|line| match line {
            Line::Attempt(attempt) => Some(attempt),
            _ => None,
        })
    };
    let stop = |line: &Line| matches!(line, Line::Plan(_) | Line::Rollback(_) | Line::Asked(_));
    let before_stop = lines.iter().position(stop).map(|at| &lines[..at]);
    let last = before_stop.and_then(|lines| {
        let of = |line: &Line| if let Line::Attempt(attempt) = line { Some(attempt.n) } else { None };
        lines.iter().rev().find_map(of)
    });
    let halted = last.or(looped.then_some(1));
    let like = |one: &crate::model::attempt::Alike| {
        let word = serde_json::to_value(one.by).ok();
        word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
    };
    Came {
        attempts: u32::try_from(attempts().count()).unwrap_or(u32::MAX),
        halted,
        asked: status == Status::Stuck,
        solved: status == Status::Done,
        tokens,
        tokens_to_halt: attempts()
            .filter(|one| halted.is_none_or(|at| one.n <= at))
            .map(|one| one.tokens)
            .sum(),
        like: attempts().map(|one| one.like.as_ref().map(like).unwrap_or_default()).collect(),
    }
}

/// The breaker as it ships, or figures that nothing reaches.
fn breaker(on: bool) -> Fixes {
    if on {
        return Fixes::default();
    }
    let never = Thresholds {
        halt: u32::MAX,
        rollback: u32::MAX,
        same_failure: u32::MAX,
        replans: u32::MAX,
        ..Thresholds::default()
    };
    Fixes { thresholds: never, nudge: usize::MAX, stop: usize::MAX, ..Fixes::default() }
}

fn environment(path: &str, home: &Path, state: &Path) -> Vec<(String, String)> {
    let text = |dir: &Path| dir.to_string_lossy().into_owned();
    [
        ("PATH", path.to_owned()),
        ("HOME", text(home)),
        ("LC_ALL", "C".to_owned()),
        ("BENCH_STATE", text(state)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Makes the project a repository with one commit.
fn commit(project: &Path, path: &str, env: &[(String, String)], cancel: &Cancel) -> Result<()> {
    const LINE: &str = "git init -q . && git add -A && git -c user.name=bench -c user.email=bench@looop.invalid commit -qm one";
    let shell = program::find_program("sh", path, project).context("could not find `sh` on the PATH")?;
    let mut env = env.to_vec();
    env.push(("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned()));
    let job = Job {
        program: shell,
        args: vec!["-c".to_owned(), LINE.to_owned()],
        env,
        cwd: project.to_owned(),
        input: Input::Null,
        keep: Keep::Tail(4096),
        sink: None,
        timeout_ms: 120_000,
        gate: None,
        boxed: None,
    };
    let ended = proc::run_one(job, cancel, None).context("could not wait for git")?;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    ensure!(
        ended.exit == Exit::Code(0),
        "could not make a repository: {} {}",
        ended.exit.words(),
        said.trim()
    );
    Ok(())
}

fn asked(setup: &Setup, project: &Path, agent: &Path) -> Asked {
    let (command, args) = setup.check.split_first().map_or(("", &[][..]), |(first, rest)| (*first, rest));
    let tests = Tests {
        command: command.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        timeout: 60,
        ..Tests::default()
    };
    let task = Task {
        name: "mend".to_owned(),
        prompt: setup.prompt.to_owned(),
        files: setup.listed.clone(),
        runner: tests.clone(),
        ..Task::default()
    };
    let leanfile = Leanfile {
        lean: Lean { binary: Some(agent.to_string_lossy().into_owned()), timeout: 60, ..Lean::default() },
        defaults: Defaults {
            max_iters_per_task: setup.most,
            // A call of its own before each attempt is a cost that has nothing to do with what is measured.
            summarize_errors: false,
            ..Defaults::default()
        },
        runner: tests,
        tasks: vec![task.clone()],
        ..Leanfile::default()
    };
    Asked {
        leanfile,
        tasks: vec![task],
        root: project.to_owned(),
        inside: None,
        near: project.to_owned(),
        key: "bench".to_owned(),
        leaner: None,
        branch: false,
        force: false,
        fresh: false,
        socket: None,
    }
}
