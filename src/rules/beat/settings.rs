//! Pure. The settings in the config that a beat needs: limits, budget and the rules of policy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use smart_default::SmartDefault;

use crate::rules::cost::budget::Budget;
use crate::rules::fix::attempt::BreakerConfig;
use crate::rules::sandbox::SandboxConfig;
use crate::rules::secret::Secrets;
use crate::rules::worker::limit::{OnLimit, OnLost};
use crate::rules::worker::{Objects, WorkerLimits};

/// Timeouts, rates and lifetimes. All times are in milliseconds.
#[derive(Clone, Debug, PartialEq, SmartDefault)]
pub struct Limits {
    /// Maximum number of decisions in any 60 minutes.
    #[default(120)]
    pub decides_per_hour: usize,
    /// Maximum number of live workers.
    #[default(8)]
    pub workers: usize,
    /// Timeout of a sensor without a `timeout=` of its own.
    #[default(60_000)]
    pub sensor_timeout_ms: i64,
    /// Timeout of one runner call.
    #[default(600_000)]
    pub decide_timeout_ms: i64,
    /// Timeout of one `run` move.
    #[default(600_000)]
    pub run_timeout_ms: i64,
    /// After how long a settled world is checked with the decider once more; `None`: never.
    #[default(Some(6 * 3_600_000))]
    pub noop_ttl_ms: Option<i64>,
    /// For how long the user can give an approval.
    #[default(24 * 3_600_000)]
    pub approval_ttl_ms: i64,
}

/// A rule that frees a `run`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRule {
    /// The argument vector; `*` matches one argument, `**` the rest.
    pub argv: Vec<String>,
    /// The directories in which the rule applies. Default: the data dir.
    #[serde(default)]
    pub cwd: Vec<PathBuf>,
    /// For you: why the rule is there. looop writes it and does not read it.
    #[serde(default)]
    pub note: Option<String>,
}

/// A move that needs an approval unless the config frees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FreeMove {
    WriteSensor,
    WritePlaybook,
}

impl RunRule {
    /// Says what is wrong with a pattern. A pattern that matches less than it seems to would leave moves waiting for
    /// approval without an apparent reason.
    pub fn flaw(argv: &[String]) -> Option<String> {
        let Some((_, before)) = argv.split_last() else { return Some("it names no program".to_owned()) };
        if before.iter().any(|arg| arg == "**") {
            return Some("`**` matches the rest, so it must be the last word".to_owned());
        }
        let in_a_word = |arg: &&String| arg.contains('*') && *arg != "*" && *arg != "**";
        let word = argv.iter().find(in_a_word)?;
        Some(format!(
            "{word:?} is not a pattern: `*` matches one whole argument, `**` at the end matches the rest"
        ))
    }

    /// True if the rule matches more than one argument vector.
    pub fn has_wildcard(&self) -> bool {
        self.argv.iter().any(|arg| arg == "*" || arg == "**")
    }
}

/// What the user has allowed in advance.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyRules {
    /// Commands that need no approval.
    pub allow: Vec<RunRule>,
    /// Moves that need no approval although the default is to ask.
    pub free_moves: Vec<FreeMove>,
    /// Repositories that the loop may clone for its workers, absolute and with symbolic links resolved.
    #[serde(skip)]
    pub repos: Vec<PathBuf>,
}

/// How a runner works as a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerRunner {
    /// Its command; `{brief}` is replaced by the path of the brief, `{status}` by that of its status file, `{box}` by
    /// the sandbox mode that codex uses for its commands.
    pub argv: Vec<String>,
    /// The command that continues its session, with the same places and `{session}`, the id of that session; empty: it
    /// cannot continue one.
    pub resume: Vec<String>,
    /// Names of environment variables that it gets besides the usual ones.
    pub env: Vec<String>,
    /// More paths that it may write.
    pub write: Vec<PathBuf>,
    /// Variables that are set for it; `{status}` is replaced by the path of its status file.
    pub set: Vec<(String, String)>,
    /// The file that makes it report its status to looop; `None`: it needs no file for that, or it cannot report.
    pub status: Option<StatusFile>,
    /// True if it is free of charge, as the config says.
    pub free: bool,
    /// What it does at a usage limit, if the config says so for this runner.
    pub on_limit: Option<OnLimit>,
    /// True when the config names a command that prints its key. Only a runner that decides and an endpoint get that key.
    pub has_token_cmd: bool,
}

