//! OpenMetrics 1.0. The `prometheus` crate does not write it, and `prometheus-client` writes no created timestamps.

use std::fmt::Write as _;
use std::time::Duration;

use prometheus::proto::Metric;

use super::Head;
use crate::metrics::samples::{Extra, Kind, Sample};
use crate::watch::Exemplar;

/// Maximum number of characters in the labels of an exemplar, names included.
const MAX_EXEMPLAR_CHARS: usize = 128;

/// Appends the lines of the samples.
pub(super) fn encode(head: Head<'_>, samples: &[Sample], body: &mut Vec<u8>) {
    let mut lines = String::new();
    for Sample { metric, extra } in samples {
        // Writing to a String can't fail.
        let _ = write_sample(&mut lines, head, metric, extra.as_deref());
    }
    body.extend_from_slice(lines.as_bytes());
}

/// Appends the family: its head, then the lines of its samples.
pub(super) fn finish_family(head: Head<'_>, body: &[u8], out: &mut Vec<u8>) {
    let (name, kind, help) = (family_name(head), head.kind.as_str(), escaped(head.help));
    let unit = head.unit().map(|unit| format!("# UNIT {name} {unit}\n")).unwrap_or_default();
    out.extend_from_slice(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{unit}").as_bytes());
    out.extend_from_slice(body);
}

/// Returns the name of the family: that of a counter has no `_total`.
fn family_name(head: Head<'_>) -> &str {
    match head.kind {
        Kind::Counter => head.name.strip_suffix("_total").unwrap_or(head.name),
        Kind::Gauge | Kind::Histogram => head.name,
    }
}

fn write_sample(
    lines: &mut String,
    head: Head<'_>,
    metric: &Metric,
    extra: Option<&Extra>,
) -> std::fmt::Result {
    let labels: Vec<(&str, &str)> =
        metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
    let name = family_name(head);
    match head.kind {
        Kind::Gauge => line(lines, name, "", &labels, metric.get_gauge().get_value())?,
        Kind::Counter => line(lines, name, "_total", &labels, metric.get_counter().get_value())?,
        Kind::Histogram => {
            let histogram = metric.get_histogram();
            let bounded =
                histogram.get_bucket().iter().map(|one| (one.upper_bound(), one.cumulative_count()));
            let all = (f64::INFINITY, histogram.get_sample_count());
            for (index, (bound, count)) in bounded.chain([all]).enumerate() {
                let bound = number(bound);
                let labels = [&labels[..], &[("le", &*bound)]].concat();
                write_series(lines, name, "_bucket", &labels)?;
                write!(lines, "{count}")?;
                if let Some(exemplar) = extra.and_then(|extra| extra.exemplars.get(&index)) {
                    write_exemplar(lines, exemplar)?;
                }
                lines.push('\n');
            }
            write_series(lines, name, "_count", &labels)?;
            writeln!(lines, "{}", histogram.get_sample_count())?;
            line(lines, name, "_sum", &labels, histogram.get_sample_sum())?;
        }
    }
    if let Some(created) = extra.and_then(|extra| extra.created)
        && head.kind != Kind::Gauge
    {
        write_series(lines, name, "_created", &labels)?;
        writeln!(lines, "{}", seconds(created))?;
    }
    Ok(())
}

fn line(
    lines: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&str, &str)],
    value: f64,
) -> std::fmt::Result {
    write_series(lines, name, suffix, labels)?;
    writeln!(lines, "{}", number(value))
}

fn write_series(lines: &mut String, name: &str, suffix: &str, labels: &[(&str, &str)]) -> std::fmt::Result {
    lines.push_str(name);
    lines.push_str(suffix);
    if !labels.is_empty() {
        write_labels(lines, labels)?;
    }
    lines.push(' ');
    Ok(())
}

fn write_labels(lines: &mut String, labels: &[(&str, &str)]) -> std::fmt::Result {
    for (index, (name, value)) in labels.iter().enumerate() {
        write!(lines, "{}{name}=\"{}\"", if index == 0 { '{' } else { ',' }, escaped(value))?;
    }
    lines.push('}');
    Ok(())
}

fn write_exemplar(lines: &mut String, exemplar: &Exemplar) -> std::fmt::Result {
    let id = exemplar.id.to_string();
    lines.push_str(" # ");
    let client_name = client_name(exemplar, &id);
    let labels = [("slowlog_id", &*id), ("client_name", &*client_name)];
    write_labels(lines, if client_name.is_empty() { labels.get(..1).unwrap_or_default() } else { &labels })?;
    write!(lines, " {} {}", number(exemplar.call.duration.as_secs_f64()), exemplar.call.ended_at)
}

/// Returns the client's name, cut so that the labels of the exemplar are short enough.
pub(super) fn client_name(exemplar: &Exemplar, id: &str) -> String {
    let rest = MAX_EXEMPLAR_CHARS.saturating_sub("slowlog_idclient_name".len() + id.len());
    exemplar.client_name.chars().take(rest).collect()
}

fn seconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}

/// Formats a value. Whole numbers have a decimal point, which the label `le` needs.
fn number(value: f64) -> String {
    if value.is_infinite() && value > 0.0 { "+Inf".to_owned() } else { format!("{value:?}") }
}

/// Escapes a label value or a help text.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
