//! Languages, their grammars, and the node types in their syntax trees.

use std::ops::Range;

use tree_sitter::Node;

use super::escapes::{self, Escapes};

/// Family of languages with the same literal syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    CSharp,
    Elixir,
    Go,
    Java,
    JavaScript,
    Kotlin,
    Php,
    Python,
    Ruby,
    Rust,
}

/// Returns the family and the grammar for a file extension.
pub(super) fn by_extension(extension: &str) -> Option<(Family, tree_sitter::Language)> {
    let (family, grammar) = match extension {
        "cs" => (Family::CSharp, tree_sitter_c_sharp::LANGUAGE),
        "ex" | "exs" => (Family::Elixir, tree_sitter_elixir::LANGUAGE),
        "go" => (Family::Go, tree_sitter_go::LANGUAGE),
        "java" => (Family::Java, tree_sitter_java::LANGUAGE),
        "js" | "cjs" | "mjs" | "jsx" => (Family::JavaScript, tree_sitter_javascript::LANGUAGE),
        "ts" | "cts" | "mts" => (Family::JavaScript, tree_sitter_typescript::LANGUAGE_TYPESCRIPT),
        "kt" | "kts" => (Family::Kotlin, tree_sitter_kotlin_ng::LANGUAGE),
        "php" => (Family::Php, tree_sitter_php::LANGUAGE_PHP),
        "py" => (Family::Python, tree_sitter_python::LANGUAGE),
        "rb" | "rake" => (Family::Ruby, tree_sitter_ruby::LANGUAGE),
        "rs" => (Family::Rust, tree_sitter_rust::LANGUAGE),
        _ => return None,
    };
    Some((family, grammar.into()))
}

/// True if [`by_extension`] supports the extension.
pub(super) fn is_known(extension: &str) -> bool {
    by_extension(extension).is_some()
}

/// Indentation that a language removes from a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indent {
    Stays,
    /// Indentation of the closing delimiter, which is on its own line.
    Closing {
        /// True if the last line ending is part of the text.
        keeps_line_end: bool,
    },
    /// Smallest indentation of all lines.
    Least,
    /// As in Java text blocks.
    TextBlock,
}

/// Form of a literal.
#[derive(Debug, Clone)]
pub(super) struct Form {
    /// Range in the file between the delimiters.
    pub(super) content: Range<usize>,
    pub(super) escapes: Option<&'static Escapes>,
    pub(super) indent: Indent,
    /// Characters that are escaped by doubling them.
    pub(super) doubled: &'static [u8],
    /// Delimiters of the content, if a backslash before one of them is removed.
    pub(super) delimiters: Vec<u8>,
}

