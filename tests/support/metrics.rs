//! Parser for the exposition format of `/metrics`.

use std::collections::{BTreeMap, BTreeSet};

/// Labels to select series by; a series may have others as well.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// One series and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    fn matches(&self, name: &str, labels: Labels<'_>) -> bool {
        self.name == name
            && labels.iter().all(|&(label, value)| self.labels.get(label).is_some_and(|v| v == value))
    }

    /// Returns the value of a label; empty if the series does not have it, as in Prometheus.
    pub fn label(&self, label: &str) -> &str {
        self.labels.get(label).map_or("", String::as_str)
    }
}

/// Samples of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub text: String,
    samples: Vec<Sample>,
}

impl Metrics {
    /// Parses a response; panics on a line that is not in the exposition format.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}")))
            .collect();
        Self { text: text.to_owned(), samples }
    }

    /// Returns the value of the only series with this name and these labels. Panics if there are several.
    #[track_caller]
    pub fn value(&self, name: &str, labels: Labels<'_>) -> Option<f64> {
        let mut found = self.samples.iter().filter(|sample| sample.matches(name, labels));
        let first = found.next()?;
        assert!(found.next().is_none(), "several series match {name} {labels:?}: {:#?}", self.series(name));
        Some(first.value)
    }

    /// Returns the sum over all series with this name and these labels; 0 if there is none.
    pub fn sum(&self, name: &str, labels: Labels<'_>) -> f64 {
        self.samples.iter().filter(|sample| sample.matches(name, labels)).map(|sample| sample.value).sum()
    }

    /// Returns all series with this name.
    pub fn series(&self, name: &str) -> Vec<&Sample> {
        self.samples.iter().filter(|sample| sample.name == name).collect()
    }

    /// Returns all samples.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Returns the names of all series.
    pub fn names(&self) -> BTreeSet<&str> {
        self.samples.iter().map(|sample| sample.name.as_str()).collect()
    }
}

/// Parses `name{label="value",…} value`.
fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    Some(Sample { name: name.to_owned(), labels, value: rest.trim().parse().ok()? })
}

/// Parses labels up to the closing brace; returns them and the rest.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (label, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (end, '"') => break end,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(label.to_owned(), value);
        rest = quoted.get(end + 1..)?;
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}
