//! CLUSTER NODES: the nodes of a cluster, as reported by one of them.

use ::redis::Value;

use super::announced::announced;
use super::reply::{Malformed, bytes, items};

/// Maximum length of a node id; servers use 40 hexadecimal digits.
const MAX_ID: usize = 64;

/// A cluster, as reported by one of its nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClusterNodes {
    /// Id of the node that replied.
    pub(crate) myself: Option<String>,
    /// Nodes that have an address and have completed their handshake, including those marked as failed.
    pub(crate) nodes: Vec<ClusterNode>,
    /// True if any node serves slots. A node that was reset, or has never joined a cluster, reports only itself, without slots.
    pub(crate) has_slots: bool,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterNode {
    /// Id; not affected by failovers or address changes.
    pub(crate) id: String,
    /// Announced host name.
    pub(crate) name: Option<String>,
    /// IP address; `None` for the replying node if it does not know its own address.
    pub(crate) ip: Option<String>,
    /// Port; the TLS port if the command was sent over TLS.
    pub(crate) port: u16,
}

impl ClusterNodes {
    /// Parses a reply; skips nodes with invalid addresses.
    ///
    /// # Errors
    /// The reply is not a list of nodes.
    pub(crate) fn parse(value: Value) -> Result<Self, Malformed> {
        let text = bytes(value)?;
        let text = String::from_utf8_lossy(&text);
        let mut cluster = Self::default();
        let mut lines = 0_usize;
        for line in text.lines().filter(|line| !line.is_empty()) {
            cluster.line(line).ok_or(Malformed::new("a list of cluster nodes"))?;
            lines += 1;
        }
        if lines == 0 { Err(Malformed::new("a list of cluster nodes")) } else { Ok(cluster) }
    }

    /// Parses `id address flags master ping-sent pong-received epoch link-state slot…`; returns `None` for any other form, and for
    /// a second node that replied.
    fn line(&mut self, line: &str) -> Option<()> {
        let mut fields = line.split(' ');
        let (id, address, flags) = (fields.next()?, fields.next()?, fields.next()?);
        // Bracketed entries are slots in migration, not served slots.
        let slots = fields.skip(5).any(|field| field.starts_with(|c: char| c.is_ascii_digit()));
        let plain = id.len() <= MAX_ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if id.is_empty() || !plain {
            return None;
        }
        let has = |flag| flags.split(',').any(|one| one == flag);
        let myself = has("myself");
        if myself && self.myself.replace(id.to_owned()).is_some() {
            return None;
        }
        self.has_slots |= slots;
        // A node's id is temporary during its handshake, which may also fail.
        if has("handshake") || has("noaddr") {
            return Some(());
        }
        if let Some((name, ip, port)) = address_of(address, myself) {
            self.nodes.push(ClusterNode { id: id.to_owned(), name, ip, port });
        }
        Some(())
    }
}

/// Parses `ip:port@bus-port`, followed by `,hostname` since 7.0 and `,name=value` since 7.2.
fn address_of(text: &str, myself: bool) -> Option<(Option<String>, Option<String>, u16)> {
    let mut parts = text.split(',');
    let (address, name) = (parts.next()?, parts.next());
    let address = address.split_once('@').map_or(address, |(address, _)| address);
    let (ip, port) = address.rsplit_once(':')?;
    let name = name.filter(|name| !name.is_empty() && !name.contains('='));
    let name = name.and_then(|name| announced(name, port));
    let at = announced(ip, port);
    // A node does not know its own address until it meets another node.
    let itself = if ip.is_empty() && myself { announced("myself", port) } else { None };
    let port = [&name, &at, &itself].into_iter().flatten().map(|(_, port)| *port).next()?;
    Some((name.map(|(name, _)| name), at.map(|(ip, _)| ip), port))
}

/// Type of node address that clients should use (`cluster-preferred-endpoint-type`, 7.0 and later).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum EndpointType {
    /// The IP address.
    Ip,
    /// The announced host name; also the default if the setting can't be read.
    #[default]
    Hostname,
}

impl EndpointType {
    /// Parameter of CONFIG GET.
    pub(crate) const PARAMETER: &'static str = "cluster-preferred-endpoint-type";

    /// Parses the reply to CONFIG GET.
    #[must_use]
    pub(crate) fn parse(value: Value) -> Self {
        let is_ip =
            items(value).ok().and_then(|items| items.into_iter().nth(1)).and_then(|value| bytes(value).ok());
        match is_ip.as_deref() {
            // `unknown-endpoint` stands for the address of the client's connection, which applies only to the node itself.
            Some(b"ip" | b"unknown-endpoint") => Self::Ip,
            _ => Self::Hostname,
        }
    }
}

