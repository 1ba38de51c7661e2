//! Walk through the syntax tree of a file, which finds literals, everything joined to them, and their names.

use std::ops::{ControlFlow, Range};

use tree_sitter::{Node, ParseOptions, ParseState, Parser, Tree};

use super::evaluate::{Evaluator, Value};
use super::language::{Family, Role, name_of, role};
use super::text::Text;

/// Maximum depth of visited nodes.
const MAX_DEPTH: usize = 2000;

/// Maximum number of nodes between a literal and its name.
const MAX_CLIMB: usize = 40;

/// Maximum length of a name, in bytes.
const MAX_NAME: usize = 100;

/// Names that don't identify a script.
const GENERIC: [&str; 12] = [
    "lua",
    "content",
    "script",
    "source",
    "body",
    "code",
    "text",
    "string",
    "value",
    "eval",
    "luaScript",
    "do",
];

/// Text found in a file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    /// Offset in the file of the text's first delimiter.
    pub(super) start: usize,
    pub(super) text: Text,
    /// Ranges of the text that stand for values known only at run time.
    pub(super) holes: Vec<Range<usize>>,
}

/// Parses a file; `None` if the parser was stopped.
pub(super) fn parse(
    grammar: &tree_sitter::Language,
    source: &str,
    is_late: &mut dyn FnMut() -> bool,
) -> Option<Tree> {
    let mut parser = Parser::new();
    parser.set_language(grammar).ok()?;
    let mut progress =
        |_: &ParseState| if is_late() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let options = ParseOptions::new().progress_callback(&mut progress);
    let mut read = |offset: usize, _| source.as_bytes().get(offset..).unwrap_or_default();
    parser.parse_with_options(&mut read, None, Some(options))
}

/// Returns the texts of the file for which `is_wanted` returns true.
pub(super) fn texts(
    family: Family,
    tree: &Tree,
    source: &str,
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Vec<Found> {
    let evaluator = Evaluator::new(family, tree, source);
    let mut walk = Walk { family, source, ancestors: Vec::new(), evaluator, is_wanted, found: Vec::new() };
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        walk.visit(node);
        if walk.ancestors.len() < MAX_DEPTH && cursor.goto_first_child() {
            walk.ancestors.push(node);
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return walk.found;
            }
            walk.ancestors.pop();
        }
    }
}

struct Walk<'a, 'tree, W> {
    family: Family,
    source: &'a str,
    /// Ancestors of the current node, outermost first.
    ancestors: Vec<Node<'tree>>,
    evaluator: Evaluator<'a, 'tree>,
    is_wanted: W,
    found: Vec<Found>,
}

impl<'tree, W: Fn(&[u8]) -> bool> Walk<'_, 'tree, W> {
    fn source_of(&self, node: Node<'_>) -> &str {
        self.source.get(node.byte_range()).unwrap_or_default()
    }

    fn visit(&mut self, node: Node<'tree>) {
        if self.evaluator.is_used(node) {
            return;
        }
        let Some(Value { text, start }) = self.evaluator.value(node) else { return };
        if !(self.is_wanted)(&text.bytes) {
            return;
        }
        let (text, holes) = self.evaluator.named(&text);
        self.found.push(Found { name: self.name(node), start, text, holes });
    }

    /// Name of a literal: the variable, property or argument to which it is assigned; otherwise the name in the first argument of
    /// the call; otherwise the enclosing function. Empty if there is none.
    fn name(&self, node: Node<'tree>) -> String {
        let mut value = node;
        let mut fallback = None;
        for ancestor in self.ancestors.iter().rev().take(MAX_CLIMB) {
            match role(self.family, *ancestor) {
                Role::Names => {
                    let name = name_of(*ancestor, value).map(|name| self.identifier(name));
                    if let Some(name) = name.filter(|name| is_specific(name)) {
                        return name;
                    }
                }
                Role::Arguments => {
                    let first = ancestor.named_child(0).filter(|first| first.id() != value.id());
                    let first = first.map(|first| {
                        // `argument` in PHP and C#, `value_argument` in Kotlin.
                        first.named_child(0).filter(|_| first.kind().ends_with("argument")).unwrap_or(first)
                    });
                    let name = first.filter(|first| self.family.form(*first, self.source).is_some());
                    let name = name.map(|name| self.identifier(name)).filter(|name| is_specific(name));
                    fallback = fallback.or(name);
                }
                Role::Function => {
                    let name = ancestor.child_by_field_name("name").map(|name| self.identifier(name));
                    return fallback.or(name.filter(|name| is_specific(name))).unwrap_or_default();
                }
                Role::Other => {}
            }
            if self.family == Family::Elixir
                && let Some(name) = self.elixir_function(*ancestor, value)
            {
                return fallback.unwrap_or(name);
            }
            value = *ancestor;
        }
        fallback.unwrap_or_default()
    }

    /// Name of an Elixir function, whose definition is a call of `def`; `None` for other nodes.
    fn elixir_function(&self, node: Node<'tree>, value: Node<'tree>) -> Option<String> {
        if node.kind() != "call" {
            return None;
        }
        let target = node.child_by_field_name("target").map(|target| self.source_of(target));
        target.filter(|target| matches!(*target, "def" | "defp"))?;
        let arguments = node.named_child(1)?;
        let head = arguments.named_child(0).filter(|head| head.id() != value.id())?;
        let head = head.child_by_field_name("target").unwrap_or(head);
        Some(self.identifier(head))
    }

    /// Last identifier in a node, or the text of a literal; empty if it is too long, or contains white space or control
    /// characters.
    fn identifier(&self, node: Node<'tree>) -> String {
        if node.byte_range().len() > 4 * MAX_NAME {
            return String::new();
        }
        let text = if let Some(form) = self.family.form(node, self.source) {
            self.source.get(form.content).unwrap_or_default()
        } else {
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-');
            let text = self.source_of(node).trim_end_matches(|c: char| !is_part(c));
            text.rsplit(|c: char| !is_part(c)).next().unwrap_or_default().trim_start_matches('$')
        };
        let is_valid =
            text.len() <= MAX_NAME && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        if is_valid { text.to_owned() } else { String::new() }
    }
}

fn is_specific(name: &str) -> bool {
    !name.is_empty() && !GENERIC.iter().any(|generic| generic.eq_ignore_ascii_case(name))
}
