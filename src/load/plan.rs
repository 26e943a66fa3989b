//! What is measured: scenarios, the paths that each has, and how long and how often.

use std::time::Duration;

use super::dialogue::{Exchange, Script};
use super::handshake::Route;
use super::slice::{Extent, Load};
use super::worker::Job;
use crate::protocol::{Destination, Host, Kind, User};
use crate::sys::endpoint::Endpoint;

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Connect, make one request, and end.
    Connect,
    /// Make request upon request on connections that are kept.
    RequestResponse,
    /// Send data in one direction.
    Bulk,
    /// Ask for what is refused.
    Blocked,
}

impl Scenario {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 4] = [
        Self::Connect,
        Self::RequestResponse,
        Self::Bulk,
        Self::Blocked,
    ];

    /// Its name in options and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::RequestResponse => "request-response",
            Self::Bulk => "bulk",
            Self::Blocked => "blocked",
        }
    }

    /// Why there is no such thing with a proxy that is asked in this way, if so.
    pub const fn impossible(self, protocol: Kind) -> Option<&'static str> {
        match (self, protocol) {
            (Self::RequestResponse, Kind::Json) => {
                Some("a JSON request is a whole connection, so none is kept")
            }
            (Self::Bulk, Kind::Json) => {
                Some("a JSON request is one message that the proxy keeps until it is whole")
            }
            (Self::Blocked, Kind::Forward) => {
                Some("a forwarding proxy is not asked for any destination")
            }
            _ => None,
        }
    }
}

/// A proxy to be measured.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// What tells it from the others; `None` where there are none.
    pub setting: Option<String>,
    /// Where it listens.
    pub address: Endpoint,
    /// How it is asked.
    pub protocol: Kind,
    /// Its processes, whose CPU time is told.
    pub processes: Vec<u32>,
    /// What is known of it, for the record.
    pub engine: Option<String>,
    /// The same.
    pub forwarding: Option<String>,
    /// The same.
    pub threads: Option<usize>,
}

/// All there is to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What clients do.
    pub scenarios: Vec<Scenario>,
    /// The answering server, as it is reached from here; by a path only where no proxy is asked for it.
    pub origin: Endpoint,
    /// Its process, where it was started for this.
    pub origin_process: Option<u32>,
    /// Whether the direct path is measured.
    pub direct: bool,
    /// The proxies; with none of them only the direct path is measured.
    pub proxies: Vec<Proxy>,
    /// What they are to refuse; `None`, and there is no such scenario.
    pub blocked: Option<Destination>,
    /// As whom clients sign in at the proxies.
    pub user: Option<User>,
    /// Connections of requests.
    pub connections: usize,
    /// Connections of bulk data.
    pub streams: usize,
    /// Bytes of a message.
    pub message: usize,
    /// Requests a second.
    pub rate: Option<f64>,
    /// Bytes of bulk data a slice.
    pub bytes: Option<u64>,
    /// Of each slice.
    pub extent: Extent,
    /// Longest time of a request.
    pub timeout: Duration,
    /// How often each path has its turn.
    pub rounds: usize,
    /// As the user named them, for the record.
    pub via: Option<String>,
    /// The same.
    pub origin_named: Option<String>,
}

/// Which way requests go.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// To the server.
    Direct,
    /// Through this proxy.
    Proxied(&'a Proxy),
    /// To this proxy, which refuses.
    Blocked(&'a Proxy),
}

impl<'a> Path<'a> {
    /// Its name in the files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Proxied(_) => "proxied",
            Self::Blocked(_) => "blocked",
        }
    }

    /// The proxy on it.
    pub const fn proxy(self) -> Option<&'a Proxy> {
        match self {
            Self::Direct => None,
            Self::Proxied(proxy) | Self::Blocked(proxy) => Some(proxy),
        }
    }
}

