//! Scrapes by Prometheus: the time of each client's last scrape, and the host name used to reach the exporter.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Mono;

/// Maximum number of pairs of client and target that are stored.
const MAX_SCRAPES: usize = 4096;

/// Maximum length of a host name with its port, in bytes.
const MAX_HOST: usize = 260;

/// Scrape by a client.
#[derive(Debug, Clone)]
pub(crate) struct Scrape<'a> {
    /// Address of the client.
    pub(crate) client: IpAddr,
    /// `Host` header.
    pub(crate) host: Option<&'a str>,
    /// Target of a scrape of `/probe`; `None` for `/metrics`, which has all targets.
    pub(crate) target: Option<&'a str>,
}

/// Latest scrapes.
#[derive(Debug, Default)]
pub(super) struct Scrapes {
    /// Time of the last scrape, by target and client; target `None` means all targets.
    last: BTreeMap<(Option<Arc<str>>, IpAddr), Mono>,
    /// Host of the last scrape of `/metrics`.
    host: Option<String>,
}

impl Scrapes {
    /// Records a scrape.
    pub(super) fn record(&mut self, scrape: &Scrape<'_>, now: Mono) {
        if scrape.target.is_none() {
            let is_valid = |host: &&str| {
                !host.is_empty()
                    && host.len() <= MAX_HOST
                    && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:[]".contains(c))
            };
            if let Some(host) = scrape.host.filter(is_valid)
                && self.host.as_deref() != Some(host)
            {
                self.host = Some(host.to_owned());
            }
        }
        let key = (scrape.target.map(Arc::from), scrape.client);
        if self.last.len() >= MAX_SCRAPES && !self.last.contains_key(&key) {
            let oldest = self.last.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.last.remove(&key));
        }
        self.last.insert(key, now);
    }

    /// Returns the time of each client's last scrape of a target.
    pub(super) fn of(&self, target: &str, is_probed: bool) -> Vec<(IpAddr, Mono)> {
        let of_all = self.last.iter().filter(|((name, _), _)| name.is_none() && !is_probed);
        let from = (Some(Arc::from(target)), IpAddr::from([0_u8; 4]));
        let of_target = self.last.range(from..).take_while(|((name, _), _)| name.as_deref() == Some(target));
        let mut scrapes = BTreeMap::new();
        for ((_, client), at) in of_all.chain(of_target) {
            let last = scrapes.entry(*client).or_insert(*at);
            *last = (*last).max(*at);
        }
        scrapes.into_iter().collect()
    }

    /// Returns the label `instance` of a target, if known. Prometheus sets it to the address that it scrapes or, with the
    /// documented configuration, to the target of `/probe`.
    pub(super) fn instance<'a>(&'a self, target: &'a str, is_probed: bool) -> Option<&'a str> {
        if is_probed {
            return Some(target);
        }
        let is_of_target = || self.last.keys().any(|(name, _)| name.as_deref() == Some(target));
        self.host.as_deref().or_else(|| is_of_target().then_some(target))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn mono(seconds: u64) -> Mono {
        Mono::from_epoch(Duration::from_secs(seconds))
    }

    fn client(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn scrape<'a>(number: u8, host: &'a str, target: Option<&'a str>) -> Scrape<'a> {
        Scrape { client: client(number), host: Some(host), target }
    }

    #[test]
    fn scrapes_are_of_all_targets_or_of_one() {
        let mut scrapes = Scrapes::default();
        scrapes.record(&scrape(1, "h:1", None), mono(1));
        scrapes.record(&scrape(2, "h:1", Some("a")), mono(2));
        scrapes.record(&scrape(1, "h:1", Some("a")), mono(3));
        assert_eq!(scrapes.of("a", false), [(client(1), mono(3)), (client(2), mono(2))]);
        assert_eq!(scrapes.of("a", true), [(client(1), mono(3)), (client(2), mono(2))]);
        assert_eq!(scrapes.of("b", false), [(client(1), mono(1))]);
        assert_eq!(scrapes.of("b", true), []);
    }

    #[test]
    fn the_instance_is_the_scraped_address_or_the_probed_target() {
        let mut scrapes = Scrapes::default();
        assert_eq!(scrapes.instance("a", false), None);
        assert_eq!(scrapes.instance("a", true), Some("a"));
        scrapes.record(&scrape(1, "h:1", Some("a")), mono(1));
        assert_eq!((scrapes.instance("a", false), scrapes.instance("b", false)), (Some("a"), None));
        scrapes.record(&scrape(1, "exporter:10379", None), mono(2));
        for host in
            ["evil\"host", "a b", "a/b", "a{b}", "a,b=c", "hôst", "a\nb", "", &"a".repeat(MAX_HOST + 1)]
        {
            scrapes.record(&scrape(1, host, None), mono(3));
            assert_eq!(scrapes.instance("b", false), Some("exporter:10379"), "{host:?}");
        }
        for host in ["[::1]:9", "a_b-C.d", &"a".repeat(MAX_HOST)] {
            scrapes.record(&scrape(1, host, None), mono(3));
            assert_eq!(scrapes.instance("b", false), Some(host));
        }
    }

    #[test]
    fn a_bounded_number_of_scrapes_is_remembered() {
        let mut scrapes = Scrapes::default();
        for number in 0..MAX_SCRAPES + 10 {
            scrapes.record(&scrape(1, "h", Some(&number.to_string())), mono(u64::try_from(number).unwrap()));
        }
        assert_eq!(scrapes.last.len(), MAX_SCRAPES);
        assert_eq!((scrapes.of("0", true).len(), scrapes.of("100", true).len()), (0, 1));
    }
}
