//! Lines of the text formats, appended to a buffer without other allocations.

use std::io::Write as _;
use std::ops::Range;
use std::time::Duration;

use super::openmetrics::{family_name, write_exemplar};
use super::{Format, Head};
use crate::metrics::samples::Kind;
use crate::watch::{Exemplars, Histogram};

/// Writer of the lines of a text format.
#[derive(Debug, Clone, Copy)]
pub(in crate::metrics) struct Lines {
    is_openmetrics: bool,
}

/// Name, label `target`, other label names and their values.
type Series<'a> = (&'a str, &'a str, &'a [&'a str], &'a [&'a str]);

impl Lines {
    /// Returns the writer of a text format.
    pub(in crate::metrics) fn new(format: Format) -> Option<Self> {
        match format {
            Format::Text => Some(Self { is_openmetrics: false }),
            Format::OpenMetrics => Some(Self { is_openmetrics: true }),
            Format::Protobuf => None,
        }
    }

    /// Returns the name of the family and the suffix of its counters and gauges.
    pub(in crate::metrics) fn names(self, head: Head<'_>) -> (&str, &'static str) {
        match head.kind {
            Kind::Counter if self.is_openmetrics => (family_name(head), "_total"),
            _ => (head.name, ""),
        }
    }

    /// Writes the name and the labels, up to the value. Returns the range of the labels, without braces.
    pub(in crate::metrics) fn series(
        out: &mut Vec<u8>,
        (name, suffix): (&str, &str),
        target: &str,
        (names, values): (&[&str], &[&str]),
    ) -> Range<usize> {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        if target.is_empty() && names.is_empty() {
            out.push(b' ');
            return out.len()..out.len();
        }
        out.push(b'{');
        let begin = out.len();
        out.extend_from_slice(target.as_bytes());
        for (name, value) in names.iter().zip(values) {
            if out.len() > begin {
                out.push(b',');
            }
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"=\"");
            escape(value, out);
            out.push(b'"');
        }
        let labels = begin..out.len();
        out.extend_from_slice(b"} ");
        labels
    }

    /// Writes the name, and the labels copied from an earlier line.
    fn same_series(out: &mut Vec<u8>, (name, suffix): (&str, &str), labels: Range<usize>) {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        if !labels.is_empty() {
            out.push(b'{');
            out.extend_from_within(labels);
            out.push(b'}');
        }
        out.push(b' ');
    }

    /// Writes the creation time of a counter or histogram.
    pub(in crate::metrics) fn created(
        self,
        out: &mut Vec<u8>,
        name: &str,
        labels: Range<usize>,
        created: Option<Duration>,
    ) {
        if let Some(created) = created.filter(|_| self.is_openmetrics) {
            Self::same_series(out, (name, "_created"), labels);
            // Writing to a Vec can't fail.
            let _ = writeln!(out, "{}.{:03}", created.as_secs(), created.subsec_millis());
        }
    }

    /// Writes a histogram. Returns the range of the labels in its first line. `bounds` caches the formatted bucket bounds for the
    /// next histogram.
    pub(in crate::metrics) fn histogram(
        self,
        out: &mut Vec<u8>,
        (name, target, names, values): Series<'_>,
        (histogram, exemplars, created): (&Histogram, &Exemplars, Option<Duration>),
        bounds: &mut Vec<(f64, String)>,
    ) -> Range<usize> {
        let all = (f64::INFINITY, histogram.count());
        let mut first: Option<Range<usize>> = None;
        for (index, (bound, count)) in histogram.cumulative().chain([all]).enumerate() {
            if let Some(labels) = &first {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"_bucket{");
                out.extend_from_within(labels.clone());
            } else {
                let labels = Self::series(out, (name, "_bucket"), target, (names, values));
                if labels.is_empty() {
                    out.pop();
                    out.push(b'{');
                } else {
                    // The label of the bound follows.
                    out.truncate(labels.end);
                }
                first = Some(labels);
            }
            if first.as_ref().is_some_and(|labels| !labels.is_empty()) {
                out.push(b',');
            }
            out.extend_from_slice(b"le=\"");
            self.bound(out, index, bound, bounds);
            out.extend_from_slice(b"\"} ");
            Self::whole(out, count);
            if let Some(exemplar) = exemplars.get(index).filter(|_| self.is_openmetrics) {
                write_exemplar(out, exemplar);
            }
            out.push(b'\n');
        }
        let labels = first.unwrap_or_default();
        if !self.is_openmetrics {
            Self::same_series(out, (name, "_sum"), labels.clone());
            self.number(out, histogram.sum());
            out.push(b'\n');
        }
        Self::same_series(out, (name, "_count"), labels.clone());
        Self::whole(out, histogram.count());
        out.push(b'\n');
        if self.is_openmetrics {
            Self::same_series(out, (name, "_sum"), labels.clone());
            self.number(out, histogram.sum());
            out.push(b'\n');
            self.created(out, name, labels.clone(), created);
        }
        labels
    }

    /// Writes the bound of a bucket.
    fn bound(self, out: &mut Vec<u8>, index: usize, bound: f64, known: &mut Vec<(f64, String)>) {
        if let Some((_, text)) = known.get(index).filter(|(known, _)| known.total_cmp(&bound).is_eq()) {
            out.extend_from_slice(text.as_bytes());
            return;
        }
        let begin = out.len();
        self.number(out, bound);
        let text = String::from_utf8_lossy(out.get(begin..).unwrap_or_default()).into_owned();
        match known.get_mut(index) {
            Some(known) => *known = (bound, text),
            None => known.push((bound, text)),
        }
    }

    /// Writes a whole number as the value of a counter or gauge; with a decimal point in OpenMetrics.
    pub(in crate::metrics) fn count(self, out: &mut Vec<u8>, count: u64) {
        Self::whole(out, count);
        if self.is_openmetrics {
            out.extend_from_slice(b".0");
        }
    }

    fn whole(out: &mut Vec<u8>, count: u64) {
        out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    }

    /// Writes a number. In OpenMetrics, a whole number gets a decimal point, which the label `le` requires.
    pub(in crate::metrics) fn number(self, out: &mut Vec<u8>, value: f64) {
        if value.is_infinite() {
            out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
            return;
        }
        // Writing to a Vec can't fail.
        let _ = if self.is_openmetrics { write!(out, "{value:?}") } else { write!(out, "{value}") };
    }
}

/// Appends a label value or an OpenMetrics help text, escaped.
pub(in crate::metrics) fn escape(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr3(b'\\', b'"', b'\n', rest) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (escaped, after): (&[u8], &[u8]) = match special.split_first() {
            Some((b'\n', after)) => (b"\\n", after),
            Some((b'"', after)) => (b"\\\"", after),
            Some((_, after)) => (b"\\\\", after),
            None => (b"", b""),
        };
        out.extend_from_slice(escaped);
        rest = after;
    }
    out.extend_from_slice(rest);
}
