//! Calls that transform or join texts: `trim`, `join`, `sprintf` and their equivalents in each language.

use tree_sitter::Node;

use super::language::Family;

/// Transformation of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    /// Keeps escape sequences.
    Raw,
    Trim,
    TrimStart,
    TrimEnd,
    /// Removes a trailing line ending.
    Chomp,
    /// Removes the smallest indentation.
    Dedent,
    /// Removes the leading white space common to all lines; blank lines become empty.
    DedentLines,
    /// [`Edit::DedentLines`], then removes a leading line ending.
    Indoc,
    /// [`Edit::Dedent`], then [`Edit::Trim`].
    DedentAndTrim,
    TrimIndent,
    TrimMargin {
        prefix: String,
    },
    /// Replaces `%s` and similar placeholders.
    Percent,
    /// Replaces `{}`; if `takes_names`, `{NAME}` stands for the value of `NAME`.
    Braces {
        takes_names: bool,
    },
}

/// Call whose result is known if its operands are.
#[derive(Debug)]
pub(super) enum Operation<'tree> {
    Edit(Edit, Node<'tree>),
    Join { separator: Separator<'tree>, parts: Vec<Node<'tree>> },
}

/// Text between the parts of a join.
#[derive(Debug)]
pub(super) enum Separator<'tree> {
    Fixed(&'static str),
    Node(Node<'tree>),
}

/// Call with its receiver (object, package or class).
struct Call<'tree, 'a> {
    receiver: Option<Node<'tree>>,
    function: &'a str,
    arguments: Vec<Node<'tree>>,
}

/// Returns the operation of a call; `None` for other nodes and unknown calls.
pub(super) fn operation<'tree>(family: Family, node: Node<'tree>, source: &str) -> Option<Operation<'tree>> {
    if let Some(left) = family.formatted(node) {
        return Some(Operation::Edit(Edit::Percent, left));
    }
    let call = call(family, node, source)?;
    if let Some((edit, subject)) = edit(family, &call, source) {
        return Some(Operation::Edit(edit, subject));
    }
    let (separator, parts) = join(family, call, source)?;
    Some(Operation::Join { separator, parts })
}

/// Returns the edit that a call performs, and the text that it is applied to.
fn edit<'tree>(family: Family, call: &Call<'tree, '_>, source: &str) -> Option<(Edit, Node<'tree>)> {
    use Family::{CSharp, Elixir, Go, Java, JavaScript, Kotlin, Php, Python, Ruby, Rust};
    let first = call.arguments.first().copied();
    // Subject of a method without arguments, and of a function with a single argument.
    let bare = call.receiver.filter(|_| call.arguments.is_empty());
    let only = first.filter(|_| call.arguments.len() == 1);
    let receiver_is = |names: &[&str]| call.receiver_is(names, source);
    let (edit, subject) = match (family, call.function) {
        (Python | Ruby | Java, "strip") | (JavaScript | Java | Kotlin | Rust, "trim") | (CSharp, "Trim") => {
            (Edit::Trim, bare)
        }
        (Python | Ruby, "lstrip")
        | (JavaScript | Kotlin, "trimStart")
        | (Java, "stripLeading")
        | (CSharp, "TrimStart")
        | (Rust, "trim_start") => (Edit::TrimStart, bare),
        (Python | Ruby, "rstrip")
        | (JavaScript | Kotlin, "trimEnd")
        | (Java, "stripTrailing")
        | (CSharp, "TrimEnd")
        | (Rust, "trim_end") => (Edit::TrimEnd, bare),
        (Go, "TrimSpace") | (Php, "trim") => (Edit::Trim, only),
        (Php, "ltrim") => (Edit::TrimStart, only),
        (Php, "rtrim" | "chop") => (Edit::TrimEnd, only),
        (Elixir, "trim") if receiver_is(&["String"]) => (Edit::Trim, only),
        (Elixir, "trim_leading") if receiver_is(&["String"]) => (Edit::TrimStart, only),
        (Elixir, "trim_trailing") if receiver_is(&["String"]) => (Edit::TrimEnd, only),
        (Ruby, "chomp") => (Edit::Chomp, bare),
        (Ruby, "strip_heredoc") => (Edit::Dedent, bare),
        (Python, "dedent") => (Edit::DedentLines, only),
        (JavaScript, "dedent" | "stripIndent" | "outdent") => (Edit::DedentAndTrim, only),
        (JavaScript, "raw") if receiver_is(&["String"]) => (Edit::Raw, only),
        (Kotlin, "trimIndent") => (Edit::TrimIndent, bare),
        (Kotlin, "trimMargin") => {
            let prefix = first.map_or(Some("|"), |first| {
                source.get(first.byte_range())?.strip_prefix('"')?.strip_suffix('"')
            })?;
            (Edit::TrimMargin { prefix: prefix.to_owned() }, call.receiver)
        }
        (Java | Kotlin, "format") if receiver_is(&["String"]) => (Edit::Percent, first),
        (Java, "formatted") | (Kotlin, "format") => (Edit::Percent, call.receiver),
        (JavaScript, "format") if receiver_is(&["util"]) => (Edit::Percent, first),
        (Ruby, "format" | "sprintf") if call.receiver.is_none() => (Edit::Percent, first),
        (Go, "Sprintf") | (Php, "sprintf" | "vsprintf") => (Edit::Percent, first),
        (Python, "format") => (Edit::Braces { takes_names: false }, call.receiver),
        (CSharp, "Format") if receiver_is(&["string", "String"]) => {
            (Edit::Braces { takes_names: false }, first)
        }
        (Rust, "indoc!") => (Edit::Indoc, only),
        (Rust, "format!") => (Edit::Braces { takes_names: true }, first),
        _ => return None,
    };
    subject.map(|subject| (edit, subject))
}

