//! The configuration from the config file and the environment, read once. No other module reads the environment.

#![allow(clippy::disallowed_methods, reason = "this module owns the environment")]

mod deciders;
mod fixes;
mod form;
mod problem;
mod sandboxes;
mod workers;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use form::{ConfigFile, DurationText, RunnerFile};
pub use form::{FRESH_DAY_MICROS, FreshConfig, write_fresh};
pub use problem::Problem;

use crate::agents::AGENTS;
use crate::os::path;
use crate::rules::beat::settings::{Limits, PolicyRules, RunRule, Settings};
use crate::rules::cost::budget::Budget;
use crate::rules::fault::Fault;
use crate::rules::name::Name;
use crate::rules::secret::Secrets;
use crate::rules::time::parse_ms;
use crate::rules::world::front_matter::listed_path_flaw;
use crate::store::file;
use crate::store::layout::Layout;

/// The PATH if neither the config nor the environment sets one.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
pub const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Variables that every child gets, besides PATH.
const BASE_ENV: [&str; 15] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_TIME",
    "TZ",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
];
/// Settings that keep git in a child process from running code of the repository in its current directory.
const SAFE_GIT: [(&str, &str); 5] = [
    ("GIT_CONFIG_COUNT", "2"),
    ("GIT_CONFIG_KEY_0", "core.fsmonitor"),
    ("GIT_CONFIG_VALUE_0", "false"),
    ("GIT_CONFIG_KEY_1", "core.hooksPath"),
    ("GIT_CONFIG_VALUE_1", "/dev/null"),
];
/// Variables that name looop's own files and directories.
const PLACES: [&str; 4] = ["LOOOP_DATA_DIR", "LOOOP_CONFIG", "LEANLOOP_CONFIG", "TMPDIR"];

/// The arguments of a process that supervises a worker: data dir, cache and the worker's name.
pub fn supervisor_args() -> Option<(PathBuf, PathBuf, Name)> {
    let mut args = std::env::args_os().skip(1);
    let mut next = || args.next().map(PathBuf::from);
    let is_one = next()?.as_os_str() == "__supervise";
    let (root, cache, id) = (next().filter(|_| is_one)?, next()?, next()?);
    Some((root, cache, Name::parse_new(id.to_str()?).ok()?))
}

/// True if this process may hold secrets that its children must not see. False for a program that becomes such
/// a child, and for commands that a worker calls: they have only what the worker has, and a lost worker's
/// processes are found by their environment. False also if the user has set `LOOOP_DEBUGGABLE` to attach a
/// debugger.
pub fn holds_secrets() -> bool {
    let mut args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let verb = args.find(|arg| !arg.starts_with('-'));
    let is_one_of = |names: &[&str]| verb.as_deref().is_some_and(|verb| names.contains(&verb));
    let in_worker = std::env::var_os("LOOOP_SOCKET").is_some();
    let is_debugged = std::env::var_os("LOOOP_DEBUGGABLE").is_some_and(|value| !value.is_empty());
    !is_debugged
        && !is_one_of(&["__exec-gated", "__sandbox-exec", "__scripted"])
        && (!in_worker || is_one_of(&["fix", "run", "tick"]))
}

/// The secrets in the environment of this process.
pub fn secrets() -> Secrets {
    Secrets::of(&all_vars().collect::<Vec<_>>(), &path::is_there)
}

fn all_vars() -> impl Iterator<Item = (String, String)> {
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(key, value)| (lossy(key), lossy(value)))
}

/// The arguments of this process, to start the same command again.
pub fn own_args() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}

#[derive(Clone, Debug, Default)]
pub struct Env {
    vars: BTreeMap<String, String>,
    cwd: PathBuf,
    /// True if the directory in which this process was started was deleted.
    pub is_dir_gone: bool,
    pub home: PathBuf,
    /// The directory of config files of all programs.
    pub config_dir: PathBuf,
    state_dir: PathBuf,
    cache_dir: PathBuf,
}

