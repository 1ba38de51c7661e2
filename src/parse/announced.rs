//! Addresses that servers announce for other servers.
//!
//! The exporter connects to these addresses, so the parser accepts only host names and IP addresses.

/// Maximum length of a host name, characters.
const MAX_HOST: usize = 253;

/// Parses an announced host and port. Converts names to lower case and removes a trailing dot, so that equivalent names compare
/// equal.
pub(super) fn announced(host: &str, port: &str) -> Option<(String, u16)> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let fits = !host.is_empty() && host.len() <= MAX_HOST && host.chars().all(plain);
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port != 0)?;
    fits.then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_and_ports_are_accepted() {
        for (host, port, read) in [
            ("10.0.0.1", "6379", Some(("10.0.0.1", 6379))),
            ("Node-1.Cluster.Example.", "7000", Some(("node-1.cluster.example", 7000))),
            ("fd00::1", "1", Some(("fd00::1", 1))),
            ("", "6379", None),
            (".", "6379", None),
            ("a b", "6379", None),
            ("a@b", "6379", None),
            ("a/b", "6379", None),
            ("a\nb", "6379", None),
            ("a\"b", "6379", None),
            ("?", "6379", None),
            ("a", "0", None),
            ("a", "+1", None),
            ("a", "65536", None),
            ("a", "", None),
        ] {
            let expected = read.map(|(host, port): (&str, u16)| (host.to_owned(), port));
            assert_eq!(announced(host, port), expected, "{host:?} {port:?}");
        }
        assert_eq!(announced(&"a".repeat(254), "1"), None);
    }
}
