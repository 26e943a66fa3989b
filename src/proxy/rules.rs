//! The rules for a proxy's clients: which requests are accepted, and which destinations are allowed.
//!
//! One set of rules serves all threads. Its lists can be reloaded while connections are open: each decision follows one
//! whole policy, the old or the new.

use std::net::SocketAddr;
use std::sync::Arc;

use super::record::Decision;
use crate::blocklist::embedded::reachable;
use crate::blocklist::policy::{Policy, Verdict};
use crate::blocklist::reload::Policies;
use crate::destination::Name;
use crate::protocol::Settings;
use crate::protocol::proxy_header::{Addresses, Carried};
use crate::sys::route::is_of_this_host;

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The rules of a proxy.
#[derive(Debug)]
pub struct Rules {
    /// The requests that are accepted.
    pub settings: Arc<Settings>,
    /// The destinations that are allowed.
    pub policies: Policies,
    /// The addresses on which this program listens. Connections to them are refused, as one client could use up all
    /// connections by a loop.
    pub own: Vec<SocketAddr>,
    /// Likewise, the addresses on which this program receives datagrams.
    pub own_datagrams: Vec<SocketAddr>,
    /// A destination that the policy blocks is recorded and connected.
    pub dry_run: bool,
    /// Every client must start with a PROXY header that names its source.
    pub accept_header: bool,
    /// Every server gets a PROXY header with the client's address first.
    pub send_header: Option<HeaderVersion>,
}

impl Rules {
    /// These settings and policies, without PROXY headers.
    pub fn new(settings: Settings, policies: Policies) -> Self {
        Self {
            settings: Arc::new(settings),
            policies,
            own: Vec::new(),
            own_datagrams: Vec::new(),
            dry_run: false,
            accept_header: false,
            send_header: None,
        }
    }

    /// The decision on an address that is passed to connect(2) next.
    pub fn decide(&self, address: SocketAddr, name: Option<&Name>) -> Decision {
        self.decide_apart_from(&self.own, address, name)
    }

    /// The decision on an address to which datagrams are sent.
    pub fn decide_datagrams(&self, address: SocketAddr, name: Option<&Name>) -> Decision {
        self.decide_apart_from(&self.own_datagrams, address, name)
    }

    /// The decision on an address to which datagrams of an association are sent. `relays` are the addresses of its and other
    /// associations' sockets.
    pub(super) fn decide_associated(
        &self,
        relays: &[SocketAddr],
        address: SocketAddr,
        name: Option<&Name>,
    ) -> Decision {
        if is_own(relays, address) || is_own(&self.own, address) {
            return itself(address);
        }
        self.decide_datagrams(address, name)
    }

    fn decide_apart_from(
        &self,
        own: &[SocketAddr],
        address: SocketAddr,
        name: Option<&Name>,
    ) -> Decision {
        if is_own(own, address) {
            return itself(address);
        }
        self.by_policy(|policy| policy.decide(address, name))
    }

    /// The decision on a name before its lookup, as far as it is certain.
    pub fn decide_name(&self, name: &Name, port: u16) -> Decision {
        self.by_policy(|policy| policy.decide_name(name, port))
    }

    /// The first name of which `name` is an alias and that the policy blocks, or would block, with the decision. Every such
    /// name is subject to the same rules, unless `name` is excepted.
    pub fn decide_aliases(
        &self,
        name: Option<&Name>,
        aliases: &[Name],
        port: u16,
    ) -> Option<(Name, Decision)> {
        if aliases.is_empty() || name.is_some_and(|name| self.excepts_name(name, port)) {
            return None;
        }
        let decisions = aliases
            .iter()
            .map(|alias| (alias, self.decide_name(alias, port)));
        let mut against = decisions.filter(|(_, decision)| decision.entry().is_some());
        against
            .next()
            .map(|(alias, decision)| (alias.clone(), decision))
    }

    /// Whether an exception (`--except`) contains the name, which is then allowed at every address and by every alias.
    pub fn excepts_name(&self, name: &Name, port: u16) -> bool {
        let policy = self.policies.current();
        matches!(policy.decide_name(name, port), Verdict::Excepted(_))
    }

