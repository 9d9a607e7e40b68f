//! The languages that the map reads, and what is looked for in each: tags of the grammar, and queries of our own for
//! what those leave out, imports above all.

use tree_sitter::{Language, Query, QueryError};

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lang {
    Python,
    Rust,
    Go,
    JavaScript,
    TypeScript,
    Tsx,
}

/// How many there are.
pub(super) const COUNT: usize = 6;

impl Lang {
    /// The language of a file, by the end of its name.
    pub(super) fn of(path: &str) -> Option<Lang> {
        let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
        Some(match extension {
            "py" | "pyi" => Lang::Python,
            "rs" => Lang::Rust,
            "go" => Lang::Go,
            "js" | "jsx" | "mjs" | "cjs" => Lang::JavaScript,
            "ts" | "mts" | "cts" => Lang::TypeScript,
            "tsx" => Lang::Tsx,
            _ => return None,
        })
    }

    /// Languages of one family may refer to each other.
    pub(super) fn family(self) -> &'static str {
        match self {
            Lang::Python => "python",
            Lang::Rust => "rust",
            Lang::Go => "go",
            Lang::JavaScript | Lang::TypeScript | Lang::Tsx => "javascript",
        }
    }

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

    /// What is looked for. The grammar of TypeScript has tags only for what it adds to JavaScript.
    pub(super) fn query(self) -> Result<Query, QueryError> {
        let script = tree_sitter_javascript::TAGS_QUERY;
        let parts: &[&str] = match self {
            Lang::Python => &[tree_sitter_python::TAGS_QUERY, PYTHON],
            Lang::Rust => &[tree_sitter_rust::TAGS_QUERY, RUST],
            Lang::Go => &[tree_sitter_go::TAGS_QUERY, GO],
            Lang::JavaScript => &[script, SCRIPT, HERITAGE, JSX],
            Lang::TypeScript => &[script, tree_sitter_typescript::TAGS_QUERY, SCRIPT, TYPES],
            Lang::Tsx => &[script, tree_sitter_typescript::TAGS_QUERY, SCRIPT, TYPES, JSX],
        };
        Query::new(&self.grammar(), &parts.join("\n"))
    }
}

/// `from a import b` may name a module `a.b` or something in `a`: both parts are kept.
const PYTHON: &str = r"
(import_statement name: (dotted_name) @import)
(import_statement name: (aliased_import name: (dotted_name) @import))
(import_from_statement module_name: (_) @import.from name: (dotted_name) @import.name)
(import_from_statement module_name: (_) @import.from name: (aliased_import name: (dotted_name) @import.name))
(import_from_statement module_name: (_) @import (wildcard_import))
(attribute attribute: (identifier) @reference)
(argument_list (identifier) @reference)
(class_definition superclasses: (argument_list (identifier) @reference))
(class_definition body: (block (expression_statement (assignment left: (identifier) @name)) @definition.constant))
(decorator (identifier) @reference)
(type (identifier) @reference)
";

const RUST: &str = r"
(use_declaration argument: (_) @import.use)
(mod_item name: (identifier) @import.mod !body)
(scoped_identifier name: (identifier) @reference)
(scoped_identifier) @import.path
(type_identifier) @reference
(arguments (identifier) @reference)
(const_item name: (identifier) @name) @definition.constant
(static_item name: (identifier) @name) @definition.constant
(token_tree (identifier) @reference)
";

const GO: &str = r"
(import_spec path: (interpreted_string_literal) @import)
(selector_expression field: (field_identifier) @reference)
(argument_list (identifier) @reference)
(var_spec name: (identifier) @name) @definition.constant
(const_spec name: (identifier) @name) @definition.constant
";

const SCRIPT: &str = r#"
(import_statement source: (string) @import)
(export_statement source: (string) @import)
(import_specifier name: (identifier) @reference)
(call_expression function: (import) arguments: (arguments . (string) @import))
((call_expression function: (identifier) @_called arguments: (arguments . (string) @import))
  (#any-of? @_called "require" "import"))
(arguments (identifier) @reference)
(program (lexical_declaration (variable_declarator name: (identifier) @name) @definition.constant))
(program (export_statement (lexical_declaration (variable_declarator name: (identifier) @name) @definition.constant)))
"#;

const HERITAGE: &str = "(class_heritage (identifier) @reference)";

const TYPES: &str = r"
(type_identifier) @reference
(type_alias_declaration name: (type_identifier) @name) @definition.type
(enum_declaration name: (identifier) @name) @definition.class
(class_heritage (extends_clause value: (identifier) @reference))
";

const JSX: &str = r"
(jsx_opening_element name: (identifier) @reference)
(jsx_self_closing_element name: (identifier) @reference)
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_one_that_its_grammar_knows() {
        let all = [Lang::Python, Lang::Rust, Lang::Go, Lang::JavaScript, Lang::TypeScript, Lang::Tsx];
        for lang in all {
            let query = lang.query().unwrap_or_else(|error| panic!("{lang:?}: {error}"));
            assert!(query.capture_names().contains(&"name"), "{lang:?}");
        }
        assert_eq!(all.len(), COUNT);
    }

    #[test]
    fn the_end_of_a_name_tells_the_language() {
        for (path, lang) in [
            ("a/b.py", Some(Lang::Python)),
            ("b.d.ts", Some(Lang::TypeScript)),
            ("x.tsx", Some(Lang::Tsx)),
            ("py", None),
            ("a.py/b", None),
            ("Makefile", None),
        ] {
            assert_eq!(Lang::of(path), lang, "{path}");
        }
    }
}
