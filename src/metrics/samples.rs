//! Description and samples of a metric family.
//!
//! In the text formats, samples are written directly as lines, because a scrape of many targets has a million of them.

use std::ops::Range;
use std::time::Duration;

use super::format::{Format, Head, Lines, escape};
use crate::convert::float;
use crate::watch::{self, Exemplars};

/// Type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// Returns the name of the type.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Description of a metric family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Labels besides `target`.
    pub(super) labels: &'static [&'static str],
    /// Help text: meaning and source of the values.
    pub(super) help: &'static str,
}

impl Descriptor {
    /// Returns the name, type and help text.
    pub(super) const fn head(&self) -> Head<'static> {
        Head { name: self.name, kind: self.kind, help: self.help }
    }
}

/// Sample for a format that is not text.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: SampleValue,
    /// Time since the Unix epoch at which a counter or histogram started at 0; `None` if unknown.
    pub(super) created: Option<Duration>,
}

/// Value of a sample.
#[derive(Debug)]
pub(super) enum SampleValue {
    Number(f64),
    /// Histogram, and its exemplars by bucket index.
    Histogram(Box<(watch::Histogram, Exemplars)>),
}

/// Label `target` of the samples of one target.
#[derive(Debug)]
pub(super) struct TargetLabel {
    name: String,
    /// The label as text, escaped.
    text: String,
}

impl TargetLabel {
    pub(super) fn new(name: &str) -> Self {
        let mut text = b"target=\"".to_vec();
        escape(name, &mut text);
        text.push(b'"');
        Self { name: name.to_owned(), text: String::from_utf8(text).unwrap_or_default() }
    }
}

/// Encoded samples of one family.
#[derive(Debug, Default)]
pub(super) struct FamilyBody {
    /// Encoded samples.
    pub(super) text: Vec<u8>,
    /// Samples of the target being encoded, for a format that is not text.
    collected: Vec<Sample>,
    /// Position of the lines of each sample of the target being encoded.
    spans: Vec<Span>,
    /// True if `spans` are not in the order of their labels.
    is_unsorted: bool,
    /// Formatted bound of each bucket. Most histograms of a family have the same bounds.
    bounds: Vec<(f64, String)>,
}

/// Position of the lines of a sample.
#[derive(Debug, Clone)]
struct Span {
    lines: Range<usize>,
    /// Labels of the first line.
    labels: Range<usize>,
}

impl FamilyBody {
    /// Adds a sample whose lines begin at `begin`.
    fn add_span(&mut self, begin: usize, labels: Range<usize>) {
        let labels_of = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        self.is_unsorted |=
            self.spans.last().is_some_and(|before| labels_of(&before.labels) > labels_of(&labels));
        self.spans.push(Span { lines: begin..self.text.len(), labels });
    }

    /// Finishes the samples of a target: sorts them by their labels.
    fn end_target(&mut self, format: Format, head: Head<'_>) {
        if !self.collected.is_empty() {
            self.collected.sort_by(|one, other| one.labels.cmp(&other.labels));
            format.encode(head, &self.collected, &mut self.text);
            self.collected.clear();
        }
        if std::mem::take(&mut self.is_unsorted) {
            let begin = self.spans.first().map_or(0, |first| first.lines.start);
            let lines = self.text.split_off(begin);
            let slice = |range: &Range<usize>| {
                lines
                    .get(range.start.saturating_sub(begin)..range.end.saturating_sub(begin))
                    .unwrap_or_default()
            };
            self.spans.sort_by(|one, other| slice(&one.labels).cmp(slice(&other.labels)));
            for span in &self.spans {
                self.text.extend_from_slice(slice(&span.lines));
            }
        }
        self.spans.clear();
    }
}

/// Writer of samples of one family: those of the exporter itself, or those of one target.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    descriptor: &'a Descriptor,
    format: Format,
    /// `None` for families of the exporter itself.
    target: Option<&'a TargetLabel>,
    body: &'a mut FamilyBody,
    /// Start time of the counters and histograms that follow.
    created: Option<Duration>,
}

impl Drop for Samples<'_> {
    fn drop(&mut self) {
        self.body.end_target(self.format, self.descriptor.head());
    }
}

