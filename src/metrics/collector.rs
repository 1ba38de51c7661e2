//! The targets' numbers as metric families.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::families::{FAMILIES, Family, Kind};
use crate::convert::float;
use crate::fleet::{Fleet, TargetHandle};
use crate::script::Catalogue;
use crate::watch;

/// Collects the families of all targets that exist now.
pub(super) struct Targets {
    fleet: Arc<Fleet>,
    families: Vec<&'static Family>,
    descriptions: Vec<Desc>,
}

impl Targets {
    /// The families that change with the time alone (`live`), or the others.
    ///
    /// # Errors
    /// A family whose name or labels are not allowed.
    pub(super) fn new(fleet: Arc<Fleet>, live: bool) -> Result<Self, prometheus::Error> {
        let families: Vec<&'static Family> = FAMILIES.iter().filter(|family| family.live == live).collect();
        let descriptions = families.iter().map(|family| description(family)).collect::<Result<_, _>>()?;
        Ok(Self { fleet, families, descriptions })
    }
}

fn description(family: &Family) -> Result<Desc, prometheus::Error> {
    let labels = std::iter::once("target").chain(family.labels.iter().copied()).map(str::to_owned).collect();
    Desc::new(family.name.to_owned(), family.help.to_owned(), labels, std::collections::HashMap::new())
}

impl Collector for Targets {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let targets = self.fleet.targets();
        // What a probe started is shown to probes.
        let targets = targets.iter().filter(|watched| !watched.is_probed());
        collect(&self.families, targets, &self.fleet.catalogue())
    }
}

/// All families of one target, those without a sample left out, in the order of their names.
pub(super) fn of_one(watched: &Arc<TargetHandle>, names: &Catalogue) -> Vec<MetricFamily> {
    let families: Vec<&'static Family> = FAMILIES.iter().collect();
    let mut families = collect(&families, std::iter::once(watched), names);
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|one, other| one.name().cmp(other.name()));
    families
}

fn collect<'a>(
    families: &[&'static Family],
    targets: impl Iterator<Item = &'a Arc<TargetHandle>>,
    names: &Catalogue,
) -> Vec<MetricFamily> {
    let mut samples: Vec<Vec<Metric>> = families.iter().map(|_| Vec::new()).collect();
    for watched in targets {
        let now = watched.now();
        let target = watched.numbers();
        for (family, metrics) in families.iter().zip(&mut samples) {
            let mut samples = Samples { family, target: target.name(), names, metrics };
            (family.samples)(&target, now, &mut samples);
        }
    }
    families.iter().zip(samples).map(|(family, metrics)| metric_family(family, metrics)).collect()
}

fn metric_family(family: &Family, metrics: Vec<Metric>) -> MetricFamily {
    let mut result = MetricFamily::default();
    result.set_name(family.name.to_owned());
    result.set_help(family.help.to_owned());
    result.set_field_type(match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    result.set_metric(metrics);
    result
}

/// Takes the samples of one family for one target.
pub(super) struct Samples<'a> {
    family: &'static Family,
    target: &'a str,
    names: &'a Catalogue,
    metrics: &'a mut Vec<Metric>,
}

impl<'a> Samples<'a> {
    /// The names of scripts.
    pub(super) fn names(&self) -> &'a Catalogue {
        self.names
    }

    /// A sample with these values of the family's labels.
    pub(super) fn value(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.metric(labels);
        if self.family.kind == Kind::Counter {
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

    /// A count.
    pub(super) fn count(&mut self, labels: &[&str], count: u64) {
        self.value(labels, float(count));
    }

    /// A count, if it is known.
    pub(super) fn known(&mut self, labels: &[&str], count: Option<u64>) {
        if let Some(count) = count {
            self.count(labels, count);
        }
    }

    /// 1 or 0.
    pub(super) fn flag(&mut self, labels: &[&str], flag: bool) {
        self.count(labels, u64::from(flag));
    }

    /// A histogram.
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
        debug_assert_eq!(values.len(), self.family.labels.len(), "{}", self.family.name);
        let names = std::iter::once("target").chain(self.family.labels.iter().copied());
        let values = std::iter::once(self.target).chain(values.iter().copied());
        let pairs = names.zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }
}
