//! The form of the config file: known keys only, each with a default, and the JSON schema.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Env;
use crate::agents::http::Protocol;
use crate::agents::http::wire::Shape;
use crate::rules::beat::settings::PolicyRules;
use crate::rules::sandbox::SandboxConfig;
use crate::rules::time::parse_ms;
use crate::rules::worker::Objects;
use crate::rules::worker::limit::{OnLimit, OnLost};
use crate::store::file::{self, Doing};
use crate::store::lock;

/// The config file. Every key has a default; an unknown key is an error.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigFile {
    /// The address of the JSON schema of this file.
    #[serde(rename = "$schema")]
    pub(super) _schema: Option<String>,
    /// The wait between two beats of the pulse.
    pub(super) interval: Option<DurationText>,
    /// The PATH on which looop looks for programs.
    pub(super) path: Option<String>,
    /// The runner that decides.
    pub(super) decide: Option<String>,
    /// The runner of workers.
    pub(super) worker: Option<String>,
    /// Your own runners, and settings of built-in ones.
    pub(super) runners: BTreeMap<String, RunnerFile>,
    /// Timeouts and rates.
    pub(super) limits: LimitsFile,
    /// Spending limits.
    pub(super) budget: BudgetFile,
    /// What needs no approval.
    pub(super) policy: PolicyRules,
    /// Repositories that the loop may clone for its workers without an approval, each by its own path.
    pub(super) repos: Vec<String>,
    /// Commands that decide whether a worker's work is done.
    pub(super) verify: BTreeMap<String, VerifyFile>,
    /// How a worker's clone holds the git objects of its repository.
    pub(super) objects: Option<Objects>,
    /// The runners of fixes, and when a fix is stopped.
    pub(super) fix: FixFile,
    /// The sandbox of each kind of child.
    pub(super) sandbox: SandboxConfig,
    /// A command that gets each ask as JSON on stdin.
    pub(super) notify: Vec<String>,
}

impl ConfigFile {
    /// Every argument vector of the config.
    pub(super) fn commands(&mut self) -> impl Iterator<Item = &mut Vec<String>> {
        let runners = self.runners.values_mut().flat_map(|runner| {
            [&mut runner.decide, &mut runner.worker, &mut runner.fix, &mut runner.token_cmd]
                .into_iter()
                .flatten()
        });
        let checks = self.verify.values_mut().flat_map(|checks| match checks {
            VerifyFile::One(argv) => std::slice::from_mut(argv),
            VerifyFile::All(all) => all,
        });
        runners.chain(checks).chain([&mut self.notify])
    }
}

/// One command, or a list of commands that must all succeed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a command, as in [\"cargo\", \"test\"], or a list of commands")]
pub(super) enum VerifyFile {
    /// One argument vector.
    One(Vec<String>),
    /// Several argument vectors, in order.
    All(Vec<Vec<String>>),
}

/// A duration: `90s`, `15m`, `12h`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "Value")]
#[schemars(with = "String")]
pub(super) struct DurationText(pub(super) i64);

impl TryFrom<Value> for DurationText {
    type Error = String;
    fn try_from(value: Value) -> Result<DurationText, String> {
        match value {
            Value::String(text) => parse_ms(&text).map(DurationText),
            other => Err(format!("is {other}; expected a duration in quotes, as in \"90s\"")),
        }
    }
}

/// A runner: your own argument vector, or settings of a built-in one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RunnerFile {
    /// A command that reads the prompt on stdin and prints its answer.
    pub(super) decide: Option<Vec<String>>,
    /// A command that runs a worker; `{brief}` is replaced by the path of its brief.
    pub(super) worker: Option<Vec<String>>,
    /// A command that edits the files of its current directory; the prompt comes on stdin, or as the file `{brief}`.
    pub(super) fix: Option<Vec<String>>,
    /// The format of the answer.
    pub(super) format: Option<ConfigFormat>,
    /// Names of environment variables that the runner gets.
    pub(super) env: Vec<String>,
    /// Paths that the runner may write in its sandbox.
    pub(super) write: Vec<PathBuf>,
    /// A pattern for stderr that marks a temporary failure.
    pub(super) transient: Option<String>,
    /// The model.
    pub(super) model: Option<String>,
    /// The thinking effort.
    pub(super) effort: Option<String>,
    /// More arguments for a built-in runner that decides.
    pub(super) args: Vec<String>,
    /// The protocol of an endpoint.
    pub(super) http: Option<Protocol>,
    /// The address of the endpoint.
    pub(super) base_url: Option<String>,
    /// The path of the endpoint's health check.
    pub(super) health: Option<String>,
    /// The variable that holds the key, or that passes the key of `token_cmd` to a program.
    pub(super) key_env: Option<String>,
    /// A command that prints the key on its first line.
    pub(super) token_cmd: Option<Vec<String>>,
    /// How looop asks the endpoint for one JSON object.
    pub(super) shape: Option<Shape>,
    /// The longest time without data from an endpoint.
    pub(super) idle: Option<DurationText>,
    /// The price in US dollars for a million tokens.
    pub(super) price: Option<PriceForm>,
    /// If true, its workers cost nothing, so that the first one needs no approval.
    pub(super) free: bool,
    /// What its workers do at a usage limit.
    pub(super) on_limit: Option<OnLimit>,
}

