//! Log lines on stderr, as logfmt or JSON.
//!
//! Fields may contain text from servers, files and clients. All fields are bounded and escaped here, regardless of where
//! they are logged.

pub(crate) mod event_log;

use std::fmt::{self, Write as _};

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::text::{Bounded, is_hidden};

/// Maximum length of a field in bytes.
const MAX_FIELD: usize = 256;

/// Maximum length of the fields in [`SENTENCES`].
const MAX_SENTENCE: usize = 1024;

/// Fields that contain sentences of this program, which may include text from servers, files and clients.
const SENTENCES: [&str; 5] = ["message", "problem", "remedy", "fix", "kill"];

/// Minimum level of log lines; the values of `--log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Failures that stop the exporter or put its counters at risk.
    Error,
    /// Problems that need attention.
    Warn,
    /// Normal operation: start, reload, recovered targets.
    Info,
    /// Reconnects and retries.
    Debug,
    /// Everything.
    Trace,
}

/// Format of log lines; the values of `--log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// `key=value` pairs.
    Logfmt,
    /// One JSON object per line.
    Json,
}

/// Installs the subscriber. Libraries log only at `warn` and above.
///
/// # Errors
/// A subscriber is already installed.
pub(crate) fn start(level: LogLevel, format: LogFormat) -> Result<(), TryInitError> {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let layer = tracing_subscriber::fmt::layer().event_format(Formatter(format)).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()
}

/// Formats events as logfmt or JSON.
struct Formatter(LogFormat);

impl<S, N> FormatEvent<S, N> for Formatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        writeln!(writer, "{}", line(self.0, &time, *event.metadata().level(), |line| event.record(line)))
    }
}

/// Formats the line of an event, with the fields that `record` adds.
fn line(format: LogFormat, time: &str, level: Level, record: impl FnOnce(&mut Line)) -> String {
    let mut line = Line { format, text: String::new() };
    match format {
        LogFormat::Logfmt => {
            line.add_text("ts", time);
            line.add_text("level", &level.as_str().to_ascii_lowercase());
        }
        LogFormat::Json => {
            line.add_text("timestamp", time);
            line.add_text("level", level.as_str());
        }
    }
    record(&mut line);
    if matches!(format, LogFormat::Json) {
        line.text.push('}');
    }
    line.text
}

/// Log line under construction.
struct Line {
    format: LogFormat,
    text: String,
}

impl Line {
    fn add_name(&mut self, name: &str) {
        match self.format {
            LogFormat::Logfmt => {
                let space = if self.text.is_empty() { "" } else { " " };
                self.text.extend([space, name, "="]);
            }
            LogFormat::Json => {
                let before = if self.text.is_empty() { "{" } else { "," };
                self.text.extend([before, "\"", name, "\":"]);
            }
        }
    }

    /// Adds a number or a boolean.
    fn add_plain(&mut self, name: &str, value: impl fmt::Display) {
        self.add_name(name);
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
    }

    fn add_text(&mut self, name: &str, value: &str) {
        self.add_name(name);
        let needs_quotes = |c: char| c <= ' ' || matches!(c, '=' | '"') || is_hidden(c);
        if matches!(self.format, LogFormat::Logfmt) && !value.contains(needs_quotes) {
            self.text.push_str(value);
            return;
        }
        self.text.push('"');
        for c in value.chars() {
            match (c, self.format) {
                ('"' | '\\', _) => self.text.extend(['\\', c]),
                ('\n' | '\r' | '\t', _) => self.text.extend(c.escape_default()),
                (c, LogFormat::Logfmt) if is_hidden(c) => self.text.extend(c.escape_unicode()),
                (c, LogFormat::Json) if is_hidden(c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.text, "\\u{unit:04x}");
                    }
                }
                (c, _) => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

impl Visit for Line {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add_plain(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add_plain(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add_plain(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let is_sentence = SENTENCES.contains(&field.name());
        let mut text = Bounded::new(if is_sentence { MAX_SENTENCE } else { MAX_FIELD });
        // Fails after the text has been truncated.
        let _ = write!(text, "{value:?}");
        self.add_text(field.name(), &text.finish());
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{info, warn};

    use super::*;

    /// Collects lines.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the lines that `log` writes.
    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Formatter(format))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = std::mem::take(&mut *sink.0.lock());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_have_their_fields_in_order() {
        let log = || {
            warn!(
                target = "a:1",
                count = 3_u64,
                healthy = true,
                file = "a b=\"c\"",
                none = None::<&str>,
                "a message"
            );
        };
        let text = logged(LogFormat::Logfmt, log);
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.starts_with("ts=20") && time.ends_with('Z'), "{text}");
        assert_eq!(
            rest,
            "level=warn message=\"a message\" target=a:1 count=3 healthy=true file=\"a b=\\\"c\\\"\"\n"
        );
        let text = logged(LogFormat::Json, log);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(json["timestamp"].is_string(), "{text}");
        assert_eq!(json["level"], "WARN");
        assert_eq!(json["message"], "a message");
        assert_eq!(
            (&json["target"], &json["count"], &json["healthy"]),
            (&"a:1".into(), &3.into(), &true.into())
        );
        assert_eq!(json["file"], "a b=\"c\"");
        assert!(json.get("none").is_none(), "{text}");
    }

    #[test]
    fn every_field_is_bounded() {
        for c in ["x", "é", "\0", "\u{e0041}", "\"", "\n", " "] {
            let long = c.repeat(5 << 20);
            let write = || info!(client = long, error = %long, other = ?long, problem = long, "{long}");
            for format in [LogFormat::Logfmt, LogFormat::Json] {
                let text = logged(format, write);
                assert!(text.len() < 3 * (MAX_FIELD + 20) + 2 * (MAX_SENTENCE + 20) + 100, "{c:?}: {text}");
                assert_eq!(text.matches('…').count(), 5, "{c:?}: {text}");
                assert_eq!(text.lines().count(), 1, "{c:?}: {text}");
                if matches!(format, LogFormat::Json) {
                    serde_json::from_str::<serde_json::Value>(&text).unwrap();
                }
            }
        }
    }

    #[test]
    fn command_lines_and_advice_are_not_cut() {
        let line = format!("redis-cli --tls --cacert {} SCRIPT KILL", "/a".repeat(300));
        for field in ["kill", "fix", "remedy"] {
            let text = logged(LogFormat::Json, || match field {
                "kill" => info!(kill = line, "a message"),
                "fix" => info!(fix = line, "a message"),
                _ => info!(remedy = line, "a message"),
            });
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json[field], line.as_str());
        }
    }

    #[test]
    fn invisible_characters_are_escaped() {
        let hostile = "\u{1b}[31m\u{9b}\u{202e}\u{200b}\u{e0041}\r\n\\";
        let log = || info!(client = hostile, error = %hostile, problem = ?hostile, "said {hostile}");
        let text = logged(LogFormat::Logfmt, log);
        let shown = r#"client="\u{1b}[31m\u{9b}\u{202e}\u{200b}\u{e0041}\r\n\\""#;
        assert!(text.contains(shown), "{text}");
        for format in [LogFormat::Logfmt, LogFormat::Json] {
            let text = logged(format, log);
            assert!(!text.trim_end_matches('\n').contains(is_hidden), "{text:?}");
        }
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, log)).unwrap();
        assert_eq!(json["client"], hostile, "nothing is lost in JSON");
    }
}
