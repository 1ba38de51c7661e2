//! Gathers the samples of all families from the fleet, and encodes them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::{MetricFamily, MetricType};

use super::background::Pauses;
use super::families::{ExporterSamples, ExporterView, FAMILIES, Family, Source, TargetView};
use super::format::{Format, Head};
use super::gzip::{CHUNK_BYTES, ChunkedText, Chunker};
use super::process::Process;
use super::samples::{FamilyBody, Samples, TargetLabel};
use crate::fleet::Fleet;
use crate::fleet::reload::LastReload;
use crate::poll::TargetHandle;
use crate::script::Catalogue;

/// Families without a target that alert rules need. `/probe` includes them too, so that the rules work if Prometheus scrapes only
/// `/probe`.
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

/// Gatherer of the families of all targets and of the exporter itself.
#[derive(Debug)]
pub(super) struct Gatherer {
    fleet: Arc<Fleet>,
    /// Families of targets whose values change only with an event.
    cached: Vec<&'static Family>,
    /// Families of targets whose values change with time alone.
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

    /// Returns all families except the live ones, sorted by name, in a buffer with this initial capacity. They are the last part
    /// of a response.
    pub(super) fn cached(&self, format: Format, reload: LastReload, capacity: usize) -> Vec<u8> {
        let mut sections = self.exporter_sections(format, reload, |_| true);
        self.target_sections(format, &self.cached, &mut sections);
        let mut response = Vec::with_capacity(capacity);
        for section in sections.values() {
            section.write(format, &mut response);
        }
        response.extend_from_slice(format.end());
        response
    }

    /// Returns the same as [`Self::cached`] in compressed chunks, because the text of many targets would take a lot of memory.
    ///
    /// # Errors
    /// The text cannot be compressed.
    pub(super) fn cached_chunks(&self, format: Format, reload: LastReload) -> io::Result<ChunkedText> {
        let sections = self.exporter_sections(format, reload, |_| true);
        let mut chunks = self.chunks(format, &self.cached, sections)?;
        Chunker::new().add(format.end(), &mut chunks)?;
        Ok(chunks)
    }

    /// Returns the same as [`Self::live`] in compressed chunks.
    ///
    /// # Errors
    /// The text cannot be compressed.
    pub(super) fn live_chunks(&self, format: Format) -> io::Result<ChunkedText> {
        self.chunks(format, &self.live, BTreeMap::new())
    }

