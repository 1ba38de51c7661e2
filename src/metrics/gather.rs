//! Gathers the samples of families from the fleet and encodes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Error;
use prometheus::proto::{MetricFamily, MetricType};

use super::families::{ExporterSamples, ExporterView, FAMILIES, Family, Source, TargetView};
use super::format::{Format, Head};
use super::process::Process;
use super::samples::{Extra, Kind, Sample, Samples};
use crate::fleet::Fleet;
use crate::fleet::reload::LastReload;
use crate::poll::TargetHandle;
use crate::script::Catalogue;

/// Families without a target that alert rules need. `/probe` has them too, so that the rules work where Prometheus scrapes
/// nothing else.
const IN_PROBES: [&str; 8] = [
    "process_start_time_seconds",
    "redis_script_exporter_alertmanager_up",
    "redis_script_exporter_build_info",
    "redis_script_exporter_config_last_reload_successful",
    "redis_script_exporter_discovery_refused_servers",
    "redis_script_exporter_discovery_up",
    "redis_script_exporter_page_info",
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

    /// Returns all families but the live ones in this format, in the order of their names, in a buffer of this capacity. It
    /// is the end of a response.
    ///
    /// It is encoded target by target: the samples of many targets take several times the memory of their text.
    pub(super) fn cached(
        &self,
        format: Format,
        reload: LastReload,
        capacity: usize,
    ) -> Result<Vec<u8>, Error> {
        let mut sections = BTreeMap::new();
        self.exporter_sections(format, reload, &mut sections)?;
        let mut bodies = vec![Vec::new(); self.cached.len()];
        let names = self.fleet.catalogue();
        for handle in self.targets() {
            encode_target(format, &self.cached, &handle, &names, &mut bodies)?;
        }
        add_sections(format, &self.cached, &bodies, &mut sections);
        drop(bodies);
        let mut response = Vec::with_capacity(capacity);
        for section in sections.into_values() {
            response.extend_from_slice(&section);
        }
        response.extend_from_slice(format.end());
        Ok(response)
    }

    /// Adds the families without a target by name.
    fn exporter_sections(
        &self,
        format: Format,
        reload: LastReload,
        sections: &mut Sections,
    ) -> Result<(), Error> {
        let view = ExporterView { fleet: &self.fleet, reload };
        for (family, write) in &self.exporter {
            let mut samples = Samples::new(&family.descriptor, None, format.has_extra());
            write(&view, &mut samples);
            add_section(format, family.descriptor.head(), samples.sorted(), sections)?;
        }
        let process = self.process.families();
        let created = process_start(&process).filter(|_| format.has_extra());
        for mut family in process {
            let kind =
                if family.get_field_type() == MetricType::COUNTER { Kind::Counter } else { Kind::Gauge };
            let samples = family.take_metric().into_iter().map(|metric| {
                let extra =
                    created.map(|created| Box::new(Extra { created: Some(created), ..Extra::default() }));
                Sample { metric, extra }
            });
            let samples = samples.collect();
            add_section(format, Head { name: family.name(), kind, help: family.help() }, samples, sections)?;
        }
        Ok(())
    }

    /// Returns one target, with the families without a target that rules need.
    pub(super) fn probe(
        &self,
        format: Format,
        handle: &Arc<TargetHandle>,
        reload: LastReload,
    ) -> Result<Vec<u8>, Error> {
        let mut sections = BTreeMap::new();
        self.exporter_sections(format, reload, &mut sections)?;
        sections.retain(|name, _| IN_PROBES.contains(&name.as_str()));
        let families: Vec<&'static Family> = FAMILIES.iter().filter(|family| family.is_of_target()).collect();
        let mut bodies = vec![Vec::new(); families.len()];
        encode_target(format, &families, handle, &self.fleet.catalogue(), &mut bodies)?;
        add_sections(format, &families, &bodies, &mut sections);
        let mut response = sections.into_values().collect::<Vec<_>>().concat();
        response.extend_from_slice(format.end());
        Ok(response)
    }

    /// Returns the live families. They are the beginning of a response.
    pub(super) fn live(&self, format: Format) -> Result<Vec<u8>, Error> {
        let mut bodies = vec![Vec::new(); self.live.len()];
        let names = self.fleet.catalogue();
        for handle in self.targets() {
            encode_target(format, &self.live, &handle, &names, &mut bodies)?;
        }
        let mut sections = BTreeMap::new();
        add_sections(format, &self.live, &bodies, &mut sections);
        Ok(sections.into_values().collect::<Vec<_>>().concat())
    }

    /// Returns the targets of `/metrics`, by name. Those of probes are shown by `/probe` only.
    fn targets(&self) -> Vec<Arc<TargetHandle>> {
        let mut targets = self.fleet.targets().to_vec();
        targets.retain(|handle| !handle.is_probed());
        targets.sort_by(|one, other| one.config().name.cmp(&other.config().name));
        targets
    }
}

