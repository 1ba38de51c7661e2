//! Evaluation of expressions that are texts: literals, joined literals, and known calls (`calls.rs`). Constants of the same file
//! are replaced with their values. Every other value is a hole.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use tree_sitter::{Node, Tree};

use super::calls::{self, Edit, Operation, Separator};
use super::language::{self, Family, Form, Indent, Role, name_of, role};
use super::text::Text;

/// Maximum number of parts of a text.
const MAX_PARTS: usize = 100_000;

/// Maximum depth of nested calls.
const MAX_NESTING: usize = 32;

/// Maximum length of a text, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// Maximum total length of constants inserted into other texts, in bytes.
const MAX_INSERTED: usize = 4 << 20;

/// Maximum number of evaluations of constants.
const MAX_CONSTANTS: usize = 10_000;

/// Text of an expression.
#[derive(Debug, Default)]
pub(super) struct Value {
    pub(super) text: Text,
    /// Offset of the first literal in the file.
    pub(super) start: usize,
}

/// Evaluator of the expressions in a file.
#[derive(Debug)]
pub(super) struct Evaluator<'a, 'tree> {
    family: Family,
    source: &'a str,
    /// Body of each Ruby heredoc, by the id of the node of its opening tag.
    heredocs: HashMap<usize, Node<'tree>>,
    /// Values of constants by name; `None` if the name has several definitions, or a local one.
    constants: HashMap<&'a str, Option<Node<'tree>>>,
    /// Names of classes, modules and similar definitions.
    classes: HashSet<&'a str>,
    /// Ids of nodes that have been evaluated as part of another expression.
    used: HashSet<usize>,
    /// Ids of the nodes of the text being evaluated.
    pending: Vec<usize>,
    /// Expression of each hole, by its offset.
    holes: HashMap<u32, Range<usize>>,
    /// Number of bytes of constants that may still be inserted.
    insertable: usize,
    /// Number of evaluations of constants that are still permitted.
    lookups: usize,
}

impl<'a, 'tree> Evaluator<'a, 'tree> {
    pub(super) fn new(family: Family, tree: &'tree Tree, source: &'a str) -> Self {
        let mut evaluator = Self {
            family,
            source,
            heredocs: HashMap::new(),
            constants: HashMap::new(),
            classes: HashSet::new(),
            used: HashSet::new(),
            pending: Vec::new(),
            holes: HashMap::new(),
            insertable: MAX_INSERTED,
            lookups: MAX_CONSTANTS,
        };
        evaluator.survey(tree);
        evaluator
    }

    pub(super) fn source_of(&self, node: Node<'_>) -> &'a str {
        self.source.get(node.byte_range()).unwrap_or_default()
    }

    /// Collects the bodies of heredocs, the constants, and the names of classes.
    fn survey(&mut self, tree: &'tree Tree) {
        let mut cursor = tree.walk();
        let mut marks = std::collections::VecDeque::new();
        // Depth of the outermost function around the node.
        let (mut depth, mut function) = (0_usize, None);
        loop {
            let node = cursor.node();
            if language::is_class(node)
                && let Some(name) = node.child_by_field_name("name")
            {
                self.classes.insert(self.source_of(name));
            }
            match node.kind() {
                "heredoc_beginning" => marks.push_back(node.id()),
                "heredoc_body" if self.family == Family::Ruby => {
                    if let Some(mark) = marks.pop_front() {
                        self.heredocs.insert(mark, node);
                    }
                }
                kind if kind.contains("parameter") => self.parameter(node),
                _ => match role(self.family, node) {
                    Role::Function if function.is_none() => function = Some(depth),
                    Role::Names => self.definition(node, function.is_some()),
                    _ => {}
                },
            }
            if cursor.goto_first_child() {
                depth += 1;
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    return;
                }
                depth = depth.saturating_sub(1);
                function = function.filter(|outermost| *outermost < depth);
            }
            function = function.filter(|outermost| *outermost < depth);
        }
    }

