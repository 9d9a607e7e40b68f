//! Leanfiles: small tasks in TOML, merged over the user's static config, with a default for every key.

pub mod gate;
pub mod source;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smart_default::SmartDefault;

use crate::os::path::followed;
use crate::rules::fault::Fault;
use crate::rules::text::{nearest, visible};
use gate::LeanfileKeys;
use source::LeanfileSource;

const MAX_BYTES: usize = 1 << 20;
/// How similar a known key must be to be named, of 1.
const MIN_SIMILARITY: f64 = 0.7;
/// The text that `--init` writes.
pub const SAMPLE: &str = include_str!("../../seed/leanfile.toml");

/// The lines of [`SAMPLE`] that name the tests, and those of its task.
const SAMPLE_TESTS: &str = "command = \"pytest\"\nargs = [\"-q\"]\n";
const SAMPLE_TASK: &str = "[[tasks]]\n";

/// The text that `--init` writes for a project, of which `read` returns a file at its top. The tests are those of the first
/// kind of project that fits; then the sample task, which names files that are not there, is a comment.
pub fn sample_for(read: impl Fn(&str) -> Option<String>) -> String {
    let has = |name: &str| read(name).is_some();
    let script = || read("package.json").is_some_and(|text| text.contains("\"test\":"));
    let target = || read("Makefile").is_some_and(|text| text.lines().any(|line| line.starts_with("test:")));
    let python = ["pyproject.toml", "pytest.ini", "setup.cfg", "tox.ini", "setup.py"];
    let (command, args): (&str, &[&str]) = if has("Cargo.toml") {
        ("cargo", &["test"])
    } else if has("go.mod") {
        ("go", &["test", "./..."])
    } else if script() && has("pnpm-lock.yaml") {
        ("pnpm", &["test"])
    } else if script() && has("yarn.lock") {
        ("yarn", &["test"])
    } else if script() {
        ("npm", &["test"])
    } else if python.into_iter().any(has) {
        ("pytest", &["-q"])
    } else if target() {
        ("make", &["test"])
    } else {
        return SAMPLE.to_owned();
    };
    let tests = format!("command = {command:?}\nargs = {args:?}\n");
    let (head, task) = SAMPLE.split_once(SAMPLE_TASK).unwrap_or((SAMPLE, ""));
    let task: String = format!("{SAMPLE_TASK}{task}").lines().map(|line| format!("# {line}\n")).collect();
    head.replace(SAMPLE_TESTS, &tests) + &task
}

/// The merged leanfile of a run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Leanfile {
    pub lean: AgentConfig,
    /// The health check before an agent is called.
    pub health: HealthCheck,
    /// Settings for work on tasks.
    pub defaults: Defaults,
    /// Texts that replace looop's own prompts.
    pub prompts: Prompts,
    /// The tests.
    pub runner: Tests,
    /// The tasks, in order; empty: fix whatever fails.
    pub tasks: Vec<Task>,
}

/// The agent: a wrapper program or an endpoint.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, SmartDefault)]
#[serde(default)]
pub struct AgentConfig {
    /// The wrapper's program; a relative path starts at the static config's directory.
    pub binary: Option<String>,
    /// Passed as `LEAN_BASE_URL`.
    pub base_url: Option<String>,
    /// Passed as `LEAN_API_KEY`.
    pub api_key: Option<String>,
    /// Passed as `LEAN_MODEL`.
    pub model: Option<String>,
    /// Passed as `LEAN_APPROVAL_MODE`.
    pub approval_mode: Option<String>,
    /// Passed as `LEAN_AUTH_TYPE`.
    pub auth_type: Option<String>,
    /// The timeout of one call, in seconds.
    #[default(600)]
    pub timeout: u32,
}