impl Family {
    /// Operator that joins texts.
    fn operator(self) -> &'static str {
        match self {
            Self::Php => ".",
            Self::Elixir => "<>",
            _ => "+",
        }
    }

    /// True if a node joins the texts of its two operands.
    pub(super) fn is_joined(self, node: Node<'_>) -> bool {
        matches!(node.kind(), "binary_expression" | "binary_operator" | "binary")
            && node.child_by_field_name("operator").is_some_and(|child| child.kind() == self.operator())
    }

    /// True for adjacent literals, which form a single text in Python and Ruby.
    pub(super) fn is_adjacent(node: Node<'_>) -> bool {
        matches!(node.kind(), "concatenated_string" | "chained_string")
    }

    /// Escape sequences of a character literal.
    fn character_escapes(self) -> Option<&'static Escapes> {
        match self {
            Self::Java => Some(&escapes::JAVA),
            Self::CSharp => Some(&escapes::CSHARP),
            Self::Kotlin => Some(&escapes::KOTLIN),
            Self::Rust => Some(&escapes::RUST),
            _ => None,
        }
    }

    /// Returns the form of a literal; `None` for other nodes.
    pub(super) fn form(self, node: Node<'_>, source: &str) -> Option<Form> {
        let range = node.byte_range();
        let text = source.get(range.clone())?;
        let inner = |before: usize, after: usize| {
            let content = range.start + before..range.end.checked_sub(after)?;
            (content.start <= content.end).then_some(content)
        };
        let form = |content, escapes: Option<&'static Escapes>, indent| {
            Some(Form { content, escapes, indent, doubled: b"", delimiters: Vec::new() })
        };
        // Offset after the first line ending in the text.
        let next_line = || text.find('\n').map(|at| at + 1);
        match (self, node.kind()) {
            (Self::JavaScript, "string" | "template_string") => {
                form(inner(1, 1)?, Some(&escapes::JAVASCRIPT), Indent::Stays)
            }
            (Self::Python, "string") => {
                let (start, end) = ends(node)?;
                let prefix = source.get(start.byte_range())?.to_ascii_lowercase();
                let is_bytes = prefix.contains('b');
                let escapes = if is_bytes { &escapes::PYTHON_BYTES } else { &escapes::PYTHON };
                let escapes = (!prefix.contains('r')).then_some(escapes);
                let doubled: &[u8] = if prefix.contains(['f', 't']) { b"{}" } else { b"" };
                let content = inner(start.byte_range().len(), end.byte_range().len())?;
                Some(Form { content, escapes, indent: Indent::Stays, doubled, delimiters: Vec::new() })
            }
            (Self::Ruby, "string") => {
                let (start, end) = ends(node)?;
                let begin = source.get(start.byte_range())?;
                let is_plain = begin == "'" || begin.starts_with("%q");
                let escapes = if is_plain { &escapes::QUOTED } else { &escapes::RUBY };
                let content = inner(begin.len(), end.byte_range().len())?;
                let delimiters = match begin.strip_prefix("%q").and_then(|begin| begin.bytes().last()) {
                    Some(open) => vec![open, closing(open)],
                    None => Vec::new(),
                };
                Some(Form { delimiters, ..form(content, Some(escapes), Indent::Stays)? })
            }
            (Self::Php, "string") => form(
                inner(1 + usize::from(text.starts_with(['b', 'B'])), 1)?,
                Some(&escapes::QUOTED),
                Indent::Stays,
            ),
            (Self::Php, "encapsed_string") => form(
                inner(1 + usize::from(text.starts_with(['b', 'B'])), 1)?,
                Some(&escapes::PHP),
                Indent::Stays,
            ),
            (Self::Php, kind @ ("heredoc" | "nowdoc")) => {
                let end = node.child_by_field_name("end_tag")?;
                let content = inner(next_line()?, end.byte_range().len())?;
                let escapes = (kind == "heredoc").then_some(&escapes::PHP_HEREDOC);
                form(content, escapes, Indent::Closing { keeps_line_end: false })
            }
            (Self::Go, "raw_string_literal") => form(inner(1, 1)?, None, Indent::Stays),
            (Self::Go, "interpreted_string_literal") => form(inner(1, 1)?, Some(&escapes::GO), Indent::Stays),
            (Self::Java, "string_literal") if text.starts_with("\"\"\"") => {
                form(inner(next_line()?, 3)?, Some(&escapes::JAVA), Indent::TextBlock)
            }
            (Self::Java, "string_literal") => form(inner(1, 1)?, Some(&escapes::JAVA), Indent::Stays),
            (Self::Kotlin, "multiline_string_literal") => form(inner(3, 3)?, None, Indent::Stays),
            (_, "character_literal" | "char_literal") => {
                form(inner(text.find('\'')? + 1, 1)?, self.character_escapes(), Indent::Stays)
            }
            (Self::Kotlin, "string_literal") => form(inner(1, 1)?, Some(&escapes::KOTLIN), Indent::Stays),
            (
                Self::CSharp,
                "string_literal"
                | "verbatim_string_literal"
                | "raw_string_literal"
                | "interpolated_string_expression",
            ) => csharp(text, &inner),
            (Self::Rust, "raw_string_literal") => {
                let hashes =
                    text.bytes().filter(|byte| matches!(byte, b'#' | b'"')).take_while(|b| *b == b'#');
                let hashes = hashes.count();
                form(inner(text.find('"')? + 1, hashes + 1)?, None, Indent::Stays)
            }
            (Self::Rust, "string_literal") => {
                let is_bytes = text.starts_with(['b', 'c']);
                let escapes = if is_bytes { &escapes::RUST_BYTES } else { &escapes::RUST };
                form(inner(text.find('"')? + 1, 1)?, Some(escapes), Indent::Stays)
            }
            (Self::Elixir, "string" | "charlist" | "sigil") => {
                let start = node.child_by_field_name("quoted_start")?;
                let end = node.child_by_field_name("quoted_end")?;
                let is_raw = text.strip_prefix('~').is_some_and(|name| name.starts_with(char::is_uppercase));
                let escapes = (!is_raw).then_some(&escapes::ELIXIR);
                let before = start.end_byte().checked_sub(range.start)?;
                let after = range.end.checked_sub(end.start_byte())?;
                if matches!(start.kind(), "\"\"\"" | "'''") {
                    let content = inner(next_line()?, after)?;
                    return form(content, escapes, Indent::Closing { keeps_line_end: true });
                }
                let open = source.get(start.byte_range())?.bytes().last()?;
                let delimiters = if is_raw { vec![closing(open)] } else { Vec::new() };
                Some(Form { delimiters, ..form(inner(before, after)?, escapes, Indent::Stays)? })
            }
            _ => None,
        }
    }
}

