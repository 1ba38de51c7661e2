//! Query strings of API requests. Unknown parameters and invalid values are rejected with an error that lists the valid
//! ones.

use std::time::Duration;

use super::headline::Level;
use crate::script::ScriptCommand;
use crate::watch::{IncidentKind, Severity, StateKind};

/// Default number of rows in a response.
const DEFAULT_LIMIT: usize = 50;

/// Maximum number of rows in a response.
pub(crate) const MAX_ROWS: usize = 500;

/// Maximum length of a text parameter, in characters.
const MAX_TEXT: usize = 256;

/// Invalid query string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct QueryError(String);

/// Range of rows to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRange {
    /// Number of rows to skip.
    pub(crate) offset: usize,
    /// Maximum number of rows to return.
    pub(crate) limit: usize,
}

impl Default for PageRange {
    fn default() -> Self {
        Self { offset: 0, limit: DEFAULT_LIMIT }
    }
}

/// Sort key of scripts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum SortKey {
    /// Total duration of all calls.
    #[default]
    Total,
    /// Number of calls.
    Calls,
    /// 99th percentile of the duration.
    P99,
    /// Duration of the longest call.
    Longest,
    /// End of the latest call.
    LastSeen,
    /// Name.
    Name,
}

/// Names of the sort keys.
const SORT_KEYS: &[(&str, SortKey)] = &[
    ("total", SortKey::Total),
    ("calls", SortKey::Calls),
    ("p99", SortKey::P99),
    ("longest", SortKey::Longest),
    ("last_seen", SortKey::LastSeen),
    ("name", SortKey::Name),
];

/// Query of `/api/v1/targets`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TargetsQuery {
    /// Name.
    pub(crate) target: Option<String>,
    /// Part of the name, in lower case; empty matches all.
    pub(crate) search: String,
    /// State of the targets.
    pub(crate) state: Option<StateKind>,
    /// Severity of the targets.
    pub(crate) level: Option<Level>,
    pub(crate) page: PageRange,
}

/// Query of `/api/v1/scripts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ScriptsQuery {
    /// Name of the target.
    pub(crate) target: Option<String>,
    /// Label, name or SHA1 of the script.
    pub(crate) script: Option<String>,
    /// Part of the label, SHA1 or name, in lower case; empty matches all.
    pub(crate) search: String,
    pub(crate) sort: SortKey,
    /// True to sort in ascending order.
    pub(crate) ascending: bool,
    pub(crate) page: PageRange,
}

/// Query of `/api/v1/slow`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct CallsQuery {
    /// Name of the target.
    pub(crate) target: Option<String>,
    /// Label, name or SHA1 of the script.
    pub(crate) script: Option<String>,
    /// Command of the call.
    pub(crate) command: Option<ScriptCommand>,
    /// Minimum severity.
    pub(crate) severity: Option<Severity>,
    /// Earliest end of the call, as time since the Unix epoch.
    pub(crate) since: Duration,
    pub(crate) page: PageRange,
}

/// Query of `/api/v1/incidents`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct IncidentsQuery {
    /// Name of the target.
    pub(crate) target: Option<String>,
    /// Label, name or SHA1 of the script.
    pub(crate) script: Option<String>,
    pub(crate) kind: Option<IncidentKind>,
    /// Earliest end, as time since the Unix epoch.
    pub(crate) since: Duration,
    pub(crate) page: PageRange,
}

impl TargetsQuery {
    /// Parses a query string.
    ///
    /// # Errors
    /// Returns an error for the first unknown parameter or invalid value.
    pub(crate) fn parse(query: &str) -> Result<Self, QueryError> {
        let mut result = Self::default();
        for (name, value) in parameters(query) {
            match &*name {
                "target" => result.target = Some(text(&name, &value)?),
                "q" => result.search = text(&name, &value)?.to_lowercase(),
                "state" => {
                    let states = StateKind::ALL.map(|state| (state.as_str(), state));
                    result.state = Some(one_of(&name, &value, &states)?);
                }
                "level" => result.level = Some(one_of(&name, &value, &Level::ALL)?),
                _ => result.page.set(&name, &value, "target, q, state, level, offset, limit")?,
            }
        }
        Ok(result)
    }
}

impl ScriptsQuery {
    /// Parses a query string.
    ///
    /// # Errors
    /// Returns an error for the first unknown parameter or invalid value.
    pub(crate) fn parse(query: &str) -> Result<Self, QueryError> {
        let mut result = Self::default();
        for (name, value) in parameters(query) {
            match &*name {
                "q" => result.search = text(&name, &value)?.to_lowercase(),
                "target" => result.target = Some(text(&name, &value)?),
                "script" => result.script = Some(text(&name, &value)?),
                "sort" => result.sort = one_of(&name, &value, SORT_KEYS)?,
                "order" => result.ascending = one_of(&name, &value, &[("asc", true), ("desc", false)])?,
                _ => result.page.set(&name, &value, "q, target, script, sort, order, offset, limit")?,
            }
        }
        Ok(result)
    }
}

