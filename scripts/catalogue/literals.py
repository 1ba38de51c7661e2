"""Finds scripts in the source files of libraries: string literals in several languages that contain Lua for Redis."""

import ast
import functools
import re

LUA = re.compile(r"(?:redis|server)\.p?call\b|\bKEYS\s*\[|\bARGV\s*\[|^#!lua")

NAME_BEFORE = re.compile(
    r"(?:([A-Za-z_$@][\w$]*)\s*(?::\s*[\w.<>\[\]&' ]+?)?\s*(?::=|=>|=|:)|([A-Za-z_][\w]*)\s*\()[\s(\w.!&#|\[]*$"
)
ASSIGNED_CALL = re.compile(r"([A-Za-z_$][\w$]*)\s*(?::[^=;\n]+)?=\s*(?:(?:await|new)\s+)?[\w.]+\s*(?:<[^>]*>)?\s*\(\s*$")
FUNCTION = re.compile(
    r"^[ \t]*(?:(?:function|func|def|fn|fun)[ \t]+(?:\([^)\n]*\)[ \t]*|self\.)?|(?:[\w<>\[\],.?]+[ \t]+){0,6})"
    r"([A-Za-z_$][\w$]*)[ \t]*(?:<[^<>\n]*>[ \t]*)?\(",
    re.M,
)
NO_DEFINITION = re.compile(r"\b(?:new|return|throw|await|else|case|local|yield)\b|[A-Za-z](?:Exception|Decoder\d?|Command|Wrapper)[ \t]*\($")
NO_NAME = {
    "if", "for", "while", "return", "switch", "catch", "new", "script", "lua", "eval", "Script", "NewScript", "redis",
    "register_script", "evalWriteAsync", "evalReadAsync", "evalWriteSyncedAsync", "evalSHA", "evalsha", "require",
    "createEval", "string", "str", "text", "value", "content", "function", "else", "elsif", "end", "and", "or", "not",
    "ipairs", "pairs", "tonumber", "tostring", "call", "pcall", "unpack", "type", "next", "insert", "foreach", "scripts", "Error",
    "RedissonScript", "err", "Append", "const", "commandExecutor", "super", "this", "unless", "do", "strip_heredoc", "evalWriteSyncedNoRetryAsync", "evalWriteBatchedAsync",
    "evalWriteBatchedNoRetryAsync", "evalWriteSyncedAsyncNoRetry", "Concat", "concat", "LuaScript", "prepare",
}


def is_script(text):
    """True for text that is sent to a server as a script."""
    return bool(LUA.search(text)) and len(text) < 200_000


def name_before(source, position):
    """Returns the name of a literal: the variable or property it is assigned to, or otherwise the function that contains it."""
    before = source[max(0, position - 100):position]
    found = ASSIGNED_CALL.search(before)
    if found:
        return found.group(1).lstrip("$@")
    found = NAME_BEFORE.search(before)
    if found:
        name = (found.group(1) or found.group(2)).lstrip("$@")
        if name not in NO_NAME and not name.startswith(("eval", "Eval")):
            return name
    window = source[max(0, position - 6000):position]
    window = "\n".join(line[:200] for line in window.split("\n"))
    functions = [found.group(1) for found in FUNCTION.finditer(window) if not NO_DEFINITION.search(found.group(0))]
    for name in reversed(functions):
        if name not in NO_NAME and not name.startswith(("eval", "Eval", "get_raw")):
            return name
    return ""


ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "s": " ", "e": "\x1b"}


def unescape(text):
    """Returns the value of a literal with backslash escapes in JavaScript, Java, Go or C#."""
    def one(match):
        body = match.group(1)
        if body == "\n":
            return ""
        if body[0] in "xu" and len(body) > 1:
            return chr(int(body[1:].strip("{}"), 16))
        return ESCAPES.get(body, body)
    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]+\}|.|\n)", one, text, flags=re.S)