/// Closing delimiter for this opening delimiter.
fn closing(open: u8) -> u8 {
    match open {
        b'{' => b'}',
        b'(' => b')',
        b'[' => b']',
        b'<' => b'>',
        other => other,
    }
}

/// Strips parentheses and type assertions from an expression.
pub(super) fn unwrapped(mut node: Node<'_>) -> Node<'_> {
    loop {
        let count = u32::try_from(node.named_child_count()).unwrap_or_default();
        let inner = match node.kind() {
            "parenthesized_expression"
            | "parenthesized_statements"
            | "as_expression"
            | "satisfies_expression" => 0,
            "type_assertion" if count > 0 => count - 1,
            // Go expression lists; Elixir parentheses.
            "expression_list" | "block" if count == 1 => 0,
            _ => return node,
        };
        let Some(inner) = node.named_child(inner) else { return node };
        node = inner;
    }
}

/// True for classes and similar definitions, which may contain constants.
pub(super) fn is_class(node: Node<'_>) -> bool {
    let kind = node.kind();
    ["class", "object", "interface", "module", "enum", "struct", "trait"]
        .iter()
        .any(|part| kind.starts_with(part))
}

/// True for numbers. The text of a number is its source if that consists only of digits.
pub(super) fn is_number(node: Node<'_>) -> bool {
    matches!(
        node.kind(),
        "integer_literal" | "decimal_integer_literal" | "number_literal" | "number" | "integer"
    )
}

/// Returns the value that a node assigns to a name.
pub(super) fn value_of(node: Node<'_>) -> Option<Node<'_>> {
    if let Some(value) = ["value", "right"].into_iter().find_map(|field| node.child_by_field_name(field)) {
        return Some(value);
    }
    let last = |node: Node<'_>| u32::try_from(node.named_child_count()).ok()?.checked_sub(1);
    match node.kind() {
        // In Elixir, `@name value` is a call.
        "unary_operator" => {
            let arguments = node.child_by_field_name("operand")?.named_child(1)?;
            arguments.named_child(0).filter(|_| arguments.named_child_count() == 1)
        }
        _ => node.named_child(last(node).filter(|last| *last > 0)?),
    }
}

/// First and last child, which are the delimiters.
fn ends(node: Node<'_>) -> Option<(Node<'_>, Node<'_>)> {
    let last = u32::try_from(node.child_count()).ok()?.checked_sub(1)?;
    Some((node.child(0)?, node.child(last)?))
}

/// Form of the body of a Ruby heredoc, given its opening tag (`<<~LUA`).
pub(super) fn ruby_heredoc(mark: &str, body: Node<'_>, source: &str) -> Option<Form> {
    let (_, end) = ends(body)?;
    let text = source.get(body.start_byte()..end.start_byte())?;
    // The body begins with the line ending after the opening tag, and ends before the line of the closing tag.
    let start = body.start_byte() + text.find('\n')? + 1;
    let length = text.rfind('\n')? + 1;
    let content = start..(body.start_byte() + length).max(start);
    let escapes = (!mark.contains('\'')).then_some(&escapes::RUBY);
    let indent = if mark.starts_with("<<~") { Indent::Least } else { Indent::Stays };
    Some(Form { content, escapes, indent, doubled: b"", delimiters: Vec::new() })
}

/// Form of a C# literal.
fn csharp(text: &str, inner: &dyn Fn(usize, usize) -> Option<Range<usize>>) -> Option<Form> {
    let quote = text.find('"')?;
    let prefix = text.get(..quote)?;
    let quotes = text.bytes().skip(quote).take_while(|byte| *byte == b'"').count();
    // A suffix may follow: "…"u8.
    let suffix = text.len() - text.rfind('"')? - 1;
    let is_interpolated = prefix.contains('$');
    let braces: &[u8] = if is_interpolated { b"{}" } else { b"" };
    if quotes >= 3 {
        let content = inner(quote + quotes, quotes + suffix)?;
        let between = text.get(quote + quotes..)?;
        return Some(match between.find('\n').filter(|at| between.get(..*at).is_some_and(is_blank)) {
            Some(at) => Form {
                content: (content.start + at + 1).min(content.end)..content.end,
                escapes: None,
                indent: Indent::Closing { keeps_line_end: false },
                doubled: b"",
                delimiters: Vec::new(),
            },
            None => {
                Form { content, escapes: None, indent: Indent::Stays, doubled: b"", delimiters: Vec::new() }
            }
        });
    }
    let content = inner(quote + 1, 1 + suffix)?;
    let (escapes, doubled): (_, &[u8]) = match (prefix.contains('@'), is_interpolated) {
        (true, true) => (None, b"\"{}"),
        (true, false) => (None, b"\""),
        (false, _) => (Some(&escapes::CSHARP), braces),
    };
    Some(Form { content, escapes, indent: Indent::Stays, doubled, delimiters: Vec::new() })
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Role of a node in naming the literals below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Node that names its value.
    Names,
    /// Function, whose name is used if nothing else names the literal.
    Function,
    /// Arguments of a call; the first argument may be a name.
    Arguments,
    Other,
}

/// Returns the role of a node.
pub(super) fn role(family: Family, node: Node<'_>) -> Role {
    match node.kind() {
        "assignment"
        | "assignment_expression"
        | "assignment_statement"
        | "operator_assignment"
        | "variable_declarator"
        | "property_declaration"
        | "field_definition"
        | "public_field_definition"
        | "pair"
        | "var_spec"
        | "const_spec"
        | "short_var_declaration"
        | "keyed_element"
        | "const_item"
        | "static_item"
        | "let_declaration"
        | "field_initializer"
        | "const_element"
        | "property_element"
        | "array_element_initializer"
        | "element_value_pair"
        | "keyword_argument"
        | "default_parameter"
        | "typed_default_parameter"
        | "required_parameter"
        | "assignment_pattern"
        | "enum_assignment"
        | "enum_constant"
        | "enum_entry" => Role::Names,
        "argument" if node.child_by_field_name("name").is_some() => Role::Names,
        "value_argument" if node.named_child_count() > 1 => Role::Names,
        "unary_operator" if family == Family::Elixir => Role::Names,
        "binary_operator" if family == Family::Elixir => {
            match node.child_by_field_name("operator").map(|operator| operator.kind()) {
                Some("=" | "=>") => Role::Names,
                _ => Role::Other,
            }
        }
        "function_declaration"
        | "generator_function_declaration"
        | "function_definition"
        | "function_item"
        | "method_definition"
        | "method_declaration"
        | "method"
        | "singleton_method"
        | "local_function_statement" => Role::Function,
        "arguments" | "argument_list" | "value_arguments" => Role::Arguments,
        _ => Role::Other,
    }
}

/// Returns the node that contains the name of `value`, a child of `node`.
pub(super) fn name_of<'tree>(node: Node<'tree>, value: Node<'tree>) -> Option<Node<'tree>> {
    let fields = ["name", "left", "key", "pattern", "field", "property", "operand"];
    let mut found = fields.into_iter().filter_map(|field| node.child_by_field_name(field));
    let mut cursor = node.walk();
    let is_variable = |child: &Node<'_>| child.kind() == "variable_declaration";
    let found = found
        .next()
        .or_else(|| node.named_children(&mut cursor).find(is_variable))
        .or_else(|| node.named_child(0))?;
    // Without its type.
    let found = if is_variable(&found) { found.named_child(0)? } else { found };
    match node.kind() {
        // In Elixir, `@lock "…"` is an operator with a call.
        "unary_operator" => found.child_by_field_name("target"),
        _ => (found.id() != value.id()).then_some(found),
    }
}
