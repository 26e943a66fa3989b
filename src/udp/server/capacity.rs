//! The limits of a server, and the capacity that they leave for another session.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::udp::plan::{Mode, Plan};

/// The limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Control connections, including those without a session.
    pub connections: usize,
    /// Sessions.
    pub sessions: usize,
    /// Sessions of one client address.
    pub sessions_per_client: usize,
    /// Streams of all sessions. A stream that does not share an event loop is a thread and about 2 MB.
    pub streams: usize,
    /// Time of a client from its connection to its plan.
    pub greeting: Duration,
    /// Time of a session from its first message to its result.
    pub duration: Duration,
    /// Time without a datagram of a session, and without a message of its client.
    pub idle: Duration,
    /// Records in the packet logs of a session, 24 bytes each on this host's disk.
    pub packet_rows: u64,
    /// Receive or send buffer of a stream that a client may request, in bytes of this host's memory.
    pub buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            sessions: 64,
            sessions_per_client: 32,
            streams: 256,
            greeting: Duration::from_secs(15),
            duration: Duration::from_secs(3_600),
            idle: Duration::from_secs(30),
            packet_rows: 50_000_000,
            buffer: 64 << 20,
        }
    }
}

impl Limits {
    /// No limit on time, space or numbers: for a server whose only client is its own process.
    pub fn none() -> Self {
        Self {
            sessions_per_client: usize::MAX,
            duration: Duration::MAX,
            idle: Duration::MAX,
            packet_rows: u64::MAX,
            buffer: usize::MAX,
            ..Self::default()
        }
    }
}

/// The capacity in use.
pub(super) struct Capacity {
    pub(super) limits: Limits,
    sessions: usize,
    streams: usize,
    clients: HashMap<IpAddr, usize>,
}

impl Capacity {
    /// The capacity used by sessions of these clients with so many streams.
    pub(super) fn used_by(sessions: impl Iterator<Item = (IpAddr, usize)>, limits: Limits) -> Self {
        let mut capacity = Self {
            limits,
            sessions: 0,
            streams: 0,
            clients: HashMap::new(),
        };
        for (client, streams) in sessions {
            capacity.sessions += 1;
            capacity.streams += streams;
            *capacity.clients.entry(client).or_default() += 1;
        }
        capacity
    }

    /// Streams of all sessions.
    pub(super) fn streams(&self) -> usize {
        self.streams
    }

    /// Checks a plan against the limits of a session.
    ///
    /// # Errors
    /// A sentence about the limit that the plan exceeds.
    pub(super) fn check(&self, plan: &Plan) -> Result<(), String> {
        for (name, short, bytes) in [
            ("receive", "rcvbuf", plan.receive_buffer),
            ("send", "sndbuf", plan.send_buffer),
        ] {
            let most = self.limits.buffer;
            // A responder receives and sends.
            let used_here = match (plan.mode, name) {
                (Mode::RoundTrip(_), _) => true,
                (_, "receive") => plan.direction.client_sends(),
                _ => plan.direction.server_sends(),
            };
            if let Some(bytes) = bytes
                && used_here
                && bytes > most
            {
                return Err(format!(
                    "a {name} buffer of {bytes} bytes exceeds the server's limit of {most}; use a smaller --{short}, or restart the server with a larger --max-rcvbuf"
                ));
            }
        }
        if let Some(time) = plan.expected_time()
            && time > self.limits.duration
        {
            let most = self.limits.duration.as_secs_f64();
            return Err(format!(
                "the run would take {:.0} s and the server's limit is {most:.0} s; shorten the run, or restart the server with a longer --max-duration",
                time.as_secs_f64()
            ));
        }
        Ok(())
    }

    /// Takes capacity for a session with so many streams.
    ///
    /// # Errors
    /// A sentence about the limit that is reached.
    pub(super) fn take(&mut self, streams: usize, client: IpAddr) -> Result<(), String> {
        let Limits {
            sessions,
            sessions_per_client,
            streams: most,
            ..
        } = self.limits;
        if self.sessions >= sessions {
            return Err(format!(
                "the server is busy: it has reached its session limit ({sessions}); try again later"
            ));
        }
        let of_client = self.clients.entry(client).or_default();
        if *of_client >= sessions_per_client {
            return Err(format!(
                "the server has reached its session limit for {client} ({sessions_per_client}); try again later, or restart the server with a larger --max-sessions-per-client"
            ));
        }
        if self.streams + streams > most {
            return Err(format!(
                "the server's limit is {most} streams and {} are in use; use fewer --streams, or try again later",
                self.streams
            ));
        }
        *of_client += 1;
        self.sessions += 1;
        self.streams += streams;
        Ok(())
    }
}
