//! Runs the tests of a task, and the commands that follow.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::agent::{caller_env, path_of};
use super::bench::{Bench, SandboxStart};
use super::ctx::Busy;
use super::leanfile::{Task, Tests};
use crate::model::fault::Fault;
use crate::model::settings::Settings;
use crate::model::signature::{self, TestReport};
use crate::model::strip::Strip;
use crate::sys::process::{self, ChildResult, Job, OutputLimit, ProcessCommand, ProcessExit, reaper, tree};
use crate::sys::signal::Cancel;
use crate::sys::{program, sandbox};

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

/// The context of a test run.
pub struct Tester<'a> {
    /// The environment and the PATH.
    pub settings: &'a Settings,
    /// Interruption by the user.
    pub cancel: &'a Cancel,
    /// The variable that marks all processes of the fix.
    pub mark: (String, String),
    /// The builder of their sandbox.
    pub bench: Bench<'a>,
    /// The receiver of progress reports.
    pub busy: Option<&'a dyn Busy>,
}

/// The command line of a task's tests.
#[must_use]
pub fn argv(tests: &Tests, test_files: &[String]) -> Vec<String> {
    let extra = named(tests, test_files);
    if tests.shell {
        let words = |all: &[String]| crate::model::text::quote_argv(all);
        let mut line = tests.command.clone();
        for part in [words(&tests.args), words(&extra)].iter().filter(|part| !part.is_empty()) {
            line.push_str(&format!(" {part}"));
        }
        return vec!["sh".to_owned(), "-c".to_owned(), line];
    }
    let mut argv = vec![tests.command.clone()];
    for arg in &tests.args {
        match arg.as_str() {
            "{test_files}" => argv.extend(test_files.iter().cloned()),
            _ => argv.push(arg.clone()),
        }
    }
    if !tests.args.iter().any(|arg| arg == "{test_files}") {
        argv.extend(extra);
    }
    argv
}

/// Test files in the runner's form: cargo takes targets, go takes directories.
fn named(tests: &Tests, test_files: &[String]) -> Vec<String> {
    let program = tests.command.rsplit('/').next().unwrap_or_default().split(' ').next().unwrap_or_default();
    let mut all: Vec<String> = match program {
        "cargo" => {
            let stem = |file: &String| file.strip_prefix("tests/")?.strip_suffix(".rs").map(str::to_owned);
            let targets = test_files.iter().filter_map(stem);
            return targets.flat_map(|target| ["--test".to_owned(), target]).collect();
        }
        "go" => test_files
            .iter()
            .map(|file| match file.rsplit_once('/') {
                Some((dir, _)) => format!("./{dir}"),
                None => ".".to_owned(),
            })
            .collect(),
        _ => return test_files.to_vec(),
    };
    all.dedup();
    all
}

