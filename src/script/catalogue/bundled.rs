//! Bundled catalogue: hashes and names of the scripts of public libraries.
//!
//! `scripts/catalogue/generate.py` generates the data. It is read in place: a lookup is a binary search in the executable, and
//! only the header is parsed at startup.
//!
//! Format (little-endian):
//!
//! - magic and version `RSC1`;
//! - seven 32-bit numbers: the number of scripts, owners, fingerprints, libraries, names and versions, and 0;
//! - the sorted SHA1s of the scripts in binary;
//! - for each script, and for the end, the index of its first owner (16 bits);
//! - the owners, each with its library, name, first version and last version (16 bits each);
//! - the sorted fingerprints, each with 6 bytes and the index of its script (16 bits);
//! - the texts of libraries, names and versions, each as offsets (32 bits, one more than the number of texts) and UTF-8.

use std::fmt;

use crate::script::identity::{Identity, Label};
use crate::script::sha1::Sha1Digits;

/// Data built into this program.
const DATA: &[u8] = include_bytes!("bundled.bin");

/// Magic and version at the start of the data.
const MAGIC: &[u8] = b"RSC1";

/// Bundled catalogue.
#[derive(Clone, Copy)]
pub(crate) struct Bundled {
    sha1s: &'static [[u8; 20]],
    /// Index of the first owner of each script, and of the end of the owners.
    starts: &'static [[u8; 2]],
    owners: &'static [[u8; 8]],
    /// Fingerprints, each with the index of its script.
    cut: &'static [[u8; 8]],
    libraries: Texts,
    names: Texts,
    versions: Texts,
}

impl fmt::Debug for Bundled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundled").field("scripts", &self.sha1s.len()).finish_non_exhaustive()
    }
}

/// Table of strings.
#[derive(Clone, Copy)]
struct Texts {
    offsets: &'static [[u8; 4]],
    text: &'static str,
}

/// Script of a library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Name under which the library is installed.
    pub(crate) library: &'static str,
    /// Name of the script in the library.
    pub(crate) script: &'static str,
    /// First version that contains the script, major and minor.
    pub(crate) first: &'static str,
    /// Last version that contains the script, among the versions that were read.
    pub(crate) last: &'static str,
}

impl Owner {
    /// Range of versions.
    #[must_use]
    pub(crate) fn versions(&self) -> String {
        if self.first == self.last {
            self.first.to_owned()
        } else {
            format!("{}–{}", self.first, self.last)
        }
    }
}

impl Bundled {
    /// Returns the catalogue of this program; `None` if its data is corrupt, which a test rules out.
    #[must_use]
    pub(crate) fn new() -> Option<Self> {
        Self::parse(DATA)
    }

    fn parse(data: &'static [u8]) -> Option<Self> {
        let mut rest = Rest(data.strip_prefix(MAGIC)?);
        let [scripts, owners, cut, libraries, names, versions, _] = rest.records::<4>(7)? else {
            return None;
        };
        let [scripts, owners, cut, libraries, names, versions] =
            [scripts, owners, cut, libraries, names, versions].map(|number| u32::from_le_bytes(*number));
        Some(Self {
            sha1s: rest.records(scripts)?,
            starts: rest.records(scripts.checked_add(1)?)?,
            owners: rest.records(owners)?,
            cut: rest.records(cut)?,
            libraries: rest.texts(libraries)?,
            names: rest.texts(names)?,
            versions: rest.texts(versions)?,
        })
    }

    /// Returns the owners of a script; at least one if the script is known.
    pub(crate) fn owners(&self, sha1: Sha1Digits) -> impl Iterator<Item = Owner> {
        self.sha1s.binary_search(&sha1.to_bytes()).into_iter().flat_map(|index| self.owners_at(index))
    }

