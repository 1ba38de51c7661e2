//! Shards: several exporters divide the targets among them by a hash of the target's name.
//!
//! Targets are assigned by rendezvous hashing: a target belongs to the shard with the greatest hash of shard and name. When
//! a shard is added, targets move only to it; when the last one is removed, only its targets move. If the exporter of a new
//! shard is started before the others are restarted with the new number of shards, no target is left out.

use std::fmt;
use std::str::FromStr;

use sha1::{Digest as _, Sha1};

/// Maximum number of shards. Each one costs a hash per target.
const MAX_SHARDS: u16 = 256;

/// One of several exporters that divide the targets among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 1 to `count`.
    number: u16,
    count: u16,
}

impl Shard {
    /// True if the target of this name belongs to this shard.
    #[must_use]
    pub(crate) fn owns(self, target: &str) -> bool {
        let owner = (1..=self.count).max_by_key(|number| weight(*number, target));
        owner == Some(self.number)
    }

    /// Number of the shard, from 1.
    #[must_use]
    pub(crate) fn number(self) -> u16 {
        self.number
    }

    /// Number of shards.
    #[must_use]
    pub(crate) fn count(self) -> u16 {
        self.count
    }
}

/// Returns the SHA-1 of the shard's number, a space and the target's name.
fn weight(number: u16, target: &str) -> [u8; 20] {
    Sha1::new().chain_update(number.to_string()).chain_update(b" ").chain_update(target).finalize().into()
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(number, count)| {
            Some(Self { number: number.parse().ok()?, count: count.parse().ok()? })
        });
        parsed
            .filter(|shard| (1..=shard.count).contains(&shard.number) && shard.count <= MAX_SHARDS)
            .ok_or_else(|| {
                format!("give NUMBER/COUNT, from 1/COUNT to COUNT/COUNT, with at most {MAX_SHARDS} shards")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: u16) -> impl Iterator<Item = Shard> {
        (1..=count).map(move |number| Shard { number, count })
    }

    fn owner(target: &str, count: u16) -> u16 {
        let owners: Vec<u16> =
            shards(count).filter(|shard| shard.owns(target)).map(|shard| shard.number).collect();
        assert_eq!(owners.len(), 1, "{target}: {owners:?}");
        owners[0]
    }

    #[test]
    fn a_target_belongs_to_one_shard_and_moves_only_to_a_new_one() {
        let names: Vec<String> = (0..3000).map(|number| format!("cache-{number}:6379")).collect();
        let mut of = vec![1; names.len()];
        for count in 1..=7 {
            let mut sizes = vec![0_usize; usize::from(count)];
            for (name, before) in names.iter().zip(&mut of) {
                let now = owner(name, count);
                assert!(now == *before || now == count, "{name} moved from {before} to {now} of {count}");
                *before = now;
                sizes[usize::from(now) - 1] += 1;
            }
            let fair = names.len() / usize::from(count);
            assert!(sizes.iter().all(|size| size.abs_diff(fair) < fair / 5), "{sizes:?}");
        }
    }

    /// The hash is documented and must not change, because a different one would move targets between running exporters.
    #[test]
    fn the_hash_is_that_of_the_documentation() {
        let owners: Vec<u16> = ["a:6379", "b:6379", "c:6379", "cache/10.0.0.8:6379", "\u{fc}"]
            .iter()
            .map(|name| owner(name, 5))
            .collect();
        assert_eq!(owners, OWNERS);
    }

    const OWNERS: [u16; 5] = [5, 5, 1, 5, 1];

    #[test]
    fn a_shard_is_a_number_and_a_count() {
        assert_eq!("2/5".parse(), Ok(Shard { number: 2, count: 5 }));
        assert_eq!("1/1".parse::<Shard>().unwrap().to_string(), "1/1");
        for wrong in ["", "2", "0/5", "6/5", "1/0", "-1/5", "1/257", "1/5/2", "a/b", "1/70000"] {
            assert!(wrong.parse::<Shard>().unwrap_err().contains("NUMBER/COUNT"), "{wrong}");
        }
    }
}