impl<'a> Samples<'a> {
    /// Creates a writer that adds samples to `body`. The samples have the label `target` if it is given, and are sorted by their
    /// label values.
    pub(super) fn new(
        descriptor: &'a Descriptor,
        format: Format,
        target: Option<&'a TargetLabel>,
        body: &'a mut FamilyBody,
    ) -> Self {
        Self { descriptor, format, target, body, created: None }
    }

    /// Returns the samples added so far, for a format that is not text.
    #[cfg(test)]
    pub(super) fn take(&mut self) -> Vec<Sample> {
        self.body.collected.sort_by(|one, other| one.labels.cmp(&other.labels));
        std::mem::take(&mut self.body.collected)
    }

    /// Sets the time since the Unix epoch at which the samples that follow started at 0.
    pub(super) fn since(&mut self, created: Duration) -> &mut Self {
        self.created = Some(created);
        self
    }

    /// Adds a sample with these label values.
    pub(super) fn value(&mut self, labels: &[&str], value: f64) {
        self.sample(labels, SampleText::Number(value));
    }

    /// Adds a whole number.
    pub(super) fn count(&mut self, labels: &[&str], count: u64) {
        self.sample(labels, SampleText::Count(count));
    }

    fn sample(&mut self, labels: &[&str], value: SampleText) {
        debug_assert_eq!(labels.len(), self.descriptor.labels.len(), "{}", self.descriptor.name);
        let Some(lines) = Lines::new(self.format) else {
            let value = match value {
                SampleText::Number(value) => value,
                SampleText::Count(count) => float(count),
            };
            return self.collect(labels, SampleValue::Number(value));
        };
        let begin = self.body.text.len();
        let (head, out) = (self.descriptor.head(), &mut self.body.text);
        let (name, suffix) = lines.names(head);
        let target = self.target.map_or("", |target| target.text.as_str());
        let range = Lines::series(out, (name, suffix), target, (self.descriptor.labels, labels));
        match value {
            SampleText::Number(value) => lines.number(out, value),
            SampleText::Count(count) => lines.count(out, count),
        }
        out.push(b'\n');
        if head.kind == Kind::Counter {
            lines.created(out, name, range.clone(), self.created);
        }
        self.body.add_span(begin, range);
    }

    fn collect(&mut self, labels: &[&str], value: SampleValue) {
        let target = self.target.map(|target| ("target", target.name.clone()));
        let labels = self.descriptor.labels.iter().copied().zip(labels.iter().map(|&value| value.to_owned()));
        let labels = target.into_iter().chain(labels).collect();
        self.body.collected.push(Sample { labels, value, created: self.created });
    }

    /// Adds a whole number if it is known.
    pub(super) fn known(&mut self, labels: &[&str], count: Option<u64>) {
        if let Some(count) = count {
            self.count(labels, count);
        }
    }

    /// Adds 1 for true, 0 for false.
    pub(super) fn flag(&mut self, labels: &[&str], flag: bool) {
        self.count(labels, u64::from(flag));
    }

    /// Adds the length of a list.
    pub(super) fn length(&mut self, labels: &[&str], length: usize) {
        self.count(labels, u64::try_from(length).unwrap_or(u64::MAX));
    }

    /// Adds a histogram without exemplars.
    pub(super) fn histogram(&mut self, labels: &[&str], histogram: &watch::Histogram) {
        self.histogram_with(labels, histogram, &Exemplars::default());
    }

    /// Adds a histogram with the exemplars of its buckets.
    pub(super) fn histogram_with(
        &mut self,
        labels: &[&str],
        histogram: &watch::Histogram,
        exemplars: &Exemplars,
    ) {
        debug_assert_eq!(labels.len(), self.descriptor.labels.len(), "{}", self.descriptor.name);
        let Some(lines) = Lines::new(self.format) else {
            let value = Box::new((histogram.clone(), exemplars.clone()));
            return self.collect(labels, SampleValue::Histogram(value));
        };
        let FamilyBody { text, bounds, .. } = &mut *self.body;
        let begin = text.len();
        let target = self.target.map_or("", |target| target.text.as_str());
        let range = lines.histogram(
            text,
            (self.descriptor.name, target, self.descriptor.labels, labels),
            (histogram, exemplars, self.created),
            bounds,
        );
        self.body.add_span(begin, range);
    }
}

/// Value of a sample to be written as text.
#[derive(Debug, Clone, Copy)]
enum SampleText {
    Number(f64),
    Count(u64),
}