    fn owners_at(&self, index: usize) -> impl Iterator<Item = Owner> {
        let start =
            |index: usize| self.starts.get(index).map(|start| usize::from(u16::from_le_bytes(*start)));
        let range = start(index).zip(start(index + 1)).map_or(0..0, |(start, end)| start..end);
        let catalogue = *self;
        self.owners.get(range).unwrap_or_default().iter().filter_map(move |owner| {
            let [l0, l1, n0, n1, f0, f1, t0, t1] = *owner;
            Some(Owner {
                library: catalogue.libraries.get(u16::from_le_bytes([l0, l1]))?,
                script: catalogue.names.get(u16::from_le_bytes([n0, n1]))?,
                first: catalogue.versions.get(u16::from_le_bytes([f0, f1]))?,
                last: catalogue.versions.get(u16::from_le_bytes([t0, t1]))?,
            })
        })
    }

    /// Returns the SHA1 of the script whose truncated body in the slow log has this fingerprint (`~` and 12 digits).
    #[must_use]
    pub(crate) fn sha1_of_cut(&self, label: &str) -> Option<Sha1Digits> {
        let wanted = fingerprint(label)?;
        let at = self.cut.binary_search_by(|row| row.first_chunk::<6>().cmp(&Some(&wanted))).ok()?;
        let [.., low, high] = *self.cut.get(at)?;
        self.sha1s.get(usize::from(u16::from_le_bytes([low, high]))).map(Sha1Digits::from_bytes)
    }

    /// Returns the name of a script, such as `bull@3.20–4.1/cleanJobsInSet`, and its SHA1. The number of other libraries with the
    /// same script is appended to the name.
    #[must_use]
    pub(super) fn named(&self, script: &Identity) -> Option<(Label, Sha1Digits)> {
        let sha1 = script.sha1.or_else(|| self.sha1_of_cut(script.label.as_str()))?;
        let mut owners = self.owners(sha1);
        let first = owners.next()?;
        let name = format!("{}@{}/{}", first.library, first.versions(), first.script);
        let others = owners.filter(|owner| owner.library != first.library).count();
        let name = if others == 0 { name } else { format!("{name} (+{others})") };
        Some((Label::new(&name), sha1))
    }

    /// Returns the scripts whose SHA1 begins with these hexadecimal digits in lower case.
    pub(crate) fn with_prefix(&self, digits: &str) -> impl Iterator<Item = Sha1Digits> {
        // Start at the first SHA1 that is not less than the digits padded with zeros.
        let lowest = Sha1Digits::parse(format!("{digits:0<40}")).unwrap_or_else(|| Sha1Digits::of(b""));
        let from = self.sha1s.partition_point(|sha1| *sha1 < lowest.to_bytes());
        let rest = self.sha1s.get(from..).unwrap_or_default();
        rest.iter().map(Sha1Digits::from_bytes).take_while(move |sha1| sha1.as_str().starts_with(digits))
    }

    /// Number of scripts and of libraries.
    #[must_use]
    pub(crate) const fn size(&self) -> (usize, usize) {
        (self.sha1s.len(), self.libraries.offsets.len().saturating_sub(1))
    }
}

impl Texts {
    fn get(&self, index: u16) -> Option<&'static str> {
        let offset = |index: usize| {
            self.offsets.get(index).and_then(|offset| usize::try_from(u32::from_le_bytes(*offset)).ok())
        };
        let index = usize::from(index);
        self.text.get(offset(index)?..offset(index + 1)?)
    }
}

/// Data that has not been parsed yet.
struct Rest(&'static [u8]);

impl Rest {
    fn records<const N: usize>(&mut self, count: u32) -> Option<&'static [[u8; N]]> {
        let (records, rest) = self.0.split_at_checked(usize::try_from(count).ok()?.checked_mul(N)?)?;
        self.0 = rest;
        Some(records.as_chunks().0)
    }

    fn texts(&mut self, count: u32) -> Option<Texts> {
        let offsets = self.records(count.checked_add(1)?)?;
        let length = usize::try_from(u32::from_le_bytes(*offsets.last()?)).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Texts { offsets, text: std::str::from_utf8(text).ok()? })
    }
}

/// Parses the label of a script whose body was truncated.
fn fingerprint(label: &str) -> Option<[u8; 6]> {
    let digits = label.strip_prefix('~').filter(|digits| digits.len() == 12)?;
    let padded = Sha1Digits::parse(format!("{digits:0<40}"))?.to_bytes();
    padded.first_chunk().copied()
}