def of_python(source):
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        yield from of_triple_quotes(source)
        return
    parents = {}
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            parents[child] = node
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or isinstance(parents.get(node), (ast.JoinedStr, ast.Expr)):
            continue
        value = node.value.decode("utf-8", "replace") if isinstance(node.value, bytes) else node.value
        if not isinstance(value, str) or not is_script(value):
            continue
        name, at = "", node
        while at in parents and not name:
            at = parents[at]
            if isinstance(at, ast.Assign):
                target = at.targets[0]
                name = getattr(target, "id", None) or getattr(target, "attr", None) or ""
            elif isinstance(at, ast.AnnAssign):
                name = getattr(at.target, "id", None) or getattr(at.target, "attr", None) or ""
            elif isinstance(at, ast.keyword):
                name = at.arg or ""
            elif isinstance(at, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = at.name
            if name in NO_NAME:
                name = ""
        yield name, value


def of_triple_quotes(source):
    for match in re.finditer(r"[bur]*(\"\"\"|''')(.*?)\1", source, re.S):
        value = unescape(match.group(2))
        if is_script(value):
            yield name_before(source, match.start()), value


def of_javascript(source):
    pattern = re.compile(r"//[^\n]*|/\*.*?\*/|`((?:[^`\\]|\\.)*)`|\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)'", re.S)
    literals = []
    for match in pattern.finditer(source):
        if match.group(0).startswith("/"):
            continue
        body = next(group for group in match.groups() if group is not None)
        is_template = match.group(0).startswith("`")
        literals.append((match.start(), match.end(), None if is_template and "${" in body else unescape(body)))
    yield from joined(source, literals)


def joined(source, literals):
    """Finds single literals and concatenations of literals. A concatenation with any other operand is composed at run time."""
    at = 0
    while at < len(literals):
        start, end, value = literals[at]
        at += 1
        while at < len(literals) and re.fullmatch(r"(?:\s|//[^\n]*\n|/\*.*?\*/)*\+(?:\s|//[^\n]*\n)*", source[end:literals[at][0]]):
            more = literals[at][2]
            value = None if value is None or more is None else value + more
            end = literals[at][1]
            at += 1
        if value is None or not is_script(value):
            continue
        if re.match(r"\s*\+", source[end:end + 200]) or re.search(r"\+\s*$", source[max(0, start - 200):start]):
            continue
        yield name_before(source, start), value


def of_go(source):
    pattern = re.compile(r"//[^\n]*|/\*.*?\*/|`([^`]*)`|\"((?:[^\"\\\n]|\\.)*)\"", re.S)
    literals = []
    for match in pattern.finditer(source):
        if match.group(1) is not None:
            literals.append((match.start(), match.end(), match.group(1).replace("\r", "")))
        elif match.group(2) is not None:
            literals.append((match.start(), match.end(), unescape(match.group(2))))
    yield from joined(source, literals)


def of_java(source):
    pattern = re.compile(r"//[^\n]*|/\*.*?\*/|\"\"\"[ \t]*\n(.*?)\"\"\"|\"((?:[^\"\\\n]|\\.)*)\"|'(?:[^'\\\n]|\\.)'", re.S)
    literals = []
    for match in pattern.finditer(source):
        if match.group(1) is not None:
            literals.append((match.start(), match.end(), text_block(match.group(1))))
        elif match.group(2) is not None:
            literals.append((match.start(), match.end(), unescape(match.group(2))))
    yield from joined(source, literals)


def text_block(body):
    """Returns the value of a Java text block."""
    lines = body.split("\n")
    counted = [line for line in lines[:-1] if line.strip()] + [lines[-1] + "x" if not lines[-1].strip() else lines[-1]]
    indent = min((len(line) - len(line.lstrip()) for line in counted), default=0)
    return unescape("\n".join(line[indent:].rstrip() for line in lines[:-1]) + "\n" + lines[-1][indent:])


def of_csharp(source):
    pattern = re.compile(r"//[^\n]*|/\*.*?\*/|@\"((?:[^\"]|\"\")*)\"|\"((?:[^\"\\\n]|\\.)*)\"", re.S)
    literals = []
    for match in pattern.finditer(source):
        if match.group(1) is not None:
            literals.append((match.start(), match.end(), match.group(1).replace('""', '"')))
        elif match.group(2) is not None:
            literals.append((match.start(), match.end(), unescape(match.group(2))))
    yield from joined(source, literals)


def of_rust(source):
    pattern = re.compile(r"//[^\n]*|r(#*)\"(.*?)\"\1|\"((?:[^\"\\]|\\.)*)\"", re.S)
    for match in pattern.finditer(source):
        if match.group(2) is not None:
            value = match.group(2)
        elif match.group(3) is not None:
            value = re.sub(r"\\\n\s*", "", match.group(3))
            value = unescape(value)
        else:
            continue
        if is_script(value):
            yield name_before(source, match.start()), value


def of_ruby(source):
    pattern = re.compile(r"<<([~-]?)(['\"]?)(\w+)\2([^\n]*)\n(.*?)^([ \t]*)\3$", re.S | re.M)
    for match in pattern.finditer(source):
        squiggly, quote, body = match.group(1), match.group(2), match.group(5)
        if squiggly == "~":
            indents = [len(line) - len(line.lstrip()) for line in body.split("\n") if line.strip()]
            indent = min(indents, default=0)
            body = "".join(line[min(indent, len(line) - len(line.lstrip(" \t"))):] for line in body.splitlines(True))
        if quote != "'":
            if "#{" in body:
                continue
            body = unescape(body)
        if ".strip" in match.group(4):
            body = body.strip()
        if is_script(body):
            yield name_before(source, match.start()), body
    without = pattern.sub("", source)
    quoted = re.compile(r"#[^\n{]*$|%[qQ]?\{([^{}]*)\}|%[qQ]?\(([^()]*)\)|\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.M)
    literals = []
    for match in quoted.finditer(without):
        groups = [group for group in match.groups() if group is not None]
        if groups and "#{" not in groups[0]:
            literals.append((match.start(), match.end(), unescape(groups[0]) if match.group(3) else groups[0]))
    yield from joined(without, literals)


def of_php(source):
    pattern = re.compile(r"<<<[ \t]*(['\"]?)(\w+)\1\n(.*?)\n([ \t]*)\2\b", re.S)
    for match in pattern.finditer(source):
        indent = len(match.group(4))
        body = "\n".join(line[indent:] if line[:indent].strip() == "" else line for line in match.group(3).split("\n"))
        if match.group(1) != "'":
            if re.search(r"\{?\$\w", body):
                continue
            body = unescape(body) if "\\" in body else body
        if is_script(body):
            yield name_before(source, match.start()), body
    without = pattern.sub("", source)
    quoted = re.compile(r"//[^\n]*|/\*.*?\*/|'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.S)
    literals = []
    for match in quoted.finditer(without):
        if match.group(1) is not None:
            literals.append((match.start(), match.end(), re.sub(r"\\(['\\])", r"\1", match.group(1))))
        elif match.group(2) is not None and not re.search(r"\$\w", match.group(2)):
            literals.append((match.start(), match.end(), unescape(match.group(2))))
    yield from joined(without, literals)


BY_EXTENSION = {
    "py": of_python, "js": of_javascript, "cjs": of_javascript, "mjs": of_javascript, "ts": of_javascript,
    "go": of_go, "java": of_java, "kt": of_java, "cs": of_csharp, "rs": of_rust, "rb": of_ruby, "php": of_php,
}


@functools.cache
def scripts_of(path, source):
    """Returns the scripts in a file, as names and bodies. A script without a name is named after the file."""
    base, _, extension = path.rpartition("/")[2].rpartition(".")
    if extension == "lua":
        return [(base, source)]
    if not LUA.search(source):
        return []
    if base in {"lua", "index", "script", "scripts"}:
        base = ".".join(path.split("/")[-3:-1]) or base
    if extension in {"java", "kt", "php", "cs"}:
        return [(f"{base}.{name}" if name else base, body) for name, body in BY_EXTENSION[extension](source)]
    of = BY_EXTENSION.get(extension)
    return [(name or base, body) for name, body in of(source)] if of else []
