//! Agent CLIs and model endpoints: everything that is asked for a decision, works or fixes.
//!
//! One file holds all that looop knows of one agent CLI: its [`Agent`]. To add a CLI, write its file and add one row to
//! [`AGENTS`].

mod aider;
pub mod call;
pub mod classify;
mod claude;
mod codex;
pub mod command;
mod cursor_agent;
pub mod decider;
mod gemini;
pub mod http;
mod lines;
mod opencode;
mod pi;
mod qwen;
pub mod stream;
pub mod token;

#[cfg(test)]
mod events_tests;
#[cfg(test)]
mod table_tests;

use std::path::Path;

use serde_json::Value;

pub use call::{Completion, Failed, ModelCall, Program, PromptFiles, Runner, call_process, failure_words};
use stream::EventReader;

use crate::rules::beat::settings::StatusFile;
use crate::rules::worker::query::ProgramState;
use crate::store::sandboxes::AgentHome;

/// All agent CLIs, the default first.
pub static AGENTS: [&Agent; 8] = [
    &pi::AGENT,
    &claude::AGENT,
    &codex::AGENT,
    &gemini::AGENT,
    &opencode::AGENT,
    &qwen::AGENT,
    &cursor_agent::AGENT,
    &aider::AGENT,
];

/// All that looop knows of one agent CLI.
pub struct Agent {
    /// Its name in the config, and its program.
    pub name: &'static str,
    /// The version that was tried, or whose output was recorded; none: the file was written from the CLI's documentation.
    pub tested: Option<&'static str>,
    /// Environment variables that it gets where they are set, API keys among them: to decide, to work and to fix. A list of
    /// names or arguments here is one text, split at spaces.
    pub env: &'static str,
    /// The variable with the address of its models, and the vendor's own address; none: it has several vendors.
    pub endpoint: Option<(&'static str, &'static str)>,
    /// How it makes a decision.
    pub decide: Mode<DecideMode>,
    /// How it works in a terminal.
    pub work: Mode<WorkMode>,
    /// How it edits files unattended, for a fix.
    pub fix: Mode<FixMode>,
    /// The option for the effort; none: it has no such option.
    pub effort: Option<Effort>,
    /// What it keeps in the home directory.
    pub home: AgentHome,
    /// How the events that it prints are read; none: it prints text.
    pub events: Option<EventReader>,
    /// What it asks at its first start in a home or a directory, with words that are on the screen then.
    pub first_start: &'static [(FirstStart, &'static [&'static str])],
    /// Words of its own for a missing login, besides those that providers use.
    pub login_errors: &'static [&'static str],
}

/// A mode of an agent CLI; an error says why it has no such mode.
pub type Mode<T> = Result<T, &'static str>;

/// The option that says how hard a CLI thinks.
pub type Effort = fn(&str) -> [String; 2];

/// How an agent CLI makes a decision: without tools, the rest of the prompt on stdin. In its arguments and variables
/// `{system}` is replaced by the path of the file with the stable part of the prompt, `{system:json}` by the same as it is
/// written in a JSON string, `{file}` by the path of [`DecideMode::file`], and `{nothing}` by an empty text.
pub struct DecideMode {
    /// Its arguments.
    pub args: &'static str,
    /// Its arguments where the environment has an API key, so that it can do without a login of the user.
    pub keyed_args: Option<&'static str>,
    /// Environment variables that are set for it.
    pub set: &'static [(&'static str, &'static str)],
    /// A file that it is given: name and content.
    pub file: Option<(&'static str, &'static str)>,
    /// The option for the model.
    pub model: &'static str,
    /// What keeps it from acting.
    pub tools: &'static str,
    /// The oldest version that has all these options.
    pub oldest: (u32, u32, u32),
}

/// How an agent CLI works in a terminal. It asks its own questions, and looop flags them.
pub struct WorkMode {
    /// Its arguments. `{task}` is replaced by [`WORK_TASK`], `{brief}` by the path of the brief, `{status}` by the path of
    /// the status file, and `{box}` by the sandbox that codex makes for its commands.
    pub args: &'static str,
    /// Arguments that go before the others and give its session the id `{session}`; empty: it chooses its own id.
    pub session: &'static str,
    /// Its arguments to continue its last session, with the same places; empty: it cannot.
    pub resume: &'static str,
    /// Environment variables that are set for it, with the same places.
    pub set: &'static [(&'static str, &'static str)],
    /// The file that makes it report its status, where it does not by itself.
    pub status: Option<StatusFile>,
    /// How the titles of its terminal begin, by the state that they report.
    pub titles: &'static [(&'static str, ProgramState)],
    /// The sign at the beginning of an error on its screen, where it reports an error without words.
    pub error_sign: Option<&'static str>,
    /// How it says that it waits for the user.
    pub waits: &'static str,
    /// True if it takes the option for the effort in a terminal too.
    pub has_effort: bool,
}

/// How an agent CLI edits the files of the folder that it is started in, unattended.
pub struct FixMode {
    /// Its arguments. `{task}` is replaced by [`FIX_TASK`], and `{brief}` by the path of the prompt. If neither is named, the
    /// prompt comes on stdin.
    pub args: &'static str,
    /// Environment variables that are set for it.
    pub set: &'static [(&'static str, &'static str)],
}

/// What an agent asks at its first start. Where a screen shows more than one of them, the first one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::Display)]
pub enum FirstStart {
    #[strum(to_string = "it asks whether it may trust its directory")]
    Trust,
    #[strum(to_string = "it asks whether it may use the API key of its environment")]
    Key,
    #[strum(to_string = "it warns of working without permissions")]
    Unguarded,
    #[strum(to_string = "it wants you to log in")]
    Login,
}

