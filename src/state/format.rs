//! Format of the state file: a header line, one line per target, and an end line.
//!
//! Each line is JSON. The end line contains the number of targets and a checksum, so that a truncated or damaged file is detected:
//! with a wrong slow log position, entries would be lost or counted twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::watch::SavedTarget;

/// Maximum size of a file that is read or written, bytes.
pub(super) const MAX_SIZE: usize = 256 << 20;

/// Maximum length of the line of one target, bytes.
const MAX_LINE: usize = MAX_SIZE / 4;

/// Size reserved for the header and the end line, bytes.
const ENDS: usize = 4 << 10;

/// Identification in the header.
const FORMAT: &str = "redis-script-exporter state";

/// Version of the format that is written.
const VERSION: u32 = 2;

/// Oldest version that is read. Version 1 has neither callers nor latest calls.
const OLDEST_VERSION: u32 = 1;

/// Reason why a file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// Not a state file.
    #[error("not a state file of redis-script-exporter")]
    Foreign,
    /// Another version of the format.
    #[error(
        "format version {0} is not supported: this exporter reads versions {OLDEST_VERSION} to {VERSION}"
    )]
    Version(u32),
    /// The file is truncated or corrupted.
    #[error("damaged: {0}")]
    Damaged(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Value of the label `target`.
    target: String,
    /// Time at which the target was last watched (Unix seconds).
    seen: u64,
    #[serde(flatten)]
    saved: SavedTarget,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    targets: usize,
    /// SHA1 of all bytes before this line, in hexadecimal.
    sha1: String,
}

/// Serialized line of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetLine {
    /// Time at which the target was last watched (Unix seconds).
    pub(super) seen: u64,
    /// The line, including its line feed.
    text: String,
}

impl TargetLine {
    /// Serializes the state of a target that was last watched at `seen`.
    ///
    /// # Errors
    /// The state contains a number that JSON cannot represent.
    pub(super) fn new(target: &str, seen: u64, saved: SavedTarget) -> Result<Self, serde_json::Error> {
        let mut text = serde_json::to_string(&Line { target: target.to_owned(), seen, saved })?;
        text.push('\n');
        Ok(Self { seen, text })
    }

    /// Returns the line without its least important part; `None` if nothing can be omitted.
    fn shorter(&self) -> Option<Self> {
        let mut line = parse_line::<Line>(self.text.trim_end()).ok()?;
        line.saved.shorten().then(|| Self::new(&line.target, line.seen, line.saved).ok()).flatten()
    }

    /// Removes client addresses and names.
    ///
    /// # Errors
    /// As for [`Self::saved`].
    pub(super) fn hide_clients(&mut self, target: &str) -> Result<(), FormatError> {
        let mut saved = self.saved()?;
        saved.hide_clients();
        *self =
            Self::new(target, self.seen, saved).map_err(|error| FormatError::Damaged(error.to_string()))?;
        Ok(())
    }

    /// Parses the line.
    ///
    /// # Errors
    /// The line does not describe a target.
    pub(super) fn saved(&self) -> Result<SavedTarget, FormatError> {
        Ok(parse_line::<Line>(self.text.trim_end())?.saved)
    }
}

/// Shortens the longest lines until the file is small enough to be read back, so that a target with a long line does not affect
/// others. Returns the targets whose lines were shortened or dropped.
pub(super) fn fit(lines: &mut BTreeMap<String, TargetLine>) -> Vec<String> {
    fit_within(lines, MAX_LINE, MAX_SIZE - ENDS)
}

fn fit_within(lines: &mut BTreeMap<String, TargetLine>, max_line: usize, max_total: usize) -> Vec<String> {
    let mut total: usize = lines.values().map(|line| line.text.len()).sum();
    let mut shortened = Vec::new();
    loop {
        let long = lines.iter().max_by_key(|(_, line)| line.text.len());
        let Some((target, line)) = long.filter(|(_, line)| total > max_total || line.text.len() > max_line)
        else {
            return shortened;
        };
        let (target, shorter) = (target.clone(), line.shorter());
        total -= line.text.len();
        match shorter {
            Some(line) => {
                total += line.text.len();
                lines.insert(target.clone(), line);
            }
            None => drop(lines.remove(&target)),
        }
        if !shortened.contains(&target) {
            shortened.push(target);
        }
    }
}

