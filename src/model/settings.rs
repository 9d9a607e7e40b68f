//! Pure. What the config decides for a beat: limits, budget and the rules of policy.

use std::path::PathBuf;

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
}

/// Spending limits in millionths of a US dollar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget {
    /// Per local day.
    pub day_micros: Option<u64>,
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
    /// The human's home directory, for `~` in paths.
    pub home: Option<PathBuf>,
    /// Directories that no move may touch: the config file's own among them.
    pub protected: Vec<PathBuf>,
}
