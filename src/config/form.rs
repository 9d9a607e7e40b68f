//! The form of the config file: strict keys, each with a default, and the schema that is made from it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Env;
use crate::model::time::parse_ms;
use crate::model::worker::Objects;
use crate::store::{file, lock};

/// The form of the config file. Every key has a default; an unknown key is an error.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigFile {
    /// Where the schema of this file is.
    #[serde(rename = "$schema")]
    pub(super) _schema: Option<String>,
    /// How long the pulse waits between two beats.
    pub(super) interval: Option<Span>,
    /// The PATH on which programs are found.
    pub(super) path: Option<String>,
    /// The runner that decides.
    pub(super) decide: Option<String>,
    /// The runner of workers.
    pub(super) worker: Option<String>,
    /// Runners of your own, and settings of built-in ones.
    pub(super) runners: BTreeMap<String, RunnerFile>,
    /// Deadlines and rates.
    pub(super) limits: LimitsFile,
    /// Spending limits.
    pub(super) budget: BudgetFile,
    /// What needs no yes.
    pub(super) policy: PolicyFile,
    /// Repositories that the loop may clone for its workers without a yes, each by its own path.
    pub(super) repos: Vec<String>,
    /// Commands that decide whether a worker's work is done.
    pub(super) verify: BTreeMap<String, VerifyFile>,
    /// Which objects of a repository a worker's clone holds.
    pub(super) objects: Option<Objects>,
    /// Who fixes, and when a fix is stopped.
    pub(super) fix: FixFile,
    /// How each kind of child is boxed.
    pub(super) sandbox: SandboxFile,
    /// A command that gets each ask as JSON on stdin.
    pub(super) notify: Vec<String>,
}

/// One command, or a list of them that must all pass.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum VerifyFile {
    /// One argument vector.
    One(Vec<String>),
    /// Several, in order.
    All(Vec<Vec<String>>),
}

/// A duration: `90s`, `15m`, `12h`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub(super) struct Span(pub(super) i64);

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Span, String> {
        parse_ms(&text).map(Span)
    }
}

/// A runner: an argument vector of your own, or settings of a built-in one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RunnerFile {
    /// Reads the prompt on stdin and prints its answer.
    pub(super) decide: Option<Vec<String>>,
    /// Runs a worker; `{brief}` stands for the path of its brief.
    pub(super) worker: Option<Vec<String>>,
    /// Edits the files of the directory it is called in; the prompt comes on stdin, or as the file `{brief}`.
    pub(super) fix: Option<Vec<String>>,
    /// How the answer is read.
    pub(super) format: Option<Format>,
    /// Names of environment variables that it gets.
    pub(super) env: Vec<String>,
    /// Paths that it may write in its box.
    pub(super) write: Vec<String>,
    /// A pattern of stderr that means: try again later.
    pub(super) transient: Option<String>,
    /// The model.
    pub(super) model: Option<String>,
    /// How hard it thinks.
    pub(super) effort: Option<String>,
    /// Further arguments of a built-in runner that decides.
    pub(super) args: Vec<String>,
    /// The protocol of an endpoint.
    pub(super) http: Option<HttpForm>,
    /// The endpoint's address.
    pub(super) base_url: Option<String>,
    /// The path that says whether the endpoint is well.
    pub(super) health: Option<String>,
    /// The name of the variable that holds the key, or in which a program gets that of `token_cmd`.
    pub(super) key_env: Option<String>,
    /// A command whose first line of output is the key.
    pub(super) token_cmd: Option<Vec<String>>,
    /// How the endpoint is told that one JSON object is wanted.
    pub(super) shape: Option<ShapeForm>,
    /// How long an endpoint may send nothing.
    pub(super) idle: Option<Span>,
    /// US dollars for a million tokens.
    pub(super) price: Option<PriceForm>,
    /// True when its workers cost nothing, so that the first one needs no yes.
    pub(super) free: bool,
}

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum HttpForm {
    /// Chat completions.
    Openai,
    /// Anthropic's messages.
    Anthropic,
}

