//! The problems of a config file, in the words of the config: which key, and what is wrong with its value.

use std::path::Path;

use serde_json::Value;
use serde_path_to_error::Segment;

use super::form::ConfigFile;
use crate::rules::fault::Fault;
use crate::rules::json_edit;
use crate::rules::text::nearest;

/// The keys that 0.1 named differently.
const RENAMED: [(&str, &str); 1] = [("nudge", "warn")];
/// How much of a wrong value is shown, in characters.
const SHOWN_CHARS: usize = 60;

/// One problem of a config file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problem {
    /// The path of its key; empty if it is about the whole file.
    pub key: String,
    /// What is wrong. The key is part of it.
    pub text: String,
    pub hints: Vec<String>,
    /// Where it is in the file, from 1 on; absent if the key is not in the file.
    pub place: Option<(usize, usize)>,
}

impl Problem {
    /// A problem with a key: `why` continues the sentence that the key begins.
    pub(super) fn of(key: impl Into<String>, why: &str) -> Problem {
        let key = key.into();
        Problem { text: format!("{key} {why}"), key, ..Problem::default() }
    }

    /// A problem with a key: `why` is a sentence of its own.
    pub(super) fn about(key: impl Into<String>, why: &str) -> Problem {
        let key = key.into();
        Problem { text: format!("{key}: {why}"), key, ..Problem::default() }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hints.push(hint.into());
        self
    }

    /// The error about this problem of the config at `path`.
    pub fn fault(&self, path: &Path) -> Fault {
        let place = self.place.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
        // A text that is not JSON has no keys.
        let what =
            if self.key.is_empty() { "could not read the config:" } else { "could not use the config:" };
        let fault = Fault::usage(format!("{what} {}{place}: {}", path.display(), self.text));
        self.hints.iter().fold(fault, |fault, hint| fault.hint(hint))
    }
}

/// Reads the text of a config as far as it can be read, and says what cannot.
pub(super) fn read(text: &str) -> (ConfigFile, Vec<Problem>) {
    let mut rest: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            let words = error.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            let words = words.replace("EOF while parsing", "the text ends within");
            let text = words.replace("expected value", "expected a value");
            let place = Some((error.line(), error.column()));
            return (ConfigFile::default(), vec![Problem { text, place, ..Problem::default() }]);
        }
    };
    // serde would accept a list as the values of the keys, in order.
    if !rest.is_object() {
        let text = "it is not a JSON object".to_owned();
        return (ConfigFile::default(), vec![Problem { text, place: Some((1, 1)), ..Problem::default() }]);
    }
    let mut problems: Vec<Problem> = Vec::new();
    // Only the text shows a key that is there twice.
    let mut whole = serde_json::Deserializer::from_str(text);
    if let Err(error) = serde_path_to_error::deserialize::<_, ConfigFile>(&mut whole) {
        let parent = key_of(error.path().iter(), &[]);
        let words = error.inner().to_string();
        let twice = words.strip_prefix("duplicate field `").and_then(|rest| rest.split('`').next());
        problems.extend(twice.map(|name| Problem::of(join(&parent, name), "is there twice")));
    }
    let mut dropped = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, ConfigFile>(&rest) {
            Ok(file) => return (file, problems),
            Err(error) => error,
        };
        let path: Vec<&Segment> = error.path().iter().collect();
        let problem =
            describe(&key_of(path.iter().copied(), &dropped), &path, &rest, &error.inner().to_string());
        // A list or an object from which a wrong part was taken may lack that part now.
        if !problems.iter().any(|known| is_within(&known.key, &problem.key)) {
            problems.push(problem);
        }
        if !drop_at(&mut rest, &path, &mut dropped) {
            return (ConfigFile::default(), problems);
        }
    }
}

/// Joins the problems of what could not be read with those that were found in what could, with the places of both in the
/// text, in its order.
pub(super) fn joined(unread: Vec<Problem>, found: Vec<Problem>, text: &str) -> Vec<Problem> {
    // What could not be read was taken out: a runner would seem to be missing, and the entries of a list to have moved.
    let lists: Vec<&str> =
        unread.iter().filter_map(|problem| Some(problem.key.rsplit_once('[')?.0)).collect();
    let lacks_runners = unread.iter().any(|problem| is_within(&problem.key, "runners"));
    let by_runners = ["decide", "worker", "fix", "runners"];
    let is_doubtful = |problem: &Problem| {
        lists.iter().any(|list| is_within(&problem.key, list))
            || lacks_runners && by_runners.iter().any(|outer| is_within(&problem.key, outer))
    };
    let found: Vec<Problem> = found.into_iter().filter(|problem| !is_doubtful(problem)).collect();
    let mut all: Vec<Problem> = unread.into_iter().chain(found).collect();
    for problem in &mut all {
        let at = json_edit::find(text, &problem.key).filter(|_| !problem.key.is_empty());
        problem.place = problem.place.or_else(|| {
            let before = &text[..at?.start];
            let line = before.rsplit('\n').next().unwrap_or_default();
            Some((before.matches('\n').count() + 1, line.chars().count() + 1))
        });
    }
    all.sort_by_key(|problem| problem.place.unwrap_or((usize::MAX, 0)));
    all
}

