//! Linter of Lua scripts: `redis-script-exporter lint`.
//!
//! `source` parses a script (first line, tokens, suppressions, syntax tree), `analysis` derives facts (command calls, origins of
//! values, long loops), `rules` checks the facts, `linter` runs all stages, and `output` renders the findings as text, JSON and SARIF.

mod analysis;
mod document;
mod fix;
mod linter;
mod output;
mod rule;
mod rules;
mod source;
#[cfg(test)]
mod tests;

use crate::embedded::EmbeddedScript;
use crate::lua::tokens;

pub use self::analysis::limits::Limits;
pub(crate) use self::analysis::limits::may_have as may_limit;
pub(crate) use self::analysis::uses::{KeyUse, Uses};
pub use self::document::document;
pub(crate) use self::document::explain;
pub(crate) use self::fix::fixed;
pub(crate) use self::linter::THREAD;
pub use self::output::report::{Finding, Related, Report, Unreadable};
pub(crate) use self::output::sarif::log as sarif;
pub(crate) use self::output::text::print as print_text;
pub use self::rule::{Rule, Severity};
pub use self::rules::{RULES, rule};

/// Checks a script, given the limits that neighbouring scripts set. Returns its findings, and the number of findings that its comments
/// suppress. Rules that are off by default run only if `enabled` contains their names.
#[must_use]
pub fn lint(file: &str, source: &str, limits: &Limits, enabled: &[String]) -> (Vec<Finding>, usize) {
    let (diagnostics, suppressed) = checked(source, rule::Origin::File, limits, enabled);
    let lines: Vec<&str> = source.lines().collect();
    let findings = diagnostics.into_iter().map(|diagnostic| Finding::new(file, diagnostic, &lines));
    (findings.collect(), suppressed)
}

/// Checks a script in a string literal, like [`lint`]. The positions of the findings are those in the file.
#[must_use]
pub(crate) fn lint_embedded(
    file: &str,
    source: &str,
    script: &EmbeddedScript,
    limits: &Limits,
    enabled: &[String],
) -> (Vec<Finding>, usize) {
    let trims_lists = source.to_ascii_lowercase().contains("ltrim");
    let (diagnostics, suppressed) =
        checked(&script.body, rule::Origin::Literal { trims_lists }, limits, enabled);
    let lines: Vec<&str> = source.lines().collect();
    let in_file = script.positions(source);
    let findings = diagnostics.into_iter().map(|mut diagnostic| {
        diagnostic.position = in_file(diagnostic.position);
        if let Some((position, _)) = &mut diagnostic.related {
            *position = in_file(*position);
        }
        Finding::new(file, diagnostic, &lines)
    });
    (findings.collect(), suppressed)
}

fn checked(
    source: &str,
    origin: rule::Origin,
    limits: &Limits,
    enabled: &[String],
) -> (Vec<rule::Diagnostic>, usize) {
    let checked = linter::in_thread(|| linter::check(source, origin, limits, enabled));
    checked.unwrap_or_else(|| (vec![rules::unchecked()], 0))
}

/// Limits that a script sets on its collections.
pub(crate) fn limits(source: &str) -> Limits {
    linter::in_thread(|| linter::limits(source)).unwrap_or_default()
}

/// Uses of KEYS and ARGV in a script; empty if it can't be parsed.
pub(crate) fn uses(source: &str) -> Uses {
    let (_, body) = source::header::Header::parse(source);
    let parsed = linter::in_thread(|| {
        let tokens: Vec<_> = tokens(body).collect();
        source::parse::parse(body, &tokens).map(|script| Uses::new(&script)).unwrap_or_default()
    });
    parsed.unwrap_or_default()
}

/// Names of the rules that are off by default.
pub(crate) fn off_by_default() -> impl Iterator<Item = &'static str> {
    RULES.iter().filter(|rule| !rule.on_by_default).map(|rule| rule.name)
}
