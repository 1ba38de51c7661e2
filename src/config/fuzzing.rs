//! Configuration parsers with arbitrary input, for fuzzing.

use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;

use super::address::ip_of;
use super::allow::AllowRule;
use super::file::{self, Defaults};
use super::{
    Address, Allow, ConfigError, Credentials, Endpoint, Settings, TlsFiles, WebFile, address, alertmanager,
};
use crate::cli::Cli;

/// Maximum length of an error.
const MAX_ERROR: usize = 2000;

/// Settings of a command line without flags.
static DEFAULTS: LazyLock<Option<Defaults>> = LazyLock::new(|| {
    let cli = Cli::parse_words(["redis-script-exporter"], |_| None).ok()?;
    Some(Defaults {
        settings: Settings::from_cli(&cli).ok()?,
        credentials: Credentials::from_cli(&cli).ok()?,
        tls: TlsFiles::from_cli(&cli).ok()?,
    })
});

/// Checks that an error is one line without control characters.
fn check<T>(result: Result<T, ConfigError>) {
    if let Err(error) = result {
        let text = error.to_string();
        assert!(text.len() <= MAX_ERROR && !text.chars().any(char::is_control), "{text:?}");
    }
}

/// Parses a file of `--config.file`, with the defaults of the flags.
pub(crate) fn file(text: &str) {
    if let Some(defaults) = &*DEFAULTS {
        check(file::parse(Path::new("fuzz.yml"), text, defaults, HashSet::new(), |_| None));
    }
}

/// Parses a file of `--web.config.file`.
pub(crate) fn web_file(text: &str) {
    check(WebFile::parse(Path::new("fuzz.yml"), text));
}

/// Parses a file of `--alertmanager.config.file`.
pub(crate) fn alertmanager_file(text: &str) {
    check(alertmanager::parse(Path::new("fuzz.yml"), text));
}

/// Parses the entries of an allow list, one per line; the last line is a host.
pub(crate) fn allow_list(text: &str) {
    let (rules, host) = text.rsplit_once('\n').unwrap_or(("", text));
    let rules: Vec<AllowRule> = rules.lines().filter_map(|line| AllowRule::parse(line).ok()).collect();
    let is_empty = rules.is_empty();
    let allow = Allow::new(rules);
    for port in [1, 6379, u16::MAX] {
        let admitted = allow.may_admit(&Endpoint::Tcp(host.to_owned(), port));
        assert!(!(is_empty && admitted), "without a rule nothing is admitted");
        let Some(ip) = ip_of(host) else { continue };
        // An address is admitted in all of its forms or in none.
        for spelling in [ip.to_string(), format!("{ip}.")] {
            assert_eq!(allow.may_admit(&Endpoint::Tcp(spelling, port)), admitted, "{host:?} is {ip}");
        }
    }
    // If rules are given, seeds admit no port other than their own.
    let seed = Endpoint::Tcp(host.to_owned(), 6379);
    let of_entry = Allow::of_discovery(Some(Vec::new()), &[seed]);
    assert!(!of_entry.may_admit(&Endpoint::Tcp(host.to_owned(), 6380)), "{host:?}");
}

/// Parses the address of a server.
pub(crate) fn address(text: &str) {
    let _ = address::shown(text);
    let Ok((parsed, _)) = Address::parse(text) else { return };
    let normal = parsed.endpoint.clone().normal();
    assert_eq!(normal.clone().normal(), normal, "{text:?}");
    assert_eq!(normal.identity(), parsed.endpoint.identity(), "{text:?}");
}