/// How the form of the answer is asked for.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ShapeForm {
    /// By the prompt alone.
    Prompt,
    /// As some JSON object.
    JsonObject,
    /// By the schema of a move.
    JsonSchema,
}

/// US dollars for a million tokens.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceForm {
    /// Input.
    pub(super) input: f64,
    /// Output.
    pub(super) output: f64,
    /// Input read from a cache; as input where absent.
    pub(super) cached: Option<f64>,
    /// Input written to a cache; as input where absent.
    pub(super) written: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// All of stdout is the answer.
    Text,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsFile {
    /// Decisions in any hour.
    pub(super) decides_per_hour: Option<usize>,
    /// Live workers.
    pub(super) workers: Option<usize>,
    /// The deadline of a sensor that names none.
    pub(super) sensor_timeout: Option<Span>,
    /// The deadline of one runner call.
    pub(super) decide_timeout: Option<Span>,
    /// The deadline of one `run` move.
    pub(super) run_timeout: Option<Span>,
    /// After how long a settled world is asked about once more; null: never.
    #[serde(deserialize_with = "present")]
    pub(super) noop_ttl: Option<Option<Span>>,
    /// How long an approval can be given.
    pub(super) approval_ttl: Option<Span>,
    /// After how long without output a worker counts as stuck.
    pub(super) worker_idle: Option<Span>,
    /// The longest life of a worker.
    pub(super) worker_wall: Option<Span>,
    /// How long a worker's lease is good without being renewed.
    pub(super) lease_ttl: Option<Span>,
    /// The deadline of each check of a worker's work.
    pub(super) verify_timeout: Option<Span>,
}

/// Tells a key that is null from one that is absent.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<Span>>, D::Error> {
    Option::<Span>::deserialize(from).map(Some)
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BudgetFile {
    /// US dollars per hour of the local clock; null: no limit.
    pub(super) hour_usd: Option<f64>,
    /// US dollars per local day; null: no limit.
    pub(super) day_usd: Option<f64>,
    /// US dollars per goal and local day.
    pub(super) goal_usd: Option<f64>,
    /// US dollars per local day through one runner, by its name.
    pub(super) runner_usd: BTreeMap<String, f64>,
    /// US dollars per worker.
    pub(super) worker_usd: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PolicyFile {
    /// Commands that need no yes.
    pub(super) allow: Vec<RuleFile>,
    /// Moves that need no yes although they wait by default.
    pub(super) free_moves: Vec<FreeMove>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFile {
    /// The argument vector; `*` is one argument, `**` the rest.
    pub(super) argv: Vec<String>,
    /// Where it holds; the data dir when absent.
    #[serde(default)]
    pub(super) cwd: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum FreeMove {
    WriteSensor,
    WritePlaybook,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SandboxFile {
    /// Of a runner that decides.
    pub(super) decide: Option<Boxing>,
    /// Of a sensor.
    pub(super) sensor: Option<Boxing>,
    /// Of a `run` move.
    pub(super) run: Option<Boxing>,
    /// Of a check.
    pub(super) verify: Option<Boxing>,
    /// Of a worker.
    pub(super) worker: Option<Boxing>,
    /// Of what `looop fix` starts when a human runs it.
    pub(super) fix: Option<Boxing>,
    /// What of the network each has.
    pub(super) network: NetworkFile,
    /// What workers and checks may read besides.
    pub(super) read: Vec<String>,
    /// What workers and checks may write besides.
    pub(super) write: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NetworkFile {
    /// Of a runner that decides.
    pub(super) decide: Option<Network>,
    /// Of a sensor.
    pub(super) sensor: Option<Network>,
    /// Of a `run` move.
    pub(super) run: Option<Network>,
    /// Of a check.
    pub(super) verify: Option<Network>,
    /// Of a worker.
    pub(super) worker: Option<Network>,
    /// Of what `looop fix` starts when a human runs it.
    pub(super) fix: Option<Network>,
}

/// What of the network there is: a word, or TCP connections to some ports.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub(super) enum Network {
    Auto,
    On,
    Internet,
    Model,
    Off,
    Ports(Vec<u16>),
}

impl TryFrom<serde_json::Value> for Network {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Network, String> {
        let port = |value: &serde_json::Value| {
            value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
        };
        let ports = value.as_array().and_then(|all| all.iter().map(port).collect::<Option<Vec<u16>>>());
        match (value.as_str(), ports) {
            (Some("auto"), _) => Ok(Network::Auto),
            (Some("on"), _) => Ok(Network::On),
            (Some("internet"), _) => Ok(Network::Internet),
            (Some("model"), _) => Ok(Network::Model),
            (Some("off"), _) => Ok(Network::Off),
            (_, Some(ports)) if !ports.is_empty() => Ok(Network::Ports(ports)),
            _ => Err(format!(
                "a network is \"auto\", \"on\", \"internet\", \"model\", \"off\" or a list of ports from 1 to 65535, and not `{value}`"
            )),
        }
    }
}

impl JsonSchema for Network {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "oneOf": [
                { "enum": ["auto", "on", "internet", "model", "off"] },
                { "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 1, "maximum": 65535 } },
            ]
        })
    }
}

/// Who fixes, and the figures of the rule that stops an agent which repeats itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FixFile {
    /// The runner that is called first.
    pub(super) runner: Option<String>,
    /// Who is called after each new plan.
    pub(super) escalate: Vec<String>,
    /// From which ratio on two changes, or two plans, are much the same.
    pub(super) same_ratio: Option<f64>,
    /// From which share of its lines on an attempt goes over earlier ones again.
    pub(super) rework_share: Option<f64>,
    /// Up to how many new tokens a rework brings little.
    pub(super) novel_tokens: Option<usize>,
    /// Up to which share of new tokens a rework brings little.
    pub(super) novel_share: Option<f64>,
    /// A row of so many attempts that are alike demands a new plan.
    pub(super) halt: Option<u32>,
    /// A row of so many attempts that are alike is rolled back.
    pub(super) rollback: Option<u32>,
    /// The same failure so often asks a human.
    pub(super) same_failure: Option<u32>,
    /// So many new plans that did not help ask a human.
    pub(super) replans: Option<u32>,
    /// Whether agents are shown the files that a failure leads to, as far as there is room. True when absent.
    pub(super) map: Option<bool>,
    /// So many repeats within one call are noted.
    pub(super) nudge: Option<usize>,
    /// So many repeats within one call end it.
    pub(super) stop: Option<usize>,
}

/// How much of a sandbox is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Boxing {
    /// The best that can be had.
    Auto,
    /// All of it, or nothing runs.
    Full,
    /// Landlock at least, or nothing runs.
    Partial,
    /// None.
    None,
}

