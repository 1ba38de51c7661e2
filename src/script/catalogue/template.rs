//! Templates: scripts that a program completes at run time, recognized by their fixed parts.

use std::collections::HashSet;

use memchr::memmem;

use crate::script::identity::Label;

/// Minimum number of bytes in the slow log that must match fixed parts.
const MIN_FIXED: usize = 24;

/// Maximum number of templates.
pub(super) const MAX_TEMPLATES: usize = 500;

/// Maximum number of fixed parts of a template.
const MAX_PARTS: usize = 64;

/// Script with values that are known only at run time.
#[derive(Debug, Clone)]
pub(super) struct Template {
    label: Label,
    /// Fixed parts around the values; at least two.
    parts: Vec<Vec<u8>>,
}

impl Template {
    /// Creates a template; `None` if its fixed parts are too short or too many to recognize it.
    pub(super) fn new(label: Label, parts: &[Vec<u8>]) -> Option<Self> {
        let fixed: usize = parts.iter().map(Vec::len).sum();
        let is_one = (2..=MAX_PARTS).contains(&parts.len()) && fixed >= MIN_FIXED;
        is_one.then(|| Self { label, parts: parts.to_vec() })
    }

    pub(super) fn label(&self) -> &Label {
        &self.label
    }

    /// True if a body with this beginning in the slow log and this length can be this script. At least half of the beginning, and at
    /// least [`MIN_FIXED`] bytes of it, must match fixed parts.
    pub(super) fn matches(&self, beginning: &[u8], length: usize) -> bool {
        // Programs may trim a script before they send it.
        self.matches_form(beginning, length, false) || self.matches_form(beginning, length, true)
    }

    fn matches_form(&self, beginning: &[u8], length: usize, is_trimmed: bool) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else { return false };
        let (first, last) = if is_trimmed {
            (first.trim_ascii_start(), last.trim_ascii_end())
        } else {
            (first.as_slice(), last.as_slice())
        };
        let fixed: usize = first.len() + last.len() + middle.iter().map(Vec::len).sum::<usize>();
        if fixed > length {
            return false;
        }
        let is_whole = beginning.len() == length;
        let seen = first.len().min(beginning.len());
        if beginning.get(..seen) != first.get(..seen) || is_whole && !beginning.ends_with(last) {
            return false;
        }
        let end = if is_whole { beginning.len() - last.len() } else { beginning.len() };
        let (mut matched, mut rest) = (seen, beginning.get(seen..end).unwrap_or_default());
        let mut middle = middle.iter();
        for part in middle.by_ref() {
            let Some(at) = memmem::find(rest, part) else {
                // In a truncated body, the value may extend past the end.
                if is_whole {
                    return false;
                }
                break;
            };
            matched += part.len();
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        if is_whole {
            matched += last.len();
        }
        matched >= MIN_FIXED && matched * 2 >= beginning.len()
    }
}

