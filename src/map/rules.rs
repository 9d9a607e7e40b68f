//! Which nodes of a grammar matter: definitions, references and imports.
//!
//! A rule is a line: the role of the node, the kinds of its ancestors from the outermost in, the kind of the
//! node itself after its field name if it must have one, and optionally a condition. A bar separates alternatives. A
//! star marks the node that is the definition, and to which the condition applies; without a star that is the innermost ancestor.
//!
//! ```text
//! def function *variable_declarator name:identifier with value:arrow_function
//! ```
//!
//! A test checks that the rules find what the grammars' own tags find. This program reads the rules itself
//! because a tree-sitter query would load the Unicode tables into each process, for patterns that no tag needs
//! here.

use tree_sitter::{Language, Node};

/// The role of a node, by its word in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub(super) enum NodeRole {
    /// The name of a definition of this kind, which is one more word.
    #[strum(disabled)]
    Def(&'static str),
    /// A name that the file refers to.
    Ref,
    /// A path that the file imports.
    Import,
    /// The path tree of a `use`.
    Use,
    /// A path that counts as an import if it begins in its own crate.
    OwnPath,
    /// The name of a module in its own file.
    Module,
    /// The module from which the following names are imported.
    From,
    /// One of these names.
    FromName,
    /// All of these names.
    FromAll,
}