    /// Returns `families` of all targets, merged with `sections`, in compressed chunks.
    fn chunks(
        &self,
        format: Format,
        families: &[&'static Family],
        mut sections: Sections<'static>,
    ) -> io::Result<ChunkedText> {
        let mut chunker = Chunker::new();
        let mut bodies = bodies(families);
        let mut full: Vec<ChunkedText> = families.iter().map(|_| ChunkedText::default()).collect();
        let names = self.fleet.catalogue();
        let mut pauses = Pauses::default();
        for handle in self.targets() {
            pauses.while_late(|| self.fleet.shared().polls_are_late(self.fleet.clock().mono()));
            encode_target(format, families, &handle, &names, &mut bodies);
            for (body, full) in bodies.iter_mut().zip(&mut full) {
                if body.text.len() >= CHUNK_BYTES {
                    chunker.add(&body.text, full)?;
                    body.text.clear();
                }
            }
        }
        for ((family, body), full) in families.iter().zip(bodies).zip(&full) {
            if full.count() > 0 || !body.text.is_empty() {
                let head = family.descriptor.head();
                sections.insert(head.name, Section { head, body: body.text });
            }
        }
        let mut full: BTreeMap<&str, ChunkedText> =
            families.iter().map(|family| family.descriptor.name).zip(full).collect();
        let (mut text, mut chunks) = (Vec::new(), ChunkedText::default());
        for (name, Section { head, body }) in sections {
            let full = full.remove(name).filter(|full| full.count() > 0);
            let length = full.as_ref().map_or(0, |full| full.length(false)).saturating_add(body.len());
            format.write_head(head, length, &mut text);
            if let Some(full) = full {
                chunker.add(&text, &mut chunks)?;
                text.clear();
                chunks.append(full);
            }
            text.extend_from_slice(&body);
            if text.len() >= CHUNK_BYTES {
                chunker.add(&text, &mut chunks)?;
                text.clear();
            }
        }
        chunker.add(&text, &mut chunks)?;
        Ok(chunks)
    }

    /// Returns the families without a target whose names are `wanted`.
    fn exporter_sections(
        &self,
        format: Format,
        reload: LastReload,
        wanted: impl Fn(&str) -> bool,
    ) -> Sections<'static> {
        let view = ExporterView { fleet: &self.fleet, reload };
        let mut sections = Sections::new();
        for (family, write) in self.exporter.iter().filter(|(family, _)| wanted(family.descriptor.name)) {
            let mut body = FamilyBody::default();
            write(&view, &mut Samples::new(&family.descriptor, format, None, &mut body));
            add_section(family, body.text, &mut sections);
        }
        let process =
            if wanted("process_open_fds") { self.process.families() } else { self.process.started() };
        let created = process_start(&process);
        let of_process = FAMILIES.iter().filter(|family| matches!(family.source, Source::Process));
        for family in of_process.filter(|family| wanted(family.descriptor.name)) {
            let Some(collected) = process.iter().find(|collected| collected.name() == family.descriptor.name)
            else {
                continue;
            };
            let mut body = FamilyBody::default();
            let mut samples = Samples::new(&family.descriptor, format, None, &mut body);
            if let Some(created) = created {
                samples.since(created);
            }
            for metric in collected.get_metric() {
                let is_counter = collected.get_field_type() == MetricType::COUNTER;
                let value = if is_counter {
                    metric.get_counter().get_value()
                } else {
                    metric.get_gauge().get_value()
                };
                samples.value(&[], value);
            }
            drop(samples);
            add_section(family, body.text, &mut sections);
        }
        sections
    }

    /// Returns the families of one target, and those without a target that alert rules need. Other targets are not accessed.
    pub(super) fn probe(&self, format: Format, handle: &Arc<TargetHandle>, reload: LastReload) -> Vec<u8> {
        let mut sections = self.exporter_sections(format, reload, |name| IN_PROBES.contains(&name));
        let families: Vec<&'static Family> = FAMILIES.iter().filter(|family| family.is_of_target()).collect();
        let mut bodies = bodies(&families);
        encode_target(format, &families, handle, &self.fleet.catalogue(), &mut bodies);
        add_sections(&families, bodies, &mut sections);
        let mut response = Vec::new();
        for section in sections.values() {
            section.write(format, &mut response);
        }
        response.extend_from_slice(format.end());
        response
    }

    /// Returns the live families. They are the first part of a response.
    pub(super) fn live(&self, format: Format) -> Vec<u8> {
        let mut sections = Sections::new();
        self.target_sections(format, &self.live, &mut sections);
        let mut response = Vec::new();
        for section in sections.values() {
            section.write(format, &mut response);
        }
        response
    }

    /// Adds `families` of all targets to `sections`.
    fn target_sections(
        &self,
        format: Format,
        families: &[&'static Family],
        sections: &mut Sections<'static>,
    ) {
        let mut bodies = bodies(families);
        let names = self.fleet.catalogue();
        for handle in self.targets() {
            encode_target(format, families, &handle, &names, &mut bodies);
        }
        add_sections(families, bodies, sections);
    }

    /// Returns the targets of `/metrics`, sorted by name. Probed targets are exposed only by `/probe`.
    fn targets(&self) -> Vec<Arc<TargetHandle>> {
        let mut targets = self.fleet.targets().to_vec();
        targets.retain(|handle| !handle.is_probed());
        targets.sort_by(|one, other| one.config().name.cmp(&other.config().name));
        targets
    }
}

/// Returns the start time of the process since the Unix epoch.
fn process_start(families: &[MetricFamily]) -> Option<Duration> {
    let family = families.iter().find(|family| family.name() == "process_start_time_seconds")?;
    let started = family.get_metric().first()?.get_gauge().get_value();
    Duration::try_from_secs_f64(started).ok()
}

/// Encoded families by name.
type Sections<'a> = BTreeMap<&'a str, Section<'a>>;

/// Encoded family.
#[derive(Debug)]
struct Section<'a> {
    head: Head<'a>,
    /// Encoded samples.
    body: Vec<u8>,
}

