//! Permitted addresses of probed and discovered targets: host names with `*`, IP addresses and ranges, ports.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Endpoint;
use super::address::{ip_of, normal_name};
use crate::text::matches_pattern;

/// Port of a rule or an address that does not specify one.
const DEFAULT_PORT: u16 = 6379;

/// Maximum number of learned networks; the oldest is evicted first.
const MAX_LEARNED: usize = 64;

/// Permitted addresses. The exporter never connects to an address that is not permitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allow {
    rules: Vec<AllowRule>,
    /// Additional networks, permitted at every port; `None` if networks are not learned.
    learned: Option<Learned>,
}

/// Networks of the addresses that the names of an entry have resolved to. All values compare equal, because they are not
/// part of the configuration.
#[derive(Debug, Clone, Default)]
struct Learned(Arc<Mutex<VecDeque<IpNet>>>);

impl PartialEq for Learned {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Learned {}

/// Entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AllowRule {
    hosts: Hosts,
    ports: RangeInclusive<u16>,
}

/// Hosts that a rule permits.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    /// Any name and any address.
    Any,
    /// Names that match a lowercase pattern, in which `*` matches any characters.
    Named(String),
    /// Addresses in a network.
    In(IpNet),
}

/// Problem and remedy of an invalid entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RuleError {
    #[error(
        "is not a host, address or range with an optional port; examples: *.cache.internal:6379, 10.0.0.0/8:*"
    )]
    Form,
    #[error("has an invalid port; use a number, a range such as 7000-7005, or * for all")]
    Port,
    #[error("has a prefix that is longer than the address")]
    Length,
    #[error("would match host names too; write a range of addresses as 10.0.0.0/8")]
    NotARange,
}

impl Allow {
    /// Permits the addresses that `rules` match.
    pub(super) fn new(rules: Vec<AllowRule>) -> Self {
        Self { rules, learned: None }
    }

    /// Permits the addresses of an entry with `discover` (`seeds`) and the addresses that `rules` match. Without rules, it
    /// permits the networks (/24 for IPv4, /64 for IPv6) of the seeds, both as written and as resolved, and the names under
    /// the domains of the seeds' names.
    pub(super) fn of_discovery(rules: Option<Vec<AllowRule>>, seeds: &[Endpoint]) -> Self {
        let learned = rules.is_none().then(Learned::default);
        let of_seed = |seed: &Endpoint| {
            let Endpoint::Tcp(host, port) = seed else { return Vec::new() };
            let (host, any) = (normal_name(host), 1..=u16::MAX);
            match (ip_of(&host), &rules) {
                (Some(ip), Some(_)) => {
                    vec![AllowRule { hosts: Hosts::In(IpNet::from(ip)), ports: *port..=*port }]
                }
                (Some(ip), None) => vec![AllowRule { hosts: Hosts::In(network_of(ip)), ports: any }],
                (None, Some(_)) => vec![AllowRule { hosts: Hosts::Named(host), ports: *port..=*port }],
                (None, None) => {
                    // Anyone can register a name under a single-label domain such as com.
                    let domain =
                        host.split_once('.').map(|(_, domain)| domain).filter(|one| one.contains('.'));
                    let below = domain.map(|domain| Hosts::Named(format!("*.{domain}")));
                    let hosts = below.into_iter().chain([Hosts::Named(host.clone())]);
                    hosts.map(|hosts| AllowRule { hosts, ports: any.clone() }).collect()
                }
            }
        };
        let of_seeds: Vec<AllowRule> = seeds.iter().flat_map(of_seed).collect();
        Self { rules: rules.into_iter().flatten().chain(of_seeds).collect(), learned }
    }

    /// True if the networks of resolved addresses are permitted after they are [learned](Self::learn).
    #[must_use]
    pub(crate) fn learns(&self) -> bool {
        self.learned.is_some()
    }

    /// Permits the networks of these addresses from now on, in this value and all clones.
    pub(crate) fn learn(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let Some(Learned(learned)) = &self.learned else { return };
        let mut learned = learned.lock();
        for network in addresses.into_iter().map(network_of) {
            learned.retain(|known| *known != network);
            learned.push_back(network);
            if learned.len() > MAX_LEARNED {
                learned.pop_front();
            }
        }
    }

    /// Takes over the networks that another value has learned.
    pub(crate) fn learn_from(&mut self, other: &Self) {
        if self.learned.is_some() && other.learned.is_some() {
            self.learned.clone_from(&other.learned);
        }
    }

    /// False if an endpoint is rejected regardless of what its name resolves to.
    #[must_use]
    pub(crate) fn may_admit(&self, endpoint: &Endpoint) -> bool {
        let Endpoint::Tcp(host, port) = endpoint else { return false };
        match ip_of(host) {
            Some(ip) => self.admits_address(ip, *port) || self.admits_name(host, *port),
            None => self.admits_name(host, *port) || self.admits_addresses(*port),
        }
    }

    /// True if a host is permitted because of its name, regardless of what it resolves to.
    #[must_use]
    pub(crate) fn admits_name(&self, host: &str, port: u16) -> bool {
        let host = normal_name(host);
        // An IP address never matches a name pattern.
        let is_name = ip_of(&host).is_none();
        self.rules.iter().filter(|rule| rule.ports.contains(&port)).any(|rule| match &rule.hosts {
            Hosts::Any => true,
            Hosts::Named(pattern) => is_name && matches_pattern(pattern.as_bytes(), host.as_bytes()),
            Hosts::In(_) => false,
        })
    }