impl Plan {
    /// The paths of a scenario, the direct one first.
    pub fn paths(&self, scenario: Scenario) -> Vec<Path<'_>> {
        let able = |proxy: &&Proxy| scenario.impossible(proxy.protocol).is_none();
        let proxies = self.proxies.iter().filter(able);
        if scenario == Scenario::Blocked {
            return match self.blocked {
                Some(_) => proxies.map(Path::Blocked).collect(),
                None => Vec::new(),
            };
        }
        let proxied: Vec<_> = proxies.map(Path::Proxied).collect();
        // Alone it would be compared with nothing.
        let direct = self.direct && (self.proxies.is_empty() || !proxied.is_empty());
        direct
            .then_some(Path::Direct)
            .into_iter()
            .chain(proxied)
            .collect()
    }

    /// What the workers of a path are to do.
    pub(super) fn job(&self, scenario: Scenario, path: Path<'_>) -> Job {
        let destination = match (path, &self.blocked) {
            (Path::Blocked(_), Some(blocked)) => Some(blocked.clone()),
            _ => self.origin.ip().map(|address| Destination {
                host: Host::Ip(address.ip()),
                port: address.port(),
            }),
        };
        let to = path.proxy().map_or(&self.origin, |proxy| &proxy.address);
        let asked = path.proxy().map(|proxy| proxy.protocol);
        let route = match (asked, destination) {
            (None | Some(Kind::Forward), _) | (_, None) => Route::Straight,
            (Some(kind), Some(destination)) => Route::Asked(kind, destination, self.user.clone()),
        };
        let exchange = match scenario {
            Scenario::Connect => Exchange::Once,
            Scenario::RequestResponse | Scenario::Bulk => Exchange::Kept,
            Scenario::Blocked => Exchange::Refusal,
        };
        Job {
            to: to.clone(),
            script: Script::new(route, exchange, self.message),
            timeout: self.timeout,
        }
    }

    /// How a scenario loads its paths.
    pub(super) fn load(&self, scenario: Scenario) -> Load {
        match scenario {
            Scenario::Bulk => Load::Bulk {
                streams: self.streams,
                bytes: self.bytes,
            },
            _ => Load::Requests {
                connections: self.connections,
                rate: self.rate,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(protocols: &[Kind]) -> Plan {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        let proxy = |&protocol: &Kind| Proxy {
            setting: None,
            address: address.into(),
            protocol,
            processes: Vec::new(),
            engine: None,
            forwarding: None,
            threads: None,
        };
        Plan {
            scenarios: Scenario::ALL.to_vec(),
            origin: address.into(),
            origin_process: None,
            direct: true,
            proxies: protocols.iter().map(proxy).collect(),
            blocked: "192.0.2.1:9".parse().ok(),
            user: None,
            connections: 1,
            streams: 1,
            message: 1,
            rate: None,
            bytes: None,
            extent: Extent {
                duration: Duration::ZERO,
                warmup: Duration::ZERO,
                threads: 1,
            },
            timeout: Duration::ZERO,
            rounds: 1,
            via: None,
            origin_named: None,
        }
    }

    #[test]
    fn each_protocol_has_the_paths_it_can_have() {
        let told = |protocols: &[Kind]| {
            let plan = plan(protocols);
            Scenario::ALL.map(|scenario| {
                let paths = plan.paths(scenario);
                paths
                    .iter()
                    .map(|path| path.name())
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
        let both = "direct proxied";
        assert_eq!(told(&[]), ["direct", "direct", "direct", ""]);
        assert_eq!(told(&[Kind::Socks5]), [both, both, both, "blocked"]);
        assert_eq!(told(&[Kind::Forward]), [both, both, both, ""]);
        assert_eq!(told(&[Kind::Json]), [both, "", "", "blocked"]);
        let two = told(&[Kind::Json, Kind::Connect]);
        let three = "direct proxied proxied";
        assert_eq!(two, [three, both, both, "blocked blocked"]);
    }
}