impl AgentConfig {
    /// The values that a wrapper gets as `LEAN_*` variables, by their keys.
    pub fn values(&self) -> [(&'static str, &Option<String>); 5] {
        [
            ("base_url", &self.base_url),
            ("api_key", &self.api_key),
            ("model", &self.model),
            ("approval_mode", &self.approval_mode),
            ("auth_type", &self.auth_type),
        ]
    }

    /// True if it names an agent: a program, or an endpoint.
    pub fn names_agent(&self) -> bool {
        self.binary.is_some() || (self.base_url.is_some() && self.model.is_some())
    }
}

/// The health check before an agent is called.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, SmartDefault)]
#[serde(default)]
pub struct HealthCheck {
    /// An `http://` address that must answer 2xx.
    pub check_url: Option<String>,
    /// The longest wait for it, in seconds.
    #[default(60)]
    pub max_wait: u32,
}

/// Settings for work on tasks.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, SmartDefault)]
#[serde(default)]
pub struct Defaults {
    /// The base directory of paths; if it is relative, it starts at the leanfile's directory.
    #[default(".")]
    pub project_root: String,
    /// The number of lines shown around each place that a failure names in a long file.
    #[default(30)]
    pub source_window: usize,
    /// The number of lines of a failure that are shown.
    #[default(40)]
    pub error_tail_lines: usize,
    /// The most attempts of a task in one run.
    #[default(5)]
    pub max_iters_per_task: u32,
    /// The timeout of each command of `after`, in seconds.
    #[default(600)]
    pub after_command_timeout: u32,
    /// If true, ask the agent for a diagnosis first.
    #[default(true)]
    pub summarize_errors: bool,
    /// If true, print how many tokens the first runner handled.
    #[default(true)]
    pub log_token_savings: bool,
    /// A text for every prompt.
    pub global_message: String,
    /// Prefixes of test names.
    #[serde(deserialize_with = "one_or_more")]
    #[default(["tests/", "test_", "scripts/"].map(str::to_owned).into())]
    pub test_prefix: Vec<String>,
}

/// Texts that replace looop's own prompts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Prompts {
    /// The prompt for a diagnosis; `{error}` is replaced by the failure, which otherwise follows at the end.
    pub summary: Option<String>,
}

/// How tests are run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, SmartDefault)]
#[serde(default)]
pub struct Tests {
    /// The program, or a shell line if `shell` is set.
    pub command: String,
    pub args: Vec<String>,
    /// The timeout, in seconds.
    #[default(30)]
    pub timeout: u32,
    /// If true, a shell runs it.
    pub shell: bool,
    /// Additional environment variables.
    pub env: BTreeMap<String, String>,
}

/// One task.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Task {
    pub name: String,
    /// The description of the task.
    pub prompt: String,
    /// The files that the agent sees; `*`, `**` and `?` are patterns.
    pub files: Vec<String>,
    /// The most characters of files that it sees.
    pub context_budget: Option<usize>,
    /// Commands that must succeed after the tests pass; a shell runs them.
    pub after: Vec<String>,
    /// If true, the task is done without tests.
    pub skip_tests: bool,
    /// Settings of the runner that differ for this task; once merged, all of them.
    pub runner: Tests,
    /// The test files that decide; they are passed to the runner.
    pub test_files: Vec<String>,
}

impl Task {
    /// The most characters of files in its prompt.
    pub fn context_chars(&self) -> usize {
        self.context_budget.unwrap_or(CONTEXT_BUDGET)
    }
}

/// The default budget of a task, in characters.
pub const CONTEXT_BUDGET: usize = 24_000;

/// Accepts a text or a list of texts.
fn one_or_more<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        More(Vec<String>),
    }
    Ok(match Either::deserialize(from)? {
        Either::One(text) if text.is_empty() => Vec::new(),
        Either::One(text) => vec![text],
        Either::More(all) => all,
    })
}

/// A merged leanfile, and warnings.
#[derive(Clone, Debug, Default)]
pub struct Read {
    pub leanfile: Leanfile,
    /// The absolute path of `project_root`.
    pub root: PathBuf,
    /// The project in which `root` must lie, if a file of a project sets `root`.
    pub inside: Option<PathBuf>,
    /// One line for each oddity.
    pub warnings: Vec<String>,
}

/// Merges leanfiles in order: tables merge, everything else is replaced. A relative `project_root` starts at `base`.
///
/// # Errors
/// A usage error with file and line, and how to fix it.
pub fn combined(sources: &[LeanfileSource], base: &Path) -> Result<Read> {
    let mut all = toml::Table::new();
    let (mut warnings, mut keys) = (Vec::new(), Vec::new());
    let mut names_root: Option<&LeanfileSource> = None;
    for source in sources {
        let mut table = parse(&source.path, &source.text)?;
        let shown = source.path.display();
        warnings.extend(unknown(&table).into_iter().map(|odd| format!("{shown}: {odd}")));
        if source.is_muted {
            gate::mute(&mut table);
        }
        let own: Leanfile = table.clone().try_into().with_context(|| format!("could not read `{shown}`"))?;
        keys.push(LeanfileKeys {
            file: format!("`{shown}`"),
            lean: own.lean,
            in_project: source.project.is_some(),
        });
        if table.get("defaults").and_then(|defaults| defaults.get("project_root")).is_some() {
            names_root = Some(source);
        }
        merge(&mut all, table);
    }
    let (key, warning) = gate::bound_key(&keys);
    warnings.extend(warning);
    if let Some(lean) = all.get_mut("lean").and_then(toml::Value::as_table_mut) {
        lean.remove("api_key");
        lean.extend(key.map(|key| ("api_key".to_owned(), toml::Value::String(key))));
    }
    let leanfile = typed(all)?;
    let root = base.join(&leanfile.defaults.project_root);
    let inside = names_root.and_then(|source| source.project.clone());
    if let (Some(source), Some(project)) = (names_root, &inside)
        && !followed(&root).starts_with(project)
    {
        let (file, named) = (source.path.display(), &leanfile.defaults.project_root);
        let what = format!(
            "could not use project_root {named:?} of `{file}`: it leads out of `{}`",
            project.display()
        );
        return Err(Fault::usage(what).hint("choose a directory of the project, or use --repo").into());
    }
    Ok(Read { leanfile, root, inside, warnings })
}

