//! Script labels of a target. Their number is limited: only the first scripts get their own label.

use std::collections::BTreeMap;

use super::identity::{Identity, Label};

/// Label of scripts that were first called after the limit was reached.
pub(crate) const OTHER: &str = "other";

/// Script labels of a target.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    /// Maximum number of labels besides [`OTHER`].
    max: usize,
    /// Identities by label; at most `max`.
    identities: BTreeMap<Label, Identity>,
    /// Label of all other scripts.
    other: Label,
}

impl Labels {
    /// Creates an empty set of at most `max` labels.
    #[must_use]
    pub(crate) fn new(max: usize) -> Self {
        Self { max, identities: BTreeMap::new(), other: Label::new(OTHER) }
    }

    /// Restores saved labels, up to the limit.
    pub(crate) fn restore(&mut self, identities: Vec<Identity>) {
        for identity in identities {
            self.assign(&identity);
        }
    }

    /// True if a script has this label, or if it is [`OTHER`].
    #[must_use]
    pub(crate) fn has(&self, label: &Label) -> bool {
        *label == self.other || self.identities.contains_key(label)
    }

    /// Label of scripts without their own label.
    #[must_use]
    pub(crate) fn other(&self) -> &Label {
        &self.other
    }

    /// Returns the label under which `script` is counted, and true if it is the script's own label (not [`OTHER`]).
    pub(crate) fn assign(&mut self, script: &Identity) -> (Label, bool) {
        if script.label == self.other {
            return (self.other.clone(), false);
        }
        if let Some(known) = self.identities.get_mut(&script.label) {
            // The script was restored from the state file, or its first call was an EVALSHA.
            if known.beginning.get().is_none() && script.beginning.get().is_some() {
                known.beginning = script.beginning.clone();
            }
            return (script.label.clone(), true);
        }
        if self.identities.len() >= self.max {
            return (self.other.clone(), false);
        }
        self.identities.insert(script.label.clone(), script.clone());
        (script.label.clone(), true)
    }

    /// Adds the SHA1 reported by the server to a script that was known only by its fingerprint.
    pub(crate) fn resolve(&mut self, label: &Label, sha1: &Identity) {
        if let Some(identity) = self.identities.get_mut(label)
            && identity.sha1.is_none()
            && identity.name.is_empty()
        {
            let beginning = identity.beginning.clone();
            *identity = Identity { label: label.clone(), beginning, ..sha1.clone() };
        }
    }

    /// Identity with this label.
    #[must_use]
    pub(crate) fn get(&self, label: &Label) -> Option<&Identity> {
        self.identities.get(label)
    }

    /// Identities with a label.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Identity> {
        self.identities.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Origin;

    #[test]
    fn the_first_scripts_have_labels() {
        let mut labels = Labels::new(2);
        let [a, b, c] = ["a", "b", "c"].map(|name| Identity::from_function(name.as_bytes()));
        assert_eq!(labels.assign(&a), (a.label.clone(), true));
        assert_eq!(labels.assign(&b), (b.label.clone(), true));
        assert_eq!(labels.assign(&c), (Label::new(OTHER), false));
        assert_eq!(labels.assign(&a), (a.label.clone(), true));
        assert_eq!(labels.known().count(), 2);
    }

    #[test]
    fn a_fingerprint_gets_the_sha1_that_the_server_names() {
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
