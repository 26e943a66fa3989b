//! The plan of a benchmark: scenarios, their paths, duration and rounds.

use std::sync::Arc;
use std::time::Duration;

use super::handshake::Route;
use super::measurement::{Extent, Load};
use super::progress::Progress;
use super::worker::Job;
use super::workload::{RequestKind, Workload};
use crate::protocol::{Destination, Host, Kind, User};
use crate::sys::endpoint::Endpoint;

/// A pattern of client requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// One request on each connection.
    Connect,
    /// Many requests on kept connections.
    RequestResponse,
    /// Send data in one direction.
    Bulk,
    /// Requests that the proxy refuses.
    Blocked,
    /// Datagrams, which another load generator sends.
    Udp,
}

impl Scenario {
    /// Every scenario of TCP, in the order of measurement.
    pub const ALL: [Self; 4] = [
        Self::Connect,
        Self::RequestResponse,
        Self::Bulk,
        Self::Blocked,
    ];

    /// The name in options and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::RequestResponse => "request-response",
            Self::Bulk => "bulk",
            Self::Blocked => "blocked",
            Self::Udp => "udp",
        }
    }

    /// Why the scenario is impossible with a protocol; `None` where it is possible.
    pub const fn impossible(self, protocol: Kind) -> Option<&'static str> {
        match (self, protocol) {
            (Self::RequestResponse, Kind::Json) => {
                Some("a JSON request takes a whole connection, which cannot be kept")
            }
            (Self::Bulk, Kind::Json) => {
                Some("a JSON request is one message, which the proxy buffers until it is complete")
            }
            (Self::Blocked, Kind::Forward) => Some("a forwarding proxy has one fixed destination"),
            _ => None,
        }
    }
}

/// A measured proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The name of its setting; `None` where there is only one proxy.
    pub setting: Option<String>,
    /// The address that it listens on.
    pub address: Endpoint,
    /// The protocol of requests.
    pub protocol: Kind,
    /// Its processes, for their CPU time.
    pub processes: Vec<u32>,
    /// The engine, if known.
    pub engine: Option<String>,
    /// The forwarding method, if known.
    pub forwarding: Option<String>,
    /// The number of threads, if known.
    pub threads: Option<usize>,
}

/// The plan of a benchmark.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The scenarios to measure.
    pub scenarios: Vec<Scenario>,
    /// The origin server as seen from here. A Unix socket only where no proxy is asked for it.
    pub origin: Endpoint,
    /// Its process, where this program started it.
    pub origin_process: Option<u32>,
    /// Whether the direct path is measured.
    pub direct: bool,
    /// The proxies. If empty, only the direct path is measured.
    pub proxies: Vec<Proxy>,
    /// A destination that the proxies refuse; `None` leaves the blocked scenario out.
    pub blocked: Option<Destination>,
    /// The user that clients sign in as.
    pub user: Option<User>,
    /// Concurrent connections of requests.
    pub connections: usize,
    /// Concurrent streams of bulk data.
    pub streams: usize,
    /// Bytes of a message.
    pub message: usize,
    /// Requests a second; `None` for back to back.
    pub rate: Option<f64>,
    /// The first request of a schedule is later by this share of the time between two: the ranks of a fleet take turns.
    pub phase: f64,
    /// Bytes of bulk data of a measurement.
    pub bytes: Option<u64>,
    /// Duration and threads of each measurement.
    pub extent: Extent,
    /// Timeout of a request.
    pub timeout: Duration,
    /// Measurements of each path.
    pub rounds: usize,
    /// `--via` as given, for the record.
    pub via: Option<String>,
    /// `--origin` as given, for the record.
    pub origin_named: Option<String>,
    /// Where the threads of each measurement publish their statistics.
    pub progress: Option<Arc<Progress>>,
}

/// The path of requests.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// Directly to the origin.
    Direct,
    /// Through a proxy.
    Proxied(&'a Proxy),
    /// To a proxy that refuses.
    Blocked(&'a Proxy),
}

impl<'a> Path<'a> {
    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Proxied(_) => "proxied",
            Self::Blocked(_) => "blocked",
        }
    }

    /// The proxy on the path.
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
        // A direct path alone has nothing to be compared with.
        let direct = self.direct && (self.proxies.is_empty() || !proxied.is_empty());
        direct
            .then_some(Path::Direct)
            .into_iter()
            .chain(proxied)
            .collect()
    }

    /// The job of the workers on a path.
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
            (None | Some(Kind::Forward), _) | (_, None) => Route::Direct,
            (Some(kind), Some(destination)) => Route::Proxied(kind, destination, self.user.clone()),
        };
        let kind = match scenario {
            Scenario::Connect => RequestKind::OneShot,
            Scenario::RequestResponse | Scenario::Bulk | Scenario::Udp => RequestKind::KeepAlive,
            Scenario::Blocked => RequestKind::Refused,
        };
        Job {
            to: to.clone(),
            workload: Workload::new(route, kind, self.message),
            timeout: self.timeout,
            progress: self.progress.clone(),
        }
    }

    /// The load of a scenario.
    pub(super) fn load(&self, scenario: Scenario) -> Load {
        match scenario {
            Scenario::Bulk => Load::Bulk {
                streams: self.streams,
                bytes: self.bytes,
            },
            _ => Load::Requests {
                connections: self.connections,
                rate: self.rate,
                phase: self.phase,
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
            phase: 0.0,
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
            progress: None,
        }
    }

    #[test]
    fn protocols_have_their_possible_paths() {
        let paths = |protocols: &[Kind]| {
            let plan = plan(protocols);
            Scenario::ALL.map(|scenario| {
                plan.paths(scenario)
                    .iter()
                    .map(|path| path.name())
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
        let both = "direct proxied";
        assert_eq!(paths(&[]), ["direct", "direct", "direct", ""]);
        assert_eq!(paths(&[Kind::Socks5]), [both, both, both, "blocked"]);
        assert_eq!(paths(&[Kind::Forward]), [both, both, both, ""]);
        assert_eq!(paths(&[Kind::Json]), [both, "", "", "blocked"]);
        let two = paths(&[Kind::Json, Kind::Connect]);
        let three = "direct proxied proxied";
        assert_eq!(two, [three, both, both, "blocked blocked"]);
    }
}
