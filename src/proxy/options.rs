//! What a proxy is to do, apart from its rules, and the limits that both engines keep.

use std::time::Duration;

use super::log;
use super::relay::Forwarding;
use crate::engine::EngineKind;

/// How long a client that is told something last has to hear it and hang up. Closing before would take the words back
/// where it had sent more than was read.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Bytes of a request that are read at once.
pub(super) const REQUEST: usize = 4_096;

/// How long a client over the limit has to say in which protocol it is to be told so, in ns, while others over the limit
/// wait.
pub(super) const REFUSAL: u64 = 1_000_000_000;

/// How long an address of a name is waited for before the next one is tried beside it, in ns: the "Connection Attempt
/// Delay" of RFC 8305, section 5.
pub(super) const ATTEMPT_DELAY: u64 = 250_000_000;

/// How long an address is waited for, in ns, where there is no socket to try the next one beside it: a lost SYN is sent
/// again after a second (RFC 6298).
pub(super) const ATTEMPT_LEAST: u64 = 1_000_000_000;

/// How long a client that ended and said nothing for a server is waited with for that server, in ns. Nearly all have hung
/// up; one that only listens may end at once, and most servers are connected by then.
pub(super) const ENDED_GRACE: u64 = 250_000_000;

/// How long nothing is accepted after file descriptors or memory ran out, in ns, unless a connection ends before.
pub(super) const PAUSE: u64 = 100_000_000;

/// What a proxy is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// What does the I/O.
    pub engine: EngineKind,
    /// How bytes are brought from one end to the other.
    pub forwarding: Forwarding,
    /// Threads, each with a listener on the same port.
    pub threads: usize,
    /// Connections at once, over all threads. Clients beyond are told so and hung up on.
    pub connections: usize,
    /// Pipes at once, a thread: as many flows can have bytes in hand by splice(2).
    pub pipes: usize,
    /// How long a connection may wait.
    pub timeouts: Timeouts,
    /// How long connections may go on once the proxy is to stop.
    pub drain: Duration,
    /// Where connections that are over are logged.
    pub log: Option<log::Handle>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: EngineKind::Mio,
            forwarding: Forwarding::Auto,
            threads: 1,
            connections: 10_000,
            pipes: 64,
            timeouts: Timeouts {
                request: Duration::from_secs(10),
                connect: Duration::from_secs(5),
                idle: Duration::from_secs(300),
                half_closed: Duration::from_secs(30),
            },
            drain: Duration::from_secs(30),
            log: None,
        }
    }
}

/// How long a connection may wait.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the client to say what it wants, to the last byte.
    pub request: Duration,
    /// For a name to be looked up and for the server to answer connect(2), at whichever address.
    pub connect: Duration,
    /// For either end to say anything.
    pub idle: Duration,
    /// For the other end to say or take anything, once one has ended.
    pub half_closed: Duration,
}