/// Returns the separator and the parts of a call that joins texts.
fn join<'tree>(
    family: Family,
    call: Call<'tree, '_>,
    source: &str,
) -> Option<(Separator<'tree>, Vec<Node<'tree>>)> {
    use Family::{CSharp, Elixir, Go, Java, JavaScript, Kotlin, Php, Python, Ruby, Rust};
    let list = |node: Node<'tree>| elements(family, node, source);
    let [first, second] = [0, 1].map(|index| call.arguments.get(index).copied());
    let or = |node: Option<Node<'tree>>, text| node.map_or(Separator::Fixed(text), Separator::Node);
    let receiver_is = |names: &[&str]| call.receiver_is(names, source);
    Some(match (family, call.function) {
        (Python, "join") => (Separator::Node(call.receiver?), list(first?)?),
        (JavaScript, "join") => (or(first, ","), list(call.receiver?)?),
        (JavaScript, "concat") if is_text(call.receiver?) => {
            (Separator::Fixed(""), call.receiver.into_iter().chain(call.arguments).collect())
        }
        (Ruby, "join") => (or(first, ""), list(call.receiver?)?),
        (Kotlin, "joinToString") => (or(first, ", "), list(call.receiver?)?),
        (Java | CSharp, "join" | "Join") if receiver_is(&["String", "string"]) => {
            let parts = match call.arguments.get(1..)? {
                [only] => list(*only)?,
                parts => parts.to_vec(),
            };
            (Separator::Node(first?), parts)
        }
        (CSharp, "Concat") if receiver_is(&["String", "string"]) => (Separator::Fixed(""), call.arguments),
        (Rust, "concat!") => (Separator::Fixed(""), call.arguments),
        (Rust, "concat") => (Separator::Fixed(""), list(call.receiver?)?),
        (Rust, "join") => (Separator::Node(first?), list(call.receiver?)?),
        (Go, "Join") => (Separator::Node(second?), list(first?)?),
        (Php, "implode" | "join") => match second {
            Some(second) => (Separator::Node(first?), list(second)?),
            None => (Separator::Fixed(""), list(first?)?),
        },
        (Elixir, "join") if receiver_is(&["Enum"]) => (or(second, ""), list(first?)?),
        _ => return None,
    })
}

/// True for JavaScript string literals.
fn is_text(node: Node<'_>) -> bool {
    matches!(node.kind(), "string" | "template_string")
}

impl Call<'_, '_> {
    fn receiver_is(&self, names: &[&str], source: &str) -> bool {
        let text = self.receiver.and_then(|node| source.get(node.byte_range()));
        text.is_some_and(|text| names.contains(&text))
    }
}

