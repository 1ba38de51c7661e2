//! Sources of scripts that servers have told: for the status page, never for a label.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::script::sha1::Sha1Digits;

/// Most sources that are kept.
const MAX_SOURCES: usize = 1000;

/// Most bytes that are kept of a source: its beginning is what is shown.
const MAX_KEPT: usize = 8 << 10;

/// Sources by SHA1; the first that come are kept.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    bodies: BTreeMap<Sha1Digits, Arc<[u8]>>,
}

impl Sources {
    /// Whether another one would be kept.
    #[must_use]
    pub(crate) fn has_room(&self) -> bool {
        self.bodies.len() < MAX_SOURCES
    }

    /// Keeps a source, if it is the one with this SHA1 and there is room.
    pub(crate) fn keep(&mut self, sha1: Sha1Digits, body: &[u8]) {
        if self.has_room() && Sha1Digits::of(body) == sha1 {
            let kept = body.get(..MAX_KEPT).unwrap_or(body);
            self.bodies.insert(sha1, kept.into());
        }
    }

    /// The source of the script with this SHA1; of a long one, the beginning.
    #[must_use]
    pub(crate) fn get(&self, sha1: Sha1Digits) -> Option<&Arc<[u8]>> {
        self.bodies.get(&sha1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_kept_within_limits() {
        let mut sources = Sources::default();
        let long = vec![b'x'; MAX_KEPT + 9];
        sources.keep(Sha1Digits::of(&long), &long);
        assert_eq!(sources.get(Sha1Digits::of(&long)).unwrap().len(), MAX_KEPT);
        sources.keep(Sha1Digits::of(b"another"), b"not that one");
        assert!(sources.get(Sha1Digits::of(b"another")).is_none());
        for number in 0..MAX_SOURCES {
            let body = number.to_string();
            sources.keep(Sha1Digits::of(body.as_bytes()), body.as_bytes());
        }
        assert_eq!((sources.bodies.len(), sources.has_room()), (MAX_SOURCES, false));
    }
}