impl ClusterNode {
    /// Returns the hosts at which the node can be reached, the preferred one first.
    pub(crate) fn hosts(&self, preferred: EndpointType) -> impl Iterator<Item = &str> {
        let (name, ip) = (self.name.as_deref(), self.ip.as_deref());
        let hosts = match preferred {
            EndpointType::Ip => [ip, name],
            EndpointType::Hostname => [name, ip],
        };
        hosts.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REDIS_62: &[u8] = include_bytes!("captured/cluster-nodes-redis-6.2.14.txt");
    const REDIS_7: &[u8] = include_bytes!("captured/cluster-nodes-redis-7.0.15.txt");
    const VALKEY_9: &[u8] = include_bytes!("captured/cluster-nodes-valkey-9.1.2.txt");

    fn parse(text: &[u8]) -> Result<ClusterNodes, Malformed> {
        ClusterNodes::parse(Value::BulkString(text.to_vec()))
    }

    fn addresses(cluster: &ClusterNodes) -> Vec<String> {
        let shown = |node: &ClusterNode| {
            format!("{}:{}", node.hosts(EndpointType::Hostname).next().unwrap_or("?"), node.port)
        };
        cluster.nodes.iter().map(shown).collect()
    }

    /// Replies from the first of three nodes; the second was killed, and the third is a replica that announces no host name.
    #[test]
    fn captured_replies_list_the_nodes_by_host_name() {
        for (text, expected) in [
            (REDIS_62, ["127.0.0.1:31010", "127.0.0.1:31011", "127.0.0.1:31012"]),
            (REDIS_7, ["node-0.cluster.example:31000", "node-1.cluster.example:31001", "127.0.0.1:31002"]),
            (VALKEY_9, ["node-0.cluster.example:31020", "node-1.cluster.example:31021", "127.0.0.1:31022"]),
        ] {
            let cluster = parse(text).unwrap();
            let mut listed = addresses(&cluster);
            listed.sort_by_key(|address| address.rsplit_once(':').unwrap().1.to_owned());
            assert_eq!(listed, expected);
            assert!(cluster.has_slots);
            let mine = cluster.nodes.iter().find(|node| Some(&node.id) == cluster.myself.as_ref()).unwrap();
            assert!(expected[0].ends_with(&mine.port.to_string()));
        }
    }

    #[test]
    fn the_preferred_endpoint_comes_first() {
        let cluster =
            parse(b"bef3 10.0.0.1:31000@41000,node-0.example myself,master - 0 0 0 connected 0-16383\n")
                .unwrap();
        for (value, expected) in [
            ("ip", EndpointType::Ip),
            ("hostname", EndpointType::Hostname),
            ("unknown-endpoint", EndpointType::Ip),
        ] {
            let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
            let reply = Value::Array(vec![text(EndpointType::PARAMETER), text(value)]);
            assert_eq!(EndpointType::parse(reply), expected, "{value}");
        }
        assert_eq!(EndpointType::parse(Value::Array(Vec::new())), EndpointType::Hostname);
        let hosts = |preferred| cluster.nodes[0].hosts(preferred).collect::<Vec<_>>();
        assert_eq!(hosts(EndpointType::Ip), ["10.0.0.1", "node-0.example"]);
        assert_eq!(hosts(EndpointType::Hostname), ["node-0.example", "10.0.0.1"]);
    }

    #[test]
    fn a_single_node_may_have_no_address_and_no_slots() {
        let cluster = parse(b"bef3 :31000@41000 myself,master - 0 0 0 connected\n").unwrap();
        assert_eq!((cluster.nodes[0].hosts(EndpointType::Ip).next(), cluster.nodes[0].port), (None, 31_000));
        assert!(!cluster.has_slots);
        let alone = parse(b"bef3 :31000@41000 myself,master - 0 0 0 connected 0-16383 [5-<-a]\n").unwrap();
        assert!(alone.has_slots);
        assert!(!parse(b"bef3 :31000@41000 myself,master - 0 0 0 connected [5-<-a]\n").unwrap().has_slots);
    }

    #[test]
    fn nodes_without_a_valid_address_are_skipped() {
        let text = b"a 127.0.0.1:9@10009 handshake - 0 0 0 disconnected\n\
            b :0@0 master,noaddr - 0 0 0 disconnected\n\
            c fd00::1:7000@17000,,shard-id=69bc master,fail - 0 0 0 connected 1\n\
            d 10.0.0.1:7000@17000,bad/name slave a 0 0 0 connected\n\
            e 10.0.0.2:7000@17000,bad\"name slave a 0 0 0 connected\n\
            f 10.0.0.3:70000@17000 slave a 0 0 0 connected\n";
        let cluster = parse(text).unwrap();
        assert_eq!(addresses(&cluster), ["fd00::1:7000", "10.0.0.1:7000", "10.0.0.2:7000"]);
        let two_that_replied = b"a :1@1 myself - 0 0 0 connected\nb :2@2 myself - 0 0 0 connected";
        let invalid = b"- 1.1.1.1:1@1 master - 0 0 0 connected";
        for text in [&b""[..], b"OK", b"a b", invalid, two_that_replied, b"\n\n"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(ClusterNodes::parse(Value::Int(1)).is_err());
    }

    proptest! {
        #[test]
        fn any_reply_is_parsed_or_rejected(text in prop::collection::vec(prop::sample::select(&b"a1:@,. \n-=myself[]\xff"[..]), 0..200)) {
            let _ = parse(&text);
        }

        #[test]
        fn any_host_has_only_plain_characters(address in "\\PC{0,40}") {
            if let Ok(cluster) = parse(format!("a {address} master - 0 0 0 connected").as_bytes()) {
                for node in cluster.nodes {
                    for host in node.hosts(EndpointType::Ip) {
                        prop_assert!(host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c)));
                    }
                }
            }
        }
    }
}
