//! Pure. What the config decides for a beat: limits, budget and the rules of policy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::attempt::Thresholds;
use super::boxing::Boxes;
use super::budget::Budget;
use super::secret::Secrets;
use super::worker::{Objects, WorkerLimits};

/// Deadlines, rates and lifetimes. All times are in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Decisions in any 60 minutes.
    pub decides_per_hour: usize,
    /// Live workers.
    pub workers: usize,
    /// A sensor without a `timeout=` of its own.
    pub sensor_timeout_ms: i64,
    /// One runner call.
    pub decide_timeout_ms: i64,
    /// One `run` move.
    pub run_timeout_ms: i64,
    /// After how long a settled world is asked about once more; none: never.
    pub noop_ttl_ms: Option<i64>,
    /// How long an approval can be given.
    pub approval_ttl_ms: i64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            decides_per_hour: 120,
            workers: 8,
            sensor_timeout_ms: 60_000,
            decide_timeout_ms: 600_000,
            run_timeout_ms: 600_000,
            noop_ttl_ms: Some(6 * 3_600_000),
            approval_ttl_ms: 24 * 3_600_000,
        }
    }
}

/// One rule that frees a `run`: `*` stands for one argument, `**` for the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The argument vector it matches.
    pub argv: Vec<String>,
    /// The directories it holds in, absolute; none: the data dir only.
    pub cwd: Vec<PathBuf>,
}

impl Rule {
    /// What is wrong with a pattern, in words: one that means less than it seems to would wait for a yes for ever, and
    /// nobody would know why.
    pub fn flaw(argv: &[String]) -> Option<String> {
        let (last, before) = match argv.split_last() {
            Some(split) => split,
            None => return Some("it names no program".to_owned()),
        };
        if before.iter().any(|arg| arg == "**") {
            return Some("`**` stands for the rest, so nothing can follow it".to_owned());
        }
        let in_a_word = |arg: &&String| arg.contains('*') && *arg != "*" && *arg != "**";
        let word = before.iter().chain([last]).find(in_a_word)?;
        Some(format!(
            "{word:?} is no pattern: `*` stands for one whole argument, `**` at the end for the rest"
        ))
    }

    /// True when the rule matches more than one exact argument vector.
    pub fn has_wildcard(&self) -> bool {
        self.argv.iter().any(|arg| arg == "*" || arg == "**")
    }
}

/// What the human has allowed ahead of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Commands that need no yes.
    pub allow: Vec<Rule>,
    /// Tags of moves that need no yes although they wait by default.
    pub free_moves: Vec<String>,
    /// Repositories that the loop may clone for its workers, absolute and with symbolic links resolved.
    pub repos: Vec<PathBuf>,
}

/// How a runner works as a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerRunner {
    /// Its command; `{brief}` stands for the path of the brief, `{status}` for that of its status file, `{box}` for how
    /// codex is to box its commands.
    pub argv: Vec<String>,
    /// Names of environment variables that it gets besides the usual ones.
    pub env: Vec<String>,
    /// What it may write besides.
    pub write: Vec<PathBuf>,
    /// Variables that are set for it; `{status}` stands for the path of its status file.
    pub set: Vec<(String, String)>,
    /// What it loads, so that it tells looop how it fares; none: it needs nothing for that, or cannot.
    pub status: Option<StatusFile>,
    /// True when it costs nothing, as the config says.
    pub free: bool,
    /// True when the config names a command that prints its key. Only a runner that decides and an endpoint get that key.
    pub has_token_cmd: bool,
}

impl WorkerRunner {
    /// Checks that a program can work without the key of a `token_cmd`: nobody would give it that key.
    ///
    /// # Errors
    /// Says where `token_cmd` works, and what helps.
    pub fn check_key(&self, name: &str) -> Result<(), String> {
        match self.has_token_cmd {
            true => Err(format!(
                "runners.{name}.token_cmd works for a runner that decides and for an endpoint (`http`), and not for the \
                 program of a worker or a fix; give that program a runner of its own without `token_cmd`, which uses its \
                 login or a variable named in `env`"
            )),
            false => Ok(()),
        }
    }
}

/// A file that an agent loads beside its own settings, to tell looop how it fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusFile {
    /// Its name in the directory of each worker.
    pub name: &'static str,
    /// What stands in it.
    pub text: &'static str,
}

