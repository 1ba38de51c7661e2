//! Where a module's targets may be: host names with `*`, IP addresses and ranges, ports.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The port of a rule that names none, as of an address that names none.
const DEFAULT_PORT: u16 = 6379;

/// The addresses that a module may be used for. What no rule names is never connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    rules: Vec<Rule>,
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    place: Place,
    ports: RangeInclusive<u16>,
}

/// What a rule admits but for the port.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Whatever there is.
    Anywhere,
    /// Host names; `*` stands for any characters. In lower case.
    Name(String),
    /// Addresses that begin with these bits.
    Range(Range),
}

/// An address and how many of its bits count; the others are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    /// Of an IPv4 address the upper 32.
    bits: u128,
    length: u32,
    is_v4: bool,
}

/// An entry that is not understood: what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RuleError {
    #[error(
        "is no host, address or range with or without a port, as in *.cache.internal:6379 or 10.0.0.0/8:*"
    )]
    Form,
    #[error("has a port that is none: give a number, a range as 7000-7005, or * for all")]
    Port,
    #[error("has more bits than the address")]
    Length,
    #[error("would match host names too; write a range of addresses as 10.0.0.0/8")]
    NotARange,
}

impl Allow {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// Whether a host may be connected to whatever it resolves to, because of its name.
    #[must_use]
    pub fn admits_name(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        // What is an address is admitted as one.
        let name = host.parse::<IpAddr>().is_err();
        self.rules.iter().filter(|rule| rule.ports.contains(&port)).any(|rule| match &rule.place {
            Place::Anywhere => true,
            Place::Name(pattern) => name && matches(pattern.as_bytes(), host.as_bytes()),
            Place::Range(_) => false,
        })
    }

    /// Whether any address may be connected to at this port because of what it is, not of how it is called.
    #[must_use]
    pub fn admits_addresses(&self, port: u16) -> bool {
        let mut rules = self.rules.iter().filter(|rule| rule.ports.contains(&port));
        rules.any(|rule| matches!(rule.place, Place::Range(_)))
    }

    /// Whether an address may be connected to, whatever it is called.
    #[must_use]
    pub fn admits_address(&self, address: IpAddr, port: u16) -> bool {
        self.rules.iter().filter(|rule| rule.ports.contains(&port)).any(|rule| match &rule.place {
            Place::Anywhere => true,
            Place::Name(_) => false,
            Place::Range(range) => range.contains(address),
        })
    }
}

impl Rule {
    /// Reads `*.cache.internal:6379`, `10.0.0.0/8`, `127.0.0.1:*`, `[fd00::/8]:7000-7005`.
    pub(super) fn parse(text: &str) -> Result<Self, RuleError> {
        let (place, ports) = split(text.trim())?;
        Ok(Self { place: Place::parse(place)?, ports: ports_of(ports)? })
    }
}

/// The place and the port, which may be missing.
fn split(text: &str) -> Result<(&str, Option<&str>), RuleError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (place, rest) = rest.split_once(']').ok_or(RuleError::Form)?;
        return match rest {
            "" => Ok((place, None)),
            _ => Ok((place, Some(rest.strip_prefix(':').ok_or(RuleError::Form)?))),
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text, None));
    }
    // The colons of an IPv6 range stand before the slash.
    let searched = text.find('/').unwrap_or(0);
    match text.split_at_checked(searched).and_then(|(_, rest)| rest.rfind(':')) {
        None => Ok((text, None)),
        Some(colon) => {
            let (place, port) =
                text.split_at_checked(searched.saturating_add(colon)).ok_or(RuleError::Form)?;
            Ok((place, port.strip_prefix(':')))
        }
    }
}

fn ports_of(text: Option<&str>) -> Result<RangeInclusive<u16>, RuleError> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(RuleError::Port);
    match text {
        None => Ok(DEFAULT_PORT..=DEFAULT_PORT),
        Some("*") => Ok(1..=u16::MAX),
        Some(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let ports = port(first)?..=port(last)?;
            if ports.is_empty() { Err(RuleError::Port) } else { Ok(ports) }
        }
    }
}

impl Place {
    fn parse(text: &str) -> Result<Self, RuleError> {
        if text == "*" {
            return Ok(Self::Anywhere);
        }
        if let Some((address, length)) = text.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| RuleError::Form)?;
            return Range::new(address, length.parse().map_err(|_| RuleError::Form)?).map(Self::Range);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Range::new(address, if address.is_ipv4() { 32 } else { 128 }).map(Self::Range);
        }
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.*".contains(c)) {
            return Err(RuleError::Form);
        }
        // 10.0.* is also the beginning of the host name 10.0.somewhere.example.
        if !text.chars().any(|c| c.is_ascii_alphabetic()) {
            return Err(RuleError::NotARange);
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

impl Range {
    fn new(address: IpAddr, length: u32) -> Result<Self, RuleError> {
        let (bits, is_v4) = bits(address);
        if length > if is_v4 { 32 } else { 128 } {
            return Err(RuleError::Length);
        }
        Ok(Self { bits: bits & mask(length), length, is_v4 })
    }

    fn contains(self, address: IpAddr) -> bool {
        // An IPv4 address in the clothes of IPv6 leads where the IPv4 address does.
        let (bits, is_v4) = bits(address.to_canonical());
        is_v4 == self.is_v4 && bits & mask(self.length) == self.bits
    }
}

/// The bits of an address from the uppermost on, and whether it is one of IPv4.
fn bits(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, true),
        IpAddr::V6(address) => (address.to_bits(), false),
    }
}