impl Env {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// There is no home directory and no variable that replaces it.
    pub fn read() -> Result<Env> {
        // A lossy conversion would name another directory.
        if std::env::var_os("LOOOP_DATA_DIR").is_some_and(|dir| dir.to_str().is_none()) {
            let fault = Fault::failed("could not use LOOOP_DATA_DIR: its path is not UTF-8 text");
            return Err(fault.hint("set LOOOP_DATA_DIR to another directory").into());
        }
        let vars = all_vars().collect();
        let here = std::env::current_dir().ok();
        let is_dir_gone = here.is_none();
        // If the directory was deleted, the kernel's name for it does not exist; errors show that name.
        let gone = || std::fs::read_link("/proc/self/cwd").unwrap_or_else(|_| PathBuf::from("/nowhere"));
        let cwd = here.unwrap_or_else(gone);
        let base = directories::BaseDirs::new()
            .ok_or_else(|| Fault::failed("could not find a home directory").hint("set HOME"))?;
        let mut env = Env {
            vars,
            cwd,
            is_dir_gone,
            home: base.home_dir().to_owned(),
            config_dir: base.config_dir().to_owned(),
            state_dir: base.state_dir().unwrap_or(base.data_dir()).to_owned(),
            cache_dir: base.cache_dir().to_owned(),
        };
        env.make_places_absolute()?;
        Ok(env)
    }

    /// Makes paths in variables absolute, once for all child processes, because they may run in another directory.
    fn make_places_absolute(&mut self) -> Result<()> {
        for key in PLACES {
            let Some(text) = self.get(key).map(str::to_owned) else { continue };
            let path = self.expand(&text);
            if self.is_dir_gone && path.is_relative() {
                let why = format!("`{text}` is relative, and the current directory is gone");
                let fault = Fault::failed(format!("could not use {key}: {why}"));
                return Err(fault.hint("use an absolute path, or change to another directory").into());
            }
            // Resolve links now: the current directory may be removed later.
            let whole = if path.is_relative() { path::followed(&self.cwd.join(path)) } else { path };
            self.vars.insert(key.to_owned(), whole.to_string_lossy().into_owned());
        }
        Ok(())
    }

    /// The variables of looop's own paths, as absolute paths.
    pub fn places(&self) -> Vec<(String, String)> {
        PLACES.iter().filter_map(|key| Some(((*key).to_owned(), self.get(key)?.to_owned()))).collect()
    }

    /// The home directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The value of a variable; none if it is unset or empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.vars.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Makes a path of the user absolute.
    fn absolute(&self, text: &str) -> PathBuf {
        self.cwd.join(self.expand(text))
    }

    /// Makes a path absolute and expands `~`, as the user's shell does.
    pub fn here(&self, path: &Path) -> PathBuf {
        self.cwd.join(path)
    }

    fn expand(&self, text: &str) -> PathBuf {
        match text.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            None if text == "~" => self.home.clone(),
            None => PathBuf::from(text),
        }
    }

    /// The path of the config file: `$LOOOP_CONFIG`, else `looop.json` in the config directory.
    pub fn config_path(&self) -> PathBuf {
        self.get("LOOOP_CONFIG")
            .map_or_else(|| self.config_dir.join("looop.json"), |path| self.absolute(path))
    }

    /// The data dir (`$LOOOP_DATA_DIR`, else `looop` in the state directory) and its cache.
    pub fn layout(&self) -> Layout {
        let named = self.get("LOOOP_DATA_DIR").map(|dir| self.absolute(dir));
        let root = named.unwrap_or_else(|| self.state_dir.join("looop"));
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let id = blake3::hash(root.to_string_lossy().as_bytes()).to_hex();
        let cache = self.cache_dir.join("looop").join(format!("{name}-{}", &id[..8]));
        Layout::new(root, cache)
    }

    /// The path of the static config of leanfiles: `named`, else `$LEANLOOP_CONFIG`, else
    /// `lean-loop/config.toml` in the config directory.
    pub fn leanloop(&self, named: Option<&Path>) -> PathBuf {
        match (named, self.get("LEANLOOP_CONFIG")) {
            (Some(path), _) => self.here(path),
            (None, Some(path)) => self.absolute(path),
            (None, None) => self.config_dir.join("lean-loop").join("config.toml"),
        }
    }

    /// The author name for commits of the user's edits.
    pub fn user_name(&self) -> String {
        let name = self.get("USER").or(self.get("LOGNAME")).unwrap_or("human");
        let plain: String = name.chars().filter(|c| c.is_alphanumeric() || "-_. ".contains(*c)).collect();
        if plain.trim().is_empty() { "human".to_owned() } else { plain }
    }

    /// The user's editor: `$VISUAL`, else `$EDITOR`, else `vi`, as git does.
    pub fn editor(&self) -> &str {
        self.get("VISUAL").or(self.get("EDITOR")).unwrap_or("vi")
    }

    /// The PATH of this process, or a default.
    pub fn path(&self) -> String {
        self.get("PATH").unwrap_or(DEFAULT_PATH).to_owned()
    }

    /// The directory for temporary files.
    pub fn temp_dir(&self) -> PathBuf {
        PathBuf::from(self.get("TMPDIR").unwrap_or("/tmp"))
    }

    pub fn all(&self) -> Vec<(String, String)> {
        self.vars.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// The merged configuration from the config file and the environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// The path of the config file, which may not exist.
    pub path: PathBuf,
    /// The wait between two beats of the pulse, in milliseconds.
    pub interval_ms: i64,
    /// The name of the deciding runner.
    pub decide: String,
    /// The settings for beats.
    pub settings: Settings,
    /// Warnings: oddities that are not errors, one on each line.
    pub warnings: Vec<String>,
    /// The runners of the config file, with absolute paths.
    runners: BTreeMap<String, RunnerFile>,
}

