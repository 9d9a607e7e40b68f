//! Pure. The closed set of moves, their JSON form, and the parser that finds one in a runner's reply.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::reply::find_move;
use super::schedule::FireTime;
use crate::rules::name::Name;
use crate::rules::text::quote_argv;

/// The longest body of a goal or of the playbook that a move may write, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// The longest text of an ask, a reason or a note, in bytes.
pub const MAX_TEXT_BYTES: usize = 8 * 1024;
/// The longest reply that is searched for a move, in bytes.
pub const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// One decided move: what to do and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    pub action: Action,
    /// One sentence for the journal.
    pub why: String,
    /// The goal that the move serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Name>,
    /// Look again after this number of seconds, 30 to 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_beat_s: Option<u32>,
}

/// The closed set of actions. A new one needs a policy row, an act, a settlement and a test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Do nothing now: the goals are met, or the next step is someone else's.
    Noop {},
    /// Run one command on this machine. `argv` runs without a shell; `sh` is one shell line and always needs the user's
    /// approval.
    Run(RunCommand),
    /// Create or replace `goals/ID.md` with `body` (front matter `goal:` and free text).
    WriteGoal {
        /// The goal's name.
        id: Name,
        /// The whole new text.
        body: String,
    },
    /// Move a goal that is reached or dropped to goals/archive/.
    ArchiveGoal {
        /// The goal's name.
        id: Name,
    },
    /// Create or replace the sensor `name` with an executable script that prints one JSON object.
    WriteSensor {
        /// The sensor's name.
        name: Name,
        /// The whole script, its `#!` line first.
        script: String,
    },
    /// Replace PLAYBOOK.md.
    WritePlaybook {
        /// The whole new text.
        body: String,
    },
    /// Start a background worker for work of several steps.
    StartWorker {
        /// The worker's name.
        id: Name,
        /// The kind of worker.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// The worker's instructions.
        brief: String,
        /// The entry of the config or goal whose check decides if the work is done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verify: Option<String>,
        /// Names of resources that only this worker may work on.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        claims: Vec<String>,
        /// The git repository of which the worker gets a private clone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repo: Option<String>,
        /// Credentials or paths that it needs; each needs the user's approval.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        grant: Vec<String>,
    },
    /// Stop a worker.
    StopWorker {
        /// The worker's name.
        id: Name,
    },
    /// Send a text to a worker.
    TellWorker {
        /// The worker's name.
        id: Name,
        /// The text.
        text: String,
    },
    /// Ask the user a question. The answer wakes a later beat.
    Ask {
        /// The question.
        text: String,
        /// Answers to choose from.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
        /// What the question is about: a link, a path, a name.
        #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
    /// Set a durable timer that wakes the loop: exactly one of `in_s`, `every_s`, `cron`.
    Schedule {
        /// The timer's name; an existing timer with this name is replaced.
        name: Name,
        /// Fire once after this number of seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        in_s: Option<u32>,
        /// Fire every time after this number of seconds; at least 60.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        every_s: Option<u32>,
        /// A cron expression of five fields, in local time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cron: Option<String>,
        /// What to look at when the timer fires.
        note: String,
    },
    /// Remove a timer.
    DropSchedule {
        /// The timer's name.
        name: Name,
    },
}

/// A command: an argument vector, or one shell line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunCommand {
    /// Program and arguments, run without a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// One shell line, run by `sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sh: Option<String>,
    /// The working directory; the data dir if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
}

impl RunCommand {
    pub fn full_argv(&self) -> Vec<String> {
        match &self.sh {
            Some(line) => vec!["sh".to_owned(), "-c".to_owned(), line.clone()],
            None => self.argv.clone(),
        }
    }
}

impl Action {
    /// The tag of the move, as in its JSON form.
    pub fn tag(&self) -> &'static str {
        self.into()
    }

    /// What the move is about, in one word or command line, for the journal.
    pub fn object(&self) -> String {
        match self {
            Action::Noop {} | Action::WritePlaybook { .. } => String::new(),
            Action::Run(run) => run.sh.clone().unwrap_or_else(|| quote_argv(&run.argv)),
            Action::WriteGoal { id, .. }
            | Action::ArchiveGoal { id }
            | Action::StartWorker { id, .. }
            | Action::StopWorker { id }
            | Action::TellWorker { id, .. } => id.to_string(),
            Action::WriteSensor { name, .. }
            | Action::Schedule { name, .. }
            | Action::DropSchedule { name } => name.to_string(),
            Action::Ask { text, .. } => text.clone(),
        }
    }

    /// The flat JSON form of the action, without `why` and `goal`.
    pub fn to_json(&self) -> Value {
        Value::Object(self.to_fields())
    }

    fn to_fields(&self) -> Map<String, Value> {
        let Ok(Value::Object(tagged)) = serde_json::to_value(self) else { return Map::new() };
        let Some((tag, Value::Object(mut fields))) = tagged.into_iter().next() else { return Map::new() };
        fields.insert("move".to_owned(), tag.into());
        fields
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Action::Noop {}
            | Action::ArchiveGoal { .. }
            | Action::StopWorker { .. }
            | Action::DropSchedule { .. } => Ok(()),
            Action::Run(run) => check_run(run),
            Action::WriteGoal { body, .. } | Action::WritePlaybook { body } => {
                check_text("body", body, MAX_BODY_BYTES)
            }
            Action::WriteSensor { script, .. } => {
                check_text("script", script, MAX_BODY_BYTES)?;
                let begins = script.starts_with("#!");
                begins.then_some(()).ok_or_else(|| "`script` must begin with a `#!` line".to_owned())
            }
            Action::StartWorker { brief, .. } => check_text("brief", brief, MAX_BODY_BYTES),
            Action::TellWorker { text, .. } | Action::Ask { text, .. } => {
                check_text("text", text, MAX_TEXT_BYTES)
            }
            Action::Schedule { in_s, every_s, cron, note, .. } => {
                check_text("note", note, MAX_TEXT_BYTES)?;
                FireTime::from_parts(*in_s, *every_s, cron.as_deref()).map(|_| ())
            }
        }
    }
}

