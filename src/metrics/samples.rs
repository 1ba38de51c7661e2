//! The description of a metric family, and the samples of one.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric};

use super::format::Head;
use crate::convert::float;
use crate::watch::{self, Exemplar};

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
    /// Meaning and source of the numbers.
    pub(super) help: &'static str,
}

impl Descriptor {
    /// Returns name, type and help.
    pub(super) const fn head(&self) -> Head<'static> {
        Head { name: self.name, kind: self.kind, help: self.help }
    }
}

/// A sample, and what only some formats have.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) metric: Metric,
    /// `None` in formats that have none of it.
    pub(super) extra: Option<Box<Extra>>,
}

/// Parts of a sample that the text format 0.0.4 does not have.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// Start of a counter or histogram at 0, as time since the Unix epoch; `None` if it is unknown.
    pub(super) created: Option<Duration>,
    /// Exemplars by the index of their bucket.
    pub(super) exemplars: BTreeMap<usize, Exemplar>,
    /// Index and count of the exponential buckets, and the number of zeros.
    pub(super) exponential: Option<(Vec<(i32, u64)>, u64)>,
}

/// Receives the samples of one family: all of the exporter, or those of one target.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    descriptor: &'a Descriptor,
    /// Value of the label `target`; `None` for families of the exporter itself.
    target: Option<&'a str>,
    collected: Vec<Sample>,
    /// True if the samples have [`Extra`].
    with_extra: bool,
    /// Start of the counters that follow.
    created: Option<Duration>,
}

impl<'a> Samples<'a> {
    /// Creates an empty list. Samples have the label `target` if that is given.
    pub(super) fn new(descriptor: &'a Descriptor, target: Option<&'a str>, with_extra: bool) -> Self {
        Self { descriptor, target, collected: Vec::new(), with_extra, created: None }
    }

    /// Returns the samples in the order of their label values.
    pub(super) fn sorted(mut self) -> Vec<Sample> {
        self.collected.sort_by(|one, other| label_values(&one.metric).cmp(label_values(&other.metric)));
        self.collected
    }

    /// Sets the time since the Unix epoch at which the samples that follow began at 0.
    pub(super) fn since(&mut self, created: Duration) -> &mut Self {
        self.created = Some(created);
        self
    }

    /// Adds a sample with these label values.
    pub(super) fn value(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.metric(labels);
        if self.descriptor.kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.push(metric, Extra::default());
    }

    fn push(&mut self, metric: Metric, extra: Extra) {
        let extra = self.with_extra.then(|| Box::new(Extra { created: self.created, ..extra }));
        self.collected.push(Sample { metric, extra });
    }

    /// Adds a whole number.
    pub(super) fn count(&mut self, labels: &[&str], count: u64) {
        self.value(labels, float(count));
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
        self.histogram_with(labels, histogram, &BTreeMap::new());
    }

    /// Adds a histogram with the exemplars of its buckets.
    pub(super) fn histogram_with(
        &mut self,
        labels: &[&str],
        histogram: &watch::Histogram,
        exemplars: &BTreeMap<usize, Exemplar>,
    ) {
        let buckets = histogram.cumulative().map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut sample = Histogram::default();
        sample.set_bucket(buckets.collect());
        sample.set_sample_count(histogram.count());
        sample.set_sample_sum(histogram.sum());
        let mut metric = self.metric(labels);
        metric.set_histogram(sample);
        let mut extra = Extra::default();
        if self.with_extra {
            let (buckets, zeros) = histogram.exponential();
            extra.exponential = Some((buckets.collect(), zeros));
            extra.exemplars.clone_from(exemplars);
        }
        self.push(metric, extra);
    }

    fn metric(&self, values: &[&str]) -> Metric {
        let Descriptor { name, labels, .. } = *self.descriptor;
        debug_assert_eq!(values.len(), labels.len(), "{name}");
        let target = self.target.map(|target| ("target", target));
        let labels = labels.iter().copied().zip(values.iter().copied());
        let pairs = target.into_iter().chain(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }
}

fn label_values(metric: &Metric) -> impl Iterator<Item = &str> {
    metric.get_label().iter().map(LabelPair::value)
}
