//! `redis-script-exporter lint`: reads Lua scripts, and points at what becomes BUSY one day.
//!
//! `files` finds the scripts, `tokens` and `parse` read them, `facts` says what they do (commands, loops, where values come
//! from), `rules` judges, `allow` takes out what comments allow, `report` is that as data, `text` and `sarif` word it.

mod analysis;
mod output;
mod rules;
mod source;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::thread;

use self::analysis::facts::Facts;
use self::output::report::clean;
pub use self::output::report::{Finding, Related, Report, Unreadable};
pub(crate) use self::output::sarif::log as sarif;
pub(crate) use self::output::text::print as print_text;
use self::rules::Found;
pub use self::rules::{OFF_BY_DEFAULT, RULES, Rule, Severity, rule};
use self::source::header::Header;
use self::source::suppressions::Allowances;
use self::source::syntax::Position;
use self::source::tokens::Tokens;

/// The stack on which a script is read: it is asked for, and taken only as far as the script is nested.
const STACK: usize = 64 << 20;

/// Most characters of a message.
const MAX_MESSAGE: usize = 300;

/// Most characters of a line of a script, and of a file's name.
const MAX_LINE: usize = 200;

/// What is found in a script, and how many more findings its comments allow. Rules that are [`OFF_BY_DEFAULT`] are checked if
/// they are `enabled`.
#[must_use]
pub fn lint(file: &str, source: &str, enabled: &[String]) -> (Vec<Finding>, usize) {
    let (found, allowed) = thread::scope(|scope| {
        let reader = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || find(source, enabled));
        let found = reader.ok().and_then(|reader| reader.join().ok());
        found.unwrap_or_else(|| {
            (vec![Found::new("too-complex", Position { line: 1, column: 1 }, "the parser gave up")], 0)
        })
    });
    let lines: Vec<&str> = source.lines().collect();
    let findings = found.into_iter().filter_map(|found| {
        let rule = rule(found.rule)?;
        let line = lines.get(found.position.line.saturating_sub(1)).copied().unwrap_or_default();
        Some(Finding {
            file: file.to_owned(),
            line: found.position.line,
            column: found.position.column,
            severity: rule.severity,
            rule: rule.name,
            message: clean(&found.message, MAX_MESSAGE),
            instead: rule.instead,
            related: found.related.map(|(position, message)| Related {
                line: position.line,
                column: position.column,
                message: clean(&message, MAX_MESSAGE),
            }),
            source: clean(line.trim(), MAX_LINE),
        })
    });
    (findings.collect(), allowed)
}

fn find(source: &str, enabled: &[String]) -> (Vec<Found>, usize) {
    // To Lua this is one line end, also behind a backslash in a string; the parser knows only the shorter one there.
    let source =
        if source.contains("\r\n") { Cow::from(source.replace("\r\n", "\n")) } else { source.into() };
    let (header, body) = Header::read(&source);
    let tokens: Vec<_> = Tokens::new(body).collect();
    let mut found = match source::tokens::too_complex(tokens.iter().copied()) {
        Some(token) => {
            let position = Position { line: token.line, column: token.column + 1 };
            vec![Found::new("too-complex", position, "this is nested too deep to be read")]
        }
        None => match source::parse::parse(body) {
            Ok(script) => rules::check(&Facts::new(&script), header),
            Err((position, message)) => {
                let template = source::template::at(position, &source);
                vec![template.unwrap_or_else(|| Found::new("syntax-error", position, message))]
            }
        },
    };
    let begin = Position { line: 1, column: 1 };
    if source.starts_with('\u{feff}') {
        found.push(Found::new("syntax-error", begin, "it begins with a byte order mark, which is no Lua"));
    }
    found.extend(
        source::header::problem(&source).map(|problem| Found::new("invalid-shebang", begin, problem)),
    );
    found.extend(source::template::in_strings(&tokens));
    let is_off =
        |rule: &str| OFF_BY_DEFAULT.contains(&rule) && !enabled.iter().any(|enabled| enabled == rule);
    found.retain(|found| !is_off(found.rule));
    let allowed = Allowances::read(&tokens).apply(&mut found, is_off);
    (found, allowed)
}