/// Returns the name of the matching template; `None` if no template matches, or templates with different names do.
pub(super) fn only_match<'a>(
    templates: &'a [Template],
    beginning: &[u8],
    length: usize,
) -> Option<&'a Label> {
    let found = templates.iter().filter(|template| template.matches(beginning, length));
    let names: HashSet<&Label> = found.map(Template::label).take(2).collect();
    if names.len() == 1 { names.into_iter().next() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(name: &str, parts: &[&str]) -> Template {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
        Template::new(Label::new(name), &parts).unwrap()
    }

    /// True if a body is recognized from its form in the slow log.
    fn is_match(template: &Template, body: &str) -> bool {
        template.matches(&body.as_bytes()[..body.len().min(128)], body.len())
    }

    #[test]
    fn whole_bodies_match_all_fixed_parts_in_order() {
        let clear = template("clear", &["return redis.call('DEL', '", ":x', '", "')"]);
        assert!(is_match(&clear, "return redis.call('DEL', 'a:x', 'b')"));
        assert!(is_match(&clear, "return redis.call('DEL', ':x', '')"));
        for other in [
            "return redis.call('DEL', 'a:x', 'b') ",
            " return redis.call('DEL', 'a:x', 'b')",
            "return redis.call('DEL', 'a:y', 'b')",
            "return redis.call('DEL', 'a:x', ')",
            "return redis.call('GET', 'a:x', 'b')",
            "return redis.call('DEL', '",
            "",
        ] {
            assert!(!is_match(&clear, other), "{other}");
        }
        let long = format!("return redis.call('DEL', '{}:x', 'b')", "v".repeat(60));
        assert!(!is_match(&clear, &long), "less than half of it is fixed");
    }

    #[test]
    fn cut_bodies_match_what_the_slow_log_has() {
        let head = "local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('PEXPIRE', KEYS[1], ";
        let tail = format!(") end {} return n", "-- x".repeat(30));
        let limit = template("limit", &[head, &tail]);
        for value in ["1000", "", "KEYS[2]"] {
            assert!(is_match(&limit, &format!("{head}{value}{tail}")));
        }
        // The slow log contains only the length of the truncated part.
        assert!(is_match(&limit, &format!("{head}1{}", tail.to_uppercase())));
        assert!(!is_match(&limit, &format!("{head}1{}", tail.strip_suffix(" n").unwrap())));
        assert!(!is_match(&limit, &format!("{}1{tail}", head.to_uppercase())));
        let late = template("late", &[&"-- y\n".repeat(40), "x"]);
        assert!(is_match(&late, &format!("{}1x", "-- y\n".repeat(40))));
        assert!(!is_match(&late, &"-- y\n".repeat(40)));
        let early = template("early", &["local a = ", &format!("{} return a", "x".repeat(200))]);
        assert!(!is_match(&early, &format!("local a = {}", "y".repeat(300))), "too little is fixed");
    }

    #[test]
    fn trimmed_bodies_match_too() {
        let get = template("get", &["\n  return redis.call('GET', '", "')\n"]);
        assert!(is_match(&get, "\n  return redis.call('GET', 'a')\n"));
        assert!(is_match(&get, "return redis.call('GET', 'a')"));
    }

    #[test]
    fn a_body_that_matches_two_templates_gets_no_name() {
        let one = template("one", &["return redis.call('GET', '", "')"]);
        let two = template("two", &["return redis.call('GET', '", ":x')"]);
        let both = [one.clone(), two, one];
        let name = |body: &str| only_match(&both, body.as_bytes(), body.len()).map(Label::as_str);
        assert_eq!(name("return redis.call('GET', 'a')"), Some("one"));
        assert_eq!(name("return redis.call('GET', 'a:x')"), None);
        assert_eq!(name("return 1"), None);
    }

    #[test]
    fn templates_that_are_too_short_are_ignored() {
        let new = |parts: &[&[u8]]| {
            Template::new(Label::new("x"), &parts.iter().map(|p| p.to_vec()).collect::<Vec<_>>())
        };
        assert!(new(&[b"redis.call('", b"')"]).is_none());
        assert!(new(&[b"return redis.call('DEL', KEYS[1])"]).is_none());
        assert!(new(&vec![b"redis.call".as_slice(); MAX_PARTS + 1]).is_none());
    }

    proptest! {
        /// Bodies completed from a template are recognized with any values, if a sufficient part of them is fixed.
        #[test]
        fn completed_templates_match(
            first in "[a-c ]{64,90}",
            others in prop::collection::vec(("[a-c ]{0,9}", "[a-c ]{12,60}"), 1..4),
        ) {
            let parts: Vec<&str> = [first.as_str()].into_iter().chain(others.iter().map(|(_, part)| part.as_str())).collect();
            let body = others.iter().fold(first.clone(), |body, (value, part)| body + value + part);
            prop_assert!(is_match(&template("t", &parts), &body));
        }
    }
}
