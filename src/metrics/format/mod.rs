//! Formats of the exposition, and content negotiation.
//!
//! A response is a sequence of families, each with the samples of all targets. The samples are encoded one target at a time, so
//! that the samples of many targets are never in memory simultaneously.

mod lines;
mod openmetrics;
mod protobuf;

pub(super) use self::lines::{Lines, escape};
use super::samples::{Kind, Sample};

/// Format of the exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text format 0.0.4.
    Text,
    /// OpenMetrics 1.0 with created timestamps, units and exemplars.
    OpenMetrics,
    /// Delimited messages of `io.prometheus.client`, with native histograms alongside the classic ones.
    Protobuf,
}

/// Name, type and help of a family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) help: &'a str,
}

impl Head<'_> {
    /// Returns the unit, which is the suffix of the name; `None` if there is none.
    fn unit(&self) -> Option<&'static str> {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        ["seconds", "bytes"]
            .into_iter()
            .find(|unit| name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
    }
}

impl Format {
    /// All formats.
    pub(super) const ALL: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    /// Returns the position in [`Self::ALL`].
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Text => 0,
            Self::OpenMetrics => 1,
            Self::Protobuf => 2,
        }
    }

    /// Returns the value of `Content-Type`.
    #[must_use]
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// Returns the format with the greatest weight in the values of `Accept`: the first one if several are equal, text if there
    /// is none.
    #[must_use]
    pub(crate) fn accepted<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let mut best = (Self::Text, 0.0);
        for range in accept.flat_map(|value| value.split(',')) {
            let (format, weight) = Self::of_range(range);
            if let Some(format) = format.filter(|_| weight > best.1) {
                best = (format, weight);
            }
        }
        best.0
    }

    /// Returns the format that a media range selects, and its weight.
    fn of_range(range: &str) -> (Option<Self>, f64) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut weight, mut version, mut proto, mut encoding) = (1.0, None, None, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => weight = value.parse().unwrap_or(0.0),
                "version" => version = Some(value),
                "proto" => proto = Some(value),
                "encoding" => encoding = Some(value),
                _ => {}
            }
        }
        let format = match &*media_type {
            "application/openmetrics-text" => {
                version.is_none_or(|version| version == "1.0.0").then_some(Self::OpenMetrics)
            }
            "application/vnd.google.protobuf" => {
                let is_ours =
                    proto == Some("io.prometheus.client.MetricFamily") && encoding == Some("delimited");
                is_ours.then_some(Self::Protobuf)
            }
            "text/plain" | "text/*" | "*/*" => Some(Self::Text),
            _ => None,
        };
        (format, weight)
    }

    /// Appends encoded samples to the body of their family. The text formats use [`Lines`] instead.
    pub(super) fn encode(self, head: Head<'_>, samples: &[Sample], body: &mut Vec<u8>) {
        match self {
            Self::Text | Self::OpenMetrics => {}
            Self::Protobuf => protobuf::encode(head, samples, body),
        }
    }

    /// Appends the head of a family. `length` is the length of its encoded samples, in bytes.
    pub(super) fn write_head(self, head: Head<'_>, length: usize, out: &mut Vec<u8>) {
        match self {
            Self::Text => {
                let Head { name, kind, help } = head;
                let kind = kind.as_str();
                // The help texts of this program need no escaping, which is tested.
                out.extend_from_slice(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n").as_bytes());
            }
            Self::OpenMetrics => openmetrics::write_head(head, out),
            Self::Protobuf => protobuf::write_head(head, length, out),
        }
    }

    /// Returns the end of a response.
    pub(super) const fn end(self) -> &'static [u8] {
        match self {
            Self::OpenMetrics => b"# EOF\n",
            Self::Text | Self::Protobuf => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_the_client_prefers() {
        let prometheus_2_42 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let with_native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (vec![], Format::Text),
            (vec!["*/*"], Format::Text),
            (vec!["text/html, */*;q=0.8"], Format::Text),
            (vec!["image/png"], Format::Text),
            (vec![prometheus_2_42], Format::OpenMetrics),
            (vec![with_native], Format::Protobuf),
            (vec!["text/plain;q=0.5", "application/openmetrics-text"], Format::OpenMetrics),
            (vec!["application/openmetrics-text; version=\"1.0.0\"; q=0.3, text/plain"], Format::Text),
            (vec!["application/openmetrics-text;version=0.0.1"], Format::Text),
            (vec!["application/openmetrics-text;q=0"], Format::Text),
            (vec!["application/openmetrics-text;q=broken"], Format::Text),
            (
                vec!["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text"],
                Format::Text,
            ),
            (vec!["text/plain, application/openmetrics-text"], Format::Text),
        ] {
            assert_eq!(Format::accepted(accept.iter().copied()), expected, "{accept:?}");
        }
    }
}
