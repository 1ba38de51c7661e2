//! The script labels of a target: limited in number, first come, first served.

use std::collections::BTreeMap;

use super::identity::{Identity, Label};

/// The label of the scripts that came after the limit was reached.
pub(crate) const OTHER: &str = "other";

/// The script labels that a target has given out.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    /// How many there may be besides [`OTHER`].
    max: usize,
    /// What is known of each; at most `max`.
    known: BTreeMap<Label, Identity>,
    /// The label for the rest.
    other: Label,
}

impl Labels {
    /// No labels yet, room for `max`.
    #[must_use]
    pub(crate) fn new(max: usize) -> Self {
        Self { max, known: BTreeMap::new(), other: Label::new(OTHER) }
    }

    /// Takes back labels that were given out before, as far as there is room.
    pub(crate) fn restore(&mut self, known: Vec<Identity>) {
        for identity in known {
            self.assign(&identity);
        }
    }

    /// Whether this label was given out, or is that of the rest.
    #[must_use]
    pub(crate) fn has(&self, label: &Label) -> bool {
        *label == self.other || self.known.contains_key(label)
    }

    /// The label for scripts that have none of their own.
    #[must_use]
    pub(crate) fn other(&self) -> &Label {
        &self.other
    }

    /// The label to count `script` under, and whether that is its own (not [`OTHER`]).
    pub(crate) fn assign(&mut self, script: &Identity) -> (Label, bool) {
        if script.label == self.other {
            return (self.other.clone(), false);
        }
        if self.known.contains_key(&script.label) {
            return (script.label.clone(), true);
        }
        if self.known.len() >= self.max {
            return (self.other.clone(), false);
        }
        self.known.insert(script.label.clone(), script.clone());
        (script.label.clone(), true)
    }

    /// Adds the SHA1 that the server named for a script of which only the fingerprint was known.
    pub(crate) fn resolve(&mut self, label: &Label, sha1: &Identity) {
        if let Some(known) = self.known.get_mut(label)
            && known.sha1.is_none()
            && known.name.is_empty()
        {
            *known = Identity { label: label.clone(), ..sha1.clone() };
        }
    }

    /// What is known of this label.
    #[must_use]
    pub(crate) fn get(&self, label: &Label) -> Option<&Identity> {
        self.known.get(label)
    }

    /// What is known of each label.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Identity> {
        self.known.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Origin;

    #[test]
    fn the_first_come_are_served() {
        let mut labels = Labels::new(2);
        let [a, b, c] = ["a", "b", "c"].map(|name| Identity::from_function(name.as_bytes()));
        assert_eq!(labels.assign(&a), (a.label.clone(), true));
        assert_eq!(labels.assign(&b), (b.label.clone(), true));
        assert_eq!(labels.assign(&c), (Label::new(OTHER), false));
        assert_eq!(labels.assign(&a), (a.label.clone(), true));
        assert_eq!(labels.known().count(), 2);
    }

    #[test]
    fn a_fingerprint_takes_over_the_sha1_that_the_server_names() {
        let mut labels = Labels::new(2);
        let cut = Identity::from_function(&[b'x'; 200]);
        labels.assign(&cut);
        let named = Identity::from_sha1(&[b'a'; 40], Origin::Server).unwrap();
        labels.resolve(&cut.label, &named);
        let known = labels.known().next().unwrap();
        assert_eq!(
            (known.label.clone(), known.sha1, known.origin),
            (cut.label.clone(), named.sha1, Origin::Server)
        );
        labels.assign(&cut);
        assert_eq!(labels.known().next().unwrap().origin, Origin::Server);
    }
}
