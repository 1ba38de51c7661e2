//! Report of a run, which is printed as text, JSON or SARIF. `docs/lint.md` describes the JSON.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::lint::rule::{Diagnostic, Rule, Severity};
use crate::text::clean;

/// Maximum number of findings of one file.
const MAX_FINDINGS_PER_FILE: usize = 200;

/// Maximum number of findings.
const MAX_FINDINGS: usize = 10_000;

/// Maximum length of a message in bytes.
const MAX_MESSAGE: usize = 300;

/// Maximum length of a source line, and of a file name, in bytes.
const MAX_LINE: usize = 200;

/// Result of linting files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// 0 if no finding is as severe as `--fail-on`, otherwise 1; 2 if a file could not be read or a directory has no scripts.
    pub exit_code: u8,
    /// Number of scripts that were checked.
    pub files: usize,
    /// Number of Lua files that are for another program and were not checked.
    pub others: usize,
    /// Number of suppressed findings.
    pub allowed: usize,
    /// Number of files that were corrected.
    pub fixed: usize,
    /// Number of findings omitted because of the limits.
    pub omitted: usize,
    /// Findings by file and line.
    pub findings: Vec<Finding>,
    /// Files that could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// Finding in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// File name as given.
    pub file: String,
    /// Line number, starting at 1.
    pub line: usize,
    /// Column in characters, starting at 1.
    pub column: usize,
    /// Rule that reports it.
    pub rule: &'static Rule,
    /// Severity, which may be lower than that of the rule.
    pub severity: Severity,
    /// Reason for the finding.
    pub message: String,
    /// Another position that explains the finding.
    pub related: Option<Related>,
    /// Source line.
    pub source: String,
}

/// Another position in the same file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Line number, starting at 1.
    pub line: usize,
    /// Column in characters, starting at 1.
    pub column: usize,
    /// Role of the position.
    pub message: String,
}

/// File that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// File name as given.
    pub file: String,
    /// Reason.
    pub message: String,
}

impl Finding {
    /// Converts a diagnostic to a finding, given the lines of the file.
    pub(crate) fn new(file: &str, diagnostic: Diagnostic, lines: &[&str]) -> Self {
        let Diagnostic { rule, severity, position, message, related } = diagnostic;
        let line = lines.get(position.line.saturating_sub(1)).copied().unwrap_or_default();
        let message = match related {
            Some((position, _)) => message.replace("{line}", &position.line.to_string()),
            None => message,
        };
        Self {
            file: clean(file, MAX_LINE),
            line: position.line,
            column: position.column,
            rule,
            severity,
            message: clean(&message, MAX_MESSAGE),
            related: related.map(|(position, role)| Related {
                line: position.line,
                column: position.column,
                message: role.to_owned(),
            }),
            source: clean(line.trim(), MAX_LINE),
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Finding", 9)?;
        fields.serialize_field("file", &self.file)?;
        fields.serialize_field("line", &self.line)?;
        fields.serialize_field("column", &self.column)?;
        fields.serialize_field("severity", &self.severity)?;
        fields.serialize_field("rule", self.rule.name)?;
        fields.serialize_field("message", &self.message)?;
        fields.serialize_field("instead", self.rule.instead)?;
        fields.serialize_field("see", &self.rule.url())?;
        fields.serialize_field("related", &self.related)?;
        fields.end()
    }
}

impl Report {
    /// Adds a file with its findings, except those less severe than `least`, and its number of suppressed findings. Returns false if
    /// the file is for another program.
    pub(crate) fn add(&mut self, mut findings: Vec<Finding>, allowed: usize, least: Severity) -> bool {
        let is_other = findings.iter().any(|finding| finding.rule.name == "other-lua");
        if is_other {
            self.others += 1;
        } else {
            self.files += 1;
        }
        self.allowed += allowed;
        findings.retain(|finding| finding.severity >= least);
        let limit = MAX_FINDINGS_PER_FILE.min(MAX_FINDINGS.saturating_sub(self.findings.len()));
        self.omitted += findings.len().saturating_sub(limit);
        // Keep the most severe findings.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings.truncate(limit);
        findings.sort_by_key(|finding| (finding.line, finding.column));
        self.findings.append(&mut findings);
        !is_other
    }

    /// Adds a file that could not be read.
    pub(crate) fn add_unreadable(&mut self, file: &str, message: &str) {
        self.unreadable
            .push(Unreadable { file: clean(file, MAX_LINE), message: clean(message, MAX_MESSAGE) });
    }

    /// Sets the exit code.
    pub(crate) fn conclude(&mut self, fail_on: Severity) {
        let fails = self.findings.iter().any(|finding| finding.severity >= fail_on);
        self.exit_code = if self.unreadable.is_empty() { u8::from(fails) } else { 2 };
    }
}
