//! Why a run did not begin: a sentence each, with advice.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use super::SessionError;
use crate::udp::control::connection::ConnectionError;
use crate::udp::control::greeting::GreetingError;
use crate::udp::setup::SetupError;

/// Why a run did not begin: a sentence with advice.
#[derive(Debug, Error)]
pub enum RunError {
    /// None of the addresses accepts a TCP connection.
    #[error("cannot reach a server at {}; {}", reasons(.0), advice(.0))]
    Unreachable(Vec<(SocketAddr, io::Error)>),
    /// The server refuses the session, or does not prove that it has the key.
    #[error("the server at {0} {1}")]
    Greeting(SocketAddr, GreetingError),
    /// The server ended the session before the run began.
    #[error("the server at {0} refuses the run: {1}")]
    Refused(SocketAddr, String),
    /// The server refuses the session as a message that it does not know.
    #[error(
        "the server at {0} is older and has no round trips; install this wirebench there, or run an echo server there and use --echo"
    )]
    NoRoundTrips(SocketAddr),
    /// The connection failed before the session was open.
    #[error("the server at {0} opened no session: {1}; is it a `bench serve` of the same version?")]
    Control(SocketAddr, ConnectionError),
    /// The server was lost before the run began.
    #[error("the server at {0} was lost before the run began: {1}")]
    Lost(SocketAddr, SessionError),
    /// The server's welcome does not fit the plan.
    #[error(
        "the server at {0} sent an unexpected message; is it a `bench serve` of the same version?"
    )]
    OutOfTurn(SocketAddr),
    /// The server ignores options of the datagrams.
    #[error(
        "the server at {0} is an older version, without options of the datagrams such as --dscp; install the same wirebench on both hosts"
    )]
    Older(SocketAddr),
    /// The server's receivers do not know the kernel's timestamps.
    #[error(
        "the server at {0} is older than --timestamps kernel; update it, or use --timestamps user"
    )]
    NoKernelLatency(SocketAddr),
    /// The server does not answer over UDP.
    #[error(
        "the server's UDP port {0} does not answer; does a firewall between the two hosts drop UDP?"
    )]
    NoUdp(SocketAddr),
    /// The server does not answer over UDP through a relay.
    #[error(
        "the server does not answer through the relay {0}; does the relay forward to the UDP port {1}?"
    )]
    NotThrough(SocketAddr, SocketAddr),
    /// The SOCKS5 proxy opens no UDP relay.
    #[error(
        "the SOCKS5 proxy at {0} opens no UDP relay: {1}; does it support UDP ASSOCIATE for this user and server?"
    )]
    NoAssociation(SocketAddr, String),
    /// The SOCKS5 proxy ended a UDP association before the run began.
    #[error("{}", relay_lost(*.0))]
    RelayLost(SocketAddr),
    /// The server does not answer datagrams with this TTL over UDP.
    #[error(
        "the server's UDP port {0} does not answer datagrams with --ttl {1}; is the path longer, or does a firewall between the two hosts drop UDP?"
    )]
    NotWithin(SocketAddr, u8),
    /// A socket cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// An event loop or a thread cannot be started.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// The fleet does not start the run.
    #[error("{0}")]
    Fleet(String),
    /// The user cancelled the run before the first datagram.
    #[error("interrupted before the first datagram was sent")]
    Cancelled,
}

impl RunError {
    /// The error of flows with this TTL.
    pub(super) fn within(self, ttl: Option<u8>) -> Self {
        match (self, ttl) {
            (Self::NoUdp(server), Some(hops)) => Self::NotWithin(server, hops),
            (error, _) => error,
        }
    }

    /// The error of a session with round trips, of which an older server knows no more than the name in its refusal.
    pub(super) fn of_round_trips(self) -> Self {
        match self {
            Self::Greeting(server, GreetingError::Refused(reason))
                if reason.contains("unknown variant `round_trip`") =>
            {
                Self::NoRoundTrips(server)
            }
            error => error,
        }
    }
}

/// The end of a UDP association as a sentence.
pub(super) fn relay_lost(proxy: SocketAddr) -> String {
    format!(
        "the SOCKS5 proxy at {proxy} closed the connection of its UDP relay, and no datagram passes any more"
    )
}

/// Advice about addresses that did not answer: a limit of this host is no fault of the server.
fn advice(failed: &[(SocketAddr, io::Error)]) -> &'static str {
    let is_local = |(_, error): &(SocketAddr, io::Error)| {
        matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    };
    match failed.iter().any(is_local) {
        true => {
            "this host's limit of open files is too low: raise it (ulimit -n), or use fewer --streams"
        }
        false => "is `bench serve` running there, on that port?",
    }
}

fn reasons(failed: &[(SocketAddr, io::Error)]) -> String {
    let each = failed
        .iter()
        .map(|(server, error)| format!("{server}: {error}"));
    each.collect::<Vec<_>>().join(", nor at ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_this_host_is_not_blamed_on_the_server() {
        let of = |errno| {
            let error = io::Error::from_raw_os_error(errno);
            RunError::Unreachable(vec![(([127, 0, 0, 1], 5210).into(), error)]).to_string()
        };
        let limit = of(libc::EMFILE);
        assert!(
            limit.contains("ulimit -n") && !limit.contains("running there"),
            "{limit}"
        );
        assert!(of(libc::ECONNREFUSED).ends_with("is `bench serve` running there, on that port?"));
    }
}
