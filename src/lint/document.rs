//! Documentation of the linter, generated from the rules and a template.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::lint::rule::{Example, Rule};
use crate::lint::rules::RULES;

/// Hand-written parts of the documentation.
const TEMPLATE: &str = include_str!("document.md");

/// Contents of `docs/lint.md`.
#[must_use]
pub fn document() -> String {
    TEMPLATE.replace("{table}", &table()).replace("{sections}", &sections())
}

/// Prints the documentation of a rule for a terminal.
pub(crate) fn explain(rule: &Rule, out: &mut impl Write) -> io::Result<()> {
    let Rule { name, severity, summary, why, instead, .. } = rule;
    let off = if rule.on_by_default { "" } else { ", off by default" };
    writeln!(
        out,
        "{name} ({}{off})\n\nReports {summary}.\n\n{why}\n\nInstead: {instead}.",
        severity.as_str()
    )?;
    if let Some(Example { bad, good }) = rule.example {
        let indented = |script: &str| script.replace('\n', "\n  ");
        writeln!(out, "\nReported:\n\n  {}\n\nNot reported:\n\n  {}", indented(bad), indented(good))?;
    }
    writeln!(out, "\nSuppress it: -- redis-script-lint: allow({name}) reason\nSee {}", rule.url())?;
    out.flush()
}

fn table() -> String {
    let mut table = String::from("| rule | severity | reports |\n| --- | --- | --- |\n");
    for rule in RULES {
        let off = if rule.on_by_default { "" } else { ", off by default" };
        let Rule { name, severity, summary, .. } = rule;
        // Writing to a String can't fail.
        let _ = writeln!(table, "| [`{name}`](#{name}) | {}{off} | {summary} |", severity.as_str());
    }
    table
}

fn sections() -> String {
    let sections: Vec<String> = RULES.iter().map(|rule| section(rule)).collect();
    sections.join("\n")
}

fn section(rule: &Rule) -> String {
    let Rule { name, summary, why, instead, .. } = rule;
    let mut section = format!("### {name}\n\nReports {summary}.\n\n{why}\n\nInstead: {instead}.\n");
    if let Some(example) = rule.example {
        let Example { bad, good } = example;
        let _ =
            write!(section, "\nReported:\n\n```lua\n{bad}\n```\n\nNot reported:\n\n```lua\n{good}\n```\n");
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/lint.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == document(), "docs/lint.md is stale: cargo run --example lint-doc > docs/lint.md");
    }

    #[test]
    fn texts_fit_into_a_table() {
        for rule in RULES {
            for text in [rule.summary, rule.why, rule.instead] {
                assert!(
                    !text.is_empty() && !text.contains(['|', '\n']) && !text.ends_with("  "),
                    "{}",
                    rule.name
                );
            }
        }
    }
}