impl Tester<'_> {
    /// Checks that the program of a task's tests exists.
    ///
    /// # Errors
    /// A usage error if no program is set, or if it does not exist.
    pub fn check(&self, task: &Task, cwd: &Path) -> Result<()> {
        if task.skip_tests {
            return Ok(());
        }
        if task.runner.command.trim().is_empty() {
            let fault = Fault::usage(format!("could not test {:?}: no test command is set", task.name));
            return Err(fault.hint("set one in `command` of [runner], or with --test").into());
        }
        self.find(&argv(&task.runner, &task.test_files), cwd).map(drop)
    }

    fn find(&self, argv: &[String], cwd: &Path) -> Result<PathBuf> {
        let name = argv.first().map_or("", String::as_str);
        program::find_program(name, &path_of(self.settings), cwd).ok_or_else(|| {
            let fault = Fault::usage(format!(
                "could not find the test command `{name}`: it is not an executable on the PATH"
            ));
            fault.hint("install it, or set another in `command` of [runner]").into()
        })
    }

    /// Runs the tests of a task.
    ///
    /// # Errors
    /// looop cannot wait for them, or the user interrupts. Tests that fail, hang or print too much are not an error.
    pub fn test(&self, task: &Task, cwd: &Path) -> Result<Tested> {
        let argv = argv(&task.runner, &task.test_files);
        let timeout_s = task.runner.timeout;
        let ended = match self.find(&argv, cwd) {
            Ok(program) => self.run(program, &argv, &task.runner, cwd, timeout_s)?,
            // The agent may have removed it from the clone.
            Err(error) => {
                return Ok(self.judge(&ProcessExit::NotStarted(format!("{error:#}")), "", 0, cwd, timeout_s));
            }
        };
        let output = Strip::default().text(&ended.stdout);
        Ok(self.judge(&ended.exit, &output, ended.took_ms, cwd, timeout_s))
    }

    fn judge(&self, exit: &ProcessExit, output: &str, took_ms: i64, cwd: &Path, timeout_s: u32) -> Tested {
        let how = match exit {
            ProcessExit::Code(code) => signature::TestExit::Code(*code),
            ProcessExit::Timeout => {
                signature::TestExit::Other(format!("it was still running after {timeout_s}s"))
            }
            other => signature::TestExit::Other(other.words()),
        };
        let report = signature::read(output, &how, &cwd.to_string_lossy());
        let output = self.settings.secrets.redact(output).into_owned();
        Tested { report, output, took_ms }
    }

    fn run(
        &self,
        program: PathBuf,
        argv: &[String],
        tests: &Tests,
        cwd: &Path,
        timeout_s: u32,
    ) -> Result<ChildResult> {
        let mut env = caller_env(self.settings);
        // Two edits within one second may leave a file with the same size and time: Python would use its old
        // byte code.
        env.push(self.mark.clone());
        env.push(("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()));
        env.extend(tests.env.iter().map(|(key, value)| (key.clone(), value.clone())));
        let name = argv.first().map_or("", String::as_str);
        let cell = self.bench.tests(&SandboxStart {
            name,
            program: &program,
            cwd,
            endpoint: None,
            read: &[],
            write: &[],
        })?;
        env.extend(cell.env);
        let command = ProcessCommand::new(program, &argv[1..], env, cwd);
        let timeout_ms = i64::from(timeout_s.max(1)) * 1000;
        let job = Job {
            layer: sandbox::layer(cell.sandbox),
            ..Job::new(command, OutputLimit::Tail(TAIL_BYTES), timeout_ms)
        };
        let mut tell = || self.busy.iter().for_each(|who| who.busy());
        let ended = process::run_one(job, self.cancel, self.busy.is_some().then_some(&mut tell));
        reaper::reap_orphans(&tree::Known::new());
        let ended = ended.context("could not wait for the tests")?;
        if ended.exit == ProcessExit::Cancelled {
            return Err(interrupted());
        }
        Ok(ended)
    }

    /// Runs one command of `after`; returns why it failed, if it did.
    ///
    /// # Errors
    /// Like [`Tester::test`].
    pub fn after(&self, line: &str, cwd: &Path, timeout_s: u32) -> Result<Option<String>> {
        let tests = Tests { command: line.to_owned(), shell: true, ..Tests::default() };
        let argv = argv(&tests, &[]);
        let ended = self.run(self.find(&argv, cwd)?, &argv, &tests, cwd, timeout_s)?;
        if ended.exit == ProcessExit::Code(0) {
            return Ok(None);
        }
        let output = Strip::default().text(&ended.stdout);
        let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let last = self.settings.secrets.redact(last);
        Ok(Some(format!(
            "`{line}` ended with {}: {}",
            ended.exit.words(),
            crate::model::json::clip(&last, 200)
        )))
    }
}

/// The error for an interruption by the user.
pub fn interrupted() -> anyhow::Error {
    let fault = Fault::failed("could not continue: the user interrupted");
    fault.hint("run the same command again to resume").into()
}
