//! Values of literals.

/// Returns the value of a string literal, given with its quotes or brackets. The closing delimiter may be missing.
pub(crate) fn string_value(literal: &str) -> String {
    let mut characters = literal.chars();
    match characters.next() {
        Some('[') => {
            let level = characters.take_while(|character| *character == '=').count();
            let content = literal.get(level + 2..).unwrap_or_default();
            let content = content.strip_prefix('\n').unwrap_or(content);
            let end = format!("]{}]", "=".repeat(level));
            content.strip_suffix(&end).unwrap_or(content).to_owned()
        }
        Some(quote) => {
            let content = characters.as_str();
            unescaped(content.strip_suffix([quote, '\n', '\r']).unwrap_or(content))
        }
        None => String::new(),
    }
}

/// Replaces the escape sequences of Lua 5.1. A byte of 128 or more becomes the character with that code point.
fn unescaped(literal: &str) -> String {
    let mut text = String::new();
    let mut characters = literal.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some(digit) if digit.is_ascii_digit() => {
                let mut code = digit.to_digit(10).unwrap_or_default();
                for _ in 0..2 {
                    let Some(next) = characters.peek().and_then(|next| next.to_digit(10)) else { break };
                    code = code * 10 + next;
                    characters.next();
                }
                text.extend(char::from_u32(code));
            }
            Some(other) => text.push(other),
            None => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_have_values() {
        for (literal, expected) in [
            ("'a'", "a"),
            ("\"a'b\"", "a'b"),
            (r"'a\n\t\r\\\''", "a\n\t\r\\'"),
            (r"'\75EYS\0491'", "KEYS11"),
            ("'a\\\nb'", "a\nb"),
            ("[[a\\n]]", "a\\n"),
            ("[==[\n]]\n]==]", "]]\n"),
            ("'a\n", "a"),
            ("'a\\", "a"),
            ("[=[a", "a"),
            ("'", ""),
            ("''", ""),
            ("[[]]", ""),
        ] {
            assert_eq!(string_value(literal), expected, "{literal}");
        }
    }
}