    fn by_policy(&self, decide: impl Fn(&Policy) -> Verdict<'_>) -> Decision {
        match decide(&self.policies.current()) {
            Verdict::Allowed | Verdict::Excepted(_) => Decision::Allowed,
            Verdict::Blocked(reason) if self.dry_run => Decision::WouldBlock(reason.to_string()),
            Verdict::Blocked(reason) => Decision::Blocked(reason.to_string()),
        }
    }

    /// The header for a server: the client's address, the address to which it connected, and the parts carried over from
    /// its own header. For a client without an address these parts include the paths.
    pub(super) fn header(
        &self,
        from: Option<SocketAddr>,
        to: Option<SocketAddr>,
        carried: &Carried,
    ) -> Vec<u8> {
        let ends = from.zip(to).map(|(source, destination)| Addresses {
            source,
            destination,
        });
        match self.send_header {
            None => Vec::new(),
            Some(HeaderVersion::V1) => carried.encode_v1(ends),
            Some(HeaderVersion::V2) => carried.encode_v2(ends),
        }
    }
}

fn itself(address: SocketAddr) -> Decision {
    Decision::Blocked(format!("this proxy itself ({address})"))
}

/// Whether this address leads back to one of `own`. If the proxy listens on all addresses, these include every address of
/// this host.
pub(crate) fn is_own(own: &[SocketAddr], address: SocketAddr) -> bool {
    let here = |own: SocketAddr| {
        own.port() == address.port()
            && reachable(address.ip()).any(|ip| {
                let same = ip == own.ip().to_canonical();
                same || own.ip().is_unspecified() && is_of_this_host(ip)
            })
    };
    own.iter().copied().any(here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocklist::policy::Sources;

    fn rules(own: &[&str]) -> Rules {
        let policies = Policies::load(Sources::default()).unwrap();
        Rules {
            own: own.iter().map(|own| own.parse().unwrap()).collect(),
            ..Rules::new(Settings::default(), policies)
        }
    }

    #[test]
    fn the_proxy_refuses_connections_to_itself_in_every_spelling() {
        let cases = [
            ("127.0.0.1:1080", "127.0.0.1:1080", true),
            ("127.0.0.1:1080", "[::ffff:127.0.0.1]:1080", true),
            ("127.0.0.1:1080", "0.0.0.0:1080", true),
            ("127.0.0.1:1080", "127.0.0.2:1080", false),
            ("127.0.0.1:1080", "127.0.0.1:1081", false),
            ("[::1]:1080", "[::]:1080", true),
            ("0.0.0.0:1080", "127.0.0.2:1080", true),
            ("0.0.0.0:1080", "[::ffff:127.3.2.1]:1080", true),
            ("[::]:1080", "127.0.0.1:1080", true),
            ("[::]:1080", "[::1]:1080", true),
            ("0.0.0.0:1080", "192.0.2.1:1080", false),
            ("[::ffff:127.0.0.1]:1080", "127.0.0.1:1080", true),
        ];
        for (own, address, is) in cases {
            assert_eq!(
                is_own(&rules(&[own]).own, address.parse().unwrap()),
                is,
                "{own} {address}"
            );
        }
    }

    #[test]
    fn a_dry_run_allows_blocked_destinations_but_no_loop() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        std::fs::write(&file, "192.0.2.0/24\n*.example\n").unwrap();
        let mut rules = rules(&["127.0.0.1:1080"]);
        rules.policies = Policies::load(Sources {
            block: vec![file.clone()],
            ..Sources::default()
        })
        .unwrap();
        let listed = format!("{}:1 (192.0.2.0/24)", file.display());
        let address = "192.0.2.1:80".parse().unwrap();
        let itself = "127.0.0.1:1080".parse().unwrap();
        let name = "www.example".parse::<Name>().unwrap();
        assert_eq!(
            rules.decide(address, None),
            Decision::Blocked(listed.clone())
        );
        rules.dry_run = true;
        assert_eq!(rules.decide(address, None), Decision::WouldBlock(listed));
        assert!(matches!(
            rules.decide_name(&name, 80),
            Decision::WouldBlock(_)
        ));
        assert!(matches!(rules.decide(itself, None), Decision::Blocked(_)));
    }
}
