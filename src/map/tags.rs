//! One file read by its grammar: what it defines, what it refers to, what it imports.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use tree_sitter::{ParseOptions, Parser, Tree};

use super::imports;
use super::lang::{COUNT, Lang};
use super::rules::{Role, Rules};
use crate::sys::clock::Deadline;

/// How long one file may take, in milliseconds.
const FILE_MS: i64 = 2_000;
/// The most definitions, references and imports of each kind that are kept of a file.
const MAX_TAGS: usize = 20_000;
/// After how many nodes the time is looked at.
const LOOK_EVERY: usize = 1024;
/// The longest name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// Something that a file defines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Def {
    /// Its name.
    pub name: String,
    /// What it is, in the words of the grammar's tags: function, method, class, interface, type, module, macro, constant.
    pub kind: String,
    /// Its first line, from 1.
    pub line: u32,
    /// Its last line.
    pub end: u32,
}

/// What is known of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tags {
    pub(super) defs: Vec<Def>,
    /// Names, and how often each is referred to.
    pub(super) refs: BTreeMap<String, u32>,
    /// What is imported, in the language's own words.
    pub(super) imports: Vec<String>,
    /// True where the grammar did not understand all of it.
    pub(super) partial: bool,
}

/// Reads files; what it has made ready for a language it keeps.
#[derive(Default)]
pub(super) struct Reader {
    ready: [Option<(Parser, Rules)>; COUNT],
}

impl Reader {
    /// Reads a file's text. What cannot be read in time gives what is known without it, and is partial.
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
    /// Looks at each node in the order of the text; false when the time was up.
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
                    // Each class has one, and nobody calls it by that name.
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

    /// Takes a node that is no definition; `from` is the module that names are imported from.
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

    /// Several patterns may have seen the same thing; the first had the most to say about it.
    fn tidy(&mut self) {
        let mut seen = std::collections::BTreeSet::new();
        self.defs.retain(|def| seen.insert((def.line, def.name.clone())));
        self.defs.sort_by_key(|def| def.line);
        self.imports.sort();
        self.imports.dedup();
    }
}
