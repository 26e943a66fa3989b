//! The options of `bench proxy`, as clap reads them.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::{at_least_one, some_time};
use crate::protocol::host::Destination;
use crate::proxy::relay::Forwarding;
use crate::units::parse_duration;

#[derive(Debug, Args)]
pub(in crate::cli) struct Proxy {
    #[command(subcommand)]
    pub(super) role: Role,
}

#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// Take clients and connect each to a server, until SIGINT or SIGTERM
    Serve(Serve),
    /// Answer each client `RESPONSE || ` and what it says
    Origin(Origin),
    /// Send one message to a server through a proxy (JSON), and print the answer
    ///
    /// The answer is printed as it is; only on a terminal a newline is added where there is none at its end. A proxy's refusal is
    /// told from an answer by being all that comes: a line {"error": ..., "detail": ...} of the proxy's own words. A server whose whole
    /// answer is such a line passes for the proxy.
    ///
    /// Exit code 0 with the whole answer, 1 when the proxy refused, 3 when there is no proxy or no whole answer.
    Send(Send),
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where to listen; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: SocketAddr,
    /// The server that every client is connected to
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) forward: SocketAddr,
    /// How bytes are brought from one end to the other
    #[arg(long, value_name = "HOW", value_enum, default_value = "auto")]
    pub(super) forwarding: ForwardingArg,
    /// Threads, each with a listener on the same port
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = 1)]
    pub(super) threads: usize,
    /// Connections at once; clients beyond are hung up on
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 10_000)]
    pub(super) max_connections: usize,
    /// Longest wait for the server to take a connection
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "5s")]
    pub(super) connect_timeout: Duration,
    /// Longest time in which neither end says or takes anything
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "5m")]
    pub(super) idle_timeout: Duration,
    /// The same once one end has ended
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "30s")]
    pub(super) half_closed_timeout: Duration,
    /// How long connections may go on after the first SIGINT or SIGTERM; the second ends all at once
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub(super) drain_timeout: Duration,
    /// Print errors and the address only
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Origin {
    /// Where to listen; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: SocketAddr,
    /// Print errors and the address only, and no messages
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Send {
    /// The proxy
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) proxy: SocketAddr,
    /// The server that the proxy is to bring the message to, by address or by name
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) server: Destination,
    /// The message
    #[arg(value_name = "TEXT")]
    pub(super) text: String,
    /// Longest time for all of it, from connecting to the end of the answer
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "30s")]
    pub(super) timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum ForwardingArg {
    /// Copy, and splice while a flow is bulk
    Auto,
    /// Read and write
    Copy,
    /// Through a pipe (splice), unless none can be had
    Splice,
}

impl From<ForwardingArg> for Forwarding {
    fn from(forwarding: ForwardingArg) -> Self {
        match forwarding {
            ForwardingArg::Auto => Self::Auto,
            ForwardingArg::Copy => Self::Copy,
            ForwardingArg::Splice => Self::Splice,
        }
    }
}

/// More threads than any host has CPUs are a slip of the hand.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1_024) => Ok(threads),
        _ => Err("it is no number of threads; choose 1 to 1024".to_owned()),
    }
}
