//! The text of families: gathers samples from the fleet and encodes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::TextEncoder;
use prometheus::proto::{Metric, MetricFamily};

use super::families::{ExporterSamples, ExporterView, FAMILIES, Family, Source, TargetView};
use super::process::Process;
use super::samples::Samples;
use crate::fleet::Fleet;
use crate::fleet::reload::LastReload;
use crate::poll::TargetHandle;
use crate::script::Catalogue;

/// Families without a target that alert rules need. `/probe` has them too, so that the rules work where Prometheus scrapes
/// nothing else.
const IN_PROBES: [&str; 6] = [
    "process_start_time_seconds",
    "redis_script_exporter_build_info",
    "redis_script_exporter_config_last_reload_successful",
    "redis_script_exporter_discovery_refused_servers",
    "redis_script_exporter_discovery_up",
    "redis_script_exporter_state_write_failures_total",
];

/// Gathers the families of all targets and of the exporter itself.
#[derive(Debug)]
pub(super) struct Gatherer {
    fleet: Arc<Fleet>,
    /// Families of a target whose values change only with an event.
    cached: Vec<&'static Family>,
    /// Families of a target whose values change with time alone.
    live: Vec<&'static Family>,
    exporter: Vec<(&'static Family, ExporterSamples)>,
    process: Process,
}

impl Gatherer {
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        let (mut cached, mut live, mut exporter) = (Vec::new(), Vec::new(), Vec::new());
        for family in FAMILIES {
            match family.source {
                Source::Target(_) => cached.push(family),
                Source::LiveTarget(_) => live.push(family),
                Source::Exporter(write) => exporter.push((family, write)),
                Source::Process => {}
            }
        }
        Self { fleet, cached, live, exporter, process: Process::new() }
    }

    /// Returns the text of all families but the live ones, in the order of their names, in a string of this capacity.
    ///
    /// It is encoded target by target: the samples of many targets take several times the memory of their text.
    pub(super) fn cached_text(
        &self,
        reload: LastReload,
        capacity: usize,
    ) -> Result<String, prometheus::Error> {
        let mut sections = self.exporter_texts(reload)?;
        let mut texts = vec![String::new(); self.cached.len()];
        let names = self.fleet.catalogue();
        let mut buffer = String::new();
        for handle in self.targets() {
            let families = collect(&self.cached, std::iter::once(&handle), &names);
            for (text, family) in texts.iter_mut().zip(families) {
                if family.get_metric().is_empty() {
                    continue;
                }
                buffer.clear();
                TextEncoder::new().encode_utf8(&[family], &mut buffer)?;
                text.push_str(if text.is_empty() { &buffer } else { without_head(&buffer) });
            }
        }
        for (family, text) in self.cached.iter().zip(texts) {
            sections.insert(family.descriptor.name.to_owned(), text);
        }
        let mut text = String::with_capacity(capacity);
        for section in sections.into_values() {
            text.push_str(&section);
        }
        Ok(text)
    }

    /// Returns the texts of the families without a target, by name.
    fn exporter_texts(&self, reload: LastReload) -> Result<BTreeMap<String, String>, prometheus::Error> {
        let families = self.exporter_families(reload).into_iter().map(|family| {
            let name = family.name().to_owned();
            Ok((name, TextEncoder::new().encode_to_string(&[family])?))
        });
        families.collect()
    }

    /// Returns the families without a target.
    fn exporter_families(&self, reload: LastReload) -> Vec<MetricFamily> {
        let view = ExporterView { fleet: &self.fleet, reload };
        let mut families = self.process.families();
        for (family, write) in &self.exporter {
            let mut metrics = Vec::new();
            let mut samples = Samples { descriptor: &family.descriptor, target: None, metrics: &mut metrics };
            write(&view, &mut samples);
            families.push(family.descriptor.family(metrics));
        }
        families.retain(|family| !family.get_metric().is_empty());
        families
    }

    /// Returns the text of one target, with the families without a target that rules need.
    pub(super) fn probe_text(
        &self,
        handle: &Arc<TargetHandle>,
        reload: LastReload,
    ) -> Result<String, prometheus::Error> {
        let of_target: Vec<&'static Family> =
            FAMILIES.iter().filter(|family| family.is_of_target()).collect();
        let mut families = collect(&of_target, std::iter::once(handle), &self.fleet.catalogue());
        families.retain(|family| !family.get_metric().is_empty());
        let of_exporter = self.exporter_families(reload).into_iter();
        families.extend(of_exporter.filter(|family| IN_PROBES.contains(&family.name())));
        families.sort_by(|one, other| one.name().cmp(other.name()));
        TextEncoder::new().encode_to_string(&families)
    }

