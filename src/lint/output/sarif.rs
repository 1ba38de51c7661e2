//! Report as SARIF 2.1.0, the format of code scanning services.

use serde_json::{Value, json};

use super::report::{Finding, Report};
use crate::lint::rule::{Rule, Severity};
use crate::lint::rules::RULES;

/// Schema of the log.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// SARIF log of one run.
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
                    "rules": RULES.iter().copied().map(rule).collect::<Vec<_>>(),
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
        "shortDescription": { "text": rule.summary },
        "help": { "text": rule.instead },
        "helpUri": rule.url(),
        "defaultConfiguration": { "enabled": rule.on_by_default, "level": level(rule.severity) },
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
        "ruleId": finding.rule.name,
        "ruleIndex": RULES.iter().position(|rule| *rule == finding.rule),
        "level": level(finding.severity),
        "message": { "text": format!("{}. Instead: {}.", finding.message, finding.rule.instead) },
        "locations": [{ "physicalLocation": location(finding.line, finding.column) }],
        "relatedLocations": related,
    })
}

/// Converts a path to a URI reference: all characters except unreserved ones and `/` are percent-encoded.
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
