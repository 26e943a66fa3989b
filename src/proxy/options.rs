//! The options of a proxy apart from its rules, and the timing constants of its connections.

use std::time::Duration;

use super::access_log;
use super::associations::AssociationOptions;
use super::datagrams::DatagramOptions;
use super::relay::Forwarding;
use crate::engine::EngineKind;

/// The longest wait for a client to close after its last reply, and for a request of a client over the limit.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The delay in ns between two looks at the send queue to an end whose other end is gone.
pub(super) const FLUSH_INTERVAL: u64 = 20_000_000;

/// Bytes of a client that are discarded after its last reply. Then its connection is reset.
pub(super) const MAX_DISCARDED: usize = 64 << 10;

/// Bytes of a request that one read takes.
pub(super) const REQUEST_CHUNK: usize = 4_096;

/// How long a client over the limit may take to send its request, in ns, while other clients over the limit wait. The
/// request determines the protocol of the refusal.
pub(super) const REJECTION_TIME: u64 = 1_000_000_000;

/// The delay in ns before the next address of a name is tried in parallel: the "Connection Attempt Delay" of RFC 8305,
/// section 5.
pub(super) const ATTEMPT_DELAY: u64 = 250_000_000;

/// The least time in ns for one address if no parallel attempt is permitted: a lost SYN is sent again after a second (RFC
/// 6298).
pub(super) const MIN_ATTEMPT: u64 = 1_000_000_000;

/// How long a server may still take to connect, in ns, after its client ended its side without data for it. Nearly all such
/// clients have closed their socket; a client that only receives may end its side at once, and most servers connect faster.
pub(super) const EOF_GRACE: u64 = 250_000_000;

/// The longest pause in accepting after file descriptors or memory ran out, in ns. A connection that closes ends the pause.
pub(super) const PAUSE: u64 = 100_000_000;

/// The options of a proxy.
#[derive(Debug, Clone)]
pub struct Options {
    /// The I/O backend.
    pub engine: EngineKind,
    /// How bytes are forwarded.
    pub forwarding: Forwarding,
    /// Threads, each with a listener on the same port.
    pub threads: usize,
    /// Most concurrent connections, over all threads. Further clients are refused.
    pub connections: usize,
    /// Most concurrent connections of one client: an IPv4 address or an IPv6 network of 64 bits. By default three quarters of all.
    pub connections_per_client: Option<usize>,
    /// Most pipes of a thread, and so of flows that splice(2) serves at a time.
    pub pipes: usize,
    /// Timeouts of a connection.
    pub timeouts: Timeouts,
    /// How long open connections may continue once the proxy stops.
    pub drain: Duration,
    /// The access log.
    pub log: Option<access_log::Handle>,
    /// UDP forwarding, for the datagrams of [`super::listeners::Listeners::bind_datagrams`].
    pub datagrams: Option<DatagramOptions>,
    /// SOCKS5 UDP ASSOCIATE, if [`crate::protocol::Settings::associate`].
    pub associations: AssociationOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: EngineKind::Mio,
            forwarding: Forwarding::Auto,
            threads: 1,
            connections: 10_000,
            connections_per_client: None,
            pipes: 64,
            timeouts: Timeouts {
                request: Duration::from_secs(10),
                connect: Duration::from_secs(5),
                idle: Duration::from_secs(300),
                half_closed: Duration::from_secs(30),
            },
            drain: Duration::from_secs(30),
            log: None,
            datagrams: None,
            associations: AssociationOptions::default(),
        }
    }
}

/// Timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the start to the last byte of the request.
    pub request: Duration,
    /// For the lookup of a name and connect(2) to all its addresses.
    pub connect: Duration,
    /// Without traffic in either direction, also of an association of datagrams.
    pub idle: Duration,
    /// Without traffic, once one side has ended.
    pub half_closed: Duration,
}
