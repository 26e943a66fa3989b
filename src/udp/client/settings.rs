//! The settings of a client.

use std::net::SocketAddr;
use std::time::Duration;

use super::via::Via;
use crate::udp::control::key::Key;
use crate::udp::placement::Cpus;
use crate::udp::result::{CpuTrial, Requested};
use crate::udp::wire::control::PEER_TIMEOUT;

/// Whether the offset between the clocks of client and server is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockChoice {
    /// Unless both sides read one clock.
    Auto,
    /// In any case.
    Estimate,
}

/// The settings of a client besides the plan.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Addresses of the server's control port, in the order in which they are tried.
    pub servers: Vec<SocketAddr>,
    /// Local address; the kernel chooses unspecified parts.
    pub bind: Option<SocketAddr>,
    /// The interface to send over.
    pub bind_device: Option<String>,
    /// The relay of all datagrams.
    pub via: Option<Via>,
    /// The key that the server must have.
    pub key: Option<Key>,
    /// Time after which a silent server counts as lost.
    pub peer_timeout: Duration,
    /// The CPUs that the client's threads are pinned to: those of the senders, or of the receivers in a reverse run.
    pub cpus: Cpus,
    /// The trials by which the CPUs of both ends were chosen, for the record.
    pub cpu_trials: Option<Vec<CpuTrial>>,
    /// Whether a paced sender may spin.
    pub spin: bool,
    /// Whether the clock offset is estimated.
    pub clock: ClockChoice,
    /// Whether both hosts explain losses.
    pub explain: bool,
    /// Whether the servers are echo servers (RFC 862), which have no control port. For round trips.
    pub is_echo: bool,
    /// The settings as given, for the record.
    pub requested: Requested,
}

impl Setup {
    /// Bytes of the header of a SOCKS5 relay in front of datagrams to this server; `None` without.
    pub fn relay_header(&self, server: SocketAddr) -> Option<usize> {
        let header = Via::header(self.via.as_ref(), server);
        (!header.is_empty()).then(|| header.len())
    }

    /// Default settings for a server.
    pub fn to(server: SocketAddr) -> Self {
        Self {
            servers: vec![server],
            bind: None,
            bind_device: None,
            via: None,
            key: None,
            peer_timeout: PEER_TIMEOUT,
            cpus: None,
            cpu_trials: None,
            spin: false,
            clock: ClockChoice::Auto,
            explain: false,
            is_echo: false,
            requested: Requested::default(),
        }
    }
}
