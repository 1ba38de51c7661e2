//! Sources of scripts received from servers, for the status page; never used for labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::script::sha1::Sha1Digits;

/// Maximum number of sources.
const MAX_SOURCES: usize = 1000;

/// Maximum length of a source, in bytes; longer sources are truncated.
const MAX_LENGTH: usize = 8 << 10;

/// Sources by SHA1. If there are too many, the first ones are kept.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    bodies: BTreeMap<Sha1Digits, Arc<[u8]>>,
}

impl Sources {
    /// True if no more sources can be added.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.bodies.len() >= MAX_SOURCES
    }

    /// Adds a source, unless its SHA1 differs from `sha1` or the limit is reached.
    pub(crate) fn insert(&mut self, sha1: Sha1Digits, body: &[u8]) {
        if !self.is_full() && Sha1Digits::of(body) == sha1 {
            let beginning = body.get(..MAX_LENGTH).unwrap_or(body);
            self.bodies.insert(sha1, beginning.into());
        }
    }

    /// Returns the source with this SHA1, or only its beginning if it is long.
    #[must_use]
    pub(crate) fn get(&self, sha1: Sha1Digits) -> Option<&Arc<[u8]>> {
        self.bodies.get(&sha1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_length_of_sources_are_limited() {
        let mut sources = Sources::default();
        let long = vec![b'x'; MAX_LENGTH + 9];
        sources.insert(Sha1Digits::of(&long), &long);
        assert_eq!(sources.get(Sha1Digits::of(&long)).unwrap().len(), MAX_LENGTH);
        sources.insert(Sha1Digits::of(b"another"), b"not that one");
        assert!(sources.get(Sha1Digits::of(b"another")).is_none());
        for number in 0..MAX_SOURCES {
            let body = number.to_string();
            sources.insert(Sha1Digits::of(body.as_bytes()), body.as_bytes());
        }
        assert_eq!((sources.bodies.len(), sources.is_full()), (MAX_SOURCES, true));
    }
}
