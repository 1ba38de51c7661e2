//! The description of a metric family, and the samples of one.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::convert::float;
use crate::watch;

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
    /// Returns the family with these samples, in the order of their label values.
    pub(super) fn family(&self, mut samples: Vec<Metric>) -> MetricFamily {
        samples.sort_by(|one, other| label_values(one).cmp(label_values(other)));
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(samples);
        family
    }
}

/// Receives the samples of one family: all of the exporter, or those of one target.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    pub(super) descriptor: &'a Descriptor,
    /// Value of the label `target`; `None` for families of the exporter itself.
    pub(super) target: Option<&'a str>,
    pub(super) metrics: &'a mut Vec<Metric>,
}

impl Samples<'_> {
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
        self.metrics.push(metric);
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

    /// Adds a histogram.
    pub(super) fn histogram(&mut self, labels: &[&str], histogram: &watch::Histogram) {
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
        self.metrics.push(metric);
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