    /// True if a range permits addresses at this port.
    #[must_use]
    pub(crate) fn admits_addresses(&self, port: u16) -> bool {
        let mut rules = self.rules.iter().filter(|rule| rule.ports.contains(&port));
        self.learns() || rules.any(|rule| matches!(rule.hosts, Hosts::In(_)))
    }

    /// True if an address is permitted, regardless of the name that it was resolved from.
    #[must_use]
    pub(crate) fn admits_address(&self, address: IpAddr, port: u16) -> bool {
        let by_rule =
            self.rules.iter().filter(|rule| rule.ports.contains(&port)).any(|rule| match &rule.hosts {
                Hosts::Any => true,
                Hosts::Named(_) => false,
                Hosts::In(network) => contains(network, address),
            });
        by_rule
            || self.learned.as_ref().is_some_and(|Learned(learned)| {
                let learned = learned.lock();
                learned.iter().any(|network| contains(network, address))
            })
    }
}

impl AllowRule {
    /// Parses entries such as `*.cache.internal:6379`, `10.0.0.0/8`, `127.0.0.1:*` and `[fd00::/8]:7000-7005`.
    pub(super) fn parse(text: &str) -> Result<Self, RuleError> {
        let (hosts, ports) = split(text.trim())?;
        Ok(Self { hosts: Hosts::parse(hosts)?, ports: ports_of(ports)? })
    }
}

/// Splits an entry into hosts and ports. The ports are optional.
fn split(text: &str) -> Result<(&str, Option<&str>), RuleError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (hosts, rest) = rest.split_once(']').ok_or(RuleError::Form)?;
        return match rest {
            "" => Ok((hosts, None)),
            _ => Ok((hosts, Some(rest.strip_prefix(':').ok_or(RuleError::Form)?))),
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text, None));
    }
    // The colons of an IPv6 range come before the slash.
    let searched = text.find('/').unwrap_or(0);
    match text.split_at_checked(searched).and_then(|(_, rest)| rest.rfind(':')) {
        None => Ok((text, None)),
        Some(colon) => {
            let (hosts, ports) =
                text.split_at_checked(searched.saturating_add(colon)).ok_or(RuleError::Form)?;
            Ok((hosts, ports.strip_prefix(':')))
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

impl Hosts {
    fn parse(text: &str) -> Result<Self, RuleError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some((address, length)) = text.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| RuleError::Form)?;
            let length: u32 = length.parse().map_err(|_| RuleError::Form)?;
            let network = u8::try_from(length).ok().and_then(|length| IpNet::new(address, length).ok());
            return network.map(|network| Self::In(network.trunc())).ok_or(RuleError::Length);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::In(IpNet::from(address.to_canonical())));
        }
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.*".contains(c)) {
            return Err(RuleError::Form);
        }
        // 10.0.* would also match the host name 10.0.somewhere.example.
        if !text.chars().any(|c| c.is_ascii_alphabetic()) {
            return Err(RuleError::NotARange);
        }
        Ok(Self::Named(text.to_ascii_lowercase()))
    }
}

/// Returns the network of an address that discovery may use: /24 for IPv4, /64 for IPv6.
fn network_of(address: IpAddr) -> IpNet {
    match address.to_canonical() {
        IpAddr::V4(address) => IpNet::V4(Ipv4Net::new_assert(address, 24)).trunc(),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::new_assert(address, 64)).trunc(),
    }
}

/// True if a network contains an address. An IPv4-mapped IPv6 address is matched as its IPv4 address.
fn contains(network: &IpNet, address: IpAddr) -> bool {
    network.contains(&address.to_canonical())
}

/// Permits the addresses that these rules match, for tests.
#[cfg(test)]
pub(crate) fn allowing(rules: &[&str]) -> Allow {
    Allow::new(rules.iter().map(|rule| AllowRule::parse(rule).unwrap()).collect())
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
        let allow = allow(&["*.cache.internal:6379", "redis-*-a:7000-7002", "Exact.Example", "cache-*"]);
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
            // A star also matches dots.
            ("cache-x.example.org", 6379, true),
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
    fn a_lone_star_admits_every_host_on_its_ports() {
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
        let rules = ["*.cache.internal:7000", "10.0.0.0/8"].map(|rule| AllowRule::parse(rule).unwrap());
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
    fn invalid_rules_are_rejected_with_a_specific_error() {
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
            assert_eq!(AllowRule::parse(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_or_an_error(text in "\\PC{0,30}|[0-9a-f.:/*\\[\\]-]{0,30}") {
            let _ = AllowRule::parse(&text);
        }

        #[test]
        fn a_pattern_made_of_a_text_matches_it(text in "[a-c]{0,8}", cut in any::<[bool; 8]>()) {
            let pattern: String =
                text.chars().zip(cut).map(|(c, cut)| if cut { '*' } else { c }).collect();
            prop_assert!(matches_pattern(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            let longer = text.clone() + "d";
            prop_assert!(!matches_pattern(pattern.as_bytes(), longer.as_bytes()) || pattern.ends_with('*'));
        }
    }
}
