//! The runner `command`: any program that reads a prompt on stdin and prints its answer as text.

use std::path::PathBuf;

use super::{Completion, Failed, ModelCall, Program, Runner, call_process, failure_words};
use crate::os::process::ProcessExit;
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::Usage;

/// A runner from the config.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// Its name in the config.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Names of environment variables that it gets.
    pub env: Vec<String>,
    /// Paths that it may write in its sandbox.
    pub write: Vec<PathBuf>,
    /// What a transient error looks like on stderr.
    pub transient: Option<regex_lite::Regex>,
    /// Where it runs: the config file's directory, so that a script beside it is found.
    pub cwd: PathBuf,
}

impl Runner for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    fn decide(&self, call: &ModelCall) -> Result<Completion, Box<Failed>> {
        let (cwd, input) = (self.cwd.clone(), call.prompt.whole.clone());
        let (argv, allow, write) = (&self.argv, &self.env, &self.write);
        let program = Program { argv, allow, cwd, input, write, ..Program::default() };
        let ended = call_process(&program, call, None)?;
        let usage = Usage::estimate(call.prompt.bytes, ended.stdout.len());
        let text = String::from_utf8_lossy(&ended.stdout).into_owned();
        let stderr = ended.stderr;
        let transient =
            self.transient.as_ref().is_some_and(|p| p.is_match(&String::from_utf8_lossy(&stderr)));
        let (class, why) = match ended.exit {
            ProcessExit::Code(0) if text.trim().is_empty() => {
                (Class::Empty, "it exited 0 and printed nothing".to_owned())
            }
            ProcessExit::Code(0) => {
                return Ok(Completion { text, truncated: false, usage, raw: ended.stdout, stderr });
            }
            ProcessExit::Signal(signal) => (Class::Crashed, format!("it was ended by signal {signal}")),
            other => {
                let (class, words) = failure_words(&stderr);
                (class, format!("it ended with {other}: {words}"))
            }
        };
        let class = if transient { Class::Transient } else { class };
        Err(Box::new(Failed { usage, raw: ended.stdout, stderr, ..*Failed::before_asking(class, why) }))
    }
}
