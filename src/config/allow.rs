//! Where the targets of a module or of discovery may be: host names with `*`, IP addresses and ranges, ports.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Endpoint;
use super::address::{ip_of, normal_name};

/// The port of a rule that names none, as of an address that names none.
const DEFAULT_PORT: u16 = 6379;

/// Networks that are remembered of what the names of an entry have resolved to; the oldest gives way.
const MAX_LEARNED: usize = 64;

/// Where to connect to. What no rule names is never connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allow {
    rules: Vec<Rule>,
    /// Further networks, at every port; `None` if there are none ever.
    learned: Option<Learned>,
}

/// Networks of the addresses that the names of an entry have resolved to. No part of the configuration, so that two are
/// always equal.
#[derive(Debug, Clone, Default)]
struct Learned(Arc<Mutex<VecDeque<Range>>>);

impl PartialEq for Learned {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Learned {}

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
        Self { rules, learned: None }
    }

    /// Where an entry with `discover` finds servers: at its own addresses, and where `rules` say. Without rules: in the
    /// networks (/24 of IPv4, /64 of IPv6) of its own addresses, as they are written and as they resolve, and at names
    /// under the domains of its own names.
    pub(super) fn of_discovery(rules: Option<Vec<Rule>>, seeds: &[Endpoint]) -> Self {
        let learned = rules.is_none().then(Learned::default);
        let of_seed = |seed: &Endpoint| {
            let Endpoint::Tcp(host, port) = seed else { return Vec::new() };
            let (host, any) = (normal_name(host), 1..=u16::MAX);
            match (ip_of(&host), &rules) {
                (Some(ip), Some(_)) => {
                    vec![Rule { place: Place::Range(Range::of(ip)), ports: *port..=*port }]
                }
                (Some(ip), None) => vec![Rule { place: Place::Range(Range::around(ip)), ports: any }],
                (None, Some(_)) => vec![Rule { place: Place::Name(host), ports: *port..=*port }],
                (None, None) => {
                    // Whoever likes can have a name under a domain of one label, as com is one.
                    let domain =
                        host.split_once('.').map(|(_, domain)| domain).filter(|one| one.contains('.'));
                    let below = domain.map(|domain| Place::Name(format!("*.{domain}")));
                    let places = below.into_iter().chain([Place::Name(host.clone())]);
                    places.map(|place| Rule { place, ports: any.clone() }).collect()
                }
            }
        };
        let of_seeds: Vec<Rule> = seeds.iter().flat_map(of_seed).collect();
        Self { rules: rules.into_iter().flatten().chain(of_seeds).collect(), learned }
    }

    /// Whether the networks of what names resolve to are admitted, once they are [learned](Self::learn).
    #[must_use]
    pub(crate) fn learns(&self) -> bool {
        self.learned.is_some()
    }

    /// Admits the networks of these addresses from now on, here and in all copies.
    pub(crate) fn learn(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let Some(Learned(learned)) = &self.learned else { return };
        let mut learned = learned.lock();
        for network in addresses.into_iter().map(Range::around) {
            learned.retain(|known| *known != network);
            learned.push_back(network);
            if learned.len() > MAX_LEARNED {
                learned.pop_front();
            }
        }
    }

    /// Goes on with what another one has learned.
    pub(crate) fn learn_from(&mut self, other: &Self) {
        if self.learned.is_some() && other.learned.is_some() {
            self.learned.clone_from(&other.learned);
        }
    }

    /// Whether an endpoint may be connected to as far as can be told without resolving its name.
    #[must_use]
    pub(crate) fn may_admit(&self, endpoint: &Endpoint) -> bool {
        let Endpoint::Tcp(host, port) = endpoint else { return false };
        match ip_of(host) {
            Some(ip) => self.admits_address(ip, *port) || self.admits_name(host, *port),
            None => self.admits_name(host, *port) || self.admits_addresses(*port),
        }
    }

    /// Whether a host may be connected to whatever it resolves to, because of its name.
    #[must_use]
    pub(crate) fn admits_name(&self, host: &str, port: u16) -> bool {
        let host = normal_name(host);
        // What is an address is admitted as one.
        let name = ip_of(&host).is_none();
        self.rules.iter().filter(|rule| rule.ports.contains(&port)).any(|rule| match &rule.place {
            Place::Anywhere => true,
            Place::Name(pattern) => name && matches(pattern.as_bytes(), host.as_bytes()),
            Place::Range(_) => false,
        })
    }

    /// Whether any address may be connected to at this port because of what it is, not of how it is called.
    #[must_use]
    pub(crate) fn admits_addresses(&self, port: u16) -> bool {
        let mut rules = self.rules.iter().filter(|rule| rule.ports.contains(&port));
        self.learns() || rules.any(|rule| matches!(rule.place, Place::Range(_)))
    }

    /// Whether an address may be connected to, whatever it is called.
    #[must_use]
    pub(crate) fn admits_address(&self, address: IpAddr, port: u16) -> bool {
        let by_rule =
            self.rules.iter().filter(|rule| rule.ports.contains(&port)).any(|rule| match &rule.place {
                Place::Anywhere => true,
                Place::Name(_) => false,
                Place::Range(range) => range.contains(address),
            });
        by_rule
            || self.learned.as_ref().is_some_and(|Learned(learned)| {
                let learned = learned.lock();
                learned.iter().any(|network| network.contains(address))
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
            return Ok(Self::Range(Range::of(address.to_canonical())));
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

    /// This address alone.
    fn of(address: IpAddr) -> Self {
        let (bits, is_v4) = bits(address);
        Self { bits, length: if is_v4 { 32 } else { 128 }, is_v4 }
    }

    /// The network of an address: /24 of IPv4, /64 of IPv6.
    fn around(address: IpAddr) -> Self {
        let (bits, is_v4) = bits(address.to_canonical());
        let length = if is_v4 { 24 } else { 64 };
        Self { bits: bits & mask(length), length, is_v4 }
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
        let allow = allow(&[
            "10.0.0.0/8",
            "127.0.0.1:*",
            "[fd00::/8]:7000",
            "fe80::1",
            "192.168.1.7/24:1-9",
            "::ffff:172.16.0.1",
        ]);
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
            ("172.16.0.1", 6379, true),
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

    fn seeds(seeds: &[&str]) -> Vec<Endpoint> {
        let seed = |seed: &&str| Endpoint::Tcp((*seed).to_owned(), 7000);
        seeds.iter().map(seed).collect()
    }

    #[test]
    fn without_rules_discovery_stays_in_the_networks_and_domains_of_its_own_addresses() {
        let seeds =
            seeds(&["10.1.2.3", "fd00::1:2", "a.cache.internal", "b.example", "single", "0x7f000001"]);
        let allow = Allow::of_discovery(None, &seeds);
        for (host, admitted) in [
            ("10.1.2.255", true),
            ("::ffff:10.1.2.9", true),
            ("167838211", true),
            ("10.1.3.3", false),
            ("fd00::ffff:1", true),
            ("fd00:0:0:1::1", false),
            ("127.0.0.9", true),
            ("::1", false),
        ] {
            assert_eq!(allow.may_admit(&Endpoint::Tcp(host.to_owned(), 1)), admitted, "{host}");
        }
        for (host, admitted) in [
            ("A.cache.internal.", true),
            ("z.cache.internal", true),
            ("y.z.cache.internal", true),
            ("cache.internal", false),
            ("a.internal", false),
            ("b.example", true),
            ("c.example", false),
            ("evil.example", false),
            ("single", true),
            ("double", false),
            ("a.single", false),
            ("a.cache.internal.evil.example", false),
        ] {
            assert_eq!(allow.admits_name(host, 22), admitted, "{host}");
            assert!(
                allow.may_admit(&Endpoint::Tcp(host.to_owned(), 22)),
                "{host}: it may resolve to what is"
            );
        }
        let copy = allow.clone();
        assert!(!address(&copy, "10.9.9.1", 1));
        allow.learn(["10.9.9.200".parse().unwrap(), "::ffff:10.9.8.1".parse().unwrap()]);
        assert!(address(&copy, "10.9.9.1", 1) && address(&copy, "10.9.8.2", 1) && copy == allow);
        for block in 0..=255 {
            allow.learn([IpAddr::from([10, 200, block, 1])]);
        }
        assert!(address(&allow, "10.200.255.9", 1) && !address(&allow, "10.200.0.9", 1), "not without end");
    }

    #[test]
    fn with_rules_discovery_stays_within_them_and_its_own_addresses() {
        let rules = ["*.cache.internal:7000", "10.0.0.0/8"].map(|rule| Rule::parse(rule).unwrap());
        let allow = Allow::of_discovery(Some(rules.into()), &seeds(&["192.168.0.1", "seed.example"]));
        assert!(!allow.learns());
        allow.learn(["172.16.0.1".parse().unwrap()]);
        for (host, port, admitted) in [
            ("192.168.0.1", 7000, true),
            ("192.168.0.1", 22, false),
            ("192.168.0.2", 7000, false),
            ("seed.example", 7000, true),
            ("seed.example", 22, false),
            ("other.example", 7000, false),
            ("a.cache.internal", 7000, true),
            ("10.1.1.1", 6379, true),
            ("10.1.1.1", 7000, false),
            ("172.16.0.1", 7000, false),
        ] {
            let by_address = host.parse().is_ok_and(|ip| allow.admits_address(ip, port));
            assert_eq!(by_address || allow.admits_name(host, port), admitted, "{host}:{port}");
        }
        let unresolved = |host: &str, port| allow.may_admit(&Endpoint::Tcp(host.to_owned(), port));
        assert!(unresolved("other.example", 7000) && !unresolved("other.example", 22));
        let unix = Endpoint::Unix("/run/redis.sock".into());
        assert!(!allow.may_admit(&unix));
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