/// What a fresh config lets the loop spend a day, in US dollars.
pub const FRESH_DAY_USD: u32 = 20;

/// The form of a fresh config file.
#[derive(Serialize)]
pub(super) struct Fresh<'a> {
    #[serde(rename = "$schema")]
    schema: &'a str,
    interval: &'a str,
    path: &'a str,
    decide: &'a str,
    budget: FreshBudget,
}

#[derive(Serialize)]
pub(super) struct FreshBudget {
    day_usd: u32,
}

/// Writes a config file and its schema, unless there is one. Returns whether it did.
///
/// # Errors
/// Names the file.
pub fn write_fresh(env: &Env, decide: &str) -> Result<bool> {
    let path = env.config_path();
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir)
        .with_context(|| format!("could not make the directory `{}`", dir.display()))?;
    // Two first runs at once would write through the same temporary files.
    let _held = lock::dir(dir)?;
    let schema_name = "looop.schema.json";
    let schema = serde_json::to_string_pretty(&super::schema()).context("could not write the schema")?;
    file::write(&dir.join(schema_name), (schema + "\n").as_bytes(), 0o600, file::Keep::Durable)?;
    let search = env.path();
    let fresh = Fresh {
        schema: &format!("./{schema_name}"),
        interval: "60s",
        path: &search,
        decide,
        budget: FreshBudget { day_usd: FRESH_DAY_USD },
    };
    let text = serde_json::to_string_pretty(&fresh).context("could not write the config as JSON")?;
    file::create(&path, (text + "\n").as_bytes(), 0o600)
}