/// A condition on the marked node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// Its field is a node of one of these kinds.
    Is(u16, Vec<u16>),
    /// Its field has one of these texts, which are separated by `|`.
    Reads(u16, &'static str),
    /// It lacks this field.
    Lacks(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SyntaxRule {
    role: NodeRole,
    /// The kinds that each ancestor may have, from the innermost out.
    within: Vec<Vec<u16>>,
    /// Which of them is the definition.
    marked: usize,
    field: Option<u16>,
    condition: Option<Condition>,
}

#[derive(Debug, Default)]
pub(super) struct LanguageRules {
    /// The rules by the kind of the node.
    by_kind: Vec<Vec<SyntaxRule>>,
}

impl LanguageRules {
    /// Parses rules; none if one of them uses a name that the grammar does not have.
    pub(super) fn parse(grammar: &Language, parts: &[&'static str]) -> Option<LanguageRules> {
        let mut rules = LanguageRules { by_kind: vec![Vec::new(); grammar.node_kind_count()] };
        for line in parts.iter().flat_map(|part| part.lines()).filter(|line| !line.is_empty()) {
            let (kinds, rule) = parse(grammar, line)?;
            for kind in kinds {
                rules.by_kind.get_mut(usize::from(kind))?.push(rule.clone());
            }
        }
        Some(rules)
    }

    /// The role of a node, given its field and its ancestors, the innermost last; and the node that is the definition.
    pub(super) fn role<'t>(
        &self,
        node: Node<'t>,
        field: Option<u16>,
        within: &[Node<'t>],
        text: &str,
    ) -> Option<(NodeRole, Node<'t>)> {
        let rules = self.by_kind.get(usize::from(node.kind_id()))?;
        rules.iter().find_map(|rule| {
            let is_field = rule.field.is_none() || rule.field == field;
            let mut around = within.iter().rev().map(Node::kind_id);
            let mut is_within =
                || rule.within.iter().all(|kinds| around.next().is_some_and(|kind| kinds.contains(&kind)));
            let marked = within.iter().rev().nth(rule.marked).copied().unwrap_or(node);
            let holds = || rule.condition.as_ref().is_none_or(|condition| condition.holds(marked, text));
            (is_field && is_within() && holds()).then_some((rule.role, marked))
        })
    }
}

impl Condition {
    fn holds(&self, node: Node, text: &str) -> bool {
        let field = |field: &u16| node.child_by_field_id(*field);
        match self {
            Condition::Is(name, kinds) => field(name).is_some_and(|child| kinds.contains(&child.kind_id())),
            Condition::Reads(name, words) => {
                let text = field(name).and_then(|child| text.get(child.byte_range()));
                text.is_some_and(|text| words.split('|').any(|word| word == text))
            }
            Condition::Lacks(name) => field(name).is_none(),
        }
    }
}

fn parse(grammar: &Language, line: &'static str) -> Option<(Vec<u16>, SyntaxRule)> {
    let (path, condition) = match (line.split_once(" with "), line.split_once(" without ")) {
        (Some((path, condition)), _) => (path, Some(condition_of(grammar, condition)?)),
        (_, Some((path, field))) => (path, Some(Condition::Lacks(field_id(grammar, field)?))),
        _ => (line, None),
    };
    let mut words = path.split(' ');
    let role = match words.next()? {
        "def" => NodeRole::Def(words.next()?),
        word => word.parse().ok()?,
    };
    let mut path: Vec<&str> = words.collect();
    let own = path.pop()?;
    let (field, kind) = match own.split_once(':') {
        Some((field, kind)) => (Some(field_id(grammar, field)?), kind),
        None => (None, own),
    };
    path.reverse();
    let marked = path.iter().position(|kind| kind.starts_with('*')).unwrap_or(0);
    let within = path.iter().map(|kind| kind_ids(grammar, kind.trim_start_matches('*')));
    let rule = SyntaxRule { role, within: within.collect::<Option<_>>()?, marked, field, condition };
    Some((kind_ids(grammar, kind)?, rule))
}

fn condition_of(grammar: &Language, text: &'static str) -> Option<Condition> {
    match (text.split_once(':'), text.split_once('=')) {
        (Some((field, kind)), _) => Some(Condition::Is(field_id(grammar, field)?, kind_ids(grammar, kind)?)),
        (_, Some((field, word))) => Some(Condition::Reads(field_id(grammar, field)?, word)),
        _ => None,
    }
}

fn field_id(grammar: &Language, name: &str) -> Option<u16> {
    grammar.field_id_for_name(name).map(std::num::NonZeroU16::get)
}

fn kind_ids(grammar: &Language, names: &str) -> Option<Vec<u16>> {
    let id = |name| Some(grammar.id_for_node_kind(name, true)).filter(|id| *id != 0);
    names.split('|').map(id).collect()
}

/// `from a import b` may name a module `a.b` or an item in `a`: both parts are kept.
pub(super) const PYTHON: &str = "
def class class_definition name:identifier
def function function_definition name:identifier
def constant module expression_statement assignment left:identifier
def constant class_definition block expression_statement assignment left:identifier
import import_statement name:dotted_name
import import_statement aliased_import name:dotted_name
from import_from_statement module_name:dotted_name|relative_import
from_name import_from_statement name:dotted_name
from_name import_from_statement aliased_import name:dotted_name
from_all import_from_statement wildcard_import
ref call function:identifier
ref attribute attribute:identifier
ref argument_list|decorator|type identifier
";

/// A module in its own file is not a definition here: the file itself says more about it.
pub(super) const RUST: &str = "
def class struct_item|enum_item|union_item|type_item name:type_identifier
def method declaration_list *function_item name:identifier
def function function_item name:identifier
def interface trait_item name:type_identifier
def macro macro_definition name:identifier
def constant const_item|static_item name:identifier
module mod_item name:identifier without body
use use_declaration argument:scoped_identifier|scoped_use_list|use_list|use_as_clause|use_wildcard|identifier
own_path scoped_identifier
ref call_expression function:identifier
ref field_expression field:field_identifier
ref macro_invocation macro:identifier
ref scoped_identifier name:identifier
ref type_identifier
ref arguments|token_tree identifier
";

pub(super) const GO: &str = "
def function function_declaration name:identifier
def method method_declaration name:field_identifier
def type type_spec name:type_identifier
def constant var_spec|const_spec name:identifier
import import_spec path:interpreted_string_literal
ref call_expression function:identifier
ref call_expression parenthesized_expression identifier
ref selector_expression field:field_identifier
ref type_identifier
ref argument_list identifier
";

/// The common rules of JavaScript and TypeScript.
pub(super) const SCRIPT: &str = "
def method method_definition name:property_identifier
def function function_expression|function_declaration name:identifier
def function generator_function|generator_function_declaration name:identifier
def function variable_declarator name:identifier with value:arrow_function|function_expression
def function assignment_expression left:identifier with right:arrow_function|function_expression
def function *assignment_expression member_expression property:property_identifier with right:arrow_function|function_expression
def function pair key:property_identifier with value:arrow_function|function_expression
def constant program lexical_declaration *variable_declarator name:identifier
def constant program export_statement lexical_declaration *variable_declarator name:identifier
def constant *export_statement assignment_expression left:identifier
import import_statement|export_statement source:string
import *call_expression arguments string with function:import
import *call_expression arguments string with function=require|import
ref import_specifier name:identifier
ref call_expression function:identifier
ref member_expression property:property_identifier
ref new_expression constructor:identifier
ref arguments identifier
";

pub(super) const JAVASCRIPT: &str = "
def class class|class_declaration name:identifier
ref class_heritage identifier
";

pub(super) const TYPESCRIPT: &str = "
def class class|class_declaration|abstract_class_declaration name:type_identifier
def class enum_declaration name:identifier
def function function_signature name:identifier
def method method_signature|abstract_method_signature name:property_identifier
def module module name:identifier
def interface interface_declaration name:type_identifier
def type type_alias_declaration name:type_identifier
ref type_identifier
ref class_heritage extends_clause value:identifier
";

pub(super) const JSX: &str = "
ref jsx_opening_element|jsx_self_closing_element name:identifier
";

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
