//! looop's own records as typed files: the memory, asks and answers, timers, the pause.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::file::{self, Keep};
use super::layout::{self, Layout};
use crate::model::ask::{Answer, Ask};
use crate::model::beat::Beat;
use crate::model::fault::Fault;
use crate::model::name::Name;
use crate::model::schedule::Schedule;
use crate::model::time::Now;

/// The longest record, in bytes.
const MAX_RECORD_BYTES: usize = 16 << 20;

/// Reads the memory of the loop. An absent one is a fresh one. A corrupt one is set aside and replaced by one
/// that is halted, so that no move is made until a human has looked; the second value says so.
///
/// # Errors
/// When it cannot be read, or cannot be set aside: then nothing is decided either.
pub fn load_beat(layout: &Layout, now: Now) -> Result<(Beat, Option<String>)> {
    let path = layout.beat();
    match parse::<Beat>(&path)? {
        Parsed::Absent => Ok((Beat::default(), None)),
        Parsed::Good(beat) => Ok((beat, None)),
        Parsed::Corrupt(why) => {
            let aside = file::copy_aside(&path, &now.unix_ms.to_string())?;
            let told = format!("`beat.json` was corrupt ({why}); it is kept as `{}`", aside.display());
            let beat = Beat { halted: Some(told.clone()), ..Beat::default() };
            save_beat(layout, &beat)?;
            Ok((beat, Some(told)))
        }
    }
}

/// Reads the memory without ever writing, for the verbs that only look.
///
/// # Errors
/// When it cannot be read or is corrupt.
pub fn peek_beat(layout: &Layout) -> Result<Beat> {
    match parse::<Beat>(&layout.beat())? {
        Parsed::Absent => Ok(Beat::default()),
        Parsed::Good(beat) => Ok(beat),
        Parsed::Corrupt(why) => {
            let fault = Fault::failed(format!("could not read `{}`: {why}", layout.beat().display()));
            Err(fault.hint("the next beat sets it aside and halts; then `looop resume`").into())
        }
    }
}

/// Replaces the memory, durably.
///
/// # Errors
/// Names the file.
pub fn save_beat(layout: &Layout, beat: &Beat) -> Result<()> {
    write_json(&layout.beat(), beat, Keep::Durable)
}

/// Asks with their answers, by id.
pub type Asks = BTreeMap<Name, (Ask, Option<Answer>)>;

/// All asks that were not put away, and a line for each file that could not be read.
///
/// # Errors
/// When the directory cannot be listed.
pub fn asks(layout: &Layout) -> Result<(Asks, Vec<String>)> {
    let mut asks = BTreeMap::new();
    let mut problems = Vec::new();
    for name in json_names(&layout.asks())? {
        let Ok(id) = Name::parse(&name) else { continue };
        if name.ends_with(".answer") {
            continue;
        }
        let answer = parse::<Answer>(&layout.asks().join(format!("{name}.answer.json")));
        match (parse::<Ask>(&layout.file(&layout::ask_path(&id))), answer) {
            (Ok(Parsed::Good(ask)), Ok(Parsed::Good(answer)))
                if ask.id == id && answer.ask == id && answer.fits(&ask) =>
            {
                asks.insert(id, (ask, Some(answer)));
            }
            (Ok(Parsed::Good(ask)), Ok(Parsed::Absent)) if ask.id == id => {
                asks.insert(id, (ask, None));
            }
            (Ok(Parsed::Absent), _) => {}
            _ => problems.push(format!("asks/{name}.json or its answer is corrupt and not used")),
        }
    }
    Ok((asks, problems))
}

/// All timers, and a line for each file that could not be read.
///
/// # Errors
/// When the directory cannot be listed.
pub fn schedules(layout: &Layout) -> Result<(BTreeMap<Name, Schedule>, Vec<String>)> {
    let mut schedules = BTreeMap::new();
    let mut problems = Vec::new();
    for name in json_names(&layout.schedules())? {
        match (Name::parse_new(&name), parse::<Schedule>(&layout.schedules().join(format!("{name}.json")))) {
            (Ok(id), Ok(Parsed::Good(schedule))) => {
                schedules.insert(id, schedule);
            }
            (Ok(_), Ok(Parsed::Absent)) => {}
            _ => problems.push(format!("schedules/{}.json is corrupt and not used", name.escape_debug())),
        }
    }
    Ok((schedules, problems))
}

/// Since when and why the loop is paused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// When, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Why, in the human's words; may be empty.
    pub why: String,
}

/// Whether a human has paused the loop. A record that cannot be read counts as a pause.
///
/// # Errors
/// When the system refuses to say.
pub fn paused(layout: &Layout) -> Result<Option<Paused>> {
    match parse::<Paused>(&layout.paused())? {
        Parsed::Absent => Ok(None),
        Parsed::Good(paused) => Ok(Some(paused)),
        Parsed::Corrupt(why) => {
            Ok(Some(Paused { since_ms: 0, why: format!("`paused.json` is corrupt: {why}") }))
        }
    }
}

/// What a JSON file was found to be.
enum Parsed<T> {
    Absent,
    Good(T),
    Corrupt(String),
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<Parsed<T>> {
    use file::ReadError;
    match file::read(path, MAX_RECORD_BYTES) {
        Ok(None) => Ok(Parsed::Absent),
        // A list would be read as the values of the fields, in order.
        Ok(Some(bytes)) if bytes.trim_ascii_start().starts_with(b"[") => {
            Ok(Parsed::Corrupt("it is not a JSON object".to_owned()))
        }
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Parsed::Good(value)),
            Err(error) => Ok(Parsed::Corrupt(error.to_string())),
        },
        Err(error @ (ReadError::NotRegular | ReadError::TooLarge(_) | ReadError::NotUtf8)) => {
            Ok(Parsed::Corrupt(error.to_string()))
        }
        Err(error) => Err(error).with_context(|| format!("could not read `{}`", path.display())),
    }
}

/// A typed JSON file that may be absent.
///
/// # Errors
/// When it cannot be read or is corrupt.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match parse(path)? {
        Parsed::Absent => Ok(None),
        Parsed::Good(value) => Ok(Some(value)),
        Parsed::Corrupt(why) => {
            Err(Fault::failed(format!("could not read `{}`: {why}", path.display())).into())
        }
    }
}

/// Replaces a typed JSON file.
///
/// # Errors
/// Names the file.
pub fn write_json<T: Serialize>(path: &Path, value: &T, keep: Keep) -> Result<()> {
    file::write(path, json_text(value)?.as_bytes(), 0o600, keep)
}

/// A record as the text of its file.
///
/// # Errors
/// When the value has no JSON form.
pub fn json_text<T: Serialize>(value: &T) -> Result<String> {
    let text = serde_json::to_string_pretty(value).context("could not write a record as JSON")?;
    Ok(text + "\n")
}

/// The names before `.json` in a directory, sorted; hidden files are left out.
fn json_names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("could not list `{}`", dir.display())),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|n| !n.starts_with('.'))
        .filter_map(|n| n.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}
