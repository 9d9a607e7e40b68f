//! The definitions, references and imports of one file, extracted by its grammar.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use tree_sitter::{ParseOptions, Parser, Tree};

use super::imports;
use super::lang::{COUNT, Lang};
use super::rules::{Role, Rules};
use crate::sys::clock::Deadline;

/// The timeout for one file, in milliseconds.
const FILE_MS: i64 = 2_000;
/// The most definitions, references and imports that are kept of one file, each.
const MAX_TAGS: usize = 20_000;
/// The time is checked after this many nodes.
const LOOK_EVERY: usize = 1024;
const MAX_NAME_BYTES: usize = 200;

/// A definition in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tags {
    pub(super) defs: Vec<Def>,
    /// Names, and the number of references to each.
    pub(super) refs: BTreeMap<String, u32>,
    /// The imports, as written in the language.
    pub(super) imports: Vec<String>,
    /// True if the grammar could not parse all of it.
    pub(super) partial: bool,
}

/// Extracts tags from files; it keeps the prepared parser of each language.
#[derive(Default)]
pub(super) struct Reader {
    ready: [Option<(Parser, Rules)>; COUNT],
}

impl Reader {
    /// Extracts the tags of a file's text. After a timeout the result is partial.
    pub(super) fn read(&mut self, lang: Lang, text: &str) -> Tags {
        let failed = Tags { partial: true, ..Tags::default() };
        let Some((parser, rules)) = self.ready(lang) else { return failed };
        let deadline = Deadline::after_ms(FILE_MS);
        let mut late = |_: &tree_sitter::ParseState| match deadline.passed() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let options = ParseOptions::new().progress_callback(&mut late);
        let bytes = text.as_bytes();
        let mut from = |at: usize, _| bytes.get(at..).unwrap_or_default();
        let Some(tree) = parser.parse_with_options(&mut from, None, Some(options)) else {
            parser.reset();
            return failed;
        };
        let mut tags = Tags { partial: tree.root_node().has_error(), ..Tags::default() };
        if !tags.walk(lang, rules, &tree, text, &deadline) {
            tags.partial = true;
        }
        tags.tidy();
        tags
    }

    fn ready(&mut self, lang: Lang) -> Option<&mut (Parser, Rules)> {
        let place = &mut self.ready[lang as usize];
        if place.is_none() {
            let mut parser = Parser::new();
            parser.set_language(&lang.grammar()).ok()?;
            *place = Some((parser, lang.rules()?));
        }
        place.as_mut()
    }
}

impl Tags {
    /// Visits each node in the order of the text; false if the time ran out.
    fn walk(&mut self, lang: Lang, rules: &Rules, tree: &Tree, text: &str, deadline: &Deadline) -> bool {
        let mut cursor = tree.walk();
        let mut within = Vec::new();
        let mut from = "";
        for looked in 0_usize.. {
            if looked % LOOK_EVERY == 0 && deadline.passed() {
                return false;
            }
            let node = cursor.node();
            let field = cursor.field_id().map(std::num::NonZeroU16::get);
            if let Some((role, marked)) = rules.role(node, field, &within, text) {
                let word = text.get(node.byte_range()).unwrap_or_default();
                match role {
                    // Every class has one, and no caller uses its name.
                    Role::Def(_) if word == "constructor" => {}
                    Role::Def(kind) => {
                        self.define(word, kind, marked.start_position().row, marked.end_position().row);
                    }
                    Role::From => from = word,
                    role => self.take(lang, role, word, from),
                }
            }
            if cursor.goto_first_child() {
                within.push(node);
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    return true;
                }
                within.pop();
            }
        }
        true
    }

    /// Records a node that is not a definition; `from` is the module from which names are imported.
    fn take(&mut self, lang: Lang, role: Role, word: &str, from: &str) {
        match role {
            Role::Ref => self.refer(word),
            Role::Import => self.import(lang, word),
            Role::Use => imports::spell_out(word, &mut |path| self.import(lang, path)),
            Role::OwnPath if imports::is_own_path(word) => self.import(lang, word),
            Role::Module => self.import(lang, &format!("self::{word}")),
            Role::FromAll => self.import(lang, from),
            Role::FromName => {
                self.refer(word);
                let dot = if from.ends_with('.') { "" } else { "." };
                self.import(lang, &format!("{from}{dot}{word}"));
            }
            Role::OwnPath | Role::Def(_) | Role::From => {}
        }
    }

    fn define(&mut self, name: &str, kind: &str, line: usize, end: usize) {
        if name.len() > MAX_NAME_BYTES || self.defs.len() >= MAX_TAGS {
            return;
        }
        let row = |row: usize| u32::try_from(row + 1).unwrap_or(u32::MAX);
        let (line, end) = (row(line), row(end));
        self.defs.push(Def { name: name.to_owned(), kind: kind.to_owned(), line, end });
    }

    fn refer(&mut self, name: &str) {
        if name.len() <= MAX_NAME_BYTES && self.refs.len() < MAX_TAGS {
            *self.refs.entry(name.to_owned()).or_default() += 1;
        }
    }

    fn import(&mut self, lang: Lang, path: &str) {
        let path = match lang {
            Lang::Python | Lang::Rust => path,
            _ => path.trim_matches(['"', '\'', '`']),
        };
        if path.len() <= MAX_NAME_BYTES && self.imports.len() < MAX_TAGS {
            self.imports.push(path.to_owned());
        }
    }

    /// Several patterns may match the same node; the first one is the most specific.
    fn tidy(&mut self) {
        let mut seen = std::collections::BTreeSet::new();
        self.defs.retain(|def| seen.insert((def.line, def.name.clone())));
        self.defs.sort_by_key(|def| def.line);
        self.imports.sort();
        self.imports.dedup();
    }
}
