//! Entries of the file with `discover`.

use std::sync::Arc;

use serde_saphyr::Spanned;

use super::Parser;
use super::schema::{Login, Scalar, Target};
use crate::config::allow::{Allow, AllowRule};
use crate::config::{Address, ConfigError, Discovery, Endpoint, Method};

impl<E: Fn(&str) -> Option<String>> Parser<'_, E> {
    /// Parses an entry with `discover`; `None` if the entry is a single target.
    pub(super) fn discovery(&self, entry: &Spanned<Target>) -> Result<Option<Discovery>, ConfigError> {
        let Target { discover, addrs, masters, sentinel, allow, log_file, .. } = &entry.value;
        let kind = discover.as_ref().map_or("none", |discover| discover.value.as_str());
        let misplaced = [
            ("addrs", addrs.as_ref().map(|key| key.referenced), kind == "none"),
            ("allow", allow.as_ref().map(|key| key.referenced), kind == "none"),
            ("masters", masters.as_ref().map(|key| key.referenced), kind != "sentinel"),
            ("sentinel", sentinel.as_ref().map(|key| key.referenced), kind != "sentinel"),
            ("log_file", log_file.as_ref().map(|key| key.referenced), kind != "none"),
        ];
        let method = match (kind, discover, masters) {
            ("none", _, _) | (_, None, _) => None,
            ("cluster", _, _) => Some(Method::Cluster),
            ("dns", _, _) => Some(Method::Dns),
            ("sentinel", _, Some(masters)) if !masters.value.is_empty() => {
                for master in &masters.value {
                    self.check_name(master)?;
                }
                let masters = masters.value.iter().map(|master| master.value.clone()).collect();
                Some(Method::Sentinel { masters })
            }
            ("sentinel", Some(discover), _) => {
                let problem = "is missing; list the masters that the Sentinels monitor, for example masters: [mymaster]";
                return Err(self.error(discover.referenced, "masters", problem));
            }
            (_, Some(discover), _) => {
                return Err(self.error(
                    discover.referenced,
                    "discover",
                    "must be none, cluster, sentinel or dns",
                ));
            }
        };
        for (key, at, wrong) in misplaced {
            if let Some(at) = at.filter(|_| wrong) {
                let problem = match key {
                    "log_file" => "applies to one server, but this entry discovers several",
                    "addrs" => "requires discover: cluster, sentinel or dns; use addr for a single server",
                    "allow" => "requires discover: cluster, sentinel or dns; addr alone permits one server",
                    _ => "requires discover: sentinel",
                };
                return Err(self.error(at, key, problem));
            }
        }
        let Some(method) = method else { return Ok(None) };
        let mut server = self.target(entry)?;
        let seeds = self.seeds(&server.address, addrs.as_ref(), entry)?;
        let rules = match allow {
            Some(allow) if allow.value.is_empty() => {
                let problem =
                    "is empty; list the permitted addresses, for example 10.0.0.0/8:*, or remove the key";
                return Err(self.error(allow.referenced, "allow", problem));
            }
            allow => allow.as_ref().map(|allow| self.rules(&allow.value)).transpose()?,
        };
        let allow = Arc::new(Allow::of_discovery(rules, &seeds));
        let named = entry.value.name.is_some();
        let credentials = match sentinel {
            None => server.credentials.clone(),
            Some(Spanned { value, .. }) => self.credentials(&Login::from(value))?.or_nopass(),
        };
        let name = Arc::clone(&server.name);
        server.log_file = None;
        Ok(Some(Discovery { name, method, seeds, allow, credentials, named, server }))
    }

    pub(super) fn rules(&self, texts: &[Scalar]) -> Result<Vec<AllowRule>, ConfigError> {
        let rules = texts.iter().map(|rule| {
            AllowRule::parse(&rule.value)
                .map_err(|error| self.error(rule.referenced, "allow", error.to_string()))
        });
        rules.collect()
    }

    /// Parses the addresses of an entry with `discover`. The result begins with `first` and contains no duplicates.
    fn seeds(
        &self,
        first: &Address,
        addrs: Option<&Spanned<Vec<Scalar>>>,
        entry: &Spanned<Target>,
    ) -> Result<Vec<Endpoint>, ConfigError> {
        let at = entry.value.addr.as_ref().map_or(entry.referenced, |addr| addr.referenced);
        let mut seeds = vec![(first.endpoint.clone(), at)];
        for text in addrs.iter().flat_map(|addrs| &addrs.value) {
            let (address, credentials) = Address::parse(&text.value)
                .map_err(|problem| self.error(text.referenced, "addrs", problem))?;
            let problem = if credentials.user.is_some() || credentials.password.is_some() {
                Some("contains a user or a password; set them with keys, which apply to all addresses")
            } else if address.tls != first.tls || address.insecure != first.insecure {
                Some("must have the same scheme as the other addresses: all with TLS or all without")
            } else {
                None
            };
            if let Some(problem) = problem {
                return Err(self.error(text.referenced, "addrs", problem));
            }
            if !seeds.iter().any(|(seed, _)| seed.identity() == address.endpoint.identity()) {
                seeds.push((address.endpoint, text.referenced));
            }
        }
        if let Some((_, at)) = seeds.iter().find(|(seed, _)| matches!(seed, Endpoint::Unix(_))) {
            let problem = "must be a host and a port; discover does not support unix sockets";
            return Err(self.error(*at, "addr", problem));
        }
        Ok(seeds.into_iter().map(|(seed, _)| seed).collect())
    }
}
