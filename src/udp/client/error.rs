//! Why a run measured nothing: one sentence each, with the way out.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use super::Lost;
use crate::udp::control::connection::LinkError;
use crate::udp::control::greeting::GreetingError;
use crate::udp::setup::SetupError;

/// Why a run measured nothing. One sentence, with the way out.
#[derive(Debug, Error)]
pub enum RunError {
    /// No TCP connection to any of the addresses.
    #[error("cannot reach a server at {}; is `bench serve` running there, on that port?", reasons(.0))]
    Unreachable(Vec<(SocketAddr, io::Error)>),
    /// The server refuses, or does not prove that it has the key.
    #[error("the server at {0} {1}")]
    Greeting(SocketAddr, GreetingError),
    /// The server ended the session before the run began.
    #[error("the server at {0} refuses the run: {1}")]
    Refused(SocketAddr, String),
    /// It sent something else than an answer, or nothing.
    #[error(
        "the server at {0} did not take part: {1}; is that a `bench serve` of the same version?"
    )]
    Control(SocketAddr, LinkError),
    /// It was lost before the run began.
    #[error("the server at {0} was lost before the run began: {1}")]
    Lost(SocketAddr, Lost),
    /// It welcomed another plan.
    #[error("the server at {0} answered out of turn; is that a `bench serve` of the same version?")]
    OutOfTurn(SocketAddr),
    /// Nothing comes back over UDP.
    #[error(
        "the server's UDP port {0} does not answer; does a firewall between the two hosts drop UDP?"
    )]
    NoUdp(SocketAddr),
    /// A socket.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// An event loop or a thread.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// Cancelled before anything was sent.
    #[error("interrupted before the first datagram was sent")]
    Cancelled,
}

fn reasons(failed: &[(SocketAddr, io::Error)]) -> String {
    let each = failed
        .iter()
        .map(|(server, error)| format!("{server}: {error}"));
    each.collect::<Vec<_>>().join(", nor at ")
}
