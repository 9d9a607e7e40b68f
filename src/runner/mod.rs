//! The edge to LLMs: one call, one reply. Each runner turns its CLI's output into text, usage and error class.

pub mod command;
pub mod pi;

use std::path::PathBuf;

use crate::model::charge::Usage;
use crate::sys::proc::{self, Ended, Exit, Input, Job, Keep};
use crate::sys::program;
use crate::sys::signal::Cancel;

/// The most that a runner may print in one call, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// What kind of failure a call ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may work when tried again.
    Transient,
    /// A usage limit is reached.
    Limit,
    /// The key or login is missing or wrong.
    Auth,
    /// The prompt is too long for the model.
    TooLong,
    /// The runner ended with an error.
    Crashed,
    /// There was no reply.
    Empty,
    /// The deadline passed.
    Timeout,
    /// It printed more than it may.
    Flood,
    /// The program is not there.
    Missing,
    /// The human interrupted.
    Cancelled,
}

impl Class {
    /// The class as one word, as it stands in records.
    pub fn word(self) -> &'static str {
        match self {
            Class::Transient => "transient",
            Class::Limit => "limit",
            Class::Auth => "auth",
            Class::TooLong => "too_long",
            Class::Crashed => "crashed",
            Class::Empty => "empty",
            Class::Timeout => "timeout",
            Class::Flood => "flood",
            Class::Missing => "missing",
            Class::Cancelled => "cancelled",
        }
    }
}

/// One call: the prompt lies in a file that becomes the runner's stdin, never one big argument.
pub struct Call<'a> {
    /// The prompt's file.
    pub prompt_file: PathBuf,
    /// The prompt's length, for an estimate of tokens.
    pub prompt_bytes: usize,
    /// The deadline in milliseconds.
    pub timeout_ms: i64,
    /// An empty directory: a decider has no business with files.
    pub empty_dir: PathBuf,
    /// The PATH on which programs are found.
    pub path: &'a str,
    /// Environment that every child gets.
    pub base_env: &'a [(String, String)],
    /// The whole environment, from which the runner's allow-list picks.
    pub full_env: &'a [(String, String)],
    /// Interruption.
    pub cancel: &'a Cancel,
    /// Called while waiting, for a spinner.
    pub frame: Option<&'a mut dyn FnMut()>,
}

/// What a runner said.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The text of the answer.
    pub text: String,
    /// What it used.
    pub usage: Usage,
    /// All that it printed.
    pub raw: Vec<u8>,
    /// The end of its stderr.
    pub stderr: Vec<u8>,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// What kind.
    pub class: Class,
    /// The cause in words.
    pub why: String,
    /// What it used all the same, as far as it is known.
    pub usage: Usage,
    /// All that it printed.
    pub raw: Vec<u8>,
    /// The end of its stderr.
    pub stderr: Vec<u8>,
}

/// An LLM that is asked for a move. A trait because LLMs are slow and random; the loop is tested with scripted ones.
pub trait Runner {
    /// Its name in the config and in the ledger.
    fn name(&self) -> &str;

    /// Asks once.
    ///
    /// # Errors
    /// [`Failed`] says what kind of failure it was and what it cost.
    fn decide(&self, call: &mut Call) -> Result<Reply, Box<Failed>>;

    /// The program that it needs on the PATH, for `doctor`.
    fn program(&self) -> &str;
}

/// What a runner's process is started with.
pub struct Program<'a> {
    /// The program's name or path.
    pub argv: &'a [String],
    /// Names of variables that it gets from the environment.
    pub allow: &'a [String],
    /// Variables that it gets besides.
    pub set: &'a [(&'a str, &'a str)],
    /// Where it runs.
    pub cwd: PathBuf,
}

/// Runs a runner's process with the prompt on stdin. The ways in which any process can fail are told apart here.
///
/// # Errors
/// [`Failed`] for a program that is missing, hangs, floods or was interrupted.
pub fn call_process(program: &Program, call: &mut Call) -> Result<Ended, Box<Failed>> {
    let failed = |class, why: String| {
        let usage = Usage::unknown();
        Box::new(Failed { class, why, usage, raw: Vec::new(), stderr: Vec::new() })
    };
    let Some((name, args)) = program.argv.split_first() else {
        return Err(failed(Class::Missing, "its argv is empty".to_owned()));
    };
    let Some(path) = program::find_program(name, call.path, &program.cwd) else {
        return Err(failed(Class::Missing, format!("`{name}` is not an executable on the configured PATH")));
    };
    let input = std::fs::File::open(&call.prompt_file)
        .map_err(|e| failed(Class::Crashed, format!("could not read the prompt's file: {e}")))?;
    let allowed = call.full_env.iter().filter(|(key, _)| program.allow.contains(key));
    let set = program.set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let job = Job {
        program: path,
        args: args.to_vec(),
        env: call.base_env.iter().chain(allowed).cloned().chain(set).collect(),
        cwd: program.cwd.clone(),
        input: Input::File(input),
        keep: Keep::All(MAX_OUTPUT_BYTES),
        timeout_ms: call.timeout_ms,
        gate: None,
    };
    // The spinner is lent for the length of the call.
    let frame = call.frame.take();
    let ended = match frame {
        Some(frame) => {
            let ended = proc::run_one(job, call.cancel, Some(&mut *frame));
            call.frame = Some(frame);
            ended
        }
        None => proc::run_one(job, call.cancel, None),
    };
    let ended = ended.map_err(|e| failed(Class::Crashed, format!("could not wait for `{name}`: {e}")))?;
    let (class, why) = match &ended.exit {
        Exit::Code(_) | Exit::Signal(_) => return Ok(ended),
        Exit::Timeout => {
            let limit = crate::model::time::human_ms(call.timeout_ms);
            (Class::Timeout, format!("`{name}` was still running after {limit}"))
        }
        Exit::TooMuch => (Class::Flood, format!("`{name}` printed more than {} MiB", MAX_OUTPUT_BYTES >> 20)),
        Exit::Cancelled => (Class::Cancelled, "interrupted".to_owned()),
        Exit::NotStarted(why) => (Class::Missing, format!("`{name}` could not be started: {why}")),
    };
    Err(Box::new(Failed { class, why, usage: Usage::unknown(), raw: ended.stdout, stderr: ended.stderr }))
}

/// The last line of a runner's stderr, for an error message.
pub fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim().to_owned();
    crate::model::json::clip(&crate::model::ask::visible(&line, false), 300)
}