/// True if the path of a key is `outer` or leads into it.
fn is_within(key: &str, outer: &str) -> bool {
    key.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// The path of a key as the user writes it. `dropped` has the lists from which an entry was taken, once for each.
fn key_of<'a>(path: impl Iterator<Item = &'a Segment>, dropped: &[String]) -> String {
    path.fold(String::new(), |parent, part| match part {
        Segment::Seq { index } => {
            let before = dropped.iter().filter(|list| **list == parent).count();
            format!("{parent}[{}]", index + before)
        }
        Segment::Map { key } | Segment::Enum { variant: key } => join(&parent, key),
        Segment::Unknown => parent,
    })
}

/// Takes the value at a path out. False if there is none.
fn drop_at(value: &mut Value, path: &[&Segment], dropped: &mut Vec<String>) -> bool {
    let is_step = |part: &&&Segment| matches!(part, Segment::Map { .. } | Segment::Seq { .. });
    let steps: Vec<&Segment> = path.iter().take_while(is_step).copied().collect();
    let Some((last, parents)) = steps.split_last() else { return false };
    let mut here = value;
    for part in parents {
        let next = match part {
            Segment::Seq { index } => here.get_mut(*index),
            Segment::Map { key } => here.get_mut(key),
            _ => None,
        };
        let Some(next) = next else { return false };
        here = next;
    }
    match (last, here) {
        (Segment::Map { key }, Value::Object(map)) => map.remove(key).is_some(),
        (Segment::Seq { index }, Value::Array(list)) if *index < list.len() => {
            list.remove(*index);
            dropped.push(key_of(parents.iter().copied(), dropped));
            true
        }
        _ => false,
    }
}

/// Says a problem of serde's in the words of the config.
fn describe(key: &str, path: &[&Segment], root: &Value, words: &str) -> Problem {
    let quoted: Vec<&str> = words.split('`').skip(1).step_by(2).collect();
    if let (true, Some((name, known))) = (words.starts_with("unknown field"), quoted.split_first()) {
        // serde's text is: unknown field `a`, expected one of `b`, `c`
        let renamed =
            RENAMED.iter().find(|(old, new)| old == name && known.contains(new)).map(|(_, new)| new);
        let problem = Problem::of(key, "is not a key here");
        return match renamed.or_else(|| nearest(name, known, 0.0)) {
            Some(near) => problem.hint(format!("did you mean `{near}`? Keys here are: {}", known.join(", "))),
            None => problem,
        };
    }
    if let Some(name) = words.strip_prefix("missing field `") {
        return Problem::of(key, &format!("lacks the key `{}`", name.trim_end_matches('`')));
    }
    let about_type = ["invalid type", "invalid value", "invalid length", "unknown variant", "expected"];
    let expected =
        words.split_once("expected ").filter(|_| about_type.iter().any(|form| words.starts_with(form)));
    let expected = match expected {
        Some((_, expected)) => expected,
        // What serde_json says of a number that does not fit.
        None if words == "invalid number" => "usize",
        None if words.starts_with("is ") => return Problem::of(key, words),
        None => return Problem::about(key, words),
    };
    let value = path.iter().try_fold(root, |here, part| match part {
        Segment::Seq { index } => here.get(*index),
        Segment::Map { key } => here.get(key),
        _ => Some(here),
    });
    let shown: String = value.map(Value::to_string).unwrap_or_default().chars().take(SHOWN_CHARS).collect();
    let expected = match expected {
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" | "string or map" => "a text in quotes".to_owned(),
        "a sequence" => "a list, as in [\"a\", \"b\"]".to_owned(),
        "a map" => "an object, as in {\"key\": 1}".to_owned(),
        name if name.starts_with("struct ") => "an object, as in {\"key\": 1}".to_owned(),
        "usize" | "u8" | "u16" | "u32" | "u64" => "a whole number from 0 on".to_owned(),
        other => other.replace('`', "\""),
    };
    Problem::of(key, &format!("is {shown}; expected {expected}"))
}
