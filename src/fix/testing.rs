//! Runs the tests of a task, and the commands that follow.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Severity;
use super::ctx::{FixContext, SandboxStart, caller_env, caller_path, interrupted};
use super::leanfile::{Task, Tests};
use crate::os::process::{ChildResult, Job, OutputLimit, ProcessCommand, ProcessExit};
use crate::os::program;
use crate::rules::beat::settings::Settings;
use crate::rules::fault::Fault;
use crate::rules::fix::signature::{self, TestReport};
use crate::rules::json::clip;
use crate::rules::sandbox::SandboxSubject;
use crate::rules::strip_ansi::AnsiStripper;
use crate::rules::text::quote_argv;

/// The longest end of the tests' output that is kept, in bytes.
const TAIL_BYTES: usize = 512 << 10;

#[derive(Clone, Debug)]
pub struct Tested {
    /// The parsed result.
    pub report: TestReport,
    /// The end of the output, as text.
    pub output: String,
    /// The duration in milliseconds.
    pub took_ms: i64,
}

/// The command line of a task's tests.
#[must_use]
pub fn argv(tests: &Tests, test_files: &[String]) -> Vec<String> {
    let extra = named(tests, test_files);
    if tests.shell {
        let words = quote_argv(&[tests.args.as_slice(), &extra].concat());
        let gap = if words.is_empty() { "" } else { " " };
        return vec!["sh".to_owned(), "-c".to_owned(), format!("{}{gap}{words}", tests.command)];
    }
    let is_place = |arg: &String| arg == "{test_files}";
    let mut argv = vec![tests.command.clone()];
    for arg in &tests.args {
        argv.extend_from_slice(if is_place(arg) { test_files } else { std::slice::from_ref(arg) });
    }
    if !tests.args.iter().any(is_place) {
        argv.extend(extra);
    }
    argv
}

/// The command line of a task's tests as text; empty if the task has none.
pub fn command(task: &Task) -> String {
    if task.skip_tests {
        return String::new();
    }
    quote_argv(&argv(&task.runner, &task.test_files))
}

/// Test files in the runner's form: cargo takes targets, go takes directories.
fn named(tests: &Tests, test_files: &[String]) -> Vec<String> {
    let program = tests.command.rsplit('/').next().unwrap_or_default().split(' ').next().unwrap_or_default();
    match program {
        "cargo" => {
            let stem = |file: &String| file.strip_prefix("tests/")?.strip_suffix(".rs").map(str::to_owned);
            let targets = test_files.iter().filter_map(stem);
            targets.flat_map(|target| ["--test".to_owned(), target]).collect()
        }
        "go" => {
            let dir_of = |file: &String| Some(format!("./{}", file.rsplit_once('/')?.0));
            let dirs = test_files.iter().map(|file| dir_of(file).unwrap_or_else(|| ".".to_owned()));
            let mut dirs: Vec<String> = dirs.collect();
            dirs.dedup();
            dirs
        }
        _ => test_files.to_vec(),
    }
}

/// Checks that the program of a task's tests exists.
///
/// # Errors
/// A usage error if no program is set, or if it does not exist.
pub(super) fn check(ctx: &FixContext, task: &Task) -> Result<()> {
    if task.skip_tests {
        return Ok(());
    }
    if task.runner.command.trim().is_empty() {
        let fault = Fault::usage(format!("could not test {:?}: no test command is set", task.name));
        return Err(fault.hint("set one in `command` of [runner], or with --test").into());
    }
    let argv = argv(&task.runner, &task.test_files);
    find(ctx.deps.settings, &argv, &ctx.project.join(&ctx.sub)).map(drop)
}

fn find(settings: &Settings, argv: &[String], cwd: &Path) -> Result<PathBuf> {
    let name = argv.first().map_or("", String::as_str);
    program::find_program(name, caller_path(settings), cwd).ok_or_else(|| {
        let fault = Fault::usage(format!(
            "could not find the test command `{name}`: it is not an executable on the PATH"
        ));
        fault.hint("install it, or set another in `command` of [runner]").into()
    })
}

/// Runs the tests of a task in the clone, where they may change files.
///
/// # Errors
/// looop cannot wait for them, or the user interrupts. Tests that fail, hang or print too much are not an error.
pub(super) fn test(ctx: &FixContext, task: &Task) -> Result<Tested> {
    ctx.step("the tests run");
    let argv = argv(&task.runner, &task.test_files);
    let (exit, output, took_ms) = match find(ctx.deps.settings, &argv, &ctx.cwd()) {
        Ok(program) => {
            let ended = run(ctx, program, &argv, &task.runner)?;
            (ended.exit, AnsiStripper::default().text(&ended.stdout), ended.took_ms)
        }
        // The agent may have removed it from the clone.
        Err(error) => (ProcessExit::NotStarted(format!("{error:#}")), String::new(), 0),
    };
    let failure = match exit {
        ProcessExit::Code(0) => None,
        ProcessExit::Timeout => Some(format!("it was still running after {}s", task.runner.timeout)),
        other => Some(other.to_string()),
    };
    let report = signature::read(&output, failure.as_deref(), &ctx.cwd().to_string_lossy());
    let output = ctx.deps.settings.secrets.redact(&output).into_owned();
    Ok(Tested { report, output, took_ms })
}

fn run(ctx: &FixContext, program: PathBuf, argv: &[String], tests: &Tests) -> Result<ChildResult> {
    ctx.at.take();
    let cwd = &ctx.cwd();
    let mut vars = caller_env(ctx.deps.settings);
    // Two edits within one second may leave a file with the same size and time: Python would use its old byte code.
    vars.push(("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()));
    vars.extend(tests.env.clone());
    let name = &argv[0];
    let start = SandboxStart { name, program: &program, cwd, endpoint: None, read: &[], write: &[] };
    let sandboxed = ctx.sandboxed(SandboxSubject::Verify, &start)?;
    let command = ProcessCommand::new(program, &argv[1..], vars, cwd);
    let timeout_ms = i64::from(tests.timeout.max(1)) * 1000;
    let ended = ctx.run(name, sandboxed, Job::new(command, OutputLimit::Tail(TAIL_BYTES), timeout_ms))?;
    if ended.exit == ProcessExit::Cancelled { Err(interrupted()) } else { Ok(ended) }
}

/// Runs one command of `after` in the clone; returns why it failed, if it did.
///
/// # Errors
/// Like [`test()`].
pub(super) fn after(ctx: &FixContext, line: &str) -> Result<Option<String>> {
    ctx.say(Severity::Plain, format!("after: {line}"));
    let timeout = ctx.defaults().after_command_timeout;
    let tests = Tests { command: line.to_owned(), shell: true, timeout, ..Tests::default() };
    let argv = argv(&tests, &[]);
    let ended = run(ctx, find(ctx.deps.settings, &argv, &ctx.cwd())?, &argv, &tests)?;
    if ended.exit == ProcessExit::Code(0) {
        return Ok(None);
    }
    let output = AnsiStripper::default().text(&ended.stdout);
    let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let last = clip(&ctx.deps.settings.secrets.redact(last), 200);
    Ok(Some(format!("`{line}` ended with {}: {last}", ended.exit)))
}