/// The price in US dollars for a million tokens.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceForm {
    /// Input tokens.
    pub(super) input: f64,
    /// Output tokens.
    pub(super) output: f64,
    /// Input tokens read from a cache; the price of input if absent.
    pub(super) cached: Option<f64>,
    /// Input tokens written to a cache; the price of input if absent.
    pub(super) written: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConfigFormat {
    /// All of stdout is the answer.
    Text,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsFile {
    /// The most decisions within any hour.
    pub(super) decides_per_hour: Option<usize>,
    /// The most running workers.
    pub(super) workers: Option<usize>,
    /// The timeout of a sensor that sets none.
    pub(super) sensor_timeout: Option<DurationText>,
    /// The timeout of one runner call.
    pub(super) decide_timeout: Option<DurationText>,
    /// The timeout of one `run` move.
    pub(super) run_timeout: Option<DurationText>,
    /// After this time a settled world is decided on again; null: never.
    #[serde(deserialize_with = "present")]
    pub(super) noop_ttl: Option<Option<DurationText>>,
    /// How long an approval request stays open.
    pub(super) approval_ttl: Option<DurationText>,
    /// After this time without output a worker counts as stuck.
    pub(super) worker_idle: Option<DurationText>,
    /// The longest run time of a worker.
    pub(super) worker_wall: Option<DurationText>,
    /// What a worker does when its agent hits a usage limit.
    pub(super) on_limit: OnLimit,
    /// What the loop does with an agent whose supervisor is gone.
    pub(super) on_lost: OnLost,
    /// How long after the end of a usage limit a worker goes on.
    pub(super) limit_margin: Option<DurationText>,
    /// For how many usage limits a worker waits.
    pub(super) limit_waits: Option<u32>,
    /// How long a worker's lease stays valid without a renewal.
    pub(super) lease_ttl: Option<DurationText>,
    /// The timeout of each check of a worker's work.
    pub(super) verify_timeout: Option<DurationText>,
}

/// Distinguishes a key that is null from an absent one.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<DurationText>>, D::Error> {
    Option::<DurationText>::deserialize(from).map(Some)
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BudgetFile {
    /// The limit in US dollars for an hour of the local clock; null: no limit.
    pub(super) hour_usd: Option<f64>,
    /// The limit in US dollars for a local day; null: no limit.
    pub(super) day_usd: Option<f64>,
    /// The limit in US dollars for each goal and local day.
    pub(super) goal_usd: Option<f64>,
    /// The limit in US dollars for each runner and local day, by the runner's name.
    pub(super) runner_usd: BTreeMap<String, f64>,
    /// The limit in US dollars for each worker.
    pub(super) worker_usd: Option<f64>,
}

/// The runners of fixes, and the thresholds that stop an agent which repeats itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FixFile {
    /// The runner that is called first.
    pub(super) runner: Option<String>,
    /// The runners that are called after each new plan.
    pub(super) escalate: Vec<String>,
    /// The similarity from which two changes, or two plans, count as the same; 0 to 1.
    pub(super) same_ratio: Option<f64>,
    /// The share of changed lines that earlier attempts had changed too, from which an attempt counts as
    /// rework; 0 to 1.
    pub(super) rework_share: Option<f64>,
    /// A rework with at most this many new tokens counts as a repeat.
    pub(super) novel_tokens: Option<usize>,
    /// A rework with at most this share of new tokens counts as a repeat; 0 to 1.
    pub(super) novel_share: Option<f64>,
    /// After this many similar attempts in a row a new plan is required.
    pub(super) halt: Option<u32>,
    /// After this many similar attempts in a row the clone is rolled back.
    pub(super) rollback: Option<u32>,
    /// After this many equal failures you are asked.
    pub(super) same_failure: Option<u32>,
    /// After this many new plans without success you are asked.
    pub(super) replans: Option<u32>,
    /// If true, agents are shown the files that a failure leads to, if there is room. Default: true.
    pub(super) map: Option<bool>,
    /// After this many repeats within one call the agent is warned in its next prompt.
    pub(super) warn: Option<usize>,
    /// After this many repeats within one call the call is ended.
    pub(super) stop: Option<usize>,
}

/// The daily budget of a new config, in millionths of a US dollar.
pub const FRESH_DAY_MICROS: u64 = 20_000_000;

/// What the user chooses of a new config.
#[derive(Clone, Debug)]
pub struct FreshConfig {
    /// The runner that decides.
    pub decide: String,
    /// The runner of workers; none if no agent that works is on the PATH.
    pub worker: Option<String>,
    /// What may be spent a day, in millionths of a US dollar.
    pub day_micros: u64,
}

/// Writes a config file and its schema, unless a config file exists. Returns whether it did.
pub fn write_fresh(env: &Env, chosen: &FreshConfig) -> Result<bool> {
    let path = env.config_path();
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).doing("make the directory", dir)?;
    // Two first runs at once would write through the same temporary files.
    let _held = lock::dir(dir)?;
    let schema_name = "looop.schema.json";
    let schema = serde_json::to_string_pretty(&super::schema()).context("could not write the schema")?;
    file::write(&dir.join(schema_name), (schema + "\n").as_bytes(), 0o600, file::Durability::Durable)?;
    let mut fresh = serde_json::json!({
        "$schema": format!("./{schema_name}"),
        "interval": "60s",
        "path": env.path(),
        "decide": chosen.decide,
        "budget": { "day_usd": chosen.day_micros as f64 / 1e6 },
    });
    if let Some(worker) = &chosen.worker {
        fresh["worker"] = worker.as_str().into();
    }
    file::create(&path, format!("{fresh:#}\n").as_bytes(), 0o600)
}