/// What the config decides about workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workers {
    /// The runner that is used where none is named; none: the first that is known of claude and pi.
    pub runner: Option<String>,
    /// Runners that can work.
    pub runners: BTreeMap<String, WorkerRunner>,
    /// The commands of each entry of `verify`, in order.
    pub verify: BTreeMap<String, Vec<Vec<String>>>,
    /// Which objects of a repository a clone holds; none: [`Objects::chosen`] says so for each.
    pub objects: Option<Objects>,
    /// A command that gets each flag and ask as JSON on stdin; empty: none.
    pub notify: Vec<String>,
    /// What each worker may use up.
    pub limits: WorkerLimits,
    /// The human's tmux server, where there is one: the value of `TMUX`.
    pub tmux: Option<String>,
}

impl Workers {
    /// The runner of this name, or the default one.
    ///
    /// # Errors
    /// Says which there are, or that it needs a key which a worker does not get.
    pub fn runner(&self, name: Option<&str>) -> Result<(&str, &WorkerRunner), String> {
        let name = name.or(self.runner.as_deref()).unwrap_or("claude");
        let (name, runner) = self.runners.get_key_value(name).ok_or_else(|| {
            let known: Vec<&str> = self.runners.keys().map(String::as_str).collect();
            format!("{name:?} is no runner with a worker command; there are: {}", known.join(", "))
        })?;
        runner.check_key(name).map(|()| (name.as_str(), runner))
    }
}

/// What the config decides about fixes.
#[derive(Clone, Debug, PartialEq)]
pub struct Fixes {
    /// The runner that is called first; none: the leanfile's.
    pub runner: Option<String>,
    /// Who is called after the first, the second and each further new plan; empty: the same one.
    pub escalate: Vec<String>,
    /// The figures of the rule that stops an agent which repeats itself.
    pub thresholds: Thresholds,
    /// Whether agents are shown the files that a failure leads to.
    pub map: bool,
    /// So many repeats of the same commands within one call are noted for the next one.
    pub nudge: usize,
    /// So many repeats of the same commands within one call end it.
    pub stop: usize,
    /// Runners that can be called, with `{brief}` for the path of the prompt; without it the prompt comes on stdin. One
    /// without a command is an endpoint.
    pub runners: BTreeMap<String, WorkerRunner>,
}

impl Fixes {
    /// True when a fix may cost money: unless each runner that it may call is named and costs nothing.
    pub fn is_paid(&self) -> bool {
        let is_free = |name: &String| self.runners.get(name).is_some_and(|runner| runner.free);
        !self.runner.as_ref().is_some_and(is_free) || !self.escalate.iter().all(is_free)
    }

    /// Names of the variables that any of its runners gets.
    pub fn env(&self) -> Vec<String> {
        self.runners.values().flat_map(|runner| runner.env.iter().cloned()).collect()
    }
}

impl Default for Fixes {
    fn default() -> Fixes {
        Fixes {
            runner: None,
            escalate: Vec::new(),
            thresholds: Thresholds::default(),
            map: true,
            nudge: 3,
            stop: 5,
            runners: BTreeMap::new(),
        }
    }
}

/// Everything of the config that a beat needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Deadlines and rates.
    pub limits: Limits,
    /// What is allowed ahead of time.
    pub rules: Rules,
    /// Spending limits.
    pub budget: Budget,
    /// The PATH on which programs of moves, sensors and runners are found.
    pub path: String,
    /// Environment that every child gets: HOME, LANG and the like.
    pub base_env: Vec<(String, String)>,
    /// The whole environment, from which a sensor's or a runner's allow-list picks.
    pub full_env: Vec<(String, String)>,
    /// What must never be written down.
    pub secrets: Secrets,
    /// The human's home directory, for `~` in paths.
    pub home: Option<PathBuf>,
    /// What the config decides about workers.
    pub workers: Workers,
    /// What the config decides about fixes.
    pub fixes: Fixes,
    /// How children are boxed.
    pub boxes: Boxes,
    /// The variables that name this profile to looop itself, for what runs looop again.
    pub config_env: Vec<(String, String)>,
    /// Directories that no move may touch: the config file's own among them.
    pub protected: Vec<PathBuf>,
}

impl Settings {
    /// A path as a move writes it: `~` is the human's home, and what is relative begins in the data dir.
    pub fn path_of(&self, data_dir: &Path, text: &str) -> PathBuf {
        let below_home = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match (below_home, &self.home) {
            (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
            _ => data_dir.join(text),
        }
    }
}
