//! A child process to run, and how it ended.

use std::fs::File;
use std::path::PathBuf;

use crate::model::sandbox::Sandbox;

/// How long a group has between SIGTERM and SIGKILL, in milliseconds.
pub const GRACE_MS: i64 = 2_000;

/// The stdin of a child.
#[derive(Debug)]
pub enum Input {
    /// /dev/null.
    Null,
    /// A file from its current position on.
    File(File),
}

/// Which part of stdout is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputLimit {
    /// All, up to this many bytes; a child that prints more is ended.
    All(usize),
    /// The first bytes, up to this number; the rest is read and dropped.
    Head(usize),
    /// The last bytes of stdout and stderr together, up to this number.
    Tail(usize),
}

/// Called with the child's process id before the child may begin; an error keeps it from beginning.
pub type Gate<'a> = Box<dyn FnOnce(u32) -> anyhow::Result<()> + 'a>;

/// Receives each piece of stdout as it comes; false ends the child as if it had printed too much.
pub type Sink<'a> = Box<dyn FnMut(&[u8]) -> bool + 'a>;

pub struct Job<'a> {
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    pub input: Input,
    pub keep: OutputLimit,
    /// Another reader of its stdout.
    pub sink: Option<Sink<'a>>,
    /// Its timeout in milliseconds.
    pub timeout_ms: i64,
    /// For a child that waits for one byte on stdin: called before the byte is sent.
    pub gate: Option<Gate<'a>>,
    /// Its sandbox; `None` means that it runs like this process. A child with a gate builds the sandbox itself, once
    /// its gate opens.
    pub sandbox: Option<Sandbox>,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessExit {
    /// It exited with this code.
    Code(i32),
    /// A signal of another process killed it.
    Signal(i32),
    /// It ran into its timeout.
    Timeout,
    /// It printed more than it may.
    TooMuch,
    /// It did not start, with the reason.
    NotStarted(String),
    /// The user interrupted.
    Cancelled,
}

impl ProcessExit {
    /// Describes the end as a part of a sentence: `exit code 3`, `signal 9`.
    pub fn words(&self) -> String {
        match self {
            ProcessExit::Code(code) => format!("exit code {code}"),
            ProcessExit::Signal(signal) => format!("signal {signal}"),
            ProcessExit::Timeout => "its deadline".to_owned(),
            ProcessExit::TooMuch => "too much output".to_owned(),
            ProcessExit::NotStarted(why) => format!("not started: {why}"),
            ProcessExit::Cancelled => "an interruption".to_owned(),
        }
    }
}

/// The result of a child.
#[derive(Debug)]
pub struct ChildResult {
    pub exit: ProcessExit,
    /// The kept part of stdout.
    pub stdout: Vec<u8>,
    /// The end of stderr; empty if it went into the tail.
    pub stderr: Vec<u8>,
    /// How long it ran, in milliseconds.
    pub took_ms: i64,
}

impl ChildResult {
    pub(super) fn without_start(exit: ProcessExit) -> ChildResult {
        ChildResult { exit, stdout: Vec::new(), stderr: Vec::new(), took_ms: 0 }
    }
}
