//! `looop schema`: JSON schemas of each `--json` output, of the config and of a move, made from the Rust types.

use anyhow::Result;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::json_output::{self, Pruned, QuestionJson, WorkerJson};
use super::{complete, pick, print};
use crate::config;
use crate::rules::beat::decision;
use crate::rules::beat::entry::JournalLine;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop schema\n  looop schema status > status.schema.json")]
pub struct Args {
    /// The name of the schema. Default: list all names.
    #[arg(add = complete::completer(|_| Some(FORMS.iter().map(|form| form.0.to_owned()).collect())))]
    name: Option<String>,
}

/// The schema of one output: its name, which is the command with `-` for blanks; the command that prints it; the key
/// beside `schema_version` that holds the output, or none if the output's own keys are at the top level; the type.
type Form = (&'static str, &'static str, Option<&'static str>, fn(&mut SchemaGenerator) -> Schema);

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A schema whose own keys are at the top level.
fn own<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

/// Every answer of a `--json`, in the order of its name.
const FORMS: [Form; 39] = [
    ("approval-list", "looop approval list --json", Some("approvals"), of::<Vec<QuestionJson>>),
    ("approval-show", "looop approval show ID --json", Some("approval"), of::<QuestionJson>),
    ("asks", "looop asks --json", Some("asks"), of::<Vec<QuestionJson>>),
    ("attempt-list", "looop attempt list --json", Some("goals"), of::<Vec<String>>),
    ("attempt-show", "looop attempt show GOAL --json", None, own::<json_output::Attempts>),
    ("backup", "looop backup FILE --json", None, own::<json_output::BackupJson>),
    ("config-check", "looop config check --json", None, own::<json_output::ConfigCheckJson>),
    ("config-get", "looop config get --json", None, own::<json_output::ConfigGetJson>),
    ("config-set", "looop config set KEY VALUE --json", None, own::<json_output::ConfigSetJson>),
    ("cost", "looop cost --json", None, own::<json_output::Cost>),
    ("doctor", "looop doctor --json", Some("findings"), of::<Vec<json_output::Finding>>),
    ("doctor-runner", "looop doctor runner --json", Some("runner"), of::<json_output::RunnerTried>),
    ("fix", "looop fix --json", Some("fix"), of::<json_output::FixJson>),
    ("goal-list", "looop goal list --json", Some("goals"), of::<Vec<json_output::GoalJson>>),
    ("init", "looop init --json", None, own::<json_output::InitJson>),
    ("leanfile-list", "looop leanfile list --json", Some("trusted"), of::<Vec<json_output::TrustedFile>>),
    ("lease-list", "looop lease list --json", Some("leases"), of::<Vec<json_output::LeaseJson>>),
    ("log", "looop log --json", Some("lines"), of::<Vec<JournalLine>>),
    ("ls", "looop ls --json", Some("workers"), of::<Vec<WorkerJson>>),
    ("map", "looop map --json", None, own::<json_output::Mapped>),
    ("policy-test", "looop policy test --json -- ARGV", None, own::<json_output::PolicyTestJson>),
    ("prune", "looop prune --json", Some("pruned"), of::<Vec<Pruned>>),
    ("question-list", "looop question list --json", Some("questions"), of::<Vec<QuestionJson>>),
    ("question-show", "looop question show ID --json", Some("question"), of::<QuestionJson>),
    ("restore", "looop restore FILE --json", None, own::<json_output::RestoreJson>),
    ("run", "looop run GOAL --json", Some("beat"), of::<json_output::BeatJson>),
    ("schedule-list", "looop schedule list --json", Some("schedules"), of::<Vec<json_output::ScheduleJson>>),
    ("sensor-examples", "looop sensor examples --json", Some("examples"), of::<Vec<json_output::Example>>),
    ("sensor-list", "looop sensor list --json", Some("sensors"), of::<Vec<json_output::Sensor>>),
    ("sensor-test", "looop sensor test --json", Some("readings"), of::<Vec<json_output::SensorTest>>),
    ("status", "looop status --json", None, own::<json_output::StatusJson>),
    ("tick", "looop tick --json", Some("beat"), of::<json_output::BeatJson>),
    ("verb", "looop VERB --json, of each other verb", None, own::<json_output::DoneJson>),
    ("wait", "looop wait --json", None, own::<json_output::WaitJson>),
    ("why", "looop why --json", Some("why"), of::<json_output::Why>),
    ("worker-list", "looop worker list --json", Some("workers"), of::<Vec<WorkerJson>>),
    ("worker-prune", "looop worker prune --json", Some("pruned"), of::<Vec<Pruned>>),
    ("worker-show", "looop worker show NAME --json", Some("worker"), of::<WorkerJson>),
    ("worker-wait", "looop worker wait --json", None, own::<json_output::WaitJson>),
];

/// Prints one schema, or all names.
pub fn run(args: &Args) -> Result<u8> {
    let Some(name) = &args.name else {
        let rows: Vec<Vec<String>> = listed().map(|(name, call)| vec![name.into(), call.into()]).collect();
        return print::page(print::table(&rows));
    };
    let (name, _) = pick("schema", name, listed(), |(name, _)| name)?;
    let schema = match name {
        "config" => config::schema(),
        "move" => decision::schema(),
        _ => FORMS.iter().find(|(known, ..)| *known == name).map_or(Value::Null, answer),
    };
    print::done(&format!("{schema:#}"))
}

fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    let others = [("config", "the config file"), ("move", "what a decider answers with")];
    FORMS.iter().map(|(name, call, ..)| (*name, *call)).chain(others)
}

/// The schema of a whole output. Keys whose value can be null are always present.
fn answer((_, call, key, of): &Form) -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let inner = of(&mut generator);
    let mut schema = match key {
        Some(key) => json!({ "properties": { *key: inner }, "required": [key] }),
        None => inner.to_value(),
    };
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = (*call).into();
    schema["type"] = "object".into();
    schema["properties"]["schema_version"] = json!({ "const": 1 });
    if let Some(required) = schema["required"].as_array_mut() {
        required.push("schema_version".into());
    }
    schema["$defs"] = generator.take_definitions(true).into();
    schema
}