/// What a worker is told first. The brief is a file, because it may be long.
pub const WORK_TASK: &str =
    "Read the file {brief} and do what it says. When all of it is done, run `looop done`, which ends you.";

/// What a worker is told whose session continues.
pub const RESUME_TASK: &str = "You were interrupted. Continue with the file {brief}. When all of it is done, run `looop done`, which ends you.";

/// The same for a fix whose prompt does not come on stdin.
pub const FIX_TASK: &str = "Read the file {brief} and do what it says.";

/// How the answers of a question at the first start look: a chosen one, or numbers.
const CHOICES: [&str; 5] = ["\u{276f}", "\u{203a}", "\u{25cf} 1", "1. ", "1) "];

/// The agent of this name.
pub fn find(name: &str) -> Option<&'static Agent> {
    AGENTS.into_iter().find(|agent| agent.name == name)
}

/// The names of those that can decide, the default first.
pub fn deciders() -> impl Iterator<Item = &'static str> {
    AGENTS.into_iter().filter(|agent| agent.decide.is_ok()).map(|agent| agent.name)
}

/// What the agent that goes by one of these names keeps in the home directory.
pub fn home_of(names: &[&str]) -> Option<&'static AgentHome> {
    AGENTS.into_iter().find(|agent| names.contains(&agent.name)).map(|agent| &agent.home)
}

/// How the titles of all terminals begin, by the state that they report.
pub fn titles() -> Vec<(&'static str, ProgramState)> {
    let modes = AGENTS.into_iter().filter_map(|agent| agent.work.as_ref().ok());
    modes.flat_map(|mode| mode.titles).copied().collect()
}

/// How the output of a command is read that is one of these CLIs and was told to print its events.
pub fn events_of(argv: &[String]) -> Option<EventReader> {
    let (program, args) = argv.split_first()?;
    let reader = find(Path::new(program).file_name()?.to_str()?)?.events?;
    args.iter()
        .any(|arg| arg == reader.option || arg.ends_with(&format!("={}", reader.option)))
        .then_some(reader)
}

/// How the events are read of which this is one: by what only one CLI prints, else by the type.
fn reader_of(event: &Value) -> Option<EventReader> {
    let name = event["type"].as_str()?;
    let all = || AGENTS.into_iter().filter_map(|agent| agent.events);
    all()
        .find(|reader| (reader.is_own)(event))
        .or_else(|| all().find(|reader| reader.wanted.contains(&name) || reader.tools.contains(&name)))
}

/// Fills in `{box}`, the sandbox that codex makes for its commands. A sandbox inside one of looop's cannot be made, so
/// codex makes none there.
pub fn fill_sandbox(args: &mut [String], is_sandboxed: bool) {
    let inner = if is_sandboxed { "danger-full-access" } else { "workspace-write" };
    args.iter_mut().filter(|arg| *arg == "{box}").for_each(|arg| *arg = inner.to_owned());
}

/// True if a text says in the words of an agent CLI that a login is missing.
pub fn lacks_login(text: &str) -> bool {
    let lower = text.to_lowercase();
    AGENTS.into_iter().flat_map(|agent| agent.login_errors).any(|words| lower.contains(words))
}

/// The last error that a screen shows, in one line.
pub fn error_on(screen: &str) -> Option<String> {
    let signs: Vec<&str> =
        AGENTS.into_iter().filter_map(|agent| agent.work.as_ref().ok()?.error_sign).collect();
    let text = |line: &str| signs.iter().find_map(|sign| line.strip_prefix(sign)).map(str::to_owned);
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    let (at, first) = lines.iter().enumerate().rev().find_map(|(at, line)| Some((at, text(line)?)))?;
    let rest = lines[at + 1..].iter().take_while(|line| !line.is_empty()).map(|line| (*line).to_owned());
    Some(std::iter::once(first).chain(rest).collect::<Vec<_>>().join(" "))
}

/// What an agent asks at its first start, where the screen shows that.
pub fn first_start(screen: &str) -> Option<FirstStart> {
    let small = screen.to_lowercase();
    // The words alone may be part of the text that the agent works on. A question also shows choices.
    if !CHOICES.iter().any(|choice| small.contains(choice)) {
        return None;
    }
    let all = AGENTS.into_iter().flat_map(|agent| agent.first_start);
    all.filter(|(_, words)| words.iter().any(|words| small.contains(words))).map(|(what, _)| *what).min()
}

impl WorkMode {
    /// A mode without anything special.
    const PLAIN: WorkMode = WorkMode {
        args: "{task}",
        session: "",
        resume: "",
        set: &[],
        status: None,
        titles: &[],
        error_sign: None,
        waits: "by its silence at a question, which is a guess",
        has_effort: true,
    };
}

impl Agent {
    /// The names of its environment variables.
    pub fn env_names(&self) -> impl Iterator<Item = &'static str> {
        self.env.split_whitespace()
    }

    /// The names of its environment variables that hold a key.
    pub fn key_names(&self) -> impl Iterator<Item = &'static str> {
        self.env_names().filter(|name| name.ends_with("_KEY") || name.ends_with("_TOKEN"))
    }

    /// Where its login comes from, as far as that can be seen without asking it; `None` if nothing is there.
    pub fn login(&self, home: &Path, env: &[(String, String)]) -> Option<String> {
        let is_set = |name: &&str| env.iter().any(|(key, value)| key == name && !value.is_empty());
        let key = self.key_names().find(is_set).map(str::to_owned);
        key.or_else(|| Some(self.home.login_file(home, env)?.display().to_string()))
    }

    /// What it can be used for, in words.
    pub fn modes(&self) -> String {
        let modes = [("decide", self.decide.is_ok()), ("work", self.work.is_ok()), ("fix", self.fix.is_ok())];
        let names: Vec<&str> = modes.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
        names.join(" and ")
    }
}