    /// Returns the text of the live families.
    pub(super) fn live_text(&self) -> Result<String, prometheus::Error> {
        let targets = self.targets();
        let mut families = collect(&self.live, targets.iter(), &self.fleet.catalogue());
        families.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&families)
    }

    /// Returns the targets of `/metrics`, by name. Those of probes are shown by `/probe` only.
    fn targets(&self) -> Vec<Arc<TargetHandle>> {
        let mut targets = self.fleet.targets().to_vec();
        targets.retain(|handle| !handle.is_probed());
        targets.sort_by(|one, other| one.config().name.cmp(&other.config().name));
        targets
    }
}

/// Returns these families with their samples of these targets, in the given order.
fn collect<'a>(
    families: &[&'static Family],
    targets: impl Iterator<Item = &'a Arc<TargetHandle>>,
    names: &Catalogue,
) -> Vec<MetricFamily> {
    let mut all: Vec<Vec<Metric>> = families.iter().map(|_| Vec::new()).collect();
    for handle in targets {
        let now = handle.now();
        let target = handle.numbers();
        let view = TargetView { target: &target, address: &handle.config().address, now, names };
        for (family, metrics) in families.iter().zip(&mut all) {
            if let Source::Target(write) | Source::LiveTarget(write) = family.source {
                let target = Some(target.name());
                write(&view, &mut Samples { descriptor: &family.descriptor, target, metrics });
            }
        }
    }
    families.iter().zip(all).map(|(family, metrics)| family.descriptor.family(metrics)).collect()
}

/// Returns a family's text without the lines of its help and type.
fn without_head(text: &str) -> &str {
    let after_line = |text| str::split_once(text, '\n').map_or("", |(_, rest)| rest);
    after_line(after_line(text))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prometheus::Registry;
    use prometheus::core::{Collector, Desc};

    use super::*;
    use crate::cli::Cli;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::parse::{Info, Settings};
    use crate::watch::Observation;

    /// Collects all families at once, for a registry.
    struct All(Gatherer, Vec<Desc>);

    impl Collector for All {
        fn desc(&self) -> Vec<&Desc> {
            self.1.iter().collect()
        }

        fn collect(&self) -> Vec<MetricFamily> {
            collect(&self.0.cached, self.0.targets().iter(), &self.0.fleet.catalogue())
        }
    }

    /// Labels in every order, families that only some targets have.
    #[test]
    fn the_text_made_target_by_target_is_what_a_registry_makes() {
        let words = ["redis-script-exporter", "--redis.addr=b:1", "--redis.addr=a:10", "--redis.addr=a:9"];
        let cli = Cli::parse_words(words, |_| None).unwrap();
        let fleet = Fleet::new(Config::from_cli(&cli).unwrap().targets, None, Clock::start()).unwrap();
        let fleet = Arc::new(fleet);
        let info = "# Server\r\nredis_version:7.0.15\r\n# Commandstats\r\n# Errorstats\r\n";
        for handle in fleet.targets().iter().skip(1) {
            handle.observe(Observation::Info(Box::new(Info::parse(info.as_bytes()))));
        }
        let settings = Settings { slowlog_max_len: Some(128), ..Settings::default() };
        fleet.targets()[0].observe(Observation::Settings(settings));

        let registry = Registry::new();
        // A registry takes no collector without a description.
        let description = Desc::new("unused".to_owned(), "-".to_owned(), Vec::new(), HashMap::new());
        let all = All(Gatherer::new(Arc::clone(&fleet)), vec![description.unwrap()]);
        registry.register(Box::new(all)).unwrap();
        let expected = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(expected.contains("redis_script_calls_total") && expected.contains("slowlog_max_length"));

        let of_targets = |text: &str| {
            let lines = text.lines().filter(|line| {
                let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
                let name = name.split([' ', '{']).next().unwrap();
                FAMILIES
                    .iter()
                    .any(|family| family.is_of_target() && name.starts_with(family.descriptor.name))
            });
            lines.fold(String::new(), |text, line| text + line + "\n")
        };
        let text =
            Gatherer::new(fleet).cached_text(LastReload { succeeded: true, succeeded_at: 1 }, 0).unwrap();
        assert_eq!(of_targets(&text), expected);
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        assert!(names.is_sorted(), "{text}");
    }
}
