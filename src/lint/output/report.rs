//! What was found, as data: text, JSON and SARIF are made of it. The fields are the JSON, which `docs/lint.md` describes.

use serde::Serialize;

use crate::lint::rules::Severity;
use crate::lint::{MAX_LINE, MAX_MESSAGE, lint};
use crate::text::is_hidden;

/// Most findings that are kept of one file.
pub(crate) const MAX_FINDINGS_PER_FILE: usize = 200;

/// Most findings that are kept in all.
const MAX: usize = 10_000;

/// What was found in some files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// 0 if nothing is as bad as `--fail-on`, else 1; 2 if a file could not be read.
    pub exit_code: u8,
    /// Scripts that were looked at.
    pub files: usize,
    /// Findings that comments allow.
    pub allowed: usize,
    /// Findings that are left out because there are too many.
    pub omitted: usize,
    /// What was found, by file and line.
    pub findings: Vec<Finding>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// Something in a script that becomes a problem one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The character on the line, from 1.
    pub column: usize,
    /// How bad it is.
    pub severity: Severity,
    /// The rule that found it.
    pub rule: &'static str,
    /// Why.
    pub message: String,
    /// What to do instead.
    pub instead: &'static str,
    /// Another place that has to do with it.
    pub related: Option<Related>,
    /// The line of the script.
    #[serde(skip)]
    pub source: String,
}

/// Another place in the same file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// The line, from 1.
    pub line: usize,
    /// The character on the line, from 1.
    pub column: usize,
    /// What is there.
    pub message: String,
}

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The file, as it was named.
    pub file: String,
    /// Why.
    pub message: String,
}

impl Report {
    /// Adds what was found in a file, as far as it is at least this severe.
    pub(crate) fn add(&mut self, mut findings: Vec<Finding>, least: Severity) {
        findings.retain(|finding| finding.severity >= least);
        let room = MAX_FINDINGS_PER_FILE.min(MAX.saturating_sub(self.findings.len()));
        self.omitted += findings.len().saturating_sub(room);
        // The worst stay.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings.truncate(room);
        findings.sort_by_key(|finding| (finding.line, finding.column));
        self.findings.append(&mut findings);
    }

    /// Sets the exit code.
    pub(crate) fn conclude(&mut self, fail_on: Severity) {
        let fails = self.findings.iter().any(|finding| finding.severity >= fail_on);
        self.exit_code = if self.unreadable.is_empty() { u8::from(fails) } else { 2 };
    }

    /// Adds a file: the findings of its content that are at least `least`, or the reason for which it can't be read.
    pub(crate) fn add_file(
        &mut self,
        file: &str,
        content: Result<String, String>,
        enabled: &[String],
        least: Severity,
    ) {
        let file = clean(file, MAX_LINE);
        match content {
            Ok(source) => {
                self.files += 1;
                let (findings, allowed) = lint(&file, &source, enabled);
                self.allowed += allowed;
                self.add(findings, least);
            }
            Err(message) => {
                self.unreadable.push(Unreadable { file, message: clean(&message, MAX_MESSAGE) });
            }
        }
    }
}

/// Text from elsewhere, made safe for terminals and bounded: what moves the cursor, changes colours or the direction of
/// reading is escaped.
pub(crate) fn clean(text: &str, longest: usize) -> String {
    let mut cleaned = String::new();
    for (count, character) in text.chars().enumerate() {
        if count >= longest {
            cleaned.push('…');
            break;
        }
        match character {
            '\t' => cleaned.push(' '),
            character if is_hidden(character) => cleaned.extend(character.escape_unicode()),
            character => cleaned.push(character),
        }
    }
    cleaned
}