/// Returns the start of the process, as time since the Unix epoch.
fn process_start(families: &[MetricFamily]) -> Option<Duration> {
    let family = families.iter().find(|family| family.name() == "process_start_time_seconds")?;
    let started = family.get_metric().first()?.get_gauge().get_value();
    Duration::try_from_secs_f64(started).ok()
}

/// Encoded families by name.
type Sections = BTreeMap<String, Vec<u8>>;

/// Adds a family, unless it has no samples.
fn add_section(
    format: Format,
    head: Head<'_>,
    samples: Vec<Sample>,
    sections: &mut Sections,
) -> Result<(), Error> {
    let mut body = Vec::new();
    if !samples.is_empty() {
        format.encode(head, samples, &mut body)?;
        format.finish_family(head, &body, sections.entry(head.name.to_owned()).or_default());
    }
    Ok(())
}

/// Adds families with their encoded samples, except for those without.
fn add_sections(format: Format, families: &[&'static Family], bodies: &[Vec<u8>], sections: &mut Sections) {
    for (family, body) in families.iter().zip(bodies).filter(|(_, body)| !body.is_empty()) {
        let head = family.descriptor.head();
        let section = sections.entry(head.name.to_owned()).or_default();
        section.reserve_exact(body.len() + 2 * head.help.len() + 200);
        format.finish_family(head, body, section);
    }
}

/// Appends the samples of a target to those of each family.
fn encode_target(
    format: Format,
    families: &[&'static Family],
    handle: &TargetHandle,
    names: &Catalogue,
    bodies: &mut [Vec<u8>],
) -> Result<(), Error> {
    // The samples are encoded without the lock: polls have to wait for it.
    let samples = {
        let now = handle.now();
        let target = handle.numbers();
        let view = TargetView { target: &target, config: handle.config(), now, names };
        let samples = families.iter().map(|family| {
            let mut samples = Samples::new(&family.descriptor, Some(target.name()), format.has_extra());
            if let Source::Target(write) | Source::LiveTarget(write) = family.source {
                write(&view, &mut samples);
            }
            samples.sorted()
        });
        samples.collect::<Vec<_>>()
    };
    for ((family, samples), body) in families.iter().zip(samples).zip(bodies) {
        format.encode(family.descriptor.head(), samples, body)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;
    use prometheus::proto::MetricFamily;

    use super::*;
    use crate::cli::Cli;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::parse::{Info, Settings};
    use crate::watch::Observation;

    /// Labels in every order, families that only some targets have.
    fn fleet() -> Arc<Fleet> {
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
        fleet
    }

    const RELOAD: LastReload = LastReload { succeeded: true, succeeded_at: 1 };

    #[test]
    fn the_text_made_target_by_target_is_what_the_encoder_makes_of_all() {
        let fleet = fleet();
        let gatherer = Gatherer::new(Arc::clone(&fleet));
        let text = String::from_utf8(gatherer.cached(Format::Text, RELOAD, 0).unwrap()).unwrap();
        let mut expected = String::new();
        let mut families: Vec<_> = gatherer.cached.clone();
        families.sort_by_key(|family| family.descriptor.name);
        for family in families {
            let mut all = Vec::new();
            for handle in gatherer.targets() {
                let (now, target, names) = (handle.now(), handle.numbers(), Catalogue::default());
                let view = TargetView { target: &target, config: handle.config(), now, names: &names };
                let mut samples = Samples::new(&family.descriptor, Some(target.name()), false);
                if let Source::Target(write) = family.source {
                    write(&view, &mut samples);
                }
                all.extend(samples.sorted().into_iter().map(|sample| sample.metric));
            }
            let mut proto = MetricFamily::default();
            proto.set_name(family.descriptor.name.to_owned());
            proto.set_help(family.descriptor.help.to_owned());
            proto.set_field_type(match family.descriptor.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            if !all.is_empty() {
                proto.set_metric(all);
                expected += &TextEncoder::new().encode_to_string(&[proto]).unwrap();
            }
        }
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
        assert_eq!(of_targets(&text), expected);
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        assert!(names.is_sorted(), "{text}");
    }
}
