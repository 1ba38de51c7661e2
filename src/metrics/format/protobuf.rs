//! Protobuf: delimited messages of the package `io.prometheus.client`. The `prometheus` crate has an older version of the
//! package, without native histograms, created timestamps and exemplars.

use std::time::Duration;

use prost::Message as _;

use super::{Head, openmetrics};
use crate::metrics::samples::{Kind, Sample, SampleValue};
use crate::watch::{self, SCHEMA};

/// Upper bound of the zero bucket of native histograms, as in client libraries: 2^-128.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Name, help, type and unit of a `MetricFamily`.
#[derive(Clone, PartialEq, prost::Message)]
struct FamilyHead {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(string, tag = "5")]
    unit: String,
}

/// Samples of a `MetricFamily`. The fields of a message can be encoded separately and concatenated.
#[derive(Clone, PartialEq, prost::Message)]
struct FamilyBody {
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Gauge>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Gauge {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Counter {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    created: Option<Timestamp>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(message, optional, tag = "15")]
    created: Option<Timestamp>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zeros: u64,
    #[prost(message, repeated, tag = "12")]
    spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    deltas: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

/// Consecutive buckets of a native histogram.
#[derive(Clone, PartialEq, prost::Message)]
struct BucketSpan {
    /// Gap to the previous span; for the first span, the index of its first bucket.
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, prost::Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Appends encoded samples.
pub(super) fn encode(head: Head<'_>, samples: &[Sample], body: &mut Vec<u8>) {
    let metrics = samples.iter().map(|sample| metric(head.kind, sample)).collect();
    body.append(&mut FamilyBody { metrics }.encode_to_vec());
}

/// Appends the length of a family's message and its head. `length` is the length of its encoded samples, in bytes.
pub(super) fn write_head(head: Head<'_>, length: usize, out: &mut Vec<u8>) {
    let encoded = FamilyHead {
        name: head.name.to_owned(),
        help: head.help.to_owned(),
        kind: Some(match head.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Histogram => 4,
        }),
        unit: head.unit().unwrap_or_default().to_owned(),
    }
    .encode_to_vec();
    // Encoding into a Vec can't fail: it grows as needed.
    let _ = prost::encode_length_delimiter(encoded.len() + length, out);
    out.extend_from_slice(&encoded);
}

fn metric(kind: Kind, Sample { labels, value, created }: &Sample) -> Metric {
    let created = created.map(timestamp);
    let labels = labels.iter().map(|(name, value)| pair(name, value));
    let mut result = Metric { labels: labels.collect(), ..Metric::default() };
    match (value, kind) {
        (SampleValue::Number(value), Kind::Counter) => {
            result.counter = Some(Counter { value: *value, created });
        }
        (SampleValue::Number(value), _) => result.gauge = Some(Gauge { value: *value }),
        (SampleValue::Histogram(sample), _) => {
            let (classic, exemplars) = &**sample;
            result.histogram = Some(histogram(classic, created, exemplars));
        }
    }
    result
}

fn histogram(
    classic: &watch::Histogram,
    created: Option<Timestamp>,
    exemplars: &watch::Exemplars,
) -> Histogram {
    let all = (f64::INFINITY, classic.count());
    let exemplar = |index| exemplars.get(index).map(exemplar);
    let buckets =
        classic.cumulative().chain([all]).enumerate().map(|(index, (upper_bound, cumulative_count))| {
            Bucket { cumulative_count, upper_bound, exemplar: exemplar(index) }
        });
    let mut histogram = Histogram {
        count: classic.count(),
        sum: classic.sum(),
        buckets: buckets.collect(),
        created,
        ..Histogram::default()
    };
    add_exponential(&mut histogram, classic);
    histogram
}

/// Adds the buckets of the native histogram: spans of consecutive indices, and each count as the difference from the previous
/// count.
fn add_exponential(histogram: &mut Histogram, classic: &watch::Histogram) {
    let (buckets, zeros) = classic.exponential();
    (histogram.schema, histogram.zero_threshold, histogram.zeros) = (SCHEMA, ZERO_THRESHOLD, zeros);
    let (mut next, mut before) = (0_i32, 0_i64);
    for (index, count) in buckets {
        match histogram.spans.last_mut().filter(|_| index == next) {
            Some(span) => span.length += 1,
            None => {
                histogram.spans.push(BucketSpan { offset: index.saturating_sub(next), length: 1 });
            }
        }
        next = index.saturating_add(1);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        histogram.deltas.push(count.saturating_sub(before));
        before = count;
    }
    if histogram.spans.is_empty() {
        // An empty span distinguishes a native histogram without observations from no native histogram.
        histogram.spans.push(BucketSpan::default());
    }
}

fn exemplar(exemplar: &watch::Exemplar) -> Exemplar {
    let id = exemplar.id.to_string();
    let client_name = openmetrics::client_name(exemplar, &id);
    let mut labels = vec![pair("slowlog_id", &id)];
    if !client_name.is_empty() {
        labels.push(pair("client_name", &client_name));
    }
    let ended_at = Duration::from_secs(exemplar.call.ended_at);
    Exemplar { labels, value: exemplar.call.duration.as_secs_f64(), timestamp: Some(timestamp(ended_at)) }
}

fn pair(name: &str, value: &str) -> LabelPair {
    LabelPair { name: name.to_owned(), value: value.to_owned() }
}

fn timestamp(since_epoch: Duration) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since_epoch.subsec_nanos()).unwrap_or(i32::MAX),
    }
}