impl Section<'_> {
    fn write(&self, format: Format, out: &mut Vec<u8>) {
        format.write_head(self.head, self.body.len(), out);
        out.extend_from_slice(&self.body);
    }
}

/// Returns an empty body for each family.
fn bodies(families: &[&'static Family]) -> Vec<FamilyBody> {
    families.iter().map(|_| FamilyBody::default()).collect()
}

/// Adds a family, unless it has no samples.
fn add_section(family: &Family, body: Vec<u8>, sections: &mut Sections<'static>) {
    if !body.is_empty() {
        let head = family.descriptor.head();
        sections.insert(head.name, Section { head, body });
    }
}

/// Adds families with their encoded samples, except families without samples.
fn add_sections(families: &[&'static Family], bodies: Vec<FamilyBody>, sections: &mut Sections<'static>) {
    for (family, body) in families.iter().zip(bodies) {
        add_section(family, body.text, sections);
    }
}

/// Appends the samples of a target to the body of each family.
fn encode_target(
    format: Format,
    families: &[&'static Family],
    handle: &TargetHandle,
    names: &Catalogue,
    bodies: &mut [FamilyBody],
) {
    let label = TargetLabel::new(handle.name());
    let now = handle.now();
    // Polls of this target wait for this lock, which is held for a few microseconds.
    let target = handle.numbers();
    let view = TargetView { target: &target, config: handle.config(), now, names };
    for (family, body) in families.iter().zip(bodies) {
        if let Source::Target(write) | Source::LiveTarget(write) = family.source {
            write(&view, &mut Samples::new(&family.descriptor, format, Some(&label), body));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::TextEncoder;
    use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily};

    use super::super::samples::{Kind, Sample, SampleValue};
    use super::*;
    use crate::cli::Cli;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::parse::{Info, Settings};
    use crate::watch::Observation;

    /// Creates a fleet with unsorted targets, and with families that only some targets have.
    fn fleet() -> Arc<Fleet> {
        let words = ["redis-script-exporter", "--redis.addr=b:1", "--redis.addr=a:10", "--redis.addr=a:9"];
        let cli = Cli::parse_words(words, |_| None).unwrap();
        let fleet = Fleet::new(Config::from_cli(&cli).unwrap().targets, None, Clock::start()).unwrap();
        let fleet = Arc::new(fleet);
        let info = "# Server\r\nredis_version:7.0.15\r\n# Commandstats\r\n# Errorstats\r\n";
        for handle in fleet.targets().iter().skip(1) {
            handle.observe(Observation::Info(Box::new(Info::parse(info.as_bytes()))));
        }
        for (seconds, handle) in [0.0, 0.000_1, 0.5].into_iter().cycle().zip(fleet.targets().iter()) {
            let round_trip = Duration::from_secs_f64(seconds);
            handle.observe(Observation::Heartbeat { round_trip });
            handle.observe(Observation::Heartbeat { round_trip: round_trip * 3 });
        }
        let settings = Settings { slowlog_max_len: Some(128), ..Settings::default() };
        fleet.targets()[0].observe(Observation::Settings(settings));
        fleet
    }

    const RELOAD: LastReload = LastReload { succeeded: true, succeeded_at: 1 };

    /// Encodes samples with the encoder of the `prometheus` crate.
    fn reference(family: &Family, samples: Vec<Sample>) -> String {
        let metrics = samples.into_iter().map(|sample| {
            let pairs = sample.labels.into_iter().map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name(name.to_owned());
                pair.set_value(value);
                pair
            });
            let mut metric = Metric::from_label(pairs.collect());
            match (sample.value, family.descriptor.kind) {
                (SampleValue::Number(value), Kind::Counter) => {
                    let mut counter = Counter::default();
                    counter.set_value(value);
                    metric.set_counter(counter);
                }
                (SampleValue::Number(value), _) => {
                    let mut gauge = Gauge::default();
                    gauge.set_value(value);
                    metric.set_gauge(gauge);
                }
                (SampleValue::Histogram(sample), _) => {
                    let buckets = sample.0.cumulative().map(|(bound, count)| {
                        let mut bucket = Bucket::default();
                        bucket.set_upper_bound(bound);
                        bucket.set_cumulative_count(count);
                        bucket
                    });
                    let mut histogram = Histogram::default();
                    histogram.set_bucket(buckets.collect());
                    histogram.set_sample_count(sample.0.count());
                    histogram.set_sample_sum(sample.0.sum());
                    metric.set_histogram(histogram);
                }
            }
            metric
        });
        let mut proto = MetricFamily::default();
        proto.set_name(family.descriptor.name.to_owned());
        proto.set_help(family.descriptor.help.to_owned());
        proto.set_field_type(match family.descriptor.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        proto.set_metric(metrics.collect::<Vec<_>>());
        TextEncoder::new().encode_to_string(&[proto]).unwrap()
    }

    #[test]
    fn text_rendered_per_target_equals_the_encoders_output() {
        let fleet = fleet();
        let gatherer = Gatherer::new(Arc::clone(&fleet));
        let text = String::from_utf8(gatherer.cached(Format::Text, RELOAD, 0)).unwrap();
        let mut expected = String::new();
        let mut families: Vec<_> = gatherer.cached.clone();
        families.sort_by_key(|family| family.descriptor.name);
        for family in families {
            let mut all = Vec::new();
            for handle in gatherer.targets() {
                let (now, target, names) = (handle.now(), handle.numbers(), Catalogue::default());
                let view = TargetView { target: &target, config: handle.config(), now, names: &names };
                let (label, mut body) = (TargetLabel::new(handle.name()), FamilyBody::default());
                let mut samples = Samples::new(&family.descriptor, Format::Protobuf, Some(&label), &mut body);
                if let Source::Target(write) = family.source {
                    write(&view, &mut samples);
                }
                all.append(&mut samples.take());
            }
            if !all.is_empty() {
                expected += &reference(family, all);
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

    #[test]
    fn chunks_have_the_same_text() {
        let words = (0..300).map(|number| format!("--redis.addr=host-{number}:{}", number + 1));
        let words = std::iter::once("redis-script-exporter".to_owned()).chain(words);
        let cli = Cli::parse_words(words, |_| None).unwrap();
        let fleet = Fleet::new(Config::from_cli(&cli).unwrap().targets, None, Clock::start()).unwrap();
        let gatherer = Gatherer::new(Arc::new(fleet));
        for format in Format::ALL {
            let chunks = gatherer.cached_chunks(format, RELOAD).unwrap();
            let plain: Vec<_> = (0..chunks.count()).map(|at| chunks.chunk(at, false).unwrap()).collect();
            let (whole, plain) = (gatherer.cached(format, RELOAD, 0), plain.concat());
            assert!(chunks.count() > 10, "{}", chunks.count());
            assert_eq!(chunks.length(false), plain.len());
            // Memory use and open files of the process differ between renderings.
            let lines = |text: &[u8]| {
                let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"process_"));
                lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>()
            };
            if format == Format::Protobuf {
                assert_eq!(whole.len(), plain.len());
            } else {
                assert_eq!(lines(&whole), lines(&plain));
            }
        }
    }
}
