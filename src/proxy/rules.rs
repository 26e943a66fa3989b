//! What a proxy's clients may do: how they ask, and where they may go.
//!
//! One set of rules serves all threads. The lists in it are read anew while connections go on: each decision is made by one
//! whole policy, the old or the new.

use std::net::SocketAddr;
use std::sync::Arc;

use super::facts::Decision;
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
    /// What requests are taken.
    pub settings: Arc<Settings>,
    /// Where clients may go.
    pub policies: Policies,
    /// Where this program listens: nobody is connected to that, or one client could use up everything.
    pub own: Vec<SocketAddr>,
    /// What the policy is against is noted, and done.
    pub dry_run: bool,
    /// Every client begins with a PROXY header that says who it is; one that does not is refused.
    pub accept_header: bool,
    /// Every server is told first of all who the client is.
    pub send_header: Option<HeaderVersion>,
}

impl Rules {
    /// These requests are taken, these lists are obeyed, and nobody sends or gets PROXY headers.
    pub fn new(settings: Settings, policies: Policies) -> Self {
        Self {
            settings: Arc::new(settings),
            policies,
            own: Vec::new(),
            dry_run: false,
            accept_header: false,
            send_header: None,
        }
    }

    /// The decision that counts: on the address that is given to connect(2) next.
    pub fn decide(&self, address: SocketAddr, name: Option<&Name>) -> Decision {
        if self.is_own(address) {
            return Decision::Blocked(format!("this proxy itself ({address})"));
        }
        self.by_policy(|policy| policy.decide(address, name))
    }

    /// What is certain of a name before it is looked up.
    pub fn decide_name(&self, name: &Name, port: u16) -> Decision {
        self.by_policy(|policy| policy.decide_name(name, port))
    }

    /// Whether an exception (`--except`) has the name, so that it is allowed at every address and by every alias.
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

    /// Whether connecting there would come back here. Where it listens on all addresses, every address of this host is its own.
    fn is_own(&self, address: SocketAddr) -> bool {
        let here = |own: SocketAddr| {
            own.port() == address.port()
                && reachable(address.ip()).any(|ip| {
                    let same = ip == own.ip().to_canonical();
                    same || own.ip().is_unspecified() && is_of_this_host(ip)
                })
        };
        self.own.iter().copied().any(here)
    }

    /// The header for a server, for a client that came from the one address to the other, with what is carried. Of a client
    /// without an address the paths are carried.
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
    fn nobody_is_connected_to_the_proxy_itself_however_its_address_is_written() {
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
                rules(&[own]).is_own(address.parse().unwrap()),
                is,
                "{own} {address}"
            );
        }
    }

    #[test]
    fn a_dry_run_lets_through_what_it_notes_but_no_loop() {
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
