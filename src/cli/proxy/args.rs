//! The options of `bench proxy`, as clap reads them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::{at_least_one, some_time};
use crate::engine::choice::Kind;
use crate::protocol::Destination;
use crate::protocol::request::MAX_REQUEST;
use crate::proxy::relay::Forwarding;
use crate::units::{parse_duration, parse_number};

#[derive(Debug, Args)]
pub(in crate::cli) struct Proxy {
    #[command(subcommand)]
    pub(super) role: Role,
}

#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// Take clients and connect each to a server, until SIGINT or SIGTERM
    Serve(Box<Serve>),
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
    /// The server that every client is connected to, whatever it says
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["protocol", "auth_file", "max_request"])]
    pub(super) forward: Option<Destination>,
    /// Requests that are taken, told apart by their first byte
    #[arg(
        long,
        value_name = "KIND,...",
        value_enum,
        value_delimiter = ',',
        default_value = "json,socks5,connect"
    )]
    pub(super) protocol: Vec<ProtocolArg>,
    /// Users who may, a line USER:PASSWORD each; SOCKS5 and CONNECT only
    #[arg(long, value_name = "FILE")]
    pub(super) auth_file: Option<PathBuf>,
    /// A list of what is refused; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) blocklist: Vec<PathBuf>,
    /// A list of the only things that are not refused; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) allow: Vec<PathBuf>,
    /// Refuse everything that is not the public Internet
    #[arg(long)]
    pub(super) deny_private: bool,
    /// Refuse nothing for the lists' sake, but log what would be
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Read the lists anew when a file of theirs changes, and not only on SIGHUP
    #[arg(long)]
    pub(super) watch: bool,
    /// Take clients only with a PROXY header (v1 or v2) that says who they are
    #[arg(long)]
    pub(super) accept_proxy: bool,
    /// Tell servers who the client is, by a PROXY header
    #[arg(long, value_name = "VERSION", value_enum)]
    pub(super) send_proxy: Option<HeaderArg>,
    /// Log each connection once it is over, a JSON line at the end of FILE; - is standard output, and what else is said goes to
    /// standard error. SIGHUP opens FILE anew
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// Where to show metrics for Prometheus (/metrics) and whether clients are taken (/healthz); whoever can reach it may look
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) metrics: Option<SocketAddr>,
    /// What does the I/O
    #[arg(long, value_name = "ENGINE", value_enum, default_value = "mio")]
    pub(super) engine: EngineArg,
    /// How bytes are brought from one end to the other
    #[arg(long, value_name = "HOW", value_enum, default_value = "auto")]
    pub(super) forwarding: ForwardingArg,
    /// Threads, each with a listener on the same port
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = 1)]
    pub(super) threads: usize,
    /// Connections at once; clients beyond are hung up on
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 10_000)]
    pub(super) max_connections: usize,
    /// Largest JSON request
    #[arg(long, value_name = "BYTES", value_parser = request_size, default_value_t = MAX_REQUEST)]
    pub(super) max_request: usize,
    /// Longest time until a request is complete
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "10s")]
    pub(super) request_timeout: Duration,
    /// Longest wait for a name to be looked up, and for a server to take a connection
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
    /// The fastest, which is to copy
    Auto,
    /// Read and write
    Copy,
    /// Through a pipe (splice), unless none can be had; with --engine mio only
    Splice,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum EngineArg {
    /// A mio (epoll) event loop a thread
    Mio,
    /// An io_uring a thread (Linux 6.1 or newer)
    Uring,
}

impl From<EngineArg> for Kind {
    fn from(engine: EngineArg) -> Self {
        match engine {
            EngineArg::Mio => Self::Mio,
            EngineArg::Uring => Self::Uring,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum ProtocolArg {
    /// One JSON object with server_ip, server_port and message
    Json,
    /// SOCKS version 5
    Socks5,
    /// HTTP CONNECT
    Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum HeaderArg {
    /// A line of text
    V1,
    /// Binary
    V2,
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

/// A request is kept in memory until it is complete.
fn request_size(text: &str) -> Result<usize, String> {
    match parse_number(text) {
        Ok(bytes) if (64.0..=1e9).contains(&bytes) => Ok(bytes as usize),
        Ok(_) => Err("no request fits; choose 64 to 1G bytes".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// More threads than any host has CPUs are a slip of the hand.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1_024) => Ok(threads),
        _ => Err("it is no number of threads; choose 1 to 1024".to_owned()),
    }
}