#[cfg(test)]
impl Bundled {
    /// Creates a catalogue with one script, which these libraries contain in version 1.0.
    pub(super) fn of_test(body: &[u8], libraries: &[&str]) -> Self {
        let numbers = |numbers: &[usize]| -> Vec<u8> {
            numbers.iter().flat_map(|number| u32::try_from(*number).unwrap().to_le_bytes()).collect()
        };
        let words = |words: &[usize]| -> Vec<u8> {
            words.iter().flat_map(|word| u16::try_from(*word).unwrap().to_le_bytes()).collect()
        };
        let count = libraries.len();
        let mut data = MAGIC.to_vec();
        data.extend(numbers(&[1, count, 0, count, 1, 1, 0]));
        data.extend(Sha1Digits::of(body).to_bytes());
        data.extend(words(&[0, count]));
        (0..count).for_each(|library| data.extend(words(&[library, 0, 0, 0])));
        let ends = libraries.iter().scan(0, |end, library| {
            *end += library.len();
            Some(*end)
        });
        data.extend(numbers(&std::iter::once(0).chain(ends).collect::<Vec<_>>()));
        data.extend(libraries.concat().bytes());
        for text in ["unlock", "1.0"] {
            data.extend(numbers(&[0, text.len()]));
            data.extend(text.bytes());
        }
        Self::parse(data.leak()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Call, Origin};

    fn bundled() -> Bundled {
        Bundled::new().unwrap()
    }

    /// Label of the script with this fingerprint.
    fn label_of(row: [u8; 8]) -> String {
        let mut padded = [0; 20];
        padded[..6].copy_from_slice(&row[..6]);
        format!("~{:.12}", Sha1Digits::from_bytes(&padded).as_str())
    }

    fn name(sha1: &str) -> Option<String> {
        let script = Identity::from_sha1(sha1.as_bytes(), Origin::Server).unwrap();
        bundled().named(&script).map(|(name, _)| name.to_string())
    }

    /// SHA1s in public user reports from 2015 to 2025, with the script that the context of the report identifies.
    const REPORTED: &[(&str, Option<&str>)] = &[
        ("7825e9dfe2d12df8d37533bad1bfbfacd98c46ea", Some("bull@3.20–4.1/cleanJobsInSet")),
        (
            "14ab482616f7d7df8b71783a1c3db6eb2103a2a6",
            Some("sidekiq-unique-jobs@7.0–7.1/delete_job_by_digest"),
        ),
        ("7b91ed9f4cba40689cea7172d1fd3e08b2efd8c9", Some("sidekiq-limit_fetch@1.7–4.4/")),
        ("1eddca842e909a8a091813c195c3f7facb92e55c", Some("bull@3.0/moveUnlockedJobsToWait")),
        ("c5adeaffd8ef771f6e9755bc38c2fda34095f79c", Some("bullmq@1.86/moveToFinished")),
        ("288b28eb7005ee2410a2d8dc5fa1aa6cdaf80813", Some("bullmq@1.86/moveToFinished")),
        ("890be59efdd64a4df5f5121df9680b166a884036", Some("bullmq@1.0–1.28/moveStalledJobsToWait")),
        ("2aabbf31d90ee84a7e1b78cd1cf562abca6174b3", Some("bullmq@1.6–1.51/cleanJobsInSet")),
        ("c09b01b58cdf1bb980c4b01fe186dd5e236a6770", Some("bullmq@1.5–1.15/moveToFinished")),
        ("71aee5518c2d20433a3cd18e00231b3003bd41f1", Some("bottleneck@2.14–2.15/register")),
        ("9681e2eb0f886df26fa948812dbd55b6263256c4", Some("bottleneck@2.18–2.19/init")),
        ("c8e3e22936b90c2d0e919964acaf643f234b6146", Some("bottleneck@2.15–2.16/free")),
        ("3795502f95ab9f727df969c36bb2acc43ea2dc87", Some("channels-redis@3.0/cleanup_script")),
        ("83e03ec05d6a3b6fb48483accf5e594597b6058f", Some("dapr@0.1–1.2/setQuery")),
        ("9b5da7354cb61e2ca9faff50f6c43b81c73c0b94", Some("dapr@0.1–1.6/delQuery")),
        ("1f46a25dd9f50b1331d5c86b90ba4dce1e15cd8f", Some("bull@1.0/addJob-delayed")),
        ("7bae1666c6fc0e1b7f73920dd0fe76cdfbf9563b", Some("bull@1.0/moveToCompletedSet")),
        ("853b3088fff863a738a6d231b444bdfcab2cb649", Some("bullmq-python@0.1–0.4/moveToFinished")),
        ("7574d838a4ddc18d626139a5521903c904f1404a", Some("asynq@0.19–0.22/memoryUsageCmd")),
        (
            "e1391e429b699c780eb0480350cd5b7280fd9213",
            Some("@upstash/ratelimit@1.1–2.0/slidingWindowLimitScript"),
        ),
        ("662066e89db469f8f9a8a7409b603b218bc4eac8", Some("redis-om-dotnet@0.1–0.4/")),
        // Sidekiq Pro, which is not public, and an example in the Redis documentation.
        ("b4527f8ea7f764265d269c0798d77827521fab02", None),
        ("6b1bf486c81ceb7edf3c093f4c48582e38c0e791", None),
    ];

    #[test]
    fn scripts_of_public_reports_are_known() {
        for (sha1, expected) in REPORTED {
            let name = name(sha1);
            assert!(
                name.as_deref()
                    .map_or(expected.is_none(), |name| expected.is_some_and(|all| name.starts_with(all))),
                "{sha1}: {name:?}, not {expected:?}"
            );
        }
        assert_eq!(name(&"0".repeat(40)), None);
        assert_eq!(name(&"f".repeat(40)), None);
    }

    #[test]
    fn the_data_is_whole_sorted_and_small() {
        let bundled = bundled();
        assert!(DATA.len() <= 300_000, "{}", DATA.len());
        assert!(bundled.size().0 > 1000 && bundled.size().1 > 30, "{:?}", bundled.size());
        assert!(bundled.sha1s.is_sorted_by(|a, b| a < b));
        assert!(bundled.cut.is_sorted_by(|a, b| a.first_chunk::<6>() < b.first_chunk::<6>()));
        for sha1 in bundled.sha1s.iter().map(Sha1Digits::from_bytes) {
            let script = Identity::from_sha1(sha1.as_str().as_bytes(), Origin::Server).unwrap();
            let (name, found) = bundled.named(&script).unwrap();
            assert_eq!(found, sha1);
            let name = name.as_str();
            assert!(name.chars().count() <= 128 && name.contains('@') && name.contains('/'), "{name}");
            assert!(!name.chars().any(char::is_control), "{name}");
        }
        for row in bundled.cut {
            assert!(bundled.sha1_of_cut(&label_of(*row)).is_some(), "{row:?}");
        }
    }

    #[test]
    fn a_cut_body_is_found_by_its_fingerprint() {
        let bundled = bundled();
        let [.., low, high] = bundled.cut[0];
        let sha1 = Sha1Digits::from_bytes(&bundled.sha1s[usize::from(u16::from_le_bytes([low, high]))]);
        let script = Identity::from_cut_label(&label_of(bundled.cut[0]));
        assert_eq!(bundled.named(&script).map(|(_, found)| found), Some(sha1));
        let unknown =
            Call::from_arguments(&[b"EVAL".to_vec(), [&[b'x'; 128][..], b"... (9 more bytes)"].concat()]);
        assert_eq!(bundled.named(&unknown.unwrap().script), None);
    }

    #[test]
    fn damaged_data_is_not_a_catalogue() {
        assert!(Bundled::parse(b"").is_none());
        assert!(Bundled::parse(b"RSC1").is_none());
        for length in (0..DATA.len()).step_by(997) {
            assert!(Bundled::parse(&DATA[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn digits_at_the_beginning_find_a_script() {
        let bundled = bundled();
        let found: Vec<_> = bundled.with_prefix("7825e9dfe2d1").collect();
        assert_eq!(found, Sha1Digits::parse("7825e9dfe2d12df8d37533bad1bfbfacd98c46ea").as_slice());
        assert_eq!(bundled.with_prefix("ffffffffffff").count(), 0);
    }
}