/// One warning for each unknown key, with the nearest known one.
fn unknown(table: &toml::Table) -> Vec<String> {
    let all = Leanfile { tasks: vec![Task::default()], ..Leanfile::default() };
    let known = serde_json::to_value(all).unwrap_or_default();
    let mut odd = Vec::new();
    look(table, "", &known, &mut odd);
    odd
}

/// `known` has every key of the table, with tables in it as objects.
fn look(table: &toml::Table, place: &str, known: &Value, odd: &mut Vec<String>) {
    for (key, value) in table {
        let shown = format!("{place}{}", visible(key, false));
        match (known.get(key), value) {
            (None, _) => {
                let keys = known.as_object().into_iter().flat_map(|known| known.keys());
                let near = nearest(key, keys, MIN_SIMILARITY);
                let meant = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                odd.push(format!("unknown key `{shown}` has no effect{meant}"));
            }
            // The variables of `env` have any name.
            (Some(known), toml::Value::Table(inner)) if key != "env" => {
                look(inner, &format!("{shown}."), known, odd);
            }
            (Some(Value::Array(known)), toml::Value::Array(all)) => {
                for (at, inner) in all.iter().enumerate() {
                    if let (Some(known), Some(inner)) = (known.first(), inner.as_table()) {
                        look(inner, &format!("{shown}[{}].", at + 1), known, odd);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Parses the file into a table. Types are checked here, where an error still has its line.
fn parse(path: &Path, text: &str) -> Result<toml::Table> {
    let broken = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
        let shown = path.display();
        let what = format!("could not read the leanfile: {shown}:{line}: {}", error.message().trim());
        let fault = Fault::usage(what);
        let bad = text.lines().nth(line - 1).unwrap_or_default().trim();
        fault.hint(hint(error.message(), bad))
    };
    toml::from_str::<Leanfile>(text).map_err(broken)?;
    Ok(toml::from_str::<toml::Table>(text).map_err(broken)?)
}

fn hint(message: &str, line: &str) -> String {
    let shown = crate::rules::json::clip(&visible(line, false), 80);
    let advice = if ["string", "quote", "unquoted"].iter().any(|word| message.contains(word)) {
        "put a text between double quotes, a text of several lines between \"\"\""
    } else if message.contains("duplicate") {
        "use each key once, and begin each task with [[tasks]]"
    } else {
        "`looop fix --init` writes a correct leanfile"
    };
    format!("the line is `{shown}`; {advice}")
}

/// Merges a table over another one.
fn merge(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

fn typed(mut all: toml::Table) -> Result<Leanfile> {
    let shared = all.get("runner").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let tasks = all.get_mut("tasks").and_then(toml::Value::as_array_mut).into_iter().flatten();
    for task in tasks.filter_map(toml::Value::as_table_mut) {
        let mut runner = shared.clone();
        if let Some(toml::Value::Table(own)) = task.remove("runner") {
            merge(&mut runner, own);
        }
        task.insert("runner".to_owned(), toml::Value::Table(runner));
    }
    let mut leanfile: Leanfile = all.try_into().context("could not read the leanfiles together")?;
    for (at, task) in leanfile.tasks.iter_mut().enumerate().filter(|(_, task)| task.name.trim().is_empty()) {
        task.name = format!("task-{}", at + 1);
    }
    check(&leanfile)?;
    Ok(leanfile)
}

fn check(leanfile: &Leanfile) -> Result<()> {
    for (at, task) in leanfile.tasks.iter().enumerate() {
        if task.prompt.trim().is_empty() {
            let what = format!("could not use task {} ({:?}): it has no prompt", at + 1, task.name);
            return Err(Fault::usage(what).hint("describe the work in `prompt`").into());
        }
        if leanfile.tasks[..at].iter().any(|other| other.name == task.name) {
            let what = format!("could not use the leanfile: two tasks are called {:?}", task.name);
            return Err(Fault::usage(what).into());
        }
        let paths = task.files.iter().map(|path| ("files", path));
        for (key, path) in paths.chain(task.test_files.iter().map(|path| ("test_files", path))) {
            let mut parts = Path::new(path).components();
            if !parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
                let what =
                    format!("could not use {key} of task {:?}: {path:?} leads out of the project", task.name);
                bail!(Fault::usage(what).hint("write paths relative to the project's directory"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "leanfile/leanfile_tests.rs"]
mod tests;
