//! Walk through the syntax tree of a file: literals, what is joined to them, and their names.

use std::collections::{HashSet, VecDeque};
use std::ops::{ControlFlow, Range};

use tree_sitter::{Node, ParseOptions, ParseState, Parser, Tree};

use super::language::{self, Family, Form, Indent, Role, name_of, role};
use super::text::Text;

/// Maximum depth of the nodes that are visited.
const MAX_DEPTH: usize = 2000;

/// Maximum number of parts of a text.
const MAX_PARTS: usize = 100_000;

/// Maximum number of nodes between a literal and its name.
const MAX_CLIMB: usize = 40;

/// Maximum length of a name, bytes.
const MAX_NAME: usize = 100;

/// Stands for a value in a text that is built at run time.
const HOLE: char = '\u{fffc}';

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

/// Text of a literal.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    /// Offset of its first mark in the file.
    pub(super) start: usize,
    pub(super) text: Text,
    /// True if a part of it is known at run time only.
    pub(super) is_template: bool,
}

/// Part of a text.
enum Part<'tree> {
    Literal(Node<'tree>, Form),
    Hole(Range<usize>),
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

/// Returns the texts of the file for which `is_wanted` accepts the source of one of their literals.
pub(super) fn texts(
    family: Family,
    tree: &Tree,
    source: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> Vec<Found> {
    let mut walk = Walk {
        family,
        source,
        ancestors: Vec::new(),
        joined: HashSet::new(),
        heredocs: VecDeque::new(),
        is_wanted,
        found: Vec::new(),
    };
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
    /// Nodes above the current one.
    ancestors: Vec<Node<'tree>>,
    /// Nodes that are parts of a text found before.
    joined: HashSet<usize>,
    /// Marks of heredocs whose bodies follow, with their names and whether `strip_heredoc` is called on them.
    heredocs: VecDeque<(Node<'tree>, String, bool)>,
    is_wanted: W,
    found: Vec<Found>,
}

impl<'tree, W: Fn(&str) -> bool> Walk<'_, 'tree, W> {
    fn source_of(&self, node: Node<'_>) -> &str {
        self.source.get(node.byte_range()).unwrap_or_default()
    }

    fn visit(&mut self, node: Node<'tree>) {
        if self.joined.contains(&node.id()) {
            return;
        }
        if self.family.is_joined(node) || Family::is_adjacent(node) {
            let parts = self.parts(node);
            self.add(node, parts);
        } else if node.kind() == "heredoc_beginning" {
            let is_stripped = self.method_on(node).is_some_and(|method| method == "strip_heredoc");
            self.heredocs.push_back((node, self.name(node), is_stripped));
        } else if node.kind() == "heredoc_body" && self.family == Family::Ruby {
            self.heredoc(node);
        } else if let Some(form) = self.family.form(node, self.source) {
            self.add(node, vec![Part::Literal(node, form)]);
        }
    }

    /// Parts of a joined text, in order.
    fn parts(&mut self, root: Node<'tree>) -> Vec<Part<'tree>> {
        let mut parts = Vec::new();
        let mut rest = vec![root];
        while let Some(node) = rest.pop() {
            if parts.len() >= MAX_PARTS {
                break;
            }
            let inner = node.named_child(0).filter(|_| node.kind() == "parenthesized_expression");
            let node = inner.unwrap_or(node);
            if self.family.is_joined(node) {
                self.joined.insert(node.id());
                rest.extend(node.child_by_field_name("right"));
                rest.extend(node.child_by_field_name("left"));
            } else if Family::is_adjacent(node) {
                self.joined.insert(node.id());
                let mut cursor = node.walk();
                let children: Vec<_> = node.named_children(&mut cursor).collect();
                rest.extend(children.into_iter().rev().filter(|child| child.kind() != "comment"));
            } else if let Some(form) = self.family.form(node, self.source) {
                self.joined.insert(node.id());
                parts.push(Part::Literal(node, form));
            } else {
                parts.push(Part::Hole(node.byte_range()));
            }
        }
        parts
    }

    fn add(&mut self, root: Node<'tree>, parts: Vec<Part<'tree>>) {
        let source = self.source;
        let is_wanted = parts.iter().any(|part| match part {
            Part::Literal(node, _) => source.get(node.byte_range()).is_some_and(&self.is_wanted),
            Part::Hole(_) => false,
        });
        if !is_wanted {
            return;
        }
        let (mut text, mut is_template) = (Text::default(), false);
        for part in parts {
            match part {
                Part::Literal(node, form) => {
                    let (part, has_holes) = self.decoded(node, &form);
                    text.append(part);
                    is_template |= has_holes;
                }
                Part::Hole(range) => {
                    push_hole(&mut text, source, &range);
                    is_template = true;
                }
            }
        }
        let text = self.adjusted(root, text);
        let name = self.name(root);
        self.found.push(Found { name, start: root.start_byte(), text, is_template });
    }

    fn heredoc(&mut self, body: Node<'tree>) {
        let Some((mark, name, is_stripped)) = self.heredocs.pop_front() else { return };
        if !(self.is_wanted)(self.source_of(body)) {
            return;
        }
        let Some(form) = language::ruby_heredoc(self.source_of(mark), body, self.source) else { return };
        let form = if is_stripped { Form { indent: Indent::Least, ..form } } else { form };
        let (text, is_template) = self.decoded(body, &form);
        self.found.push(Found { name, start: mark.start_byte(), text, is_template });
    }

    /// Text of a literal, and true if it has holes.
    fn decoded(&self, node: Node<'tree>, form: &Form) -> (Text, bool) {
        let holes = self.holes(node, form);
        let mut raw = Text::default();
        let bytes = self.source.as_bytes();
        let mut at = form.content.start;
        let mut next = holes.iter().filter(|hole| hole.start >= form.content.start).peekable();
        let mut names = Vec::new();
        while at < form.content.end {
            let origin = u32::try_from(at).unwrap_or(u32::MAX);
            if let Some(hole) = next.next_if(|hole| hole.start == at) {
                at = hole.end.max(at + 1);
                if self.family == Family::Kotlin && self.source.get(hole.clone()) == Some("${'$'}") {
                    raw.push(b'$', origin);
                } else {
                    raw.push_str(HOLE.encode_utf8(&mut [0; 4]), origin);
                    names.push(hole);
                }
                continue;
            }
            let Some(byte) = bytes.get(at) else { break };
            at += 1;
            let is_dropped = *byte == b'\r'
                && (bytes.get(at) == Some(&b'\n')
                    || self.family == Family::Go && node.kind() == "raw_string_literal");
            if is_dropped {
                continue;
            }
            raw.push(*byte, origin);
            if form.doubled.contains(byte) && bytes.get(at) == Some(byte) {
                at += 1;
            }
        }
        let text = match form.indent {
            Indent::Stays => raw,
            Indent::Closing { keeps_line_end } => raw.without_closing_indentation(keeps_line_end),
            Indent::Least => raw.dedented(),
            Indent::TextBlock => raw.without_incidental_space(),
        };
        let text = form.escapes.map_or_else(|| text.clone(), |escapes| escapes.replaced(&text));
        let has_holes = !names.is_empty();
        (if has_holes { self.with_names(&text, &names) } else { text }, has_holes)
    }

    /// Puts `${name}` in place of each hole.
    fn with_names(&self, text: &Text, holes: &[&Range<usize>]) -> Text {
        let mut mark = [0; 4];
        let mark = HOLE.encode_utf8(&mut mark).as_bytes();
        let mut result = Text::default();
        let mut holes = holes.iter();
        let mut index = 0;
        while let Some((byte, origin)) = text.get(index) {
            if text.bytes.get(index..index + mark.len()) == Some(mark)
                && let Some(hole) = holes.next()
            {
                push_hole_at(&mut result, self.source, hole, origin);
                index += mark.len();
                continue;
            }
            result.push(byte, origin);
            index += 1;
        }
        result
    }

    /// Parts of a literal that are known at run time only, in order.
    fn holes(&self, node: Node<'tree>, form: &Form) -> Vec<Range<usize>> {
        let body = match node.kind() {
            "heredoc" => node.child_by_field_name("value"),
            _ => Some(node),
        };
        let is_encapsed = matches!(node.kind(), "encapsed_string" | "heredoc") && self.family == Family::Php;
        let Some(body) = body else { return Vec::new() };
        let mut cursor = body.walk();
        let mut holes: Vec<Range<usize>> = Vec::new();
        for child in body.children(&mut cursor) {
            let is_hole = match child.kind() {
                "interpolation" | "template_substitution" => true,
                "string_content" | "escape_sequence" | "\"" => false,
                _ => is_encapsed,
            };
            if !is_hole {
                continue;
            }
            match holes.last_mut() {
                Some(last) if last.end == child.start_byte() && is_encapsed => last.end = child.end_byte(),
                _ => holes.push(child.byte_range()),
            }
        }
        if self.family == Family::Kotlin {
            holes.extend(self.kotlin_names(form, &holes));
            holes.sort_by_key(|hole| hole.start);
        }
        holes
    }

    /// `$name` in a literal of Kotlin, which the grammar does not distinguish from text.
    fn kotlin_names(&self, form: &Form, holes: &[Range<usize>]) -> Vec<Range<usize>> {
        let bytes = self.source.as_bytes();
        let mut names = Vec::new();
        let mut holes = holes.iter().peekable();
        let mut at = form.content.start;
        while at < form.content.end {
            while holes.next_if(|hole| hole.start < at).is_some() {}
            let (Some(byte), Some(next)) = (bytes.get(at), bytes.get(at + 1)) else { break };
            if let Some(hole) = holes.next_if(|hole| hole.start == at) {
                at = hole.end.max(at + 1);
            } else if *byte == b'\\' && form.escapes.is_some() {
                at += 2;
            } else if *byte == b'$' && (next.is_ascii_alphabetic() || *next == b'_') {
                let rest = bytes.get(at + 1..form.content.end).unwrap_or_default();
                let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
                let length = rest.iter().take_while(is_part).count();
                names.push(at..at + 1 + length);
                at += 1 + length;
            } else {
                at += 1;
            }
        }
        names
    }

    /// Name of the method that is called on a node.
    fn method_on(&self, node: Node<'tree>) -> Option<&str> {
        let parent = *self.ancestors.last()?;
        let method = match parent.kind() {
            "call" if parent.child_by_field_name("receiver")?.id() == node.id() => {
                parent.child_by_field_name("method")?
            }
            "navigation_expression" => parent.named_child(1)?,
            _ => return None,
        };
        Some(self.source_of(method))
    }

    /// Name of the function that takes a node as its argument.
    fn function_of(&self) -> Option<&str> {
        let [.., call, arguments] = self.ancestors.as_slice() else { return None };
        let function =
            call.child_by_field_name("function").filter(|_| arguments.kind() == "argument_list")?;
        self.source_of(function).rsplit('.').next()
    }

    /// Changes that the program makes to a text before it is sent.
    fn adjusted(&self, node: Node<'tree>, text: Text) -> Text {
        match (self.family, self.method_on(node), self.function_of()) {
            (Family::Kotlin, Some("trimIndent"), _) => text.trimmed_indent(),
            (Family::Kotlin, Some("trimMargin"), _) => text.trimmed_margin(),
            (Family::Python, _, Some("dedent")) => text.dedented(),
            _ => text,
        }
    }

    /// Name of a literal: the variable, property or argument that it is the value of, else the name that is the first argument of
    /// the call, else the function around it; empty if there is none.
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
                        // `argument` of PHP and C#, `value_argument` of Kotlin.
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

    /// Name of a function of Elixir, where `def` is a call; `None` for other nodes.
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

    /// Last identifier in a node, or the text of a literal; empty if it is too long or has white space.
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

fn push_hole(text: &mut Text, source: &str, hole: &Range<usize>) {
    push_hole_at(text, source, hole, u32::try_from(hole.start).unwrap_or(u32::MAX));
}

/// Appends `${name}`, where the name is the expression if it is short and simple.
fn push_hole_at(text: &mut Text, source: &str, hole: &Range<usize>, origin: u32) {
    let expression = source.get(hole.clone()).unwrap_or_default();
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let expression = expression.trim_matches(|c: char| !is_part(c));
    let is_name = expression.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && expression.len() <= 40
        && expression.chars().all(is_part);
    text.push_str("${", origin);
    text.push_str(if is_name { expression } else { "value" }, origin);
    text.push_str("}", origin);
}
