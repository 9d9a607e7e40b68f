//! Reads one file by its grammar. A build without the feature `map` has no grammars and no reader.

use std::ops::ControlFlow;

use tree_sitter::{Language, ParseOptions, Parser, Tree};

use super::imports;
use super::lang::Lang;
use super::rules::{self, LanguageRules, NodeRole};
use super::tags::Tags;
use crate::os::clock::Deadline;

/// How many languages there are.
pub(super) const COUNT: usize = 6;
/// How long one file may take, in milliseconds.
const FILE_MS: i64 = 2_000;
/// After how many nodes the time is looked at.
const LOOK_EVERY: usize = 1024;

impl Lang {
    pub(super) fn grammar(self) -> Language {
        match self {
            Lang::Python => tree_sitter_python::LANGUAGE.into(),
            Lang::Rust => tree_sitter_rust::LANGUAGE.into(),
            Lang::Go => tree_sitter_go::LANGUAGE.into(),
            Lang::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
            Lang::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
            Lang::Tsx => tree_sitter_typescript::LANGUAGE_TSX.into(),
        }
    }

    /// What is looked for; none when a rule does not fit the grammar, which is tested.
    pub(super) fn rules(self) -> Option<LanguageRules> {
        let parts: &[&'static str] = match self {
            Lang::Python => &[rules::PYTHON],
            Lang::Rust => &[rules::RUST],
            Lang::Go => &[rules::GO],
            Lang::JavaScript => &[rules::SCRIPT, rules::JAVASCRIPT, rules::JSX],
            Lang::TypeScript => &[rules::SCRIPT, rules::TYPESCRIPT],
            Lang::Tsx => &[rules::SCRIPT, rules::TYPESCRIPT, rules::JSX],
        };
        LanguageRules::parse(&self.grammar(), parts)
    }
}

/// Reads files; what it has made ready for a language it keeps.
#[derive(Default)]
pub(super) struct Reader {
    ready: [Option<(Parser, LanguageRules)>; COUNT],
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
        tags.walk(rules, &tree, text, &deadline);
        tags.tidy();
        tags
    }

    fn ready(&mut self, lang: Lang) -> Option<&mut (Parser, LanguageRules)> {
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
    /// Looks at each node in the order of the text, as long as there is time.
    fn walk(&mut self, rules: &LanguageRules, tree: &Tree, text: &str, deadline: &Deadline) {
        let mut cursor = tree.walk();
        let mut within = Vec::new();
        // The module that the following names are imported from.
        let mut from = "";
        for looked in 0_usize.. {
            if looked % LOOK_EVERY == 0 && deadline.passed() {
                self.partial = true;
                return;
            }
            let node = cursor.node();
            let field = cursor.field_id().map(std::num::NonZeroU16::get);
            if let Some((role, marked)) = rules.role(node, field, &within, text) {
                let word = text.get(node.byte_range()).unwrap_or_default();
                match role {
                    // Each class has a constructor, and no code calls it by that name.
                    NodeRole::Def(_) if word == "constructor" => {}
                    NodeRole::Def(kind) => {
                        self.define(word, kind, marked.start_position().row, marked.end_position().row);
                    }
                    NodeRole::Ref => self.refer(word),
                    NodeRole::Import => self.import(word),
                    NodeRole::Use => imports::spell_out(word, &mut |path| self.import(path)),
                    NodeRole::OwnPath if !imports::is_own_path(word) => {}
                    NodeRole::OwnPath => self.import(word),
                    NodeRole::Module => self.import(&format!("self::{word}")),
                    NodeRole::From => from = word,
                    NodeRole::FromAll => self.import(from),
                    NodeRole::FromName => {
                        self.refer(word);
                        let dot = if from.ends_with('.') { "" } else { "." };
                        self.import(&format!("{from}{dot}{word}"));
                    }
                }
            }
            if cursor.goto_first_child() {
                within.push(node);
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    return;
                }
                within.pop();
            }
        }
    }
}
