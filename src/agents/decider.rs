//! An agent CLI as a decider: started without tools, its events read as they come.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::stream::{EventReader, EventStream, StreamSummary};
use super::{
    Agent, Completion, DecideMode, Failed, ModelCall, Program, Runner, call_process, failure_words,
    lacks_login,
};
use crate::os::process::{ChildResult, ProcessExit};
use crate::rules::beat::failing::Class;
use crate::rules::beat::limit_end::{bounded, reset_at_ms};
use crate::rules::cost::charge::{CostSource, Usage};
use crate::rules::cost::price::Price;
use crate::store::file;

/// An agent CLI that decides, as the config has it.
#[derive(Clone)]
pub struct AgentRunner {
    /// The CLI.
    pub agent: &'static Agent,
    /// How it decides.
    pub mode: &'static DecideMode,
    /// How its events are read.
    pub events: EventReader,
    /// The model; none: its own default.
    pub model: Option<String>,
    /// How hard it thinks; none: its own default.
    pub effort: Option<String>,
    /// Environment variables that it gets besides those of [`Agent::env`].
    pub env: Vec<String>,
    /// What it may write in its sandbox besides its own directories.
    pub write: Vec<PathBuf>,
    /// Arguments after those of the mode.
    pub args: Vec<String>,
    /// The price of its tokens, where it does not report one.
    pub price: Option<Price>,
}

/// Words by which a CLI says that it does not know an option.
const TOO_OLD: [&str; 5] =
    ["unknown option", "unknown argument", "unexpected argument", "unrecognized option", "unknown arguments"];

impl Runner for AgentRunner {
    fn name(&self) -> &str {
        self.agent.name
    }

    fn program(&self) -> &str {
        self.agent.name
    }

    fn decide(&self, call: &ModelCall) -> Result<Completion, Box<Failed>> {
        let mut given = None;
        if let Some((name, content)) = self.mode.file {
            let path = call.prompt.system.with_file_name(name);
            file::write(&path, content.as_bytes(), 0o600, file::Durability::Atomic)
                .map_err(|error| Failed::before_asking(Class::Crashed, format!("{error:#}")))?;
            given = Some(path);
        }
        let has_key = self.agent.env_names().any(|key| {
            let is_key = key.ends_with("_KEY") || key.ends_with("AUTH_TOKEN");
            is_key && call.full_env().any(|(name, value)| name == key && !value.is_empty())
        });
        let path_of = |path: &Path| path.to_string_lossy().into_owned();
        let system = path_of(&call.prompt.system);
        let json = Value::String(system.clone()).to_string();
        let file = given.as_deref().map_or(String::new(), path_of);
        let places = [
            ("{system:json}", &json[1..json.len() - 1]),
            ("{system}", &system),
            ("{file}", &file),
            ("{nothing}", ""),
        ];
        let fill =
            |text: &str| places.iter().fold(text.to_owned(), |text, (place, by)| text.replace(place, by));
        let args = self.mode.keyed_args.filter(|_| has_key).unwrap_or(self.mode.args);
        let mut argv = vec![self.agent.name.to_owned()];
        argv.extend(args.split_whitespace().map(fill));
        argv.extend(self.model.iter().flat_map(|model| [self.mode.model.to_owned(), model.clone()]));
        argv.extend(
            self.effort.as_deref().zip(self.agent.effort).into_iter().flat_map(|(effort, of)| of(effort)),
        );
        argv.extend(self.args.iter().cloned());
        // What the config names wins; what looop sets wins over what the environment has.
        let set = self.mode.set.iter().filter(|(key, _)| !self.env.iter().any(|own| own == key));
        let set: Vec<(String, String)> = set.map(|(key, value)| ((*key).to_owned(), fill(value))).collect();
        let known = self.agent.env_names().filter(|key| set.iter().all(|(set, _)| set != key));
        let allow: Vec<String> = known.map(str::to_owned).chain(self.env.iter().cloned()).collect();
        let read: Vec<PathBuf> = given.into_iter().chain([call.prompt.system.clone()]).collect();
        let program = Program {
            argv: &argv,
            allow: &allow,
            set,
            // A decider needs no files.
            cwd: call.sandboxes.layout.empty_dir(),
            input: call.prompt.user.clone(),
            agent: Some(self.agent),
            read: &read,
            write: &self.write,
        };
        let mut stream = EventStream::new(self.events);
        let ended = call_process(&program, call, Some(Box::new(|piece: &[u8]| stream.feed(piece))));
        let asks_for_ever = stream.asks_for_ever();
        let summary = stream.end();
        let mut usage = summary.usage.clone();
        usage.model = usage.model.or_else(|| self.model.clone());
        if let Some(price) = self.price.filter(|_| usage.basis == CostSource::Tokens) {
            (usage.cost_micros, usage.basis) = (price.of(&usage), CostSource::Priced);
        }
        match ended {
            Ok(ended) => self.judge(ended, summary, usage, call),
            Err(mut failed) => {
                // A stream that was cut off still tells what was used until then.
                if failed.class != Class::Missing {
                    failed.usage = usage;
                }
                if asks_for_ever {
                    failed.class = Class::Crashed;
                    failed.why = format!(
                        "`{}` asked its model {} times for one answer and was ended",
                        self.agent.name, summary.requests
                    );
                }
                Err(failed)
            }
        }
    }
}

