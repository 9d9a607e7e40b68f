//! One call of a model: the trait that each runner has, what it is asked with, and what comes back.

use std::path::PathBuf;

use super::{Agent, stream};
use crate::model::charge::Usage;
use crate::model::failing::Class;
use crate::model::time::Now;
use crate::store::boxes::{Boxer, Decider};
use crate::sys::proc::{self, Ended, Exit, Input, Job, Keep, Sink};
use crate::sys::program;
use crate::sys::signal::Cancel;

/// The most that a runner may print in one call, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// How much of the beginning of a stream of events is kept to be looked at later, in bytes.
const STREAM_KEPT_BYTES: usize = 4 << 20;

/// One call: the prompt lies in files, never in one big argument.
pub struct ModelCall<'a> {
    /// The file of the whole prompt.
    pub prompt_file: PathBuf,
    /// The prompt's length, for an estimate of tokens.
    pub prompt_bytes: usize,
    /// The file of the prompt's stable part, for a runner that sends it as the system prompt.
    pub system_file: PathBuf,
    /// The file of the rest of it.
    pub user_file: PathBuf,
    /// The moment of the call.
    pub now: Now,
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
    /// Who makes its box.
    pub boxer: &'a Boxer<'a>,
    /// Interruption.
    pub cancel: &'a Cancel,
    /// Called while waiting, for a spinner.
    pub frame: Option<&'a mut dyn FnMut()>,
}

/// What a model answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text of the answer.
    pub text: String,
    /// True when the model's output limit ended the answer.
    pub truncated: bool,
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
    /// When it makes sense to ask again, in milliseconds since the epoch, where somebody said so.
    pub retry_at_ms: Option<i64>,
    /// What it used all the same, as far as it is known.
    pub usage: Usage,
    /// All that it printed.
    pub raw: Vec<u8>,
    /// The end of its stderr.
    pub stderr: Vec<u8>,
}

impl Failed {
    /// A failure before anything was asked.
    pub fn before_asking(class: Class, why: String) -> Box<Failed> {
        let usage = Usage::unknown();
        Box::new(Failed { class, why, retry_at_ms: None, usage, raw: Vec::new(), stderr: Vec::new() })
    }
}

/// An LLM that is asked for a move. A trait because LLMs are slow and random; the loop is tested with scripted ones.
pub trait Runner {
    /// Its name in the config and in the ledger.
    fn name(&self) -> &str;

    /// Asks once.
    ///
    /// # Errors
    /// [`Failed`] says what kind of failure it was and what it cost.
    fn decide(&self, call: &mut ModelCall) -> Result<Completion, Box<Failed>>;

    /// The program that it needs on the PATH, for `doctor`; empty for one that needs none.
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
    /// What comes on stdin: a file read from its beginning, because some programs look at nothing else.
    pub input: PathBuf,
    /// The agent CLI that it is; none: looop does not know it.
    pub agent: Option<&'static Agent>,
    /// What it reads in its box besides.
    pub read: &'a [PathBuf],
    /// What it may write in its box.
    pub write: &'a [PathBuf],
}

/// Runs a runner's process with the prompt on stdin. The ways in which any process can fail are told apart here.
///
/// # Errors
/// [`Failed`] for a program that is missing, hangs, floods or was interrupted.
pub fn call_process(
    program: &Program,
    call: &mut ModelCall,
    sink: Option<Sink>,
) -> Result<Ended, Box<Failed>> {
    let failed = Failed::before_asking;
    let Some((name, args)) = program.argv.split_first() else {
        return Err(failed(Class::Missing, "its argv is empty".to_owned()));
    };
    let Some(path) = program::find_program(name, call.path, &program.cwd) else {
        return Err(failed(Class::Missing, format!("`{name}` is not an executable on the configured PATH")));
    };
    let input = std::fs::File::open(&program.input)
        .map_err(|e| failed(Class::Crashed, format!("could not read the prompt's file: {e}")))?;
    let allowed = call.full_env.iter().filter(|(key, _)| program.allow.contains(key));
    let set = program.set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let cell = call
        .boxer
        .decide(&Decider {
            agent: program.agent.map(|agent| (agent.name, &agent.home)),
            program: &path,
            cwd: &program.cwd,
            read: program.read,
            write: program.write,
        })
        .map_err(|why| failed(Class::Missing, format!("`{name}` could not be boxed: {why}")))?;
    let job = Job {
        program: path,
        args: args.to_vec(),
        env: call.base_env.iter().chain(allowed).cloned().chain(set).chain(cell.env).collect(),
        cwd: program.cwd.clone(),
        input: Input::File(input),
        keep: if sink.is_some() { Keep::Head(STREAM_KEPT_BYTES) } else { Keep::All(MAX_OUTPUT_BYTES) },
        sink,
        timeout_ms: call.timeout_ms,
        gate: None,
        boxed: cell.boxed,
    };
    let cap = if job.sink.is_some() { stream::MAX_STREAM_BYTES } else { MAX_OUTPUT_BYTES as u64 };
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
        Exit::TooMuch => (Class::Flood, format!("`{name}` printed more than {} MiB", cap >> 20)),
        Exit::Cancelled => (Class::Cancelled, "interrupted".to_owned()),
        Exit::NotStarted(why) => (Class::Missing, format!("`{name}` could not be started: {why}")),
    };
    Err(Box::new(Failed { raw: ended.stdout, stderr: ended.stderr, ..*failed(class, why) }))
}

/// The last line of a runner's stderr, for an error message.
pub fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim().to_owned();
    crate::model::json::clip(&crate::model::ask::visible(&line, false), 300)
}
