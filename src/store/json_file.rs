//! A JSON file as a typed value, and a file with a typed value in each line.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file::{self, Doing, Durability};
use crate::rules::fault::Fault;

/// The largest file that is read.
const MAX_BYTES: usize = 16 << 20;

/// The result of reading a JSON file.
pub(super) enum Parsed<T> {
    Absent,
    Good(T),
    Corrupt(String),
}

pub(super) fn parse<T: DeserializeOwned>(path: &Path) -> Result<Parsed<T>> {
    use file::ReadError;
    match file::read(path, MAX_BYTES) {
        Ok(None) => Ok(Parsed::Absent),
        // serde would read a list as the values of the fields, in order.
        Ok(Some(bytes)) if bytes.trim_ascii_start().starts_with(b"[") => {
            Ok(Parsed::Corrupt("it is not a JSON object".to_owned()))
        }
        Ok(Some(bytes)) => {
            Ok(serde_json::from_slice(&bytes).map_or_else(|e| Parsed::Corrupt(e.to_string()), Parsed::Good))
        }
        Err(error @ (ReadError::NotRegular | ReadError::TooLarge(_) | ReadError::NotUtf8)) => {
            Ok(Parsed::Corrupt(error.to_string()))
        }
        Err(error) => Err(error).doing("read", path),
    }
}

/// Reads a typed JSON file that may be absent.
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
pub fn write_json<T: Serialize>(path: &Path, value: &T, keep: Durability) -> Result<()> {
    file::write(path, json_text(value)?.as_bytes(), 0o600, keep)
}

/// Returns a record as the text of its file.
///
/// # Errors
/// When the value has no JSON form.
pub fn json_text<T: Serialize>(value: &T) -> Result<String> {
    let text = serde_json::to_string_pretty(value).context("could not write a record as JSON")?;
    Ok(text + "\n")
}

/// Returns a record as one line.
///
/// # Errors
/// When the value has no JSON form.
pub(super) fn json_line<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).context("could not write a record as JSON")
}

/// Replaces a file that holds a typed value in each line, durably.
pub(super) fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let mut text = String::new();
    for value in values {
        text += &json_line(value)?;
        text.push('\n');
    }
    file::write(path, text.as_bytes(), 0o600, Durability::Durable)
}

/// Parses the lines that are typed values, and skips the others, such as a line that a crash tore.
pub(super) fn parse_lines<T: DeserializeOwned>(text: &str) -> impl Iterator<Item = T> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}