fn check_run(run: &RunCommand) -> Result<(), String> {
    if run.argv.is_empty() == run.sh.is_none() {
        return Err("`run` takes exactly one of `argv` (not empty) and `sh`".to_owned());
    }
    let all = run.argv.iter().chain(&run.sh).chain(&run.cwd);
    if all.clone().any(|text| text.contains('\0')) {
        return Err("`run` must not contain a NUL character".to_owned());
    }
    if run.argv.first().is_some_and(String::is_empty) {
        return Err("`argv[0]` must not be empty".to_owned());
    }
    // Linux refuses a single argument of 128 KiB or more; the whole stays far below ARG_MAX.
    match all.map(String::len).sum::<usize>() {
        0..=100_000 => Ok(()),
        n => Err(format!("`run` is {n} bytes long; 100000 is the limit")),
    }
}

fn check_text(field: &str, text: &str, cap: usize) -> Result<(), String> {
    match text.len() {
        _ if text.trim().is_empty() => Err(format!("`{field}` must not be empty")),
        _ if text.contains('\0') => Err(format!("`{field}` must not contain a NUL character")),
        n if n > cap => Err(format!("`{field}` is {n} bytes long; {cap} is the limit")),
        _ => Ok(()),
    }
}

impl Move {
    /// Parses a move from its flat JSON form, `{"move":"noop","why":"…"}`.
    ///
    /// # Errors
    /// Says which field is wrong; the text is shown to the decider.
    pub fn from_json(value: &Value) -> Result<Move, String> {
        let Value::Object(fields) = value else { return Err("a move is a JSON object".to_owned()) };
        let mut rest = fields.clone();
        let Some(Value::String(tag)) = rest.remove("move") else {
            return Err("`move` is missing or not a string".to_owned());
        };
        let why: String = take(&mut rest, "why")?.ok_or("`why` is missing")?;
        check_text("why", &why, MAX_TEXT_BYTES)?;
        let goal = take(&mut rest, "goal")?;
        let next_beat_s = take(&mut rest, "next_beat_s")?;
        let tagged = Value::Object(Map::from_iter([(tag.clone(), Value::Object(rest))]));
        let action: Action = serde_json::from_value(tagged).map_err(|e| format!("`{tag}`: {e}"))?;
        action.check().map_err(|e| format!("`{tag}`: {e}"))?;
        Ok(Move { action, why, goal, next_beat_s })
    }

    /// Returns the flat JSON form that [`Move::from_json`] reads.
    pub fn to_json(&self) -> Value {
        let Ok(Value::Object(mut flat)) = serde_json::to_value(self) else { return Value::Null };
        flat.remove("action");
        flat.extend(self.action.to_fields());
        Value::Object(flat)
    }
}

fn take<T: DeserializeOwned>(rest: &mut Map<String, Value>, key: &str) -> Result<Option<T>, String> {
    match rest.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value).map(Some).map_err(|e| format!("`{key}`: {e}")),
    }
}

/// Parses exactly one move from a reply. Reasoning, prose and code fences around it are skipped.
///
/// # Errors
/// Says what is wrong with the reply; the text is shown to the decider.
pub fn parse_reply(text: &str) -> Result<Move, String> {
    if text.len() > MAX_REPLY_BYTES {
        return Err(format!("the reply is {} bytes long; {MAX_REPLY_BYTES} is the limit", text.len()));
    }
    Move::from_json(&find_move(text)?)
}

/// The JSON Schema of a move in its flat form, generated from the types above.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let root = settings.into_generator().into_root_schema_for::<Move>().to_value();
    let variants = root["properties"]["action"]["oneOf"].as_array().into_iter().flatten();
    let flat: Vec<Value> = variants.filter_map(|variant| flat_schema(variant, &root)).collect();
    json!({ "oneOf": flat })
}

/// Turns `{properties:{tag:{properties:{…}}}}` into one object with the tag in `move` and the fields of every move.
fn flat_schema(variant: &Value, root: &Value) -> Option<Value> {
    let (tag, inner) = variant["properties"].as_object()?.iter().next()?;
    let mut properties = root["properties"].as_object()?.clone();
    properties.remove("action");
    properties.insert("move".to_owned(), json!({ "const": tag }));
    properties.extend(inner["properties"].as_object().cloned().unwrap_or_default());
    let mut required = vec![json!("move"), json!("why")];
    required.extend(inner["required"].as_array().cloned().unwrap_or_default());
    Some(json!({
        "description": variant["description"],
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    }))
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
