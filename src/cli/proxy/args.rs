//! Options of `bench proxy`, as clap parses them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::EnumValueParser;
use clap::{Args, Subcommand, ValueEnum};

use super::fleet::LoadFleetArgs;
use super::scenarios::Given;
use crate::cli::exports::RunExports;
use crate::cli::list::{List, list};
use crate::cli::parse::{
    at_least_one, connections, megabytes, message_size, mode, nonzero_duration, rate, request_size,
    rounds, threads,
};
use crate::cli::saving::Saving;
use crate::engine::EngineKind;
use crate::load::plan::Scenario;
use crate::protocol::request::MAX_REQUEST;
use crate::protocol::{self, Destination};
use crate::proxy::relay::Forwarding;
use crate::sys::endpoint::Endpoint;
use crate::units::{parse_duration, parse_whole};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER)]
pub(in crate::cli) struct Proxy {
    #[command(subcommand)]
    pub(super) role: Option<Role>,
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    pub(super) proxy: ProxyArgs,
}

/// Printed after the options of `bench proxy`.
const AFTER: &str = "\
Without a subcommand, bench proxy measures what a proxy costs. It starts an origin server, a proxy and a load generator as \
processes on loopback; --via and --origin use running ones instead. It measures the direct and the proxied path interleaved.

Options shown with ,... take several values. Each one is measured and compared with the first. An option without effect on the \
scenarios is refused.";

/// The proxy that is started for a measurement.
#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// Engine of the started proxy
    #[arg(long, value_name = "ENGINE,...", value_parser = list(EnumValueParser::<EngineArg>::new()), default_value = "mio", conflicts_with = "via", help_heading = "I/O")]
    pub(super) engine: List<EngineArg>,
    /// Forwarding method of the started proxy
    #[arg(long, value_name = "HOW,...", value_parser = list(EnumValueParser::<ForwardingArg>::new()), default_value = "auto", conflicts_with = "via", help_heading = "I/O")]
    pub(super) forwarding: List<ForwardingArg>,
    /// Threads of the started proxy
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = 1, conflicts_with = "via", help_heading = "I/O")]
    pub(super) threads: usize,
}

/// The measurement, of a started or a running proxy.
#[derive(Debug, Args)]
pub(super) struct Load {
    #[command(flatten)]
    pub(super) given: Given,
    /// Scenarios [default: all that the protocol supports]
    #[arg(long, value_name = "NAME,...", value_parser = list(EnumValueParser::<ScenarioArg>::new()), help_heading = "Workload")]
    pub(super) scenario: Option<List<ScenarioArg>>,
    /// Protocol of requests to the proxy [default: socks5, forward for scenario udp]
    #[arg(long, value_name = "KIND,...", value_parser = list(EnumValueParser::<RequestProtocolArg>::new()), help_heading = "Workload")]
    pub(super) protocol: Option<List<RequestProtocolArg>>,
    /// Concurrent connections of requests
    #[arg(long, value_name = "N", value_parser = connections, default_value_t = 32, help_heading = "Workload")]
    pub(super) connections: usize,
    /// Bytes of a message [default: 64, 1000 in a datagram]
    #[arg(long, value_name = "BYTES", value_parser = message_size, help_heading = "Workload")]
    pub(super) message: Option<usize>,
    /// Concurrent streams of bulk data or datagrams
    #[arg(long, value_name = "N", value_parser = connections, default_value_t = 1, help_heading = "Workload")]
    pub(super) streams: usize,
    /// Time to measure each path of each scenario, over all rounds
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "2s", help_heading = "Workload")]
    pub(super) duration: Duration,
    /// Bulk data of a round, in MB of 10^6 bytes [default: what fits in --duration]
    #[arg(long, value_name = "N", value_parser = megabytes, help_heading = "Workload")]
    pub(super) mb: Option<u64>,
    /// Do not measure the direct path, for an origin that only the proxy reaches; added latency is then unknown
    #[arg(long, help_heading = "Workload")]
    pub(super) no_direct: bool,
    /// Fail a request after this long
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "5s", help_heading = "Workload")]
    pub(super) timeout: Duration,
    /// Requests a second, whether or not earlier ones are answered [default: one at a time on each connection]; datagrams a second at
    /// which latencies and losses are measured [default: 20k]
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Rate")]
    pub(super) rate: Option<f64>,
    /// Threads of the load generator
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = 1, help_heading = "I/O")]
    pub(super) load_threads: usize,
    /// Running proxy to measure
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", help_heading = "Network")]
    pub(super) via: Option<Endpoint>,
    /// User to sign in as at the running proxy (SOCKS5 and CONNECT)
    #[arg(long, value_name = "NAME", requires_all = ["via", "secret"], help_heading = "Network")]
    pub(super) user: Option<String>,
    /// Password of the user; visible to other users of this host, unlike --password-file
    #[arg(
        long,
        value_name = "WORD",
        requires = "user",
        group = "secret",
        help_heading = "Network"
    )]
    pub(super) password: Option<String>,
    /// File with the password in its first line
    #[arg(
        long,
        value_name = "FILE",
        requires = "user",
        group = "secret",
        help_heading = "Network"
    )]
    pub(super) password_file: Option<PathBuf>,
    /// Running `bench proxy origin`; for scenario udp, the `bench serve` to which the proxy forwards
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", help_heading = "Network")]
    pub(super) origin: Option<Endpoint>,
    /// Processes of the running proxy, to report the CPU time of them and their children
    #[arg(long, value_name = "PID,...", value_parser = list(parse_whole::<u32>), requires = "via", help_heading = "Network")]
    pub(super) server_pid: Option<List<u32>>,
    /// Destination that the running proxy refuses, for scenarios blocked and udp. Scenario udp sees datagrams that pass if it is an unused
    /// address and port of this host
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "via",
        help_heading = "Network"
    )]
    pub(super) blocked: Option<Destination>,
    /// Rounds; each measures every path once
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = rounds, help_heading = "Repetition")]
    pub(super) repeat: u32,
    /// Uncounted load before each measurement
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "50ms", help_heading = "Repetition")]
    pub(super) warmup: Duration,
    /// Show the measurement on the full screen while it lasts: rates, errors and latencies; q or Ctrl-C ends it and prints the
    /// summary
    #[arg(long, conflicts_with = "quiet", help_heading = "Output")]
    pub(super) live: bool,
    #[command(flatten)]
    pub(super) exports: RunExports,
    #[command(flatten)]
    pub(super) saving: Saving,
}

