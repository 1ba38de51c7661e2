//! The query of an API request: names and values that are known, or an error that says what would be right.

use std::time::Duration;

use crate::script::ScriptCommand;
use crate::watch::{Severity, State};

/// Rows that an answer holds unless asked otherwise.
const USUAL_LIMIT: usize = 50;

/// Most rows of an answer.
pub(crate) const MAX_ROWS: usize = 500;

/// Most characters of a text to look for.
const MAX_TEXT: usize = 256;

/// A query that can't be answered, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadQuery(String);

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Rows to leave out first.
    pub(crate) offset: usize,
    /// Rows to give at the most.
    pub(crate) limit: usize,
}

impl Default for Part {
    fn default() -> Self {
        Self { offset: 0, limit: USUAL_LIMIT }
    }
}

/// What scripts are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// The time of all calls together.
    #[default]
    Total,
    /// The number of calls.
    Calls,
    /// The 99th percentile.
    P99,
    /// The longest call.
    Longest,
    /// The end of the latest call.
    LastSeen,
    /// The label.
    Script,
}

/// Names of the orders.
const ORDERS: &[(&str, Order)] = &[
    ("total", Order::Total),
    ("calls", Order::Calls),
    ("p99", Order::P99),
    ("longest", Order::Longest),
    ("last_seen", Order::LastSeen),
    ("script", Order::Script),
];

/// What `/api/v1/targets` was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TargetsQuery {
    /// Only targets whose name holds this, in lower case.
    pub(crate) text: String,
    /// Only targets in this state.
    pub(crate) state: Option<State>,
    pub(crate) part: Part,
}

/// What `/api/v1/scripts` was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ScriptsQuery {
    /// Only this target.
    pub(crate) target: Option<String>,
    /// Only scripts whose label, SHA1 or name holds this, in lower case.
    pub(crate) text: String,
    pub(crate) order: Order,
    /// The smallest first.
    pub(crate) rising: bool,
    pub(crate) part: Part,
}

/// What `/api/v1/slow` was asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct CallsQuery {
    /// Only calls on this target.
    pub(crate) target: Option<String>,
    /// Only calls of the script with this label or SHA1.
    pub(crate) script: Option<String>,
    /// Only calls by this command.
    pub(crate) command: Option<ScriptCommand>,
    /// Only calls that are at least so slow.
    pub(crate) severity: Option<Severity>,
    /// Only calls that ended at this time or later, since the Unix epoch.
    pub(crate) since: Duration,
    /// Calls at the most.
    pub(crate) part: Part,
}

impl TargetsQuery {
    /// Reads the part of a URL behind `?`.
    pub(crate) fn parse(query: &str) -> Result<Self, BadQuery> {
        let mut result = Self::default();
        for (name, value) in parameters(query) {
            match &*name {
                "q" => result.text = text(&name, &value)?.to_lowercase(),
                "state" => {
                    let states = State::ALL.map(|state| (state.as_str(), state));
                    result.state = Some(one_of(&name, &value, &states)?);
                }
                _ => result.part.set(&name, &value, "q, state, offset, limit")?,
            }
        }
        Ok(result)
    }
}

impl ScriptsQuery {
    /// Reads the part of a URL behind `?`.
    pub(crate) fn parse(query: &str) -> Result<Self, BadQuery> {
        let mut result = Self::default();
        for (name, value) in parameters(query) {
            match &*name {
                "q" => result.text = text(&name, &value)?.to_lowercase(),
                "target" => result.target = Some(text(&name, &value)?),
                "sort" => result.order = one_of(&name, &value, ORDERS)?,
                "order" => result.rising = one_of(&name, &value, &[("asc", true), ("desc", false)])?,
                _ => result.part.set(&name, &value, "q, target, sort, order, offset, limit")?,
            }
        }
        Ok(result)
    }
}