/// Returns the text of the file.
///
/// # Errors
/// None in practice: the header and the end line can always be serialized.
pub(super) fn write(lines: &BTreeMap<String, TargetLine>) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string(&Head { format: FORMAT.to_owned(), version: VERSION })?;
    text.push('\n');
    for line in lines.values() {
        text.push_str(&line.text);
    }
    let end = End { targets: lines.len(), sha1: checksum(&text) };
    text.push_str(&serde_json::to_string(&end)?);
    text.push('\n');
    Ok(text)
}

/// Returns a file with these target lines and a valid end line, for fuzzing.
///
/// # Errors
/// None in practice: the header and the end line can always be serialized.
#[cfg(any(fuzzing, test))]
pub(super) fn closed(lines: &str) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string(&Head { format: FORMAT.to_owned(), version: VERSION })?;
    text.push('\n');
    lines.lines().for_each(|line| text.extend([line, "\n"]));
    let end = End { targets: lines.lines().count(), sha1: checksum(&text) };
    text.push_str(&serde_json::to_string(&end)?);
    text.push('\n');
    Ok(text)
}

/// Contents of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// Lines by target.
    pub(super) lines: BTreeMap<String, TargetLine>,
    /// Number of lines that cannot be parsed although the checksum is correct.
    pub(super) unreadable: usize,
}

/// Parses a file. A line that cannot be parsed does not affect the others.
///
/// # Errors
/// The text is not a complete state file.
pub(super) fn read(text: &str) -> Result<Contents, FormatError> {
    let damaged = |what: &str| FormatError::Damaged(what.to_owned());
    let (head, body) = text.split_once('\n').ok_or(FormatError::Foreign)?;
    // Parsed as a generic value, because the header of another version may have other fields.
    let head: serde_json::Value = serde_json::from_str(head).map_err(|_| FormatError::Foreign)?;
    if head.get("format").and_then(serde_json::Value::as_str) != Some(FORMAT) {
        return Err(FormatError::Foreign);
    }
    let version = head.get("version").and_then(serde_json::Value::as_u64);
    let version = version.and_then(|version| u32::try_from(version).ok());
    match version {
        Some(OLDEST_VERSION..=VERSION) => {}
        Some(other) => return Err(FormatError::Version(other)),
        None => return Err(damaged("no version")),
    }
    let body = body.strip_suffix('\n').ok_or_else(|| damaged("no end"))?;
    let (lines, end) = body.rsplit_once('\n').unwrap_or(("", body));
    let before_end = text.get(..text.len().saturating_sub(end.len() + 1)).unwrap_or_default();
    let end: End = parse_line(end).map_err(|_| damaged("no end"))?;
    if end.sha1 != checksum(before_end) {
        return Err(damaged("wrong checksum"));
    }
    let (mut targets, mut unreadable) = (BTreeMap::new(), 0);
    for line in lines.lines() {
        match parse_line(line) {
            Ok(Line { target, seen, saved: _ }) => {
                targets.insert(target, TargetLine { seen, text: format!("{line}\n") });
            }
            Err(_) => unreadable += 1,
        }
    }
    if targets.len() + unreadable != end.targets {
        return Err(damaged("targets are missing"));
    }
    Ok(Contents { lines: targets, unreadable })
}

fn parse_line<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, FormatError> {
    serde_json::from_str(line).map_err(|error| FormatError::Damaged(error.to_string()))
}