impl Config {
    /// The names of all runners: the built-in ones and those of the config.
    pub fn runner_names(&self) -> Vec<String> {
        let known = AGENTS.into_iter().map(|agent| agent.name.to_owned());
        known.chain(self.runners.keys().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Reads the config file; without a file all defaults hold.
///
/// # Errors
/// A usage error with file, line, column and key.
pub fn load(env: &Env) -> Result<Config> {
    let path = env.config_path();
    let text = text(&path)?;
    parse(env, path, text.as_deref())
}

/// The text of the config file, without the byte order mark that some editors begin a file with. Links are followed.
/// `None` if there is no file.
///
/// # Errors
/// It cannot be read, or other users can write it.
pub fn text(path: &Path) -> Result<Option<String>> {
    let shown = path.display();
    let unreadable = |why: String| usage(format!("could not read the config `{shown}`: {why}"));
    let real = path::followed(path);
    let text = file::read_text(&real, MAX_CONFIG_BYTES).map_err(|e| unreadable(e.to_string()))?;
    if text.is_none() && path.symlink_metadata().is_ok() {
        return Err(unreadable(format!("it is a link to `{}`, which does not exist", real.display())));
    }
    refuse_shared(path)?;
    Ok(text.map(|text| text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}

/// Parses the text of a config file with the given environment; none means all defaults. Errors name `path`.
///
/// # Errors
/// Like [`load`].
pub fn parse(env: &Env, path: PathBuf, text: Option<&str>) -> Result<Config> {
    let (config, problems) = examine(env, path, text)?;
    let Some(first) = problems.first() else { return Ok(config) };
    let fault = first.fault(&config.path);
    Err(match problems.len() - 1 {
        0 => fault,
        more => fault.hint(format!("there are {more} more problems: `looop config check` names them all")),
    }
    .into())
}

/// Reads the text of a config file as far as it can be read. Returns also all its problems, in the order of the file.
///
/// # Errors
/// The environment has an invalid value.
pub fn examine(env: &Env, path: PathBuf, text: Option<&str>) -> Result<(Config, Vec<Problem>)> {
    let (mut parsed, unread) = text.map(problem::read).unwrap_or_default();
    let problems = RefCell::new(Vec::new());
    let folder = path.parent().unwrap_or(Path::new("/"));
    for argv in parsed.commands() {
        *argv = with_files(env, folder, argv);
    }
    for (name, runner) in &mut parsed.runners {
        match absolute_paths(env, &runner.write) {
            Ok(paths) => runner.write = paths,
            Err(why) => problems.borrow_mut().push(Problem::about(format!("runners.{name}.write"), &why)),
        }
    }
    let source = ConfigSource { env, file: &parsed, problems: &problems };
    let mut warnings = Vec::new();
    let interval_ms = source.interval(&mut warnings)?;
    warnings.extend(source.without_effort());
    let decide =
        env.get("LOOOP_DECIDE").map(str::to_owned).or(parsed.decide.clone()).unwrap_or("pi".to_owned());
    let search = parsed.path.clone().unwrap_or_else(|| env.path());
    let mut base_env: Vec<(String, String)> = vec![("PATH".to_owned(), search.clone())];
    base_env.extend(BASE_ENV.iter().filter_map(|key| Some(((*key).to_owned(), env.get(key)?.to_owned()))));
    base_env.extend(SAFE_GIT.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut protected =
        path.parent().map(|dir| vec![dir.join("looop.json"), path.clone()]).unwrap_or_default();
    protected.extend(Some(path::followed(&path)).filter(|real| *real != path));
    let settings = Settings {
        limits: source.limits(),
        rules: source.rules(),
        budget: source.budget(),
        path: search,
        base_env,
        full_env: env.all(),
        secrets: Secrets::of(&env.all(), &path::is_there),
        home: Some(env.home.clone()),
        workers: source.workers(),
        fixes: source.fixes(),
        sandbox: source.sandbox(),
        config_env: config_env(env, &path),
        protected,
    };
    let config = Config { path, interval_ms, decide, settings, warnings, runners: parsed.runners.clone() };
    let mut found = problems.into_inner();
    found.extend(config.check_runners(&parsed));
    Ok((config, problem::joined(unread, found, text.unwrap_or_default())))
}

/// Refuses a config file that other users can write.
fn refuse_shared(path: &Path) -> Result<()> {
    let mode = std::fs::metadata(path).map_or(0, |meta| meta.mode() & 0o777);
    if mode & 0o022 == 0 {
        return Ok(());
    }
    let shown = path.display();
    let fault =
        Fault::usage(format!("could not use the config `{shown}`: others can write it (mode {mode:o})"));
    Err(fault.hint(format!("chmod go-w {shown}")).into())
}

/// The parsed config file with what its values depend on.
struct ConfigSource<'a> {
    env: &'a Env,
    file: &'a ConfigFile,
    /// The problems found so far. Where a value has one, its default is used.
    problems: &'a RefCell<Vec<Problem>>,
}

/// The JSON schema of the config file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(ConfigFile).to_value()
}

/// The variables that a child with a reduced environment needs to find this profile and the user's tmux.
fn config_env(env: &Env, path: &Path) -> Vec<(String, String)> {
    let named = |_| ("LOOOP_CONFIG".to_owned(), path.to_string_lossy().into_owned());
    let config = env.get("LOOOP_CONFIG").map(named);
    let sockets = env.get("TMUX_TMPDIR").map(|dir| ("TMUX_TMPDIR".to_owned(), dir.to_owned()));
    config.into_iter().chain(sockets).collect()
}

/// A command of the config with the files of the config's folder that it names by their whole paths: it may run in
/// another directory, and its sandbox shows these files. A program without a slash is searched on the PATH.
fn with_files(env: &Env, folder: &Path, argv: &[String]) -> Vec<String> {
    let whole = |(nth, arg): (usize, &String)| {
        let path = folder.join(env.expand(arg));
        let is_file = (nth > 0 || arg.contains('/')) && path.is_file();
        if is_file { path.to_string_lossy().into_owned() } else { arg.clone() }
    };
    argv.iter().enumerate().map(whole).collect()
}

/// Makes the user's paths absolute: they must be absolute or begin with `~`.
fn absolute_paths(env: &Env, from: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let absolute = |path: &PathBuf| {
        let expanded = env.expand(&path.to_string_lossy());
        let is_plain = expanded.is_absolute() && !expanded.components().any(|part| part.as_os_str() == "..");
        is_plain.then_some(expanded).ok_or_else(|| format!("{path:?} is not an absolute path without `..`"))
    };
    from.iter().map(absolute).collect()
}

fn usage(what: String) -> anyhow::Error {
    Fault::usage(what).into()
}

/// The error about a time limit of 0, which would stop everything at once.
const NO_TIME: &str = "is 0, which leaves no time; expected a duration above 0";

impl ConfigSource<'_> {
    fn refuse(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// A time limit in milliseconds.
    fn above_0(&self, span: Option<DurationText>, key: &str, default: i64) -> i64 {
        if span.is_some_and(|span| span.0 == 0) {
            self.refuse(Problem::of(key, NO_TIME));
        }
        span.map_or(default, |span| span.0)
    }

    fn limits(&self) -> Limits {
        let (from, base) = (&self.file.limits, Limits::default());
        let ms = |span, key, default| self.above_0(span, &format!("limits.{key}"), default);
        Limits {
            decides_per_hour: from.decides_per_hour.unwrap_or(base.decides_per_hour),
            workers: from.workers.unwrap_or(base.workers),
            sensor_timeout_ms: ms(from.sensor_timeout, "sensor_timeout", base.sensor_timeout_ms),
            decide_timeout_ms: ms(from.decide_timeout, "decide_timeout", base.decide_timeout_ms),
            run_timeout_ms: ms(from.run_timeout, "run_timeout", base.run_timeout_ms),
            noop_ttl_ms: from.noop_ttl.map_or(base.noop_ttl_ms, |ttl| ttl.map(|span| span.0)),
            approval_ttl_ms: ms(from.approval_ttl, "approval_ttl", base.approval_ttl_ms),
        }
    }

    fn interval(&self, warnings: &mut Vec<String>) -> Result<i64> {
        let named = self.above_0(self.file.interval, "interval", 60_000);
        let bad = |why| usage(format!("could not read LOOOP_INTERVAL: {why}"));
        let ms = match self.env.get("LOOOP_INTERVAL").map(parse_ms) {
            Some(Ok(0)) => return Err(bad(format!("it {NO_TIME}"))),
            Some(ms) => ms.map_err(bad)?,
            None => named,
        };
        if ms < 1000 {
            warnings.push("the interval is shorter than 1s; 1s is used".to_owned());
        }
        Ok(ms.max(1000))
    }

    fn budget(&self) -> Budget {
        let caps = &self.file.budget;
        let runner = |(name, usd): (&String, &f64)| {
            Some((name.clone(), self.dollars(Some(*usd), &format!("budget.runner_usd.{name}"))?))
        };
        Budget {
            hour_micros: self.dollars(caps.hour_usd, "budget.hour_usd"),
            day_micros: self.dollars(caps.day_usd, "budget.day_usd"),
            goal_micros: self.dollars(caps.goal_usd, "budget.goal_usd"),
            runner_micros: caps.runner_usd.iter().filter_map(runner).collect(),
        }
    }

    fn dollars(&self, usd: Option<f64>, key: &str) -> Option<u64> {
        let usd = usd?;
        if !(0.0..=1e9).contains(&usd) {
            self.refuse(Problem::of(key, &format!("is {usd}; expected 0 to 1000000000")));
        }
        Some((usd * 1e6).round() as u64)
    }

    fn rules(&self) -> PolicyRules {
        let resolved = |text: &str| {
            let path = self.env.absolute(text);
            std::fs::canonicalize(&path).unwrap_or(path)
        };
        let mut rules = self.file.policy.clone();
        for (nth, rule) in rules.allow.iter_mut().enumerate() {
            if let Some(why) = RunRule::flaw(&rule.argv) {
                self.refuse(Problem::about(format!("policy.allow[{nth}].argv"), &why));
            }
            for dir in &mut rule.cwd {
                let text = dir.to_string_lossy();
                if text.contains('*') {
                    let why = format!("{dir:?} is not a directory, and patterns are not allowed here");
                    self.refuse(Problem::about(format!("policy.allow[{nth}].cwd"), &why));
                }
                *dir = resolved(&text);
            }
        }
        for (nth, repo) in self.file.repos.iter().enumerate() {
            if let Some(why) = listed_path_flaw(repo) {
                self.refuse(Problem::about(format!("repos[{nth}]"), &why));
            }
        }
        rules.repos = self.file.repos.iter().map(|repo| resolved(repo)).collect();
        rules
    }
}

#[cfg(test)]
#[path = "config/config_tests.rs"]
mod tests;
