//! An API key that a command prints: fetched for each call, kept in this process only, and never in a file.

use std::path::PathBuf;

use super::call::redact;
use super::{Completion, Failed, ModelCall, Runner, failure_words};
use crate::os::process::{self, Job, OutputLimit, ProcessCommand, ProcessExit};
use crate::os::program;
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::Usage;
use crate::rules::secret::Secrets;
use crate::rules::time::human_ms;

/// The timeout of the command, in milliseconds.
const TIMEOUT_MS: i64 = 30_000;
/// The most output of the command, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// The command that prints a key, and the variable that passes the key to a call.
#[derive(Clone, Debug)]
pub struct TokenSource {
    pub argv: Vec<String>,
    pub var: String,
    /// The working directory of the command: the config file's directory.
    pub cwd: PathBuf,
}

impl TokenSource {
    /// Makes a call with the key in its environment. The key is redacted in everything that comes back.
    ///
    /// # Errors
    /// [`Class::Auth`] if the command prints no key; otherwise the failure of the call.
    pub fn call(
        &self,
        call: &ModelCall,
        ask: impl FnOnce(&ModelCall) -> Result<Completion, Box<Failed>>,
    ) -> Result<Completion, Box<Failed>> {
        let token = self.fetch(call)?;
        let secrets = Secrets::known(vec![("COMMAND_TOKEN".to_owned(), token.clone())]);
        let mut result = ask(&ModelCall { key: Some(&(self.var.clone(), token)), ..*call });
        redact(&mut result, &secrets);
        result
    }

    fn fetch(&self, call: &ModelCall) -> Result<String, Box<Failed>> {
        let failed = |why: String| {
            let (name, usage) = (self.argv.first().map_or("", String::as_str), Usage::nothing());
            let why = format!("`{name}` of `token_cmd` printed no key: {why}");
            Box::new(Failed { usage, ..*Failed::before_asking(Class::Auth, why) })
        };
        let Some((name, args)) = self.argv.split_first() else {
            return Err(failed("it is empty".to_owned()));
        };
        let Some(program) = program::find_program(name, &call.sandboxes.settings.path, &self.cwd) else {
            return Err(failed("it is not an executable on the configured PATH".to_owned()));
        };
        // The command belongs to the user and may ask a keyring or an agent of theirs, so it gets the whole
        // environment.
        let command = ProcessCommand::new(program, args, call.full_env().cloned().collect(), &self.cwd);
        let job = Job::new(command, OutputLimit::All(MAX_BYTES), TIMEOUT_MS);
        let ended = process::run_one(job, call.cancel, None).map_err(|error| failed(error.to_string()))?;
        let why = match ended.exit {
            ProcessExit::Code(0) => {
                let text =
                    String::from_utf8(ended.stdout).map_err(|_| failed("it is not text".to_owned()))?;
                let token = text.lines().next().unwrap_or_default().trim();
                match token.is_empty() || token.chars().any(char::is_control) {
                    false => return Ok(token.to_owned()),
                    true => "its first line is empty, or contains a control character".to_owned(),
                }
            }
            ProcessExit::Cancelled => {
                return Err(Failed::before_asking(Class::Cancelled, "interrupted".to_owned()));
            }
            ProcessExit::Timeout => format!("it was still running after {}", human_ms(TIMEOUT_MS)),
            exit => format!("{exit}: {}", failure_words(&ended.stderr).1),
        };
        Err(failed(why))
    }
}

/// A runner whose program gets its key from a command.
pub struct KeyedRunner {
    pub runner: Box<dyn Runner>,
    /// The source of its key.
    pub source: TokenSource,
}

impl Runner for KeyedRunner {
    fn name(&self) -> &str {
        self.runner.name()
    }

    fn program(&self) -> &str {
        self.runner.program()
    }

    fn decide(&self, call: &ModelCall) -> Result<Completion, Box<Failed>> {
        self.source.call(call, |call| self.runner.decide(call))
    }
}