fn checksum(text: &str) -> String {
    Sha1::digest(text.as_bytes()).iter().fold(String::with_capacity(40), |mut hex, byte| {
        // Writing to a String can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Mono, Timestamps, Unix};
    use crate::config::Config;
    use crate::parse::{BusyKind, Entry, SlowlogReply};
    use crate::watch::{Observation, Target};

    use std::sync::Arc;
    use std::time::Duration;

    fn moment(seconds: u64) -> Timestamps {
        let since_epoch = Duration::from_secs(seconds);
        Timestamps { mono: Mono::from_epoch(since_epoch), unix: Unix::from_epoch(since_epoch) }
    }

    fn config(flags: &[&str]) -> crate::config::TargetConfig {
        let words = std::iter::once("redis-script-exporter").chain(flags.iter().copied());
        let cli = crate::cli::Cli::parse_words(words, |_| None).unwrap();
        Config::from_cli(&cli).unwrap().targets.remove(0)
    }

    fn untried(config: &crate::config::TargetConfig) -> Target {
        let buckets = Arc::clone(&config.buckets);
        Target::new(config.slow, buckets, config.max_scripts, moment(100).unix)
    }

    fn entry(id: u64, ms: u64, arguments: &[&[u8]]) -> Entry {
        Entry {
            id,
            ended_at: 1000 + id,
            duration: Duration::from_millis(ms),
            ..Entry::with_arguments(arguments)
        }
    }

    /// Applies the reply three times, as if the target had requested it repeatedly.
    fn read_on(target: &mut Target, reply: &SlowlogReply, seconds: u64) {
        for _ in 0..3 {
            target.step(Observation::Slowlog(reply.clone()), moment(seconds));
        }
    }

    /// A target that has read some entries.
    fn used() -> Target {
        let mut target = untried(&config(&[]));
        let info = "run_id:abc\r\nuptime_in_seconds:5\r\n# Commandstats\r\n# Errorstats\r\n# Stats\r\ntotal_commands_processed:7\r\n";
        target.step(Observation::Info(Box::new(crate::parse::Info::parse(info.as_bytes()))), moment(100));
        target.step(Observation::Slowlog(SlowlogReply::default()), moment(101));
        let named = |entry: Entry| Entry {
            client: "10.0.0.9:34154".to_owned(),
            client_name: "worker-7".to_owned(),
            keys: vec!["user:1".to_owned()],
            ..entry
        };
        let entries = vec![
            entry(2, 1500, &[b"EVAL", b"return 1", b"0"]),
            entry(3, 2500, &[b"FCALL", b"f\"\n\xff", b"0"]),
            entry(4, 20, &[b"KEYS", b"*"]),
        ];
        let entries: Vec<Entry> = entries.into_iter().map(named).collect();
        let reply = SlowlogReply { received: entries.len() + 1, entries, malformed: 1, unreadable: vec![1] };
        read_on(&mut target, &reply, 102);
        let since = moment(103).mono;
        target.step(Observation::Busy { kind: BusyKind::Script, counted: true, since }, moment(103));
        target.step(Observation::Answered { since: moment(104).mono }, moment(104));
        target
    }

    fn file_of(target: &Target) -> String {
        let line = TargetLine::new("a:1", 102, target.snapshot(moment(103)).saved()).unwrap();
        write(&BTreeMap::from([("a:1".to_owned(), line)])).unwrap()
    }

    #[test]
    fn saved_state_is_restored_and_continued() {
        let target = used();
        let text = file_of(&target);
        let lines = read(&text).unwrap().lines;
        let saved = lines["a:1"].saved().unwrap();
        assert!(text.contains("worker-7") && !text.contains("user:1"), "never the keys: {text}");
        let mut after = untried(&config(&[]));
        assert!(after.restore(saved.clone()));
        assert_eq!(after.snapshot(moment(103)).saved(), saved);
        assert_eq!((after.lost(), after.unreadable(), after.scripts().entries()), (2, 1, (2, 1)));
        assert_eq!(after.exporter().busy_replies, 1);
        let callers = |target: &Target| -> Vec<String> {
            let all =
                target.scripts().series().map(|(_, label, series)| format!("{label}: {:?}", series.callers));
            all.collect()
        };
        assert_eq!(callers(&after), callers(&target));
        assert_eq!(callers(&after).iter().filter(|one| one.contains("10.0.0.9")).count(), 2);
        let latest = |target: &Target| -> Vec<(u64, String)> {
            let all = target.latest_calls().newest_first();
            all.map(|(call, _)| (call.id, format!("{} {}", call.client, call.client_name))).collect()
        };
        assert_eq!(latest(&after), latest(&target));
        assert_eq!(latest(&after)[0], (3, "10.0.0.9:34154 worker-7".to_owned()));
        let mut hidden = saved;
        hidden.hide_clients();
        assert!(!format!("{hidden:?}").contains("worker-7"), "{hidden:?}");
        // The server has not been restarted: only the entry that was added in the meantime is new.
        let info = "run_id:abc\r\nuptime_in_seconds:50\r\n";
        after.step(Observation::Info(Box::new(crate::parse::Info::parse(info.as_bytes()))), moment(150));
        let reply = SlowlogReply {
            entries: vec![entry(4, 20, &[b"KEYS"]), entry(5, 1500, &[b"EVAL", b"return 1", b"0"])],
            received: 2,
            ..SlowlogReply::default()
        };
        read_on(&mut after, &reply, 151);
        assert_eq!((after.lost(), after.scripts().entries()), (2, (3, 1)));
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let line = TargetLine::new("a:1", 102, used().snapshot(moment(103)).saved()).unwrap();
        let mut former: serde_json::Value = serde_json::from_str(&line.text).unwrap();
        // The first files had no incidents either.
        for part in ["incidents", "latest"] {
            assert!(former.as_object_mut().unwrap().remove(part).is_some(), "{part}");
        }
        for series in former["scripts"]["series"].as_array_mut().unwrap() {
            assert!(series.as_object_mut().unwrap().remove("callers").is_some(), "{series}");
        }
        let body = format!("{{\"format\":\"{FORMAT}\",\"version\":1}}\n{former}\n");
        let end = serde_json::to_string(&End { targets: 1, sha1: checksum(&body) }).unwrap();
        let lines = read(&format!("{body}{end}\n")).unwrap().lines;
        let mut after = untried(&config(&[]));
        assert!(after.restore(lines["a:1"].saved().unwrap()));
        assert_eq!((after.lost(), after.scripts().entries()), (2, (2, 1)));
        assert_eq!(after.latest_calls().newest_first().count(), 0);
    }

    #[test]
    fn changed_settings_keep_as_much_saved_state_as_possible() {
        let saved = used().snapshot(moment(103)).saved();
        let mut fewer = untried(&config(&["--script.max-series=1"]));
        assert!(fewer.restore(saved.clone()));
        let counts: Vec<_> = fewer
            .scripts()
            .series()
            .map(|(_, label, series)| (label.to_string(), series.durations.count()))
            .collect();
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 2, "{counts:?}");
        assert!(counts.contains(&("other".to_owned(), 1)), "{counts:?}");
        let mut buckets = untried(&config(&["--slow.buckets=1,2"]));
        assert!(!buckets.restore(saved));
        assert_eq!(buckets.scripts().entries(), (2, 1));
        assert!(buckets.scripts().series().all(|(_, _, series)| series.durations.count() == 0));
    }

    #[test]
    fn other_files_are_recognized() {
        for foreign in ["", "hello\nworld\n", "{}\n", "[1]\n", "{\"format\":\"x\",\"version\":1}\n"] {
            assert_eq!(read(foreign).unwrap_err(), FormatError::Foreign, "{foreign:?}");
        }
        let other = format!("{{\"format\":\"{FORMAT}\",\"version\":3,\"more\":1}}\n");
        assert_eq!(read(&other).unwrap_err(), FormatError::Version(3));
        let empty = write(&BTreeMap::new()).unwrap();
        assert_eq!(read(&empty).unwrap().lines.len(), 0);
    }

    /// Returns the lines of these targets, each with this number of additional scripts.
    fn lines_of(targets: &[(&str, u64)]) -> BTreeMap<String, TargetLine> {
        let line = |(name, scripts): &(&str, u64)| {
            let mut target = used();
            for id in 0..*scripts {
                let call = entry(5 + id, 100, &[b"FCALL", format!("f{id}").as_bytes(), b"0"]);
                let reply = SlowlogReply { received: 1, entries: vec![call], ..SlowlogReply::default() };
                target.step(Observation::Slowlog(reply), moment(104));
            }
            let saved = target.snapshot(moment(105)).saved();
            ((*name).to_owned(), TargetLine::new(name, 105, saved).unwrap())
        };
        targets.iter().map(line).collect()
    }

    #[test]
    fn what_one_target_takes_does_not_affect_other_targets() {
        let lines = lines_of(&[("a", 0), ("b", 90), ("c", 0)]);
        let lengths = |lines: &BTreeMap<String, TargetLine>| {
            lines.values().map(|line| line.text.len()).collect::<Vec<_>>()
        };
        let (small, large) = (lengths(&lines)[0], lengths(&lines)[1]);
        assert!(large > 10 * small);
        // The latest calls are dropped first, the per-script counters last.
        for (longest, most, scripts) in
            [(large - 1, usize::MAX, 92), (usize::MAX, large, 0), (small, usize::MAX, 0)]
        {
            let mut fitted = lines.clone();
            assert_eq!(fit_within(&mut fitted, longest, most), ["b"]);
            assert_eq!((&fitted["a"], &fitted["c"]), (&lines["a"], &lines["c"]));
            // The position and the totals are kept.
            let mut after = untried(&config(&[]));
            assert!(after.restore(fitted["b"].saved().unwrap()));
            let reply = SlowlogReply {
                received: 1,
                entries: vec![entry(95, 100, &[b"KEYS"])],
                ..SlowlogReply::default()
            };
            read_on(&mut after, &reply, 106);
            assert_eq!((after.lost(), after.unreadable()), (2, 1));
            assert_eq!((after.scripts().entries(), after.scripts().series().count()), ((92, 2), scripts));
            assert_eq!(after.latest_calls().newest_first().count(), 0);
            assert!(fit_within(&mut fitted, longest, most).is_empty());
        }
        let mut fitted = lines.clone();
        assert_eq!(fit_within(&mut fitted, usize::MAX, 1).len(), 3, "in the end, lines are left out");
        assert!(fitted.is_empty());
        assert!(fit(&mut lines.clone()).is_empty());
    }

    #[test]
    fn the_least_valuable_part_is_dropped_first() {
        let mut target = used();
        // Another server at the same address.
        let info = crate::parse::Info::parse(b"run_id:def\r\nuptime_in_seconds:5000\r\n");
        target.step(Observation::Info(Box::new(info)), moment(105));
        read_on(&mut target, &SlowlogReply::default(), 106);
        let mut line = TargetLine::new("a", 107, target.snapshot(moment(107)).saved()).unwrap();
        // Each part, and whether it is in the line.
        let present = |line: &TargetLine| {
            let saved: serde_json::Value = serde_json::from_str(&line.text).unwrap();
            let is_filled = |value: &serde_json::Value| value.as_array().is_some_and(|all| !all.is_empty());
            let series = &saved["scripts"]["series"];
            let callers =
                series.as_array().is_some_and(|all| all.iter().any(|one| is_filled(&one["callers"])));
            let others = is_filled(&saved["account"]["others"]);
            [others, is_filled(&saved["latest"]), callers, is_filled(&saved["incidents"]), is_filled(series)]
        };
        for dropped in 0..5 {
            assert_eq!(
                present(&line),
                [0, 1, 2, 3, 4].map(|part| part >= dropped),
                "{dropped}: {}",
                line.text
            );
            line = line.shorter().unwrap();
        }
        assert_eq!(present(&line), [false; 5]);
        assert!(line.shorter().is_none());
    }

    #[test]
    fn a_line_that_cannot_be_understood_does_not_affect_other_targets() {
        let lines = lines_of(&[("a", 0), ("b", 1), ("c", 0)]);
        let text = write(&lines).unwrap();
        let (body, _) = text.trim_end().rsplit_once('\n').unwrap();
        // A line as another version of the exporter may write it.
        let body = body.replace("{\"target\":\"b\",", "{\"target\":\"b\",\"more\":1,") + "\n";
        let end = serde_json::to_string(&End { targets: 3, sha1: checksum(&body) }).unwrap();
        let contents = read(&format!("{body}{end}\n")).unwrap();
        assert_eq!((contents.lines.len(), contents.unreadable), (2, 1));
        assert_eq!((&contents.lines["a"], &contents.lines["c"]), (&lines["a"], &lines["c"]));
        // If the checksum does not match, the whole file is rejected.
        assert!(read(&text.replace("{\"target\":\"b\",", "{\"target\":\"b\",\"more\":1,")).is_err());
    }

    #[test]
    fn a_file_that_was_cut_anywhere_is_damaged() {
        let text = file_of(&used());
        for length in 1..text.len() {
            if let Some(cut) = text.get(..length) {
                assert!(read(cut).is_err(), "{cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            prop_assert!(read(&text).is_err());
        }

        #[test]
        fn a_changed_byte_is_noticed(position in any::<prop::sample::Index>(), byte in 0..128_u8) {
            let text = file_of(&used());
            let mut bytes = text.clone().into_bytes();
            let position = position.index(bytes.len());
            prop_assume!(bytes[position] != byte);
            bytes[position] = byte;
            if let Ok(changed) = String::from_utf8(bytes) {
                // Whitespace in the header or the end line is not significant.
                let same = read(&changed).is_ok_and(|contents| Ok(contents) == read(&text));
                prop_assert!(same || read(&changed).is_err());
            }
        }
    }
}
