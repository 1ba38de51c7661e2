//! Rules, one per file. A new rule needs a file, a `mod` line and an entry in [`RULES`]; a test fails if one of them is missing.

mod client_value;
mod collection_scan_loop;
mod could_be_read_only;
mod endless_loop;
mod global_write;
mod invalid_flag;
mod invalid_shebang;
mod keys_command;
mod linear_command_in_loop;
mod long_loop;
mod loop_over_collection;
mod missing_no_writes;
mod other_lua;
mod scan_loop;
mod syntax_error;
mod template;
mod too_complex;
mod unbounded_loop;
mod undeclared_key;
mod unknown_rule;
mod unpack_collection;
mod unused_allow;
mod value_in_body;
mod whole_collection_read;
mod whole_hash_read;
mod write_before_long_work;
mod write_despite_no_writes;

pub(crate) use self::too_complex::unchecked;
use crate::lint::rule::Rule;

/// All rules, sorted by name.
pub static RULES: &[&Rule] = &[
    &client_value::RULE,
    &collection_scan_loop::RULE,
    &could_be_read_only::RULE,
    &endless_loop::RULE,
    &global_write::RULE,
    &invalid_flag::RULE,
    &invalid_shebang::RULE,
    &keys_command::RULE,
    &linear_command_in_loop::RULE,
    &long_loop::RULE,
    &loop_over_collection::RULE,
    &missing_no_writes::RULE,
    &other_lua::RULE,
    &scan_loop::RULE,
    &syntax_error::RULE,
    &template::RULE,
    &too_complex::RULE,
    &unbounded_loop::RULE,
    &undeclared_key::RULE,
    &unknown_rule::RULE,
    &unpack_collection::RULE,
    &unused_allow::RULE,
    &value_in_body::RULE,
    &whole_collection_read::RULE,
    &whole_hash_read::RULE,
    &write_before_long_work::RULE,
    &write_despite_no_writes::RULE,
];

/// Returns the rule with this name.
#[must_use]
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.binary_search_by_key(&name, |rule| rule.name).ok().and_then(|index| RULES.get(index).copied())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn every_file_is_a_rule_of_its_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lint/rules");
        let files =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<String> = files.filter(|file| file != "mod.rs").collect();
        let rules = RULES.iter().map(|rule| format!("{}.rs", rule.name.replace('-', "_")));
        assert_eq!(rules.collect::<BTreeSet<String>>(), files);
    }

    #[test]
    fn rules_are_sorted_and_found() {
        assert!(RULES.is_sorted_by_key(|rule| rule.name));
        assert!(RULES.iter().all(|expected| rule(expected.name) == Some(*expected)));
        assert_eq!(rule("no-such-rule"), None);
    }
}
