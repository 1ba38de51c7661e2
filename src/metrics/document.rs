//! The documentation of the metrics, made from the rows that define them.

use std::fmt::Write as _;

use super::discovery::{DISCOVERY, LABEL};
use super::families::{FAMILIES, Kind};
use super::page::{BUILD_INFO, STATE_FILE};
use super::reload::CONFIG;

/// The text of `docs/METRICS.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         <!-- Made by `cargo run --example metrics-doc > docs/METRICS.md`; a test fails when it is stale. -->\n\n\
         Every series of a server has the label `target` (its name in `--config.file`, else `host:port`, or the path of a \
         unix socket). Base units. \
         Series whose labels are known beforehand exist from the start, at 0; what only the server can tell appears \
         with its first answer, and is absent where the server does not tell it.\n\n\
         `command` is one of `eval`, `evalsha`, `eval_ro`, `evalsha_ro`, `fcall`, `fcall_ro`. `script` is the first \
         12 hex digits of the script's SHA1; the function's name; `~` and 12 digits of a hash over the first 128 \
         bytes and the length, for an EVAL whose body was cut by the slow log; or `other`, past \
         `--script.max-series`.\n\n\
         | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for family in FAMILIES {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> =
            std::iter::once(&"target").chain(family.labels).map(|label| format!("`{label}`")).collect();
        // Writing to a String can't fail.
        let _ = writeln!(text, "| `{}` | {kind} | {} | {} |", family.name, labels.join(", "), family.help);
    }
    let (name, help) = BUILD_INFO;
    let _ = writeln!(text, "| `{name}` | gauge | `version`, `revision` | {help} |");
    for (name, help) in CONFIG {
        let _ = writeln!(text, "| `{name}` | gauge | | {help} |");
    }
    for (name, help) in DISCOVERY {
        let _ = writeln!(text, "| `{name}` | gauge | `{LABEL}` | {help} |");
    }
    for (name, help) in STATE_FILE {
        let _ = writeln!(text, "| `{name}` | counter | | {help} |");
    }
    text.push_str("| `process_*` | | | The usual numbers of the exporter's own process (Linux). |\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == document(),
            "docs/METRICS.md is stale: cargo run --example metrics-doc > docs/METRICS.md"
        );
    }
}
