//! Tests of the rules: each fits its grammar, and together they find everything that the grammars' own tags find.

use std::collections::BTreeSet;
use std::path::Path;

use tree_sitter::{Parser, Query, QueryCursor, StreamingIterator};

use super::super::lang::Lang;
use super::super::reader::{COUNT, Reader};
use super::*;

const ALL: [Lang; COUNT] =
    [Lang::Python, Lang::Rust, Lang::Go, Lang::JavaScript, Lang::TypeScript, Lang::Tsx];

/// What the grammar's tags find: definitions with their first line from 1, and referenced names. The TypeScript
/// grammar has tags only for its additions to JavaScript.
fn tagged(lang: Lang, text: &str) -> (BTreeSet<(String, u32)>, BTreeSet<String>) {
    let script = tree_sitter_javascript::TAGS_QUERY;
    let types = tree_sitter_typescript::TAGS_QUERY;
    let source = match lang {
        Lang::Python => tree_sitter_python::TAGS_QUERY.to_owned(),
        Lang::Rust => tree_sitter_rust::TAGS_QUERY.to_owned(),
        Lang::Go => tree_sitter_go::TAGS_QUERY.to_owned(),
        Lang::JavaScript => script.to_owned(),
        Lang::TypeScript | Lang::Tsx => format!("{script}\n{types}"),
    };
    let query = Query::new(&lang.grammar(), &source).unwrap();
    let mut parser = Parser::new();
    parser.set_language(&lang.grammar()).unwrap();
    let tree = parser.parse(text, None).unwrap();
    assert!(!tree.root_node().has_error(), "{lang:?}: the fixture has errors");
    let (mut defs, mut refs) = (BTreeSet::new(), BTreeSet::new());
    let mut cursor = QueryCursor::new();
    let mut matches = cursor.matches(&query, tree.root_node(), text.as_bytes());
    while let Some(found) = matches.next() {
        let (mut name, mut def, mut refers) = (None, None, false);
        for capture in found.captures() {
            let kind = query.capture_names()[capture.index as usize];
            let word = &text[capture.node.byte_range()];
            match kind {
                "name" => name = Some(word.to_owned()),
                // The module's own file says more about it.
                "definition.module" if lang == Lang::Rust => {}
                kind if kind.starts_with("definition.") => def = Some(capture.node.start_position().row),
                kind => refers |= kind.starts_with("reference."),
            }
        }
        match (name, def) {
            (Some(name), Some(row)) => drop(defs.insert((name, u32::try_from(row + 1).unwrap()))),
            (Some(name), None) if refers => drop(refs.insert(name)),
            _ => {}
        }
    }
    (defs, refs)
}

const PYTHON_TEXT: &str = "
from .a import b as c, d
LIMIT = 3
class Store(Base):
    kind: str = 'x'
    SIZE = 4
    @wraps
    def load(self, path):
        def inner(): return helper(path)
        return self.read.open(inner)
";
const GO_TEXT: &str = "package p

import \"fmt\"

type Store struct{ size Size }
type Reader interface{ Read() }
const Limit = 3
var Default, other = 1, 2

// New makes one.
func New(size Size) *Store { return (alloc)(size) }
func (s *Store) Load() { fmt.Println(s.size); (fmt.Print)(helper()) }
";
const SCRIPT_TEXT: &str = "
import { a } from './a';
const b = require('b');
const handler = (x) => call(x);
var old = function () { return new Thing(a); };
class Store extends Base { constructor() { super(); } load() { return this.read.open(); } }
const Named = class Inner {};
function plain() {}
function* many() { yield 1; }
const fe = function named() {}, ge = function* gen() {};
module.exports.run = () => { plain(); };
later = function () {};
const table = { key: () => many(), other: function () {} };
";
const TYPE_TEXT: &str = "
import type { A } from './a';
export interface Shape { area(): number }
export abstract class Base { abstract size(x: A): number; load(): A { return make(); } }
declare function outer(x: A): void;
enum Kind { One }
type Alias = A | Kind;
namespace Space { export const inner = 1 }
class Store extends Base implements Shape { size(x: A): number { return new Kept(x).n; } area() { return 1; } }
const handler = (x: A): void => outer(x);
";

#[test]
fn every_rule_fits_its_grammar() {
    for lang in ALL {
        assert!(lang.rules().is_some(), "{lang:?}");
    }
    let grammar = Lang::Rust.grammar();
    for bad in [
        "what call_expression function:identifier",
        "ref no_such_node",
        "ref call_expression no_field:identifier",
        "ref identifier with no_field:identifier",
        "ref identifier with function",
        "def",
    ] {
        assert_eq!(parse(&grammar, bad), None, "{bad}");
    }
}

#[test]
fn what_the_tags_of_a_grammar_find_is_found() {
    let mut texts = vec![
        (Lang::Python, PYTHON_TEXT.to_owned()),
        (Lang::Go, GO_TEXT.to_owned()),
        (Lang::JavaScript, SCRIPT_TEXT.to_owned()),
        (Lang::TypeScript, format!("{SCRIPT_TEXT}{TYPE_TEXT}")),
        (Lang::Tsx, format!("{SCRIPT_TEXT}{TYPE_TEXT}")),
    ];
    for file in [
        "src/map.rs",
        "src/map/tags.rs",
        "src/os/process/jobs.rs",
        "src/rules/worker/query.rs",
        "src/store/lock.rs",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        texts.push((Lang::Rust, std::fs::read_to_string(path).unwrap()));
    }
    let mut reader = Reader::default();
    for (lang, text) in &texts {
        let ours = reader.read(*lang, text);
        assert!(!ours.partial, "{lang:?}");
        let defs: BTreeSet<(String, u32)> = ours.defs.into_iter().map(|def| (def.name, def.line)).collect();
        let refs: BTreeSet<String> =
            ours.refs.into_keys().chain(defs.iter().map(|(name, _)| name.clone())).collect();
        let (wanted, referred) = tagged(*lang, text);
        assert!(
            wanted.len() >= 4 && referred.len() >= 2,
            "{lang:?}: the tags found little: {wanted:?} {referred:?}"
        );
        let missing: Vec<_> = wanted.difference(&defs).collect();
        assert!(missing.is_empty(), "{lang:?}: {missing:?}, found {defs:?}");
        let missing: Vec<_> = referred.difference(&refs).collect();
        assert!(missing.is_empty(), "{lang:?}: {missing:?}, found {refs:?}");
    }
}

#[test]
fn a_condition_is_about_the_marked_node() {
    let mut reader = Reader::default();
    let text = "exports.run = () => {\n};\nexports.size = 3;\nf('./no');\nrequire('./yes');\nconst s = 1;\n";
    let found = reader.read(Lang::JavaScript, text);
    let defs: Vec<_> =
        found.defs.iter().map(|def| (def.name.as_str(), def.kind.as_str(), def.line, def.end)).collect();
    assert_eq!(defs, [("run", "function", 1, 2), ("s", "constant", 6, 6)]);
    assert_eq!(found.imports, ["./yes"]);
    let found = reader.read(Lang::Rust, "mod own { fn f() {} }\nmod other;\nimpl S { fn g() {} }\n");
    assert_eq!(found.imports, ["self::other"]);
    let kinds: Vec<_> = found.defs.iter().map(|def| (def.name.as_str(), def.kind.as_str())).collect();
    assert_eq!(kinds, [("f", "method"), ("g", "method")], "as the grammar's tags call what lies in braces");
}