impl AgentRunner {
    fn judge(
        &self,
        ended: ChildResult,
        mut summary: StreamSummary,
        usage: Usage,
        call: &ModelCall,
    ) -> Result<Completion, Box<Failed>> {
        let name = self.agent.name;
        let (raw, stderr) = (ended.stdout, ended.stderr);
        let (of_words, words) = failure_words(&stderr);
        let (class, why) = match (ended.exit, summary.failure.take()) {
            (ProcessExit::Signal(signal), _) => {
                (Class::Crashed, format!("`{name}` was ended by signal {signal}"))
            }
            // Some exit 0 after a failed answer, so the stream is asked first.
            (_, Some(failure)) => (failure.class, failure.why),
            (ProcessExit::Code(0), None)
                if summary.text.trim().is_empty() && usage.basis == CostSource::Unknown =>
            {
                let tested = self.agent.tested.unwrap_or("none");
                match raw.is_empty() {
                    true => (Class::Empty, format!("`{name}` ended without an answer: {words}")),
                    false => (
                        Class::Crashed,
                        format!(
                            "no event that looop knows came from `{name}`; {tested} is the version that was tried"
                        ),
                    ),
                }
            }
            (ProcessExit::Code(0), None) if summary.text.trim().is_empty() => {
                (Class::Empty, format!("`{name}` ended without an answer{}", summary.limit_note()))
            }
            (ProcessExit::Code(0), None) => {
                let StreamSummary { text, truncated, .. } = summary;
                return Ok(Completion { text, truncated, usage, raw, stderr });
            }
            (exit, None) => {
                let lower = words.to_lowercase();
                let (major, minor, patch) = self.mode.oldest;
                let old = match TOO_OLD.iter().any(|phrase| lower.contains(phrase)) {
                    true => format!("; looop needs {name} {major}.{minor}.{patch} or later"),
                    false => String::new(),
                };
                (of_words, format!("`{name}` ended with {exit}: {words}{old}"))
            }
        };
        let notified = summary.resets_at_s.filter(|_| matches!(class, Class::Limit | Class::Transient));
        let retry_at_ms = match notified {
            Some(seconds) => seconds.checked_mul(1000).map(|ms| bounded(ms, call.now)),
            None if class == Class::Limit => reset_at_ms(&why, call.now),
            None => None,
        };
        let class = match class {
            _ if notified.is_some() => Class::Limit,
            Class::Crashed | Class::Transient if lacks_login(&why) => Class::Auth,
            class => class,
        };
        Err(Box::new(Failed { class, why, retry_at_ms, usage, raw, stderr }))
    }
}
