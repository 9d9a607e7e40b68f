//! One run of the real fix loop over a project in a directory of its own, with a scripted agent and the breaker on or off.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::product::{
    AgentConfig, BreakerConfig, Cancel, Defaults, Endpoints, FixDeps, FixRequest, Fixes, Layout, Leanfile,
    LedgerLine, Progress, SandboxConfig, SandboxMode, Settings, Severity, Similarity, Task, TaskStatus,
    Tests, fix, ledger, make_dirs,
};

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
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

/// Runs it in `dir`, with the programs on `path`. Returns the outcome, and the first prompt where the agent saves it as
/// `prompt.1` in its state directory.
///
/// # Errors
/// When a file cannot be written, git is missing, or a human interrupts.
pub fn run(setup: &Setup, dir: &Path, path: &str, cancel: &Cancel) -> Result<(Outcome, Option<String>)> {
    let [project, state, home] = ["project", "state", "home"].map(|name| dir.join(name));
    for dir in [&project, &state, &home] {
        fs::create_dir_all(dir)?;
    }
    for (name, text) in setup.files {
        let to = project.join(name);
        let written = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&to, text));
        written.with_context(|| format!("could not write `{}`", to.display()))?;
    }
    let agent = dir.join("agent.sh");
    fs::write(&agent, setup.script)?;
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
    let env = environment(path, &home, &state);
    commit(&project, &env)?;
    let layout = Layout::new(dir.join("data"), dir.join("cache"));
    fs::create_dir_all(layout.root())?;
    fs::set_permissions(layout.root(), fs::Permissions::from_mode(0o700))?;
    make_dirs(&layout)?;
    let settings = Settings {
        path: path.to_owned(),
        base_env: env.clone(),
        full_env: env,
        home: Some(home.clone()),
        // The agents are scripts of this benchmark and save their state outside of their clone.
        sandbox: SandboxConfig { fix: Some(SandboxMode::None), ..SandboxConfig::default() },
        fixes: Fixes { map: setup.map, ..breaker(setup.breaker) },
        ..Settings::default()
    };
    let endpoints = Endpoints::new();
    let looped = Cell::new(false);
    let report = |progress: &Progress| {
        let is_loop = matches!(progress, Progress::Line(Severity::Warn, text) if text.starts_with("it repeated the same"));
        looped.set(looped.get() || is_loop);
    };
    let deps = FixDeps {
        layout: &layout,
        settings: &settings,
        endpoints: &endpoints,
        cancel,
        socket: None,
        report: &report,
        live: false,
    };
    let finished = fix(&deps, &asked(setup, &project, &agent))?;
    let task = finished.run.tasks.first().context("the fix has no task")?;
    let lines = ledger(&layout.fix(&finished.id), &task.goal)?;
    let prompt = fs::read_to_string(state.join("prompt.1")).ok();
    Ok((outcome(&lines, task.status, task.tokens, looped.get()), prompt))
}

fn outcome(lines: &[LedgerLine], status: TaskStatus, tokens: u64, looped: bool) -> Outcome {
    let attempts = || {
        lines.iter().filter_map(|line| match line {
            LedgerLine::Attempt(attempt) => Some(attempt),
            _ => None,
        })
    };
    let stop = |line: &LedgerLine| {
        matches!(line, LedgerLine::Plan(_) | LedgerLine::Rollback(_) | LedgerLine::Asked(_))
    };
    let before_stop = lines.iter().position(stop).map(|at| &lines[..at]);
    let last = before_stop.and_then(|lines| {
        let of =
            |line: &LedgerLine| if let LedgerLine::Attempt(attempt) = line { Some(attempt.n) } else { None };
        lines.iter().rev().find_map(of)
    });
    let halted = last.or(looped.then_some(1));
    let like = |one: &Similarity| {
        let word = serde_json::to_value(one.by).ok();
        word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
    };
    Outcome {
        attempts: u32::try_from(attempts().count()).unwrap_or(u32::MAX),
        halted,
        asked: status == TaskStatus::Stuck,
        solved: status == TaskStatus::Done,
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
    let never = BreakerConfig {
        halt: u32::MAX,
        rollback: u32::MAX,
        same_failure: u32::MAX,
        replans: u32::MAX,
        ..BreakerConfig::default()
    };
    Fixes { thresholds: never, warn: usize::MAX, stop: usize::MAX, ..Fixes::default() }
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
fn commit(project: &Path, env: &[(String, String)]) -> Result<()> {
    const LINE: &str = "git init -q . && git add -A && git -c user.name=bench -c user.email=bench@looop.invalid commit -qm one";
    let mut git = Command::new("sh");
    git.args(["-c", LINE]).current_dir(project).env_clear().envs(env.iter().cloned());
    let output = git.env("GIT_CONFIG_NOSYSTEM", "1").output().context("could not start git")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "could not make a repository: {}", error.trim());
    Ok(())
}

fn asked(setup: &Setup, project: &Path, agent: &Path) -> FixRequest {
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
        lean: AgentConfig {
            binary: Some(agent.to_string_lossy().into_owned()),
            timeout: 60,
            ..AgentConfig::default()
        },
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
    FixRequest {
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
    }
}