impl WorkerRunner {
    /// Checks that a program can work without the key of a `token_cmd`: looop does not pass that key on to a program.
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

/// A file that an agent loads besides its own settings, to report its status to looop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusFile {
    /// Its name in the directory of each worker.
    pub name: &'static str,
    pub text: &'static str,
}

/// The settings for workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workers {
    /// The default runner; `None`: the first of claude and pi that is known.
    pub runner: Option<String>,
    /// Runners that can be workers.
    pub runners: BTreeMap<String, WorkerRunner>,
    /// The commands of each entry of `verify`, in order.
    pub verify: BTreeMap<String, Vec<Vec<String>>>,
    /// Which objects of a repository a clone contains; `None`: [`Objects::chosen`] decides for each repository.
    pub objects: Option<Objects>,
    /// A command that gets each flag and ask as JSON on stdin; empty: none.
    pub notify: Vec<String>,
    /// What the loop does with agents whose supervisor is gone.
    pub on_lost: OnLost,
    /// The limits of each worker.
    pub limits: WorkerLimits,
    /// The user's tmux server, if there is one: the value of `TMUX`.
    pub tmux: Option<String>,
}

impl Workers {
    /// Returns the runner with this name, or the default runner.
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

/// The settings for fixes.
#[derive(Clone, Debug, PartialEq, SmartDefault)]
pub struct Fixes {
    /// The runner of the first call; `None`: the leanfile's.
    pub runner: Option<String>,
    /// The runners after the first, the second and each further new plan; empty: the same runner.
    pub escalate: Vec<String>,
    /// The thresholds of the rule that stops an agent that repeats itself.
    pub thresholds: BreakerConfig,
    /// If true, agents are shown the files that a failure leads to.
    #[default(true)]
    pub map: bool,
    /// After this number of repeats of the same commands within one call, the next call is warned.
    #[default(3)]
    pub warn: usize,
    /// After this number of repeats of the same commands within one call, the call is stopped.
    #[default(5)]
    pub stop: usize,
    /// Runners that can be called, with `{brief}` for the path of the prompt; a command without it reads the prompt
    /// from stdin. A runner without a command is an endpoint.
    pub runners: BTreeMap<String, WorkerRunner>,
}

impl Fixes {
    /// True if a fix may cost money: unless each runner that it may call is known and free of charge.
    pub fn is_paid(&self) -> bool {
        let is_free = |name: &String| self.runners.get(name).is_some_and(|runner| runner.free);
        !self.runner.as_ref().is_some_and(is_free) || !self.escalate.iter().all(is_free)
    }

    /// Names of the variables that any of its runners gets.
    pub fn env(&self) -> Vec<String> {
        self.runners.values().flat_map(|runner| runner.env.iter().cloned()).collect()
    }
}

/// All settings that a beat needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub limits: Limits,
    pub rules: PolicyRules,
    pub budget: Budget,
    /// The PATH for programs of moves, sensors and runners.
    pub path: String,
    /// The environment of every child: HOME, LANG and the like.
    pub base_env: Vec<(String, String)>,
    /// The whole environment, from which the allow-list of a sensor or a runner picks.
    pub full_env: Vec<(String, String)>,
    /// Values that must never be written down.
    pub secrets: Secrets,
    /// The user's home directory, for `~` in paths.
    pub home: Option<PathBuf>,
    pub workers: Workers,
    pub fixes: Fixes,
    /// The sandboxes of children.
    pub sandbox: SandboxConfig,
    /// The variables that name this profile, for children that run looop again.
    pub config_env: Vec<(String, String)>,
    /// Directories that no move may touch, including that of the config file.
    pub protected: Vec<PathBuf>,
}

impl Settings {
    /// Resolves a path in a move: `~` is the user's home, and relative paths start in the data dir.
    pub fn path_of(&self, data_dir: &Path, text: &str) -> PathBuf {
        let below_home = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match (below_home, &self.home) {
            (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
            _ => data_dir.join(text),
        }
    }
}