impl CallsQuery {
    /// Reads the part of a URL behind `?`.
    pub(crate) fn parse(query: &str) -> Result<Self, BadQuery> {
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
                "since" => {
                    let since = value.parse().ok().and_then(|since| Duration::try_from_secs_f64(since).ok());
                    result.since = since.ok_or_else(|| {
                        bad(&name, &value, "a time in seconds since 1970, as in 1764028800")
                    })?;
                }
                _ => result.part.set(
                    &name,
                    &value,
                    "target, script, command, severity, since, offset, limit",
                )?,
            }
        }
        Ok(result)
    }
}

impl Part {
    /// Sets `offset` or `limit`; anything else is an error that names what is `known`.
    fn set(&mut self, name: &str, value: &str, known: &str) -> Result<(), BadQuery> {
        match name {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_ROWS).contains(limit));
                self.limit =
                    limit.ok_or_else(|| bad(name, value, &format!("a whole number from 1 to {MAX_ROWS}")))?;
            }
            "offset" => {
                self.offset = value.parse().map_err(|_| bad(name, value, "a whole number from 0 on"))?;
            }
            _ => {
                return Err(BadQuery(format!("the parameter {name:?} is not known here; there are {known}")));
            }
        }
        Ok(())
    }

    /// This part of the rows.
    pub(crate) fn of<T>(self, rows: impl IntoIterator<Item = T>) -> Vec<T> {
        rows.into_iter().skip(self.offset).take(self.limit).collect()
    }
}

/// Names and values, percent-encoding undone.
fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

fn text(name: &str, value: &str) -> Result<String, BadQuery> {
    if value.chars().count() > MAX_TEXT {
        return Err(BadQuery(format!("{name} is too long: {MAX_TEXT} characters are enough")));
    }
    Ok(value.to_owned())
}

fn one_of<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> Result<T, BadQuery> {
    let found = known.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        bad(name, value, &format!("one of {}", words.join(", ")))
    })
}

fn bad(name: &str, value: &str, right: &str) -> BadQuery {
    let value: String = value.chars().take(40).collect();
    BadQuery(format!("{name}={value:?} can't be used; give {right}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read() {
        let query = ScriptsQuery::parse("q=Move%20To&sort=p99&order=asc&limit=7&offset=14").unwrap();
        assert_eq!((query.text.as_str(), query.order, query.rising), ("move to", Order::P99, true));
        assert_eq!(query.part, Part { offset: 14, limit: 7 });
        assert_eq!(query.part.of(0..100), [14, 15, 16, 17, 18, 19, 20]);
        let query = CallsQuery::parse("severity=critical&command=fcall_ro&since=1.5&target=a%26b").unwrap();
        assert_eq!((query.severity, query.command), (Some(Severity::Critical), Some(ScriptCommand::FcallRo)));
        assert_eq!((query.since, query.target.as_deref()), (Duration::from_millis(1500), Some("a&b")));
        assert_eq!(TargetsQuery::parse("").unwrap(), TargetsQuery::default());
    }

    #[test]
    fn each_mistake_says_what_would_be_right() {
        let long = format!("script={}", "x".repeat(300));
        for (query, right) in [
            ("limit=0", "1 to 500"),
            ("limit=501", "1 to 500"),
            ("limit=", "1 to 500"),
            ("offset=-1", "from 0 on"),
            ("severity=bad", "one of warning, critical"),
            ("command=get", "one of eval, evalsha"),
            ("since=yesterday", "since 1970"),
            ("since=-1", "since 1970"),
            ("since=1e300", "since 1970"),
            ("colour=red", "there are target, script"),
            (long.as_str(), "too long"),
        ] {
            let error = CallsQuery::parse(query).unwrap_err().to_string();
            assert!(error.contains(right), "{query} → {error}");
        }
        assert!(ScriptsQuery::parse("sort=size").unwrap_err().to_string().contains("one of total, calls"));
        assert!(TargetsQuery::parse("state=fine").unwrap_err().to_string().contains("one of ok, blocked"));
    }
}
