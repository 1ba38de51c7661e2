//! The targets' numbers as metric families.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::TextEncoder;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::families::{FAMILIES, Family, Kind};
use crate::convert::float;
use crate::fleet::Fleet;
use crate::poll::TargetHandle;
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

    /// The text of each family that has samples, by its name, in the order that a registry gives them. It is made target
    /// by target: the samples of many targets take several times the memory of their text.
    pub(super) fn texts(&self) -> Result<BTreeMap<&'static str, String>, prometheus::Error> {
        let mut targets = self.fleet.targets().to_vec();
        targets.retain(|watched| !watched.is_probed());
        targets.sort_by(|one, other| one.config().name.cmp(&other.config().name));
        let names = self.fleet.catalogue();
        let mut texts: BTreeMap<&'static str, String> = BTreeMap::new();
        let mut one = String::new();
        for watched in &targets {
            let collected = collect(&self.families, std::iter::once(watched), &names);
            for (family, mut collected) in self.families.iter().zip(collected) {
                if collected.get_metric().is_empty() {
                    continue;
                }
                collected.mut_metric().sort_by(|one, other| values(one).cmp(values(other)));
                one.clear();
                TextEncoder::new().encode_utf8(&[collected], &mut one)?;
                let text = texts.entry(family.name).or_default();
                text.push_str(if text.is_empty() { &one } else { without_head(&one) });
            }
        }
        Ok(texts)
    }
}

/// The values of a sample's labels.
fn values(metric: &Metric) -> impl Iterator<Item = &str> {
    metric.get_label().iter().map(LabelPair::value)
}

/// A family's text without the lines of its help and type.
fn without_head(text: &str) -> &str {
    let rest = |text| str::split_once(text, '\n').map_or("", |(_, rest)| rest);
    rest(rest(text))
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

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::parse::{Info, Settings};
    use crate::watch::Observation;

    /// Labels in every order, families that only some targets have.
    #[test]
    fn the_text_made_target_by_target_is_what_a_registry_makes() {
        let words = ["redis-script-exporter", "--redis.addr=b:1", "--redis.addr=a:10", "--redis.addr=a:9"];
        let cli = crate::cli::Cli::parse_words(words, |_| None).unwrap();
        let fleet = Fleet::new(Config::from_cli(&cli).unwrap().targets, None, Clock::start()).unwrap();
        let fleet = Arc::new(fleet);
        let info = "# Server\r\nredis_version:7.0.15\r\n# Commandstats\r\n# Errorstats\r\n";
        for watched in fleet.targets().iter().skip(1) {
            watched.observe(Observation::Info(Box::new(Info::parse(info.as_bytes()))));
        }
        let settings = Settings { slowlog_max_len: Some(128), ..Settings::default() };
        fleet.targets()[0].observe(Observation::Settings(settings));
        let registry = Registry::new();
        registry.register(Box::new(Targets::new(Arc::clone(&fleet), false).unwrap())).unwrap();
        let expected = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let texts = Targets::new(fleet, false).unwrap().texts().unwrap();
        assert!(expected.contains("redis_script_calls_total") && expected.contains("slowlog_max_length"));
        assert_eq!(texts.into_values().collect::<String>(), expected);
    }
}
