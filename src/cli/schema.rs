//! `looop schema`: JSON schemas of each `--json` output, of the config and of a move, made from the Rust types.

use anyhow::Result;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::json_output::{self, Pruned, QuestionJson, Waiting, WorkerJson};
use super::print;
use crate::config;
use crate::model::decision;
use crate::model::entry::JournalEntry;
use crate::model::fault::Fault;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop schema\n  looop schema status > status.schema.json")]
pub struct Args {
    /// The name of the schema. Default: list all names.
    name: Option<String>,
}

/// The schema of one output.
struct Form {
    /// The name: the command, with `-` for blanks.
    name: &'static str,
    /// The command that prints it.
    call: &'static str,
    /// The key beside `schema_version` that holds the output; none if the output's own keys are at the top level.
    key: Option<&'static str>,
    of: fn(&mut SchemaGenerator) -> Schema,
}

const fn form(
    name: &'static str,
    call: &'static str,
    key: Option<&'static str>,
    of: fn(&mut SchemaGenerator) -> Schema,
) -> Form {
    Form { name, call, key, of }
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A schema whose own keys are at the top level.
fn own<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

/// Every answer of a `--json`, in the order of its name.
const FORMS: [Form; 26] = [
    form("approval-list", "looop approval list --json", Some("approvals"), of::<Vec<QuestionJson>>),
    form("asks", "looop asks --json", Some("asks"), of::<Vec<QuestionJson>>),
    form("attempt-list", "looop attempt list --json", Some("goals"), of::<Vec<String>>),
    form("attempt-show", "looop attempt show GOAL --json", None, own::<json_output::Attempts>),
    form("cost", "looop cost --json", None, own::<json_output::Cost>),
    form("doctor", "looop doctor --json", Some("findings"), of::<Vec<json_output::Finding>>),
    form("doctor-runner", "looop doctor runner --json", Some("runner"), of::<json_output::RunnerTried>),
    form("goal-list", "looop goal list --json", Some("goals"), of::<Vec<json_output::GoalJson>>),
    form("leanfile-list", "looop leanfile list --json", Some("trusted"), of::<Vec<json_output::TrustedFile>>),
    form("lease-list", "looop lease list --json", Some("leases"), of::<Vec<json_output::LeaseJson>>),
    form("log", "looop log --json", Some("beats"), of::<Vec<JournalEntry>>),
    form("ls", "looop ls --json", Some("workers"), of::<Vec<WorkerJson>>),
    form("map", "looop map --json", None, own::<json_output::Mapped>),
    form("prune", "looop prune --json", Some("pruned"), of::<Vec<Pruned>>),
    form("question-list", "looop question list --json", Some("questions"), of::<Vec<QuestionJson>>),
    form("run", "looop run GOAL --json", Some("beat"), of::<json_output::BeatJson>),
    form(
        "schedule-list",
        "looop schedule list --json",
        Some("schedules"),
        of::<Vec<json_output::ScheduleJson>>,
    ),
    form(
        "sensor-examples",
        "looop sensor examples --json",
        Some("examples"),
        of::<Vec<json_output::Example>>,
    ),
    form("sensor-list", "looop sensor list --json", Some("sensors"), of::<Vec<json_output::Sensor>>),
    form("status", "looop status --json", None, own::<json_output::StatusJson>),
    form("tick", "looop tick --json", Some("beat"), of::<json_output::BeatJson>),
    form("wait", "looop wait --json", Some("waiting"), of::<Vec<Waiting>>),
    form("why", "looop why --json", Some("why"), of::<json_output::Why>),
    form("worker-list", "looop worker list --json", Some("workers"), of::<Vec<WorkerJson>>),
    form("worker-prune", "looop worker prune --json", Some("pruned"), of::<Vec<Pruned>>),
    form("worker-wait", "looop worker wait --json", Some("waiting"), of::<Vec<Waiting>>),
];

/// Prints one schema, or all names.
pub fn run(args: &Args) -> Result<u8> {
    let Some(name) = &args.name else {
        let rows: Vec<Vec<String>> = listed().map(|(name, call)| vec![name.into(), call.into()]).collect();
        print::raw(print::table(&rows).as_bytes());
        return Ok(0);
    };
    let schema = match name.as_str() {
        "config" => config::schema(),
        "move" => decision::schema(),
        _ => match FORMS.iter().find(|form| form.name == name) {
            Some(form) => answer(form),
            None => {
                let known: Vec<&str> = listed().map(|(name, _)| name).collect();
                let fault = Fault::usage(format!("could not find the schema {name:?}"));
                return Err(fault.hint(format!("there are: {}", known.join(", "))).into());
            }
        },
    };
    print::line(&format!("{schema:#}"));
    Ok(0)
}

fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    let others = [("config", "the config file"), ("move", "what a decider answers with")];
    FORMS.iter().map(|form| (form.name, form.call)).chain(others)
}

/// The schema of a whole output. Keys whose value can be null are always present.
fn answer(form: &Form) -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let inner = (form.of)(&mut generator);
    let mut schema = match form.key {
        Some(key) => json!({ "properties": { key: inner }, "required": [key] }),
        None => inner.to_value(),
    };
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = form.call.into();
    schema["type"] = "object".into();
    schema["properties"]["schema_version"] = json!({ "const": 1 });
    if let Some(required) = schema["required"].as_array_mut() {
        required.push("schema_version".into());
    }
    schema["$defs"] = generator.take_definitions(true).into();
    schema
}