impl CallsQuery {
    /// Parses a query string.
    ///
    /// # Errors
    /// Returns an error for the first unknown parameter or invalid value.
    pub(crate) fn parse(query: &str) -> Result<Self, QueryError> {
        let mut result = Self::default();
        for (name, value) in parameters(query) {
            match &*name {
                "target" => result.target = Some(text(&name, &value)?),
                "script" => result.script = Some(text(&name, &value)?),
                "command" => {
                    let commands = ScriptCommand::ALL.map(|command| (command.as_str(), command));
                    result.command = Some(one_of(&name, &value, &commands)?);
                }
                "severity" => {
                    let severities = Severity::ALL.map(|severity| (severity.as_str(), severity));
                    result.severity = Some(one_of(&name, &value, &severities)?);
                }
                "since" => result.since = timestamp(&name, &value)?,
                _ => result.page.set(
                    &name,
                    &value,
                    "target, script, command, severity, since, offset, limit",
                )?,
            }
        }
        Ok(result)
    }
}

impl IncidentsQuery {
    /// Parses a query string.
    ///
    /// # Errors
    /// Returns an error for the first unknown parameter or invalid value.
    pub(crate) fn parse(query: &str) -> Result<Self, QueryError> {
        let mut result = Self::default();
        for (name, value) in parameters(query) {
            match &*name {
                "target" => result.target = Some(text(&name, &value)?),
                "script" => result.script = Some(text(&name, &value)?),
                "kind" => result.kind = Some(one_of(&name, &value, &IncidentKind::ALL)?),
                "since" => result.since = timestamp(&name, &value)?,
                _ => result.page.set(&name, &value, "target, script, kind, since, offset, limit")?,
            }
        }
        Ok(result)
    }
}

impl PageRange {
    /// Sets `offset` or `limit`. Any other parameter is an error that lists those in `valid`.
    fn set(&mut self, name: &str, value: &str, valid: &str) -> Result<(), QueryError> {
        match name {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_ROWS).contains(limit));
                self.limit =
                    limit.ok_or_else(|| invalid(name, value, &format!("an integer from 1 to {MAX_ROWS}")))?;
            }
            "offset" => {
                self.offset = value.parse().map_err(|_| invalid(name, value, "an integer of at least 0"))?;
            }
            _ => {
                return Err(QueryError(format!("unknown parameter {name:?}; expected one of {valid}")));
            }
        }
        Ok(())
    }

    /// Returns this range of `rows`.
    pub(crate) fn slice<T>(self, rows: impl IntoIterator<Item = T>) -> Vec<T> {
        rows.into_iter().skip(self.offset).take(self.limit).collect()
    }
}

/// Splits a query string into decoded names and values.
fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

fn text(name: &str, value: &str) -> Result<String, QueryError> {
    if value.chars().count() > MAX_TEXT {
        return Err(QueryError(format!("{name} is too long; the maximum is {MAX_TEXT} characters")));
    }
    Ok(value.to_owned())
}

fn timestamp(name: &str, value: &str) -> Result<Duration, QueryError> {
    let since = value.parse().ok().and_then(|since| Duration::try_from_secs_f64(since).ok());
    since.ok_or_else(|| invalid(name, value, "a Unix timestamp in seconds, for example 1764028800"))
}

fn one_of<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> Result<T, QueryError> {
    let choice = choices.iter().find(|(word, _)| *word == value).map(|(_, choice)| *choice);
    choice.ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        invalid(name, value, &format!("one of {}", words.join(", ")))
    })
}

fn invalid(name: &str, value: &str, expected: &str) -> QueryError {
    let value: String = value.chars().take(40).collect();
    QueryError(format!("invalid value {value:?} of {name}; expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_parsed() {
        let query = ScriptsQuery::parse("q=Move%20To&sort=p99&order=asc&limit=7&offset=14").unwrap();
        assert_eq!((query.search.as_str(), query.sort, query.ascending), ("move to", SortKey::P99, true));
        assert_eq!(query.page, PageRange { offset: 14, limit: 7 });
        assert_eq!(query.page.slice(0..100), [14, 15, 16, 17, 18, 19, 20]);
        let query = CallsQuery::parse("severity=critical&command=fcall_ro&since=1.5&target=a%26b").unwrap();
        assert_eq!((query.severity, query.command), (Some(Severity::Critical), Some(ScriptCommand::FcallRo)));
        assert_eq!((query.since, query.target.as_deref()), (Duration::from_millis(1500), Some("a&b")));
        assert_eq!(TargetsQuery::parse("").unwrap(), TargetsQuery::default());
    }

    #[test]
    fn each_error_names_the_valid_values() {
        let long = format!("script={}", "x".repeat(300));
        for (query, expected) in [
            ("limit=0", "1 to 500"),
            ("limit=501", "1 to 500"),
            ("limit=", "1 to 500"),
            ("offset=-1", "at least 0"),
            ("severity=bad", "one of warning, critical"),
            ("command=get", "one of eval, evalsha"),
            ("since=yesterday", "Unix timestamp"),
            ("since=-1", "Unix timestamp"),
            ("since=1e300", "Unix timestamp"),
            ("colour=red", "expected one of target, script"),
            (long.as_str(), "too long"),
        ] {
            let error = CallsQuery::parse(query).unwrap_err().to_string();
            assert!(error.contains(expected), "{query} → {error}");
        }
        let error = IncidentsQuery::parse("kind=outage").unwrap_err().to_string();
        assert!(error.contains("one of script, function, module, command, unknown, unreachable"), "{error}");
        assert!(ScriptsQuery::parse("sort=size").unwrap_err().to_string().contains("one of total, calls"));
        assert!(TargetsQuery::parse("level=bad").unwrap_err().to_string().contains("one of down, blocked"));
        assert!(TargetsQuery::parse("state=fine").unwrap_err().to_string().contains("one of ok, blocked"));
    }
}
