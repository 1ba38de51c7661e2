//! A report as SARIF 2.1.0, which code scanning services read.

use serde_json::{Value, json};

use super::report::{Finding, Report};
use crate::lint::rules::{OFF_BY_DEFAULT, RULES, Rule, Severity};

/// The schema of what is written.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The log of one run.
pub(crate) fn log(report: &Report) -> Value {
    let notifications: Vec<Value> = report
        .unreadable
        .iter()
        .map(|unreadable| {
            json!({
                "level": "error",
                "message": { "text": unreadable.message },
                "locations": [{ "physicalLocation": { "artifactLocation": { "uri": uri(&unreadable.file) } } }],
            })
        })
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "redis-script-exporter lint",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": RULES.iter().map(rule).collect::<Vec<_>>(),
                },
            },
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": report.unreadable.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "results": report.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.name,
        "shortDescription": { "text": rule.what },
        "help": { "text": rule.instead },
        "defaultConfiguration": { "enabled": !OFF_BY_DEFAULT.contains(&rule.name), "level": level(rule.severity) },
    })
}

fn result(finding: &Finding) -> Value {
    let location = |line: usize, column: usize| {
        json!({
            "artifactLocation": { "uri": uri(&finding.file) },
            "region": { "startLine": line, "startColumn": column },
        })
    };
    let related: Vec<Value> = finding
        .related
        .iter()
        .map(|related| {
            json!({
                "physicalLocation": location(related.line, related.column),
                "message": { "text": related.message },
            })
        })
        .collect();
    json!({
        "ruleId": finding.rule,
        "ruleIndex": RULES.iter().position(|rule| rule.name == finding.rule),
        "level": level(finding.severity),
        "message": { "text": format!("{}. Instead: {}.", finding.message, finding.instead) },
        "locations": [{ "physicalLocation": location(finding.line, finding.column) }],
        "relatedLocations": related,
    })
}

/// A path as a URI reference: everything but unreserved characters and `/` is escaped.
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let mut uri = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            uri.push(char::from(byte));
        } else {
            uri.extend(['%', hex(byte >> 4), hex(byte & 0x0f)]);
        }
    }
    uri
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase()
}