/// The `length` uppermost bits.
fn mask(length: u32) -> u128 {
    !u128::MAX.checked_shr(length).unwrap_or(0)
}

/// Whether `*` in `pattern` can stand for something that makes it `text`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when what follows the last `*` does not fit: one character later.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                (pattern, again) = (rest, Some((rest, text)));
            }
            (Some((wanted, rest)), Some((found, text_rest))) if wanted == found => {
                (pattern, text) = (rest, text_rest);
            }
            (None, None) => return true,
            _ => match again {
                Some((after, [_, later @ ..])) => {
                    (pattern, text, again) = (after, later, Some((after, later)));
                }
                _ => return false,
            },
        }
    }
}

/// A list of these rules, for tests.
#[cfg(test)]
pub(crate) fn allowing(rules: &[&str]) -> Allow {
    Allow::new(rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allow(rules: &[&str]) -> Allow {
        allowing(rules)
    }

    fn address(allow: &Allow, address: &str, port: u16) -> bool {
        allow.admits_address(address.parse().unwrap(), port)
    }

    #[test]
    fn names_are_admitted_by_name_and_port() {
        let allow = allow(&["*.cache.internal:6379", "redis-*-a:7000-7002", "Exact.Example"]);
        for (host, port, fine) in [
            ("a.cache.internal", 6379, true),
            ("A.Cache.Internal.", 6379, true),
            ("a.b.cache.internal", 6379, true),
            ("cache.internal", 6379, false),
            ("a.cache.internal", 6380, false),
            ("a.cache.internal.evil.example", 6379, false),
            ("redis-1-a", 7001, true),
            ("redis-1-b", 7001, false),
            ("redis-1-a", 7003, false),
            ("exact.example", 6379, true),
            ("10.0.0.1", 6379, false),
        ] {
            assert_eq!(allow.admits_name(host, port), fine, "{host}:{port}");
        }
        assert!(!address(&allow, "10.0.0.1", 6379), "no rule is about addresses");
    }

    #[test]
    fn addresses_are_admitted_by_range_and_port() {
        let allow = allow(&["10.0.0.0/8", "127.0.0.1:*", "[fd00::/8]:7000", "fe80::1", "192.168.1.7/24:1-9"]);
        for (ip, port, fine) in [
            ("10.255.0.1", 6379, true),
            ("11.0.0.1", 6379, false),
            ("10.0.0.1", 6380, false),
            ("127.0.0.1", 1, true),
            ("127.0.0.2", 1, false),
            ("::ffff:10.1.2.3", 6379, true),
            ("::ffff:11.1.2.3", 6379, false),
            ("fd12::1", 7000, true),
            ("fe12::1", 7000, false),
            ("fd12::1", 6379, false),
            ("fe80::1", 6379, true),
            ("192.168.1.200", 9, true),
            ("192.168.2.200", 9, false),
        ] {
            assert_eq!(address(&allow, ip, port), fine, "{ip} {port}");
        }
        assert!(!allow.admits_name("10.evil.example", 6379) && !allow.admits_name("127.0.0.1", 1));
    }

    #[test]
    fn a_star_alone_is_everything_on_its_ports() {
        let (default, all) = (allow(&["*"]), allow(&["*:*"]));
        assert!(default.admits_name("x", 6379) && address(&default, "::1", 6379));
        assert!(!default.admits_name("x", 22) && !address(&default, "::1", 22));
        assert!(all.admits_name("x", 22) && address(&all, "10.0.0.1", 22));
        assert!(!Allow::default().admits_name("x", 6379));
    }

    #[test]
    fn what_is_not_understood_says_what_would_be() {
        for (text, error) in [
            ("", RuleError::Form),
            ("a b", RuleError::Form),
            ("redis://a", RuleError::Form),
            ("user@host:1", RuleError::Form),
            ("[::1", RuleError::Form),
            ("[::1]x", RuleError::Form),
            ("10.0.0/8", RuleError::Form),
            ("a:b:c", RuleError::Form),
            ("a:0", RuleError::Port),
            ("a:9-1", RuleError::Port),
            ("a:65536", RuleError::Port),
            ("10.0.0.0/33", RuleError::Length),
            ("::/129", RuleError::Length),
            ("10.*:6379", RuleError::NotARange),
            ("*.*", RuleError::NotARange),
        ] {
            assert_eq!(Rule::parse(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_or_an_error(text in "\\PC{0,30}|[0-9a-f.:/*\\[\\]-]{0,30}") {
            let _ = Rule::parse(&text);
        }

        #[test]
        fn a_pattern_made_of_a_text_matches_it(text in "[a-c]{0,8}", cut in any::<[bool; 8]>()) {
            let pattern: String =
                text.chars().zip(cut).map(|(c, cut)| if cut { '*' } else { c }).collect();
            prop_assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            let longer = text.clone() + "d";
            prop_assert!(!matches(pattern.as_bytes(), longer.as_bytes()) || pattern.ends_with('*'));
        }
    }
}
