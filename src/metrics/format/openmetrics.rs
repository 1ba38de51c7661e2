//! OpenMetrics 1.0. The `prometheus` crate does not support it, and `prometheus-client` does not write created timestamps.

use std::io::Write as _;

use super::lines::{Lines, escape};
use super::{Format, Head};
use crate::metrics::samples::Kind;
use crate::watch::Exemplar;

/// Maximum number of characters in the labels of an exemplar, names included.
const MAX_EXEMPLAR_CHARS: usize = 128;

/// Appends the head of a family.
pub(super) fn write_head(head: Head<'_>, out: &mut Vec<u8>) {
    let (name, kind) = (family_name(head), head.kind.as_str());
    let unit = head.unit().map(|unit| format!("# UNIT {name} {unit}\n")).unwrap_or_default();
    out.extend_from_slice(format!("# HELP {name} ").as_bytes());
    escape(head.help, out);
    out.extend_from_slice(format!("\n# TYPE {name} {kind}\n{unit}").as_bytes());
}

/// Returns the name of the family; for a counter, without `_total`.
pub(super) fn family_name(head: Head<'_>) -> &str {
    match head.kind {
        Kind::Counter => head.name.strip_suffix("_total").unwrap_or(head.name),
        Kind::Gauge | Kind::Histogram => head.name,
    }
}

/// Appends an exemplar to the line of its bucket.
pub(super) fn write_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    let id = exemplar.id.to_string();
    let client_name = client_name(exemplar, &id);
    // Writing to a Vec can't fail.
    let _ = write!(out, " # {{slowlog_id=\"{id}\"");
    if !client_name.is_empty() {
        out.extend_from_slice(b",client_name=\"");
        escape(&client_name, out);
        out.push(b'"');
    }
    out.extend_from_slice(b"} ");
    if let Some(lines) = Lines::new(Format::OpenMetrics) {
        lines.number(out, exemplar.call.duration.as_secs_f64());
    }
    let _ = write!(out, " {}", exemplar.call.ended_at);
}

/// Returns the client's name, truncated so that the labels of the exemplar fit within [`MAX_EXEMPLAR_CHARS`].
pub(super) fn client_name(exemplar: &Exemplar, id: &str) -> String {
    let rest = MAX_EXEMPLAR_CHARS.saturating_sub("slowlog_idclient_name".len() + id.len());
    exemplar.client_name.chars().take(rest).collect()
}
