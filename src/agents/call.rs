//! One call of a model: the trait of all runners, its input and its result.

use std::path::PathBuf;

use super::{Agent, classify, stream};
use crate::os::process::{self, ChildResult, Job, OutputLimit, ProcessCommand, ProcessExit, Sink};
use crate::os::program;
use crate::os::signal::Cancel;
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::Usage;
use crate::rules::json::clip;
use crate::rules::secret::Secrets;
use crate::rules::text::visible;
use crate::rules::time::{Now, human_ms};
use crate::sandbox;
use crate::store::sandboxes::{Decider, SandboxBuilder};

/// The most output of a runner in one call, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// The largest beginning of an event stream that is kept for inspection, in bytes.
const STREAM_KEPT_BYTES: usize = 4 << 20;

/// A prompt. It is in files, because an argument has a limited size.
#[derive(Debug)]
pub struct PromptFiles {
    pub whole: PathBuf,
    /// The stable part, for a runner that sends it as the system prompt.
    pub system: PathBuf,
    /// The rest.
    pub user: PathBuf,
    /// The length of the whole, to estimate tokens.
    pub bytes: usize,
}

/// One call.
#[derive(Clone, Copy)]
pub struct ModelCall<'a> {
    pub prompt: &'a PromptFiles,
    pub now: Now,
    /// The timeout, in milliseconds.
    pub timeout_ms: i64,
    /// The builder of its sandbox, with the settings of all calls.
    pub sandboxes: &'a SandboxBuilder<'a>,
    /// The variable that marks its processes.
    pub mark: Option<&'a (String, String)>,
    /// The variable of its key, if the key does not come from the environment.
    pub key: Option<&'a (String, String)>,
    pub cancel: &'a Cancel,
    /// Called while waiting, for a spinner.
    pub frame: Option<&'a dyn Fn()>,
}

impl<'a> ModelCall<'a> {
    /// The whole environment; the runner's allow-list selects from it.
    pub fn full_env(self) -> impl Iterator<Item = &'a (String, String)> {
        let is_other = move |(name, _): &&(String, String)| self.key.is_none_or(|(key, _)| key != name);
        self.sandboxes.settings.full_env.iter().filter(is_other).chain(self.key)
    }

    /// Fails if the user has interrupted. Called while waiting.
    pub fn poll(self) -> Result<(), Box<Failed>> {
        if let Some(frame) = self.frame {
            frame();
        }
        match self.cancel.is_set() {
            true => Err(Failed::before_asking(Class::Cancelled, "interrupted".to_owned())),
            false => Ok(()),
        }
    }
}

/// What a model answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text of the answer.
    pub text: String,
    /// True if the model's output limit truncated the answer.
    pub truncated: bool,
    /// The usage.
    pub usage: Usage,
    /// Everything that the runner printed.
    pub raw: Vec<u8>,
    /// The end of its stderr.
    pub stderr: Vec<u8>,
}

/// The failure of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// The class of the failure.
    pub class: Class,
    /// The cause in words.
    pub why: String,
    /// When a new call makes sense, in milliseconds since the epoch, if the provider reported it.
    pub retry_at_ms: Option<i64>,
    /// The usage despite the failure, as far as known.
    pub usage: Usage,
    /// Everything that the runner printed.
    pub raw: Vec<u8>,
    /// The end of its stderr.
    pub stderr: Vec<u8>,
}

impl Failed {
    /// A failure before the model was called.
    pub fn before_asking(class: Class, why: String) -> Box<Failed> {
        let usage = Usage::unknown();
        Box::new(Failed { class, why, retry_at_ms: None, usage, raw: Vec::new(), stderr: Vec::new() })
    }
}

/// An LLM that decides on a move. It is a trait because LLMs are slow and random; tests of the loop use scripted ones.
pub trait Runner {
    /// The name in the config and in the ledger.
    fn name(&self) -> &str;

    /// Calls the LLM once.
    ///
    /// # Errors
    /// [`Failed`] says what kind of failure it was and what it cost.
    fn decide(&self, call: &ModelCall) -> Result<Completion, Box<Failed>>;

    /// The program that it needs on the PATH, for `doctor`; empty if it needs none.
    fn program(&self) -> &str {
        ""
    }
}

/// The process of a runner.
#[derive(Default)]
pub struct Program<'a> {
    /// The program's name or path.
    pub argv: &'a [String],
    /// Names of variables that it gets from the environment.
    pub allow: &'a [String],
    /// Additional variables.
    pub set: Vec<(String, String)>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The file that becomes stdin. It is a file because some programs read nothing else.
    pub input: PathBuf,
    /// The agent CLI that it is; none: looop does not know it.
    pub agent: Option<&'static Agent>,
    /// More paths that it may read in its sandbox.
    pub read: &'a [PathBuf],
    /// Paths that it may write in its sandbox.
    pub write: &'a [PathBuf],
}