/// The load generator alone.
#[derive(Debug, Args)]
pub(super) struct LoadCommand {
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    pub(super) fleet: LoadFleetArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// Run the proxy until SIGINT or SIGTERM
    #[command(after_long_help = include_str!("serve_notes.txt"))]
    Serve(Box<Serve>),
    /// Run the origin server, which answers `RESPONSE || ` and the received message
    ///
    /// On request of the load generator it also closes a connection after one answer, or receives bulk data.
    Origin(Origin),
    /// Run the load generator against a running `bench proxy origin`, directly and through a proxy (--via)
    Load(Box<LoadCommand>),
    /// Send one message to a server through a proxy (JSON) and print the answer
    ///
    /// The answer is printed as received; on a terminal, a missing newline is added. The proxy refuses with one line
    /// {"error": ..., "detail": ...} and nothing else; a server whose whole answer is such a line is mistaken for the proxy.
    ///
    /// Exit code 0 with the complete answer, 1 if the proxy refused, 3 without a proxy or a complete answer.
    Send(Send),
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address to listen on; port 0 selects a free port; may be repeated
    ///
    /// Sockets passed by systemd (LISTEN_FDS) are used too; with them --listen is optional.
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", help_heading = "Network")]
    pub(super) listen: Vec<Endpoint>,
    /// Permissions of Unix sockets [default: by umask]
    #[arg(long, value_name = "OCTAL", value_parser = mode, help_heading = "Network")]
    pub(super) listen_mode: Option<u32>,
    /// Accepted request protocols, detected by the first byte
    #[arg(
        long,
        value_name = "KIND,...",
        value_enum,
        value_delimiter = ',',
        default_value = "json,socks5,connect",
        help_heading = "Network"
    )]
    pub(super) protocol: Vec<ProtocolArg>,
    /// Forward every connection to this server; no requests are read
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["protocol", "auth_file", "max_request"], help_heading = "Network")]
    pub(super) forward: Option<Destination>,
    /// Forward UDP datagrams to this server, a flow for each client address and port; answers go back to the client
    #[arg(
        long,
        value_name = "HOST:PORT",
        conflicts_with = "accept_proxy",
        help_heading = "Network"
    )]
    pub(super) forward_udp: Option<Destination>,
    /// Address to receive datagrams on; may be repeated [default: the addresses of --listen]
    #[arg(
        long,
        value_name = "ADDR:PORT",
        requires = "forward_udp",
        help_heading = "Network"
    )]
    pub(super) listen_udp: Vec<SocketAddr>,
    /// Refuse SOCKS5 UDP ASSOCIATE, by which clients exchange datagrams with any destination
    #[arg(long, conflicts_with_all = ["udp_answers", "udp_address"], help_heading = "Network")]
    pub(super) no_udp_associate: bool,
    /// Sources of datagrams that a SOCKS5 client gets: destinations that it has sent to, or any
    #[arg(
        long,
        value_name = "FROM",
        value_enum,
        default_value = "asked",
        conflicts_with = "forward",
        help_heading = "Network"
    )]
    pub(super) udp_answers: AnswersArg,
    /// Address that SOCKS5 clients send datagrams to, such as that of a translator in front of this host [default: the address to
    /// which the client connected]
    #[arg(
        long,
        value_name = "ADDR",
        conflicts_with = "forward",
        help_heading = "Network"
    )]
    pub(super) udp_address: Option<IpAddr>,
    /// Require a PROXY header (v1 or v2) from clients
    #[arg(long, help_heading = "Network")]
    pub(super) accept_proxy: bool,
    /// Send a PROXY header with the client's address to servers; before the first datagram of a flow of --forward-udp (v2), and in
    /// no datagram of a SOCKS5 UDP association
    #[arg(long, value_name = "VERSION", value_enum, help_heading = "Network")]
    pub(super) send_proxy: Option<HeaderArg>,
    /// File with one USER:PASSWORD a line; clients must sign in (SOCKS5 and CONNECT). Reloaded with the lists
    #[arg(long, value_name = "FILE", help_heading = "Access control")]
    pub(super) auth_file: Option<PathBuf>,
    /// List of destinations to block; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Access control")]
    pub(super) blocklist: Vec<PathBuf>,
    /// Blocklist whose plain names include their subdomains; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Access control")]
    pub(super) blocklist_subdomains: Vec<PathBuf>,
    /// Block everything that is not on an --allow list; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Access control")]
    pub(super) allow: Vec<PathBuf>,
    /// Block addresses outside the public Internet and every address of this host
    #[arg(long, help_heading = "Access control")]
    pub(super) deny_private: bool,
    /// List of exceptions from the other lists: names at any address, and addresses unless a blocklist has their name; may be
    /// repeated
    #[arg(long, value_name = "FILE", help_heading = "Access control")]
    pub(super) except: Vec<PathBuf>,
    /// Skip invalid lines with a warning, up to 1 % of a list
    #[arg(long, help_heading = "Access control")]
    pub(super) skip_bad_lines: bool,
    /// Accept lists without entries, and reloaded lists that lost more than half of their entries
    #[arg(long, help_heading = "Access control")]
    pub(super) allow_empty: bool,
    /// Log what the lists would block, and block nothing
    #[arg(long, help_heading = "Access control")]
    pub(super) dry_run: bool,
    /// Reload lists and users when their files change, in addition to SIGHUP
    #[arg(long, help_heading = "Access control")]
    pub(super) watch: bool,
    /// Engine of the event loop
    #[arg(
        long,
        value_name = "ENGINE",
        value_enum,
        default_value = "mio",
        help_heading = "I/O"
    )]
    pub(super) engine: EngineArg,
    /// Forwarding method of connections
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        default_value = "auto",
        help_heading = "I/O"
    )]
    pub(super) forwarding: ForwardingArg,
    /// Threads for each --listen and --listen-udp
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = 1, help_heading = "I/O")]
    pub(super) threads: usize,
    /// Concurrent connections, limited by open files; further clients get a "busy" error [default: 10000]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Limits")]
    pub(super) max_connections: Option<usize>,
    /// Concurrent connections of one client, an IPv4 address or an IPv6 /64 network; further ones get a "busy" error [default: three
    /// quarters of --max-connections]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Limits")]
    pub(super) max_connections_per_client: Option<usize>,
    /// Largest JSON request
    #[arg(long, value_name = "BYTES", value_parser = request_size, default_value_t = MAX_REQUEST, help_heading = "Limits")]
    pub(super) max_request: usize,
    /// Close a connection whose request is incomplete after this long
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "10s", help_heading = "Limits")]
    pub(super) request_timeout: Duration,
    /// Give up connecting to a server after this long, including the lookup of its name and all its addresses
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "5s", help_heading = "Limits")]
    pub(super) connect_timeout: Duration,
    /// Close a connection after this long without traffic, that of a UDP association after this long without datagrams
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "5m", help_heading = "Limits")]
    pub(super) idle_timeout: Duration,
    /// Close a UDP flow after this long without datagrams
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "2m", requires = "forward_udp", help_heading = "Limits")]
    pub(super) udp_idle_timeout: Duration,
    /// UDP flows, limited by open files; datagrams of further clients are dropped
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 10_000, requires = "forward_udp", help_heading = "Limits")]
    pub(super) max_udp_flows: usize,
    /// UDP flows of one client IP address
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 1_000, requires = "forward_udp", help_heading = "Limits")]
    pub(super) max_udp_flows_per_client: usize,
    /// SOCKS5 UDP associations, limited by open files; further ones are refused [default: 4000]
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "forward", help_heading = "Limits")]
    pub(super) max_udp_associations: Option<usize>,
    /// SOCKS5 UDP associations of one client IP address
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 1_000, conflicts_with = "forward", help_heading = "Limits")]
    pub(super) max_udp_associations_per_client: usize,
    /// Close a half-closed connection after this long without traffic
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "30s", help_heading = "Limits")]
    pub(super) half_closed_timeout: Duration,
    /// Close remaining connections this long after the first SIGINT or SIGTERM; a second signal closes them at once
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s", help_heading = "Limits")]
    pub(super) drain_timeout: Duration,
    /// Append a JSON line for each closed connection, UDP flow and UDP association to FILE; - logs to stdout, and messages go to stderr. SIGHUP and SIGUSR1
    /// reopen FILE
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) log: Option<PathBuf>,
    /// Serve Prometheus metrics (/metrics) and health (/healthz) on this address, without authentication
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Output")]
    pub(super) metrics: Option<SocketAddr>,
    /// Print errors and the listening address only
    #[arg(long, short, help_heading = "Output")]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Origin {
    /// Address to listen on; port 0 selects a free port
    #[arg(long, value_name = "ADDR:PORT|unix:PATH")]
    pub(super) listen: Endpoint,
    /// Print errors and the listening address only, no messages
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Send {
    /// Proxy to send through
    #[arg(long, value_name = "ADDR:PORT|unix:PATH")]
    pub(super) proxy: Endpoint,
    /// Destination of the message
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) server: Destination,
    /// Message
    #[arg(value_name = "TEXT")]
    pub(super) text: String,
    /// Fail after this long without the complete answer
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "30s")]
    pub(super) timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum ForwardingArg {
    /// The cheaper method for bulk data, found by measuring both; copy for other data
    Auto,
    /// read(2) and write(2)
    Copy,
    /// splice(2) through a pipe; copy if no pipe is available
    Splice,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum EngineArg {
    /// mio (epoll)
    Mio,
    /// io_uring (Linux 6.1 or newer)
    Uring,
}

impl From<EngineArg> for EngineKind {
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
pub(super) enum RequestProtocolArg {
    /// One JSON object with server_ip, server_port and message; scenarios connect and blocked only
    Json,
    /// SOCKS version 5
    Socks5,
    /// HTTP CONNECT
    Connect,
    /// No request: the proxy forwards everything to one server
    Forward,
}

impl From<RequestProtocolArg> for protocol::Kind {
    fn from(asked: RequestProtocolArg) -> Self {
        match asked {
            RequestProtocolArg::Json => Self::Json,
            RequestProtocolArg::Socks5 => Self::Socks5,
            RequestProtocolArg::Connect => Self::Connect,
            RequestProtocolArg::Forward => Self::Forward,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum ScenarioArg {
    /// One request on each connection
    Connect,
    /// Many requests on kept connections
    RequestResponse,
    /// Data in one direction
    Bulk,
    /// Requests that the proxy refuses
    Blocked,
    /// Datagrams through a UDP relay, direct, proxied and blocked: the highest rate with at most 0.1 % loss, and latency, losses and CPU
    /// at --rate. Measured by itself, and not by default
    Udp,
}

impl From<ScenarioArg> for Scenario {
    fn from(scenario: ScenarioArg) -> Self {
        match scenario {
            ScenarioArg::Connect => Self::Connect,
            ScenarioArg::RequestResponse => Self::RequestResponse,
            ScenarioArg::Bulk => Self::Bulk,
            ScenarioArg::Blocked => Self::Blocked,
            ScenarioArg::Udp => Self::Udp,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum AnswersArg {
    /// Addresses and ports that the client has sent to
    Asked,
    /// Any address and port
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum HeaderArg {
    /// Text
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