    /// Excludes the names of parameters from the constants.
    fn parameter(&mut self, node: Node<'tree>) {
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor).take(MAX_NESTING) {
            if child.kind().contains("identifier") || child.kind() == "name" {
                self.constants.insert(self.source_of(child), None);
            }
        }
    }

    fn definition(&mut self, node: Node<'tree>, is_local: bool) {
        let is_definition = matches!(
            node.kind(),
            "assignment"
                | "assignment_expression"
                | "assignment_statement"
                | "augmented_assignment"
                | "operator_assignment"
                | "variable_declarator"
                | "property_declaration"
                | "var_spec"
                | "const_spec"
                | "short_var_declaration"
                | "const_item"
                | "static_item"
                | "let_declaration"
                | "const_element"
                | "unary_operator"
        );
        let Some(value) = language::value_of(node).filter(|_| is_definition) else { return };
        let Some(name) = name_of(node, value).map(|name| self.source_of(name)) else { return };
        // Unlike in the names of scripts, generic names such as `lua` and `script` are accepted.
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return;
        }
        let value = Some(value).filter(|_| !is_local);
        self.constants.entry(name).and_modify(|known| *known = None).or_insert(value);
    }

    /// True if the node has already been evaluated as part of another expression.
    pub(super) fn is_used(&self, node: Node<'_>) -> bool {
        self.used.contains(&language::unwrapped(node).id())
    }

    /// Returns the value of an expression that is a text; `None` for other nodes.
    pub(super) fn value(&mut self, node: Node<'tree>) -> Option<Value> {
        self.pending.clear();
        let value = self.evaluated(node, 0);
        if value.is_some() {
            self.used.extend(self.pending.drain(..));
        }
        value
    }

    fn evaluated(&mut self, node: Node<'tree>, depth: usize) -> Option<Value> {
        if depth > MAX_NESTING {
            return None;
        }
        let node = language::unwrapped(node);
        let value = if self.family.is_joined(node) || Family::is_adjacent(node) {
            self.joined(node, depth)
        } else if node.kind() == "heredoc_beginning" {
            self.heredoc(node)
        } else if let Some(form) = self.family.form(node, self.source) {
            Some(Value { text: self.decoded(node, &form, depth), start: node.start_byte() })
        } else {
            match calls::operation(self.family, node, self.source)? {
                Operation::Edit(edit, subject) => {
                    let value = match edit {
                        Edit::Raw => self.raw(subject, depth),
                        _ => self.evaluated(subject, depth + 1),
                    }?;
                    Some(Value { text: self.edited(&edit, value.text, depth), ..value })
                }
                Operation::Join { separator, parts } => self.list(&separator, &parts, depth),
            }
        };
        let value = value.filter(|value| value.text.bytes.len() <= MAX_TEXT)?;
        self.pending.push(node.id());
        Some(value)
    }

    /// Text of literals that are joined by operators or are adjacent.
    fn joined(&mut self, root: Node<'tree>, depth: usize) -> Option<Value> {
        let (mut text, mut is_text, mut count) = (Text::default(), false, 0);
        let (mut rest, mut operators) = (vec![root], Vec::new());
        while let Some(node) = rest.pop() {
            count += 1;
            if count > MAX_PARTS || text.bytes.len() > MAX_TEXT {
                return None;
            }
            let node = language::unwrapped(node);
            if self.family.is_joined(node) {
                operators.push(node.id());
                rest.extend(node.child_by_field_name("right"));
                rest.extend(node.child_by_field_name("left"));
            } else if Family::is_adjacent(node) {
                operators.push(node.id());
                let mut cursor = node.walk();
                let children: Vec<_> = node.named_children(&mut cursor).collect();
                rest.extend(children.into_iter().rev().filter(|child| child.kind() != "comment"));
            } else {
                is_text |= self.push_part(&mut text, node, depth);
            }
        }
        if is_text {
            self.pending.extend(operators);
            Some(Value { text, start: root.start_byte() })
        } else {
            // The nested joins are not texts either.
            self.used.extend(operators);
            None
        }
    }

    /// Text of the elements of a list with a separator between them.
    fn list(&mut self, separator: &Separator<'tree>, parts: &[Node<'tree>], depth: usize) -> Option<Value> {
        let separator = match separator {
            Separator::Fixed(text) => Text::of(text, 0),
            Separator::Node(node) => self.evaluated(*node, depth + 1)?.text,
        };
        let (mut text, mut start) = (Text::default(), None);
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                // Errors in the separator are reported at the end of the preceding part.
                let origin = text.origins.last().copied().unwrap_or_default() & Text::MAX_OFFSET;
                separator.bytes.iter().for_each(|byte| text.push(*byte, origin));
            }
            if self.push_part(&mut text, *part, depth) {
                start = start.or(Some(part.start_byte()));
            }
            if text.bytes.len() > MAX_TEXT {
                return None;
            }
        }
        Some(Value { text, start: start? })
    }

    /// Appends a part. Returns true if it is a text, and false if it is a constant, a number or a hole.
    fn push_part(&mut self, text: &mut Text, node: Node<'tree>, depth: usize) -> bool {
        if let Some(value) = self.evaluated(node, depth + 1) {
            text.append(value.text);
            return true;
        }
        if let Some(constant) = self.constant(self.source_of(node), depth) {
            text.append(constant);
        } else if language::is_number(node) && !text.bytes.is_empty() && is_digits(self.source_of(node)) {
            text.append(Text::of(self.source_of(node), offset(node.start_byte())));
        } else {
            self.push_hole(text, node.byte_range());
        }
        false
    }

    fn push_hole(&mut self, text: &mut Text, expression: Range<usize>) {
        let origin = offset(expression.start);
        text.push_hole(origin);
        self.holes.insert(origin, expression);
    }

    /// Value of the constant that an expression refers to.
    fn constant(&mut self, expression: &str, depth: usize) -> Option<Text> {
        if self.family == Family::Php && expression == "PHP_EOL" {
            return Some(Text::of("\n", 0));
        }
        let name = match self.family {
            Family::Elixir => expression.strip_prefix('@')?,
            _ => match expression.rsplit_once("::").or_else(|| expression.rsplit_once('.')) {
                // `self.name` is a field of an object, not a constant.
                Some(("self" | "static" | "Self", name)) if expression.contains("::") => name,
                Some((class, name)) if self.classes.contains(class) => name,
                Some(_) => return None,
                None => expression,
            },
        };
        let value = (*self.constants.get(name)?)?;
        self.lookups = self.lookups.checked_sub(1)?;
        let before = self.pending.len();
        let value = self.evaluated(value, depth + 1);
        // The definition of the constant is still found as a separate text.
        self.pending.truncate(before);
        let text = value?.text;
        self.insertable = self.insertable.checked_sub(text.bytes.len())?;
        Some(text)
    }

    /// Value of the constant that is the only content of a hole in a literal: `${NAME}`, `#{NAME}`, `{NAME}`, `$NAME`.
    fn constant_in(&mut self, hole: &Range<usize>, depth: usize) -> Option<Text> {
        let text = self.source.get(hole.clone())?;
        let inner = text.trim_start_matches(['$', '#']);
        let inner = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(inner);
        match self.family {
            // In PHP, `$name` is a variable.
            Family::Php => None,
            Family::Kotlin if matches!(inner.trim(), "'$'" | "\"$\"") => {
                Some(Text::of("$", offset(hole.start)))
            }
            _ => self.constant(inner.trim(), depth),
        }
    }

    fn edited(&mut self, edit: &Edit, text: Text, depth: usize) -> Text {
        match edit {
            Edit::Raw => text,
            Edit::Trim => text.trimmed(true, true),
            Edit::TrimStart => text.trimmed(true, false),
            Edit::TrimEnd => text.trimmed(false, true),
            Edit::Chomp => text.chomped(),
            Edit::Dedent => text.dedented(),
            Edit::DedentLines => text.dedented_lines(),
            Edit::Indoc => text.dedented_lines().without_first_line_end(),
            Edit::DedentAndTrim => text.dedented().trimmed(true, true),
            Edit::TrimIndent => text.trimmed_indent(),
            Edit::TrimMargin { prefix } => text.trimmed_margin(prefix.as_bytes()),
            Edit::Percent => text.with_percent_holes(),
            Edit::Braces { takes_names } => text.with_brace_holes(&mut |name| {
                if *takes_names { self.constant(name, depth) } else { None }
            }),
        }
    }

    /// Value of a literal whose escape sequences are not replaced.
    fn raw(&mut self, node: Node<'tree>, depth: usize) -> Option<Value> {
        let form = Form { escapes: None, ..self.family.form(node, self.source)? };
        self.pending.push(node.id());
        Some(Value { text: self.decoded(node, &form, depth), start: node.start_byte() })
    }

    fn heredoc(&mut self, mark: Node<'tree>) -> Option<Value> {
        let body = *self.heredocs.get(&mark.id())?;
        let form = language::ruby_heredoc(self.source_of(mark), body, self.source)?;
        Some(Value { text: self.decoded(body, &form, 0), start: mark.start_byte() })
    }

    /// Text of a literal.
    fn decoded(&mut self, node: Node<'tree>, form: &Form, depth: usize) -> Text {
        let holes = self.holes(node, form);
        let mut raw = Text::default();
        let bytes = self.source.as_bytes();
        let is_raw_go = self.family == Family::Go && node.kind() == "raw_string_literal";
        let mut at = form.content.start;
        let mut next = holes.iter().filter(|hole| hole.start >= form.content.start).peekable();
        while at < form.content.end {
            let origin = offset(at);
            if let Some(hole) = next.next_if(|hole| hole.start == at) {
                at = hole.end.max(at + 1);
                raw.push_hole(origin);
                continue;
            }
            let Some(byte) = bytes.get(at) else { break };
            let following = bytes.get(at + 1);
            at += 1;
            if *byte == b'\r' && (following == Some(&b'\n') || is_raw_go) {
                continue;
            }
            if *byte == b'\\' && !form.delimiters.is_empty() {
                // A backslash before a delimiter is removed; two backslashes form a pair.
                match following.filter(|following| at < form.content.end && at_most_once(form, **following)) {
                    Some(b'\\') if form.escapes.is_some() => {
                        raw.push(*byte, origin);
                        raw.push(b'\\', origin);
                        at += 1;
                        continue;
                    }
                    Some(b'\\') | None => {}
                    Some(delimiter) => {
                        raw.push(*delimiter, origin);
                        at += 1;
                        continue;
                    }
                }
            }
            raw.push(*byte, origin);
            if form.doubled.contains(byte) && following == Some(byte) {
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
        self.filled(text, &holes, depth)
    }

    /// Replaces the holes that are constants with their values.
    fn filled(&mut self, text: Text, holes: &[Range<usize>], depth: usize) -> Text {
        if holes.is_empty() {
            return text;
        }
        let holes: HashMap<u32, &Range<usize>> =
            holes.iter().map(|hole| (offset(hole.start), hole)).collect();
        let mut result = Text::default();
        for index in 0..text.bytes.len() {
            let Some((byte, origin)) = text.get(index) else { break };
            let Some(hole) = text.hole(index).and_then(|origin| holes.get(&origin)) else {
                result.push(byte, origin);
                continue;
            };
            match self.constant_in(hole, depth) {
                Some(constant) => result.append(constant),
                None => self.push_hole(&mut result, (*hole).clone()),
            }
        }
        result
    }

    /// Parts of a literal that are known only at run time, in order.
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

    /// Ranges of `$name` in a Kotlin literal, which the grammar does not distinguish from text.
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

    /// Returns the text with `${name}` in place of each hole, and the ranges of these placeholders.
    pub(super) fn named(&self, text: &Text) -> (Text, Vec<Range<usize>>) {
        let (mut result, mut ranges) = (Text::default(), Vec::new());
        for index in 0..text.bytes.len() {
            let Some((byte, origin)) = text.get(index) else { break };
            let Some(hole) = text.hole(index) else {
                result.push(byte, origin);
                continue;
            };
            let start = result.bytes.len();
            let expression = self.holes.get(&hole).and_then(|hole| self.source.get(hole.clone()));
            result.append(Text::of(&format!("${{{}}}", simple_name(expression.unwrap_or_default())), hole));
            ranges.push(start..result.bytes.len());
        }
        (result, ranges)
    }
}

/// True if a backslash before this character is significant in a literal with delimiters.
fn at_most_once(form: &Form, byte: u8) -> bool {
    byte == b'\\' || form.delimiters.contains(&byte)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX) & Text::MAX_OFFSET
}

/// Name for a hole: its expression if that is short and simple, otherwise `value`.
fn simple_name(expression: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let expression = expression.trim_matches(|c: char| !is_part(c));
    let is_name = expression.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && expression.len() <= 40
        && expression.chars().all(is_part);
    if is_name { expression } else { "value" }
}
