//! Pure. Warnings for keys of a leanfile that looop does not know.

use serde_json::Value;

use super::{Leanfile, Task};
use crate::rules::text::{nearest, visible};

/// How similar a known key must be to be named, of 1.
const MIN_SIMILARITY: f64 = 0.7;

/// One warning for each unknown key, with the nearest known one.
pub(super) fn unknown(table: &toml::Table) -> Vec<String> {
    let all = Leanfile { tasks: vec![Task::default()], ..Leanfile::default() };
    let known = serde_json::to_value(all).unwrap_or_default();
    let mut odd = Vec::new();
    look(table, "", &known, &mut odd);
    odd
}

/// `known` has every key of the table, with tables in it as objects.
fn look(table: &toml::Table, place: &str, known: &Value, odd: &mut Vec<String>) {
    for (key, value) in table {
        let shown = format!("{place}{}", visible(key, false));
        match (known.get(key), value) {
            (None, _) => {
                let keys = known.as_object().into_iter().flat_map(|known| known.keys());
                let near = nearest(key, keys, MIN_SIMILARITY);
                let meant = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                odd.push(format!("unknown key `{shown}` has no effect{meant}"));
            }
            // The variables of `env` have any name.
            (Some(known), toml::Value::Table(inner)) if key != "env" => {
                look(inner, &format!("{shown}."), known, odd);
            }
            (Some(Value::Array(known)), toml::Value::Array(all)) => {
                for (at, inner) in all.iter().enumerate() {
                    if let (Some(known), Some(inner)) = (known.first(), inner.as_table()) {
                        look(inner, &format!("{shown}[{}].", at + 1), known, odd);
                    }
                }
            }
            _ => {}
        }
    }
}