fn call<'tree, 'a>(family: Family, node: Node<'tree>, source: &'a str) -> Option<Call<'tree, 'a>> {
    let text = |node: Node<'_>| source.get(node.byte_range());
    let field = |node: Node<'tree>, name| node.child_by_field_name(name);
    // Receiver and name of `receiver.name`, or only a name.
    let member = |function: Node<'tree>, receiver, name| match field(function, name) {
        Some(name) => Some((field(function, receiver), text(name)?)),
        None => Some((None, text(function)?)),
    };
    let (receiver, function) = match (family, node.kind()) {
        (Family::Python, "call") => member(field(node, "function")?, "object", "attribute")?,
        (Family::JavaScript, "call_expression") => member(field(node, "function")?, "object", "property")?,
        (Family::Ruby, "call") => (field(node, "receiver"), text(field(node, "method")?)?),
        (Family::Java, "method_invocation") => (field(node, "object"), text(field(node, "name")?)?),
        (Family::Kotlin, "call_expression") => {
            let function = node.named_child(0)?;
            match function.kind() {
                "navigation_expression" => (function.named_child(0), text(function.named_child(1)?)?),
                _ => (None, text(function)?),
            }
        }
        (Family::CSharp, "invocation_expression") => member(field(node, "function")?, "expression", "name")?,
        (Family::Rust, "call_expression") => member(field(node, "function")?, "value", "field")?,
        (Family::Rust, "macro_invocation") => {
            let name = text(field(node, "macro")?)?;
            let known = ["format!", "concat!", "indoc!"]
                .into_iter()
                .find(|known| known.strip_suffix('!') == Some(name));
            (None, known?)
        }
        (Family::Go, "call_expression") => member(field(node, "function")?, "operand", "field")?,
        (Family::Php, "function_call_expression") => (None, text(field(node, "function")?)?),
        (Family::Elixir, "call") => member(field(node, "target")?, "left", "right")?,
        (Family::Elixir, "binary_operator") if operator(node) == Some("|>") => {
            let call = call(family, field(node, "right")?, source)?;
            let arguments = field(node, "left").into_iter().chain(call.arguments).collect();
            return Some(Call { arguments, ..call });
        }
        _ => return None,
    };
    let mut cursor = node.walk();
    let list = node.named_children(&mut cursor).find(|child| {
        matches!(
            child.kind(),
            "argument_list" | "arguments" | "value_arguments" | "token_tree" | "template_string"
        )
    });
    let arguments = match list {
        Some(template) if template.kind() == "template_string" => vec![template],
        Some(list) => children(list).into_iter().map(value).collect(),
        None => Vec::new(),
    };
    Some(Call { receiver, function, arguments })
}

impl Family {
    /// Left side of `text % values`.
    fn formatted(self, node: Node<'_>) -> Option<Node<'_>> {
        let is_one = matches!(
            (self, node.kind(), operator(node)),
            (Self::Python, "binary_operator", Some("%")) | (Self::Ruby, "binary", Some("%"))
        );
        node.child_by_field_name("left").filter(|_| is_one)
    }
}

fn operator(node: Node<'_>) -> Option<&'static str> {
    node.child_by_field_name("operator").map(|operator| operator.kind())
}

/// Named children without comments.
fn children(node: Node<'_>) -> Vec<Node<'_>> {
    let mut cursor = node.walk();
    node.named_children(&mut cursor).filter(|child| !child.kind().ends_with("comment")).collect()
}

/// Value of an argument or element.
fn value(node: Node<'_>) -> Node<'_> {
    let is_wrapper = matches!(
        node.kind(),
        "argument" | "value_argument" | "array_element_initializer" | "literal_element"
    );
    let last = u32::try_from(node.named_child_count()).ok().and_then(|count| count.checked_sub(1));
    last.filter(|_| is_wrapper).and_then(|last| node.named_child(last)).unwrap_or(node)
}

/// Elements of a list literal; `None` for other nodes.
fn elements<'tree>(family: Family, node: Node<'tree>, source: &str) -> Option<Vec<Node<'tree>>> {
    let list = match (family, node.kind()) {
        (Family::Python, "list" | "tuple")
        | (Family::JavaScript | Family::Ruby, "array")
        | (Family::Rust, "array_expression")
        | (Family::Php, "array_creation_expression")
        | (Family::Elixir, "list")
        | (Family::CSharp, "collection_expression") => node,
        (Family::Go, "composite_literal") => node.child_by_field_name("body")?,
        (Family::CSharp, "implicit_array_creation_expression" | "array_creation_expression")
        | (Family::Java, "array_creation_expression") => {
            let last = u32::try_from(node.named_child_count()).ok()?.checked_sub(1)?;
            let last = node.named_child(last)?;
            matches!(last.kind(), "initializer_expression" | "array_initializer").then_some(last)?
        }
        (Family::Java | Family::Kotlin, _) => {
            let Call { function, arguments, .. } = call(family, node, source)?;
            let is_list = matches!(
                function,
                "of" | "asList" | "listOf" | "arrayOf" | "setOf" | "sequenceOf" | "mutableListOf"
            );
            return is_list.then_some(arguments);
        }
        _ => return None,
    };
    Some(children(list).into_iter().map(value).collect())
}
