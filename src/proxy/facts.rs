//! What is known of a connection when it is over, and of all of them.

use std::net::SocketAddr;

use super::relay::{Counts, Side};

/// One connection, from the client's arrival to the end.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who came.
    pub client: SocketAddr,
    /// Where it went, as given to connect(2); `None` where it did not come to that.
    pub server: Option<SocketAddr>,
    /// When it was accepted, in ns of [`crate::sys::clock::monotonic_ns`].
    pub accepted: u64,
    /// When the server was connected.
    pub connected: Option<u64>,
    /// When it was over.
    pub closed: u64,
    /// From the client to the server.
    pub to_server: Counts,
    /// From the server to the client, and what the proxy itself said to it.
    pub to_client: Counts,
    /// How it ended.
    pub ending: Ending,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Both ends said all they had to say.
    Finished,
    /// This end broke it.
    Reset(Side),
    /// The client was refused: its request, or too many connections.
    Refused,
    /// By the policy.
    Blocked,
    /// The server could not be connected to.
    NoServer,
    /// Nothing happened for too long.
    TimedOut(Wait),
    /// The proxy was stopped.
    Stopped,
}

/// What a connection was waiting for when it took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The client to say what it wants.
    Request,
    /// The server to answer connect(2).
    Connect,
    /// Either end to say anything.
    Idle,
    /// The end that had not ended to say or take anything.
    HalfClosed,
    /// The client to take what it was told, and to hang up.
    Refusal,
}

/// All connections of a proxy that are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Clients accepted.
    pub connections: u64,
    /// Ended as they should.
    pub finished: u64,
    /// Broken by either end.
    pub reset: u64,
    /// Refused or blocked.
    pub refused: u64,
    /// Without a server.
    pub no_server: u64,
    /// Took too long.
    pub timed_out: u64,
    /// Cut off when the proxy was stopped.
    pub stopped: u64,
    /// Bytes that servers took.
    pub to_server: u64,
    /// Bytes that clients took.
    pub to_client: u64,
    /// Bytes of both that went through a pipe.
    pub spliced: u64,
    /// Lots that were copied for want of a pipe.
    pub no_pipe: u64,
    /// Times that accepting had to pause for want of file descriptors or memory.
    pub pauses: u64,
}

impl Totals {
    /// One more is over.
    pub fn add(&mut self, facts: &Facts) {
        self.connections += 1;
        *match facts.ending {
            Ending::Finished => &mut self.finished,
            Ending::Reset(_) => &mut self.reset,
            Ending::Refused | Ending::Blocked => &mut self.refused,
            Ending::NoServer => &mut self.no_server,
            Ending::TimedOut(_) => &mut self.timed_out,
            Ending::Stopped => &mut self.stopped,
        } += 1;
        self.to_server += facts.to_server.drained;
        self.to_client += facts.to_client.drained;
        for counts in [facts.to_server, facts.to_client] {
            self.spliced += counts.spliced;
            self.no_pipe += counts.no_pipe;
        }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            finished: self.finished + other.finished,
            reset: self.reset + other.reset,
            refused: self.refused + other.refused,
            no_server: self.no_server + other.no_server,
            timed_out: self.timed_out + other.timed_out,
            stopped: self.stopped + other.stopped,
            to_server: self.to_server + other.to_server,
            to_client: self.to_client + other.to_client,
            spliced: self.spliced + other.spliced,
            no_pipe: self.no_pipe + other.no_pipe,
            pauses: self.pauses + other.pauses,
        }
    }
}
