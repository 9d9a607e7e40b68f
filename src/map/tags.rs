//! What is known of one file: what it defines, what it refers to, what it imports.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most definitions, references and imports of each kind that are kept of a file.
const MAX_TAGS: usize = 20_000;
/// The longest name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// A definition in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Def {
    /// The name.
    pub name: String,
    /// The kind, as in the grammar's tags: function, method, class, interface, type, module, macro, constant.
    pub kind: String,
    /// The first line; lines count from 1.
    pub line: u32,
    /// The last line.
    pub end: u32,
}

/// The extracted data of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tags {
    pub(super) defs: Vec<Def>,
    /// Names, and the number of references to each.
    pub(super) refs: BTreeMap<String, u32>,
    /// The imports, as written in the language.
    pub(super) imports: Vec<String>,
    /// True if the grammar could not parse all of it.
    pub(super) partial: bool,
}

impl Tags {
    pub(super) fn define(&mut self, name: &str, kind: &str, line: usize, end: usize) {
        if name.len() > MAX_NAME_BYTES || self.defs.len() >= MAX_TAGS {
            return;
        }
        let row = |row: usize| u32::try_from(row + 1).unwrap_or(u32::MAX);
        let (line, end) = (row(line), row(end));
        self.defs.push(Def { name: name.to_owned(), kind: kind.to_owned(), line, end });
    }

    pub(super) fn refer(&mut self, name: &str) {
        if name.len() <= MAX_NAME_BYTES && self.refs.len() < MAX_TAGS {
            *self.refs.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// Adds an import, without its quotes if the language has some there.
    pub(super) fn import(&mut self, path: &str) {
        let path = path.trim_matches(['"', '\'', '`']);
        if path.len() <= MAX_NAME_BYTES && self.imports.len() < MAX_TAGS {
            self.imports.push(path.to_owned());
        }
    }

    /// Several patterns may have seen the same thing; the first had the most to say about it.
    pub(super) fn tidy(&mut self) {
        let mut seen = std::collections::BTreeSet::new();
        self.defs.retain(|def| seen.insert((def.line, def.name.clone())));
        self.defs.sort_by_key(|def| def.line);
        self.imports.sort();
        self.imports.dedup();
    }
}