/// Runs a runner's process with the prompt on stdin, and classifies the ways in which any process can fail.
///
/// # Errors
/// [`Failed`] for a program that is missing, hangs, floods or was interrupted.
pub fn call_process(
    program: &Program,
    call: &ModelCall,
    sink: Option<Sink>,
) -> Result<ChildResult, Box<Failed>> {
    let failed = Failed::before_asking;
    let Some((name, args)) = program.argv.split_first() else {
        return Err(failed(Class::Missing, "its argv is empty".to_owned()));
    };
    let settings = call.sandboxes.settings;
    let Some(path) = program::find_program(name, &settings.path, &program.cwd) else {
        return Err(failed(Class::Missing, format!("`{name}` is not an executable on the configured PATH")));
    };
    let input = std::fs::File::open(&program.input)
        .map_err(|e| failed(Class::Crashed, format!("could not read the prompt's file: {e}")))?;
    let sandboxed = call
        .sandboxes
        .decide(&Decider {
            agent: program.agent.map(|agent| (agent.name, &agent.home)),
            program: &path,
            cwd: &program.cwd,
            read: program.read,
            write: program.write,
        })
        .map_err(|why| failed(Class::Missing, format!("`{name}` could not get its sandbox: {why}")))?;
    let allowed = call.full_env().filter(|(key, _)| program.allow.contains(key));
    let env = settings.base_env.iter().chain(call.mark).chain(allowed).chain(&program.set).cloned();
    let env = env.chain(sandboxed.env).collect();
    let (keep, cap) = match sink.is_some() {
        true => (OutputLimit::Head(STREAM_KEPT_BYTES), stream::MAX_STREAM_BYTES),
        false => (OutputLimit::All(MAX_OUTPUT_BYTES), MAX_OUTPUT_BYTES as u64),
    };
    let command = ProcessCommand::new(path, args, env, &program.cwd);
    let command = ProcessCommand { stdin: input.into(), ..command };
    let layer = sandbox::layer(sandboxed.sandbox);
    let job = Job { sink, layer, ..Job::new(command, keep, call.timeout_ms) };
    let ended = process::run_one(job, call.cancel, call.frame);
    let ended = ended.map_err(|e| failed(Class::Crashed, format!("could not wait for `{name}`: {e}")))?;
    let (class, why) = match &ended.exit {
        ProcessExit::Code(_) | ProcessExit::Signal(_) => return Ok(ended),
        ProcessExit::Timeout => {
            (Class::Timeout, format!("`{name}` was still running after {}", human_ms(call.timeout_ms)))
        }
        ProcessExit::TooMuch => (Class::Flood, format!("`{name}` printed more than {} MiB", cap >> 20)),
        ProcessExit::Cancelled => (Class::Cancelled, "interrupted".to_owned()),
        ProcessExit::NotStarted(why) => (Class::Missing, format!("`{name}` could not be started: {why}")),
    };
    Err(Box::new(Failed { raw: ended.stdout, stderr: ended.stderr, ..*failed(class, why) }))
}

/// Redacts the secrets in everything that came back from a call.
pub fn redact(result: &mut Result<Completion, Box<Failed>>, secrets: &Secrets) {
    let (text, raw, stderr) = match result {
        Ok(reply) => (&mut reply.text, &mut reply.raw, &mut reply.stderr),
        Err(failed) => (&mut failed.why, &mut failed.raw, &mut failed.stderr),
    };
    *text = secrets.redact(text).into_owned();
    secrets.redact_bytes(raw);
    secrets.redact_bytes(stderr);
}

/// What stderr says about a failure, for error messages: the line by which its class is known, else the last one. A stack
/// or a hint often follows the cause. A passing fault is the cause only if no line names another one.
pub fn failure_words(stderr: &[u8]) -> (Class, String) {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let class_of = |line: &&str| match classify::by_words(line) {
        Class::Crashed | Class::Transient if super::lacks_login(line) => Class::Auth,
        class => class,
    };
    let last_of = |wanted: fn(Class) -> bool| lines.iter().rev().find(|line| wanted(class_of(line)));
    let line = last_of(|class| !matches!(class, Class::Crashed | Class::Transient))
        .or_else(|| last_of(|class| class == Class::Transient))
        .or(lines.last());
    let class = line.map_or(Class::Crashed, class_of);
    (class, clip(&visible(line.copied().unwrap_or_default(), false), 300))
}
