//! The runner for an agent CLI of the table: started without hands, its stream of events read as it comes.

use std::path::PathBuf;

use super::said::{OUTPUT_LIMIT, Said, Stop, Stream};
use super::table::{Row, Setup};
use super::{Call, Failed, Program, Reply, Runner, call_process, classify, last_words};
use crate::model::charge::{Basis, Usage};
use crate::model::failing::{Class, reset_at_ms};
use crate::model::price::Price;
use crate::store::file;
use crate::sys::proc::{Ended, Exit};

/// An agent CLI with what the config says about it.
#[derive(Clone)]
pub struct Agent {
    /// Its row of the table.
    pub row: &'static Row,
    /// The model; none: its own default.
    pub model: Option<String>,
    /// How hard it thinks; none: its own default.
    pub effort: Option<String>,
    /// Names of environment variables that it gets besides those of the row.
    pub env: Vec<String>,
    /// What it may write in its box besides its own directories.
    pub write: Vec<PathBuf>,
    /// Arguments after those of the row.
    pub args: Vec<String>,
    /// What its tokens cost, where it does not say so itself.
    pub price: Option<Price>,
}

/// Words by which a CLI says that it does not know an option.
const TOO_OLD: [&str; 5] =
    ["unknown option", "unknown argument", "unexpected argument", "unrecognized option", "unknown arguments"];

impl Runner for Agent {
    fn name(&self) -> &str {
        self.row.name
    }

    fn program(&self) -> &str {
        self.row.name
    }

    fn decide(&self, call: &mut Call) -> Result<Reply, Box<Failed>> {
        let given = self.given(call)?;
        let has_key = self.row.keys.iter().any(|key| {
            let is_key = key.ends_with("_KEY") || key.ends_with("AUTH_TOKEN");
            is_key && call.full_env.iter().any(|(name, value)| name == key && !value.is_empty())
        });
        let system = call.system_file.clone();
        let (model, effort) = (self.model.as_deref(), self.effort.as_deref());
        let setup = Setup { system: &system, file: &given, model, effort, has_key };
        let mut argv = vec![self.row.name.to_owned()];
        argv.extend((self.row.args)(&setup));
        argv.extend(self.args.iter().cloned());
        let allow: Vec<String> =
            self.row.keys.iter().map(|key| (*key).to_owned()).chain(self.env.iter().cloned()).collect();
        let mut set = (self.row.set)(&setup);
        // What the human has named wins.
        set.retain(|(key, _)| !self.env.iter().any(|own| own == key));
        let set: Vec<(&str, &str)> = set.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let (cwd, input) = (call.empty_dir.clone(), call.user_file.clone());
        let read: Vec<PathBuf> =
            [system.clone(), given.clone()].into_iter().filter(|path| *path != PathBuf::new()).collect();
        let agent = Some(self.row.name);
        let program = Program {
            argv: &argv,
            allow: &allow,
            set: &set,
            cwd,
            input,
            agent,
            read: &read,
            write: &self.write,
        };
        let mut stream = Stream::new(self.row.reader);
        let mut stopped = None;
        let ended = call_process(
            &program,
            call,
            Some(Box::new(|piece: &[u8]| match stream.feed(piece) {
                Ok(()) => true,
                Err(why) => {
                    stopped = Some(why);
                    false
                }
            })),
        );
        let said = stream.end();
        let mut usage = said.usage.clone();
        usage.model = usage.model.or_else(|| self.model.clone());
        if let Some(price) = self.price.filter(|_| usage.basis == Basis::Tokens) {
            (usage.cost_micros, usage.basis) = (price.of(&usage), Basis::Priced);
        }
        match ended {
            Ok(ended) => self.judge(ended, said, usage, call),
            Err(mut failed) => {
                // A stream that was cut off still tells what was used until then.
                if failed.class != Class::Missing {
                    failed.usage = usage;
                }
                if stopped == Some(Stop::Loop) {
                    failed.class = Class::Crashed;
                    failed.why = format!(
                        "`{}` asked its model {} times for one answer and was ended",
                        self.row.name, said.requests
                    );
                }
                Err(failed)
            }
        }
    }
}

impl Agent {
    /// Puts the row's file beside the prompt.
    fn given(&self, call: &Call) -> Result<PathBuf, Box<Failed>> {
        let Some((name, content)) = self.row.file else { return Ok(PathBuf::new()) };
        let path = call.system_file.with_file_name(name);
        file::write(&path, content.as_bytes(), 0o600, file::Keep::Whole)
            .map_err(|error| Failed::before_asking(Class::Crashed, format!("{error:#}")))?;
        Ok(path)
    }

    fn judge(&self, ended: Ended, said: Said, usage: Usage, call: &Call) -> Result<Reply, Box<Failed>> {
        let name = self.row.name;
        let (raw, stderr) = (ended.stdout, ended.stderr);
        let words = last_words(&stderr);
        let (class, why) = match (ended.exit, said.trouble) {
            (Exit::Signal(signal), _) => (Class::Crashed, format!("`{name}` was ended by signal {signal}")),
            // Some exit 0 after a failed answer, so the stream is asked first.
            (_, Some(trouble)) => (trouble.class, trouble.why),
            (Exit::Code(0), None) if said.text.trim().is_empty() && usage.basis == Basis::Unknown => {
                let tried = self.row.tried;
                let hint = format!(
                    "no event that looop knows came from `{name}`; {tried} is the version that was tried"
                );
                let class = if raw.is_empty() { Class::Empty } else { Class::Crashed };
                (
                    class,
                    if raw.is_empty() { format!("`{name}` ended without an answer: {words}") } else { hint },
                )
            }
            (Exit::Code(0), None) if said.text.trim().is_empty() => {
                let limit = if said.truncated { format!(": {OUTPUT_LIMIT}") } else { String::new() };
                (Class::Empty, format!("`{name}` ended without an answer{limit}"))
            }
            (Exit::Code(0), None) => {
                return Ok(Reply { text: said.text, truncated: said.truncated, usage, raw, stderr });
            }
            (exit, None) => {
                let lower = words.to_lowercase();
                let (major, minor, patch) = self.row.oldest;
                let old = match TOO_OLD.iter().any(|phrase| lower.contains(phrase)) {
                    true => format!("; looop needs {name} {major}.{minor}.{patch} or later"),
                    false => String::new(),
                };
                (classify::by_words(&words), format!("`{name}` ended with {}: {words}{old}", exit.words()))
            }
        };
        let told = said.resets_at_s.filter(|_| matches!(class, Class::Limit | Class::Transient));
        let retry_at_ms = match told {
            Some(seconds) => seconds.checked_mul(1000),
            None if class == Class::Limit => reset_at_ms(&why, call.now),
            None => None,
        };
        let class = if told.is_some() { Class::Limit } else { class };
        Err(Box::new(Failed { class, why, retry_at_ms, usage, raw, stderr }))
    }
}
