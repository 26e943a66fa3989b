//! The options of `bench proxy`, as clap reads them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::EnumValueParser;
use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::{at_least_one, some_time};
use crate::cli::exports::RunExports;
use crate::cli::list::{List, list};
use crate::engine::choice::Kind;
use crate::load::plan::Scenario;
use crate::protocol::request::MAX_REQUEST;
use crate::protocol::{self, Destination};
use crate::proxy::relay::Forwarding;
use crate::sys::endpoint::Endpoint;
use crate::units::{parse_duration, parse_number, parse_whole};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER)]
pub(in crate::cli) struct Proxy {
    #[command(subcommand)]
    pub(super) role: Option<Role>,
    #[command(flatten)]
    pub(super) own: Own,
    #[command(flatten)]
    pub(super) load: Load,
}

/// Shown below the options of `bench proxy`.
const AFTER: &str = "\
Without a command: measures what a proxy costs. The answering server, the proxy and the load generator are started here, as \
processes of their own on loopback, unless --via or --origin names one that is running already; the direct path and the \
proxied one take turns. Options shown as <X,...> take several values, each of which is measured and compared with the first.";

/// The proxy that is started for a measurement.
#[derive(Debug, Args)]
pub(super) struct Own {
    /// The proxy's event loop
    #[arg(long, value_name = "ENGINE,...", value_parser = list(EnumValueParser::<EngineArg>::new()), default_value = "mio", conflicts_with = "via", help_heading = "The proxy that is started")]
    pub(super) engine: List<EngineArg>,
    /// How it brings bytes from one end to the other
    #[arg(long, value_name = "HOW,...", value_parser = list(EnumValueParser::<ForwardingArg>::new()), default_value = "auto", conflicts_with = "via", help_heading = "The proxy that is started")]
    pub(super) forwarding: List<ForwardingArg>,
    /// Its threads
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = 1, conflicts_with = "via", help_heading = "The proxy that is started")]
    pub(super) threads: usize,
}

/// What is measured and how, whoever started the proxy.
#[derive(Debug, Args)]
pub(super) struct Load {
    /// What clients do [default: all that the protocol has]
    #[arg(long, value_name = "NAME,...", value_parser = list(EnumValueParser::<ScenarioArg>::new()), help_heading = "What")]
    pub(super) scenario: Option<List<ScenarioArg>>,
    /// How the proxy is asked
    #[arg(long, value_name = "KIND,...", value_parser = list(EnumValueParser::<AskedArg>::new()), default_value = "socks5", help_heading = "What")]
    pub(super) protocol: List<AskedArg>,
    /// Connections at once
    #[arg(long, value_name = "N", value_parser = connections, default_value_t = 32, help_heading = "What")]
    pub(super) connections: usize,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", value_parser = message, default_value_t = 64, help_heading = "What")]
    pub(super) message: usize,
    /// Streams of bulk data at once
    #[arg(long, value_name = "N", value_parser = connections, default_value_t = 1, help_heading = "What")]
    pub(super) streams: usize,
    /// Leave the direct path out: the origin may be one that only the proxy reaches. What the proxy adds is not known then
    #[arg(long, help_heading = "What")]
    pub(super) no_direct: bool,
    /// Start so many requests a second, whether or not those before are answered [default: one at a time on each connection]
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "How much")]
    pub(super) rate: Option<f64>,
    /// Measure each path of each scenario for so long, over all rounds
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "2s", help_heading = "How much")]
    pub(super) duration: Duration,
    /// Bulk data of a round, in MB of 10^6 bytes, instead of as much as goes in its time
    #[arg(long, value_name = "N", value_parser = megabytes, help_heading = "How much")]
    pub(super) mb: Option<u64>,
    /// Rounds, in each of which every path has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = rounds, help_heading = "How much")]
    pub(super) repeat: u32,
    /// Load a path so long before each turn, uncounted
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "50ms", help_heading = "How much")]
    pub(super) warmup: Duration,
    /// Longest time of a request
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "5s", help_heading = "How much")]
    pub(super) timeout: Duration,
    /// Threads of the load generator
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = 1, help_heading = "How much")]
    pub(super) load_threads: usize,
    /// A proxy that is running already
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", help_heading = "Where")]
    pub(super) via: Option<Endpoint>,
    /// Sign in at the proxy that is running as this user (SOCKS5 and CONNECT)
    #[arg(
        long,
        value_name = "NAME",
        requires_all = ["via", "secret"],
        help_heading = "Where"
    )]
    pub(super) user: Option<String>,
    /// The password; other users of this host can see it, unlike with --password-file
    #[arg(
        long,
        value_name = "WORD",
        requires = "user",
        group = "secret",
        help_heading = "Where"
    )]
    pub(super) password: Option<String>,
    /// A file with the password as its first line
    #[arg(
        long,
        value_name = "FILE",
        requires = "user",
        group = "secret",
        help_heading = "Where"
    )]
    pub(super) password_file: Option<PathBuf>,
    /// A `bench proxy origin` that is running already
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", help_heading = "Where")]
    pub(super) origin: Option<Endpoint>,
    /// Processes of the proxy that is running, to tell their CPU time with that of their children
    #[arg(long, value_name = "PID,...", value_parser = list(parse_whole::<u32>), requires = "via", help_heading = "Where")]
    pub(super) server_pid: Option<List<u32>>,
    /// What the proxy refuses, to measure how soon [default: nothing of a proxy that is running already]
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "via",
        help_heading = "Where"
    )]
    pub(super) blocked: Option<Destination>,
    #[command(flatten)]
    pub(super) exports: RunExports,
    /// Folder for the ledger and a folder a command
    #[arg(
        long,
        value_name = "DIR",
        default_value = "results",
        help_heading = "What comes out"
    )]
    pub(super) out: PathBuf,
    /// Save nothing
    #[arg(long, conflicts_with = "out", help_heading = "What comes out")]
    pub(super) no_save: bool,
    /// Print errors only
    #[arg(long, short, help_heading = "What comes out")]
    pub(super) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// Take clients and connect each to a server, until SIGINT or SIGTERM
    Serve(Box<Serve>),
    /// Answer each client `RESPONSE || ` and what it says
    ///
    /// To clients that ask for it in a load generator's way it also ends a connection after one answer, or takes bulk data.
    Origin(Origin),
    /// Load a `bench proxy origin` elsewhere, and a proxy before it (--via); nothing is started here
    Load(Box<Load>),
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
    /// Where to listen; port 0 lets the kernel choose; may be given more than once
    ///
    /// Sockets that are passed to the program (LISTEN_FDS, as by systemd) are listened on too, and are enough by themselves.
    #[arg(long, value_name = "ADDR:PORT|unix:PATH")]
    pub(super) listen: Vec<Endpoint>,
    /// Permissions of the sockets of unix:PATH [default: what the umask leaves]
    #[arg(long, value_name = "OCTAL", value_parser = mode)]
    pub(super) listen_mode: Option<u32>,
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
    /// Users who may, a line USER:PASSWORD each; SOCKS5 and CONNECT only. Read again with the lists
    #[arg(long, value_name = "FILE")]
    pub(super) auth_file: Option<PathBuf>,
    /// A list of destinations to block; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(super) blocklist: Vec<PathBuf>,
    /// A blocklist in which a plain name also covers all names below it; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(super) blocklist_subdomains: Vec<PathBuf>,
    /// Block everything that is on no such list; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(super) allow: Vec<PathBuf>,
    /// Block all that is not the public Internet, and every address of this host
    #[arg(long)]
    pub(super) deny_private: bool,
    /// A list of exceptions, which --blocklist, --deny-private and --allow do not block: names at every address, and addresses unless
    /// their name is on a blocklist; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(super) except: Vec<PathBuf>,
    /// Skip the lines of a list that are not valid, with a warning, unless they are more than 1 %
    #[arg(long)]
    pub(super) skip_bad_lines: bool,
    /// Take a list without entries, and when lists are read again one that lost more than half of its entries
    #[arg(long)]
    pub(super) allow_empty: bool,
    /// Refuse nothing for the lists' sake, but log what would be
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Read the lists and users again once a file of theirs has changed, and not only on SIGHUP
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
    /// Threads for each --listen
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = 1)]
    pub(super) threads: usize,
    /// Connections at once, as far as the limit of open files allows; clients beyond are told that the proxy is busy
    /// [default: 10000]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) max_connections: Option<usize>,
    /// Largest JSON request
    #[arg(long, value_name = "BYTES", value_parser = request_size, default_value_t = MAX_REQUEST)]
    pub(super) max_request: usize,
    /// Longest time until a request is complete
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "10s")]
    pub(super) request_timeout: Duration,
    /// Longest time until the server is connected: the lookup of its name and all its addresses
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
    #[arg(long, value_name = "ADDR:PORT|unix:PATH")]
    pub(super) listen: Endpoint,
    /// Print errors and the address only, and no messages
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Send {
    /// The proxy
    #[arg(long, value_name = "ADDR:PORT|unix:PATH")]
    pub(super) proxy: Endpoint,
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
    /// Through a pipe (splice), unless none can be had
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
pub(super) enum AskedArg {
    /// One JSON object with server_ip, server_port and message: scenarios connect and blocked only
    Json,
    /// SOCKS version 5
    Socks5,
    /// HTTP CONNECT
    Connect,
    /// Not at all: it forwards everything to one server
    Forward,
}

impl From<AskedArg> for protocol::Kind {
    fn from(asked: AskedArg) -> Self {
        match asked {
            AskedArg::Json => Self::Json,
            AskedArg::Socks5 => Self::Socks5,
            AskedArg::Connect => Self::Connect,
            AskedArg::Forward => Self::Forward,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum ScenarioArg {
    /// Connect, make one request, end
    Connect,
    /// Request upon request on connections that are kept
    RequestResponse,
    /// Data in one direction
    Bulk,
    /// Ask for what is refused
    Blocked,
}

impl From<ScenarioArg> for Scenario {
    fn from(scenario: ScenarioArg) -> Self {
        match scenario {
            ScenarioArg::Connect => Self::Connect,
            ScenarioArg::RequestResponse => Self::RequestResponse,
            ScenarioArg::Bulk => Self::Bulk,
            ScenarioArg::Blocked => Self::Blocked,
        }
    }
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
    match parse_whole(text) {
        Ok(threads @ 1..=1_024) => Ok(threads),
        _ => Err("it is no number of threads; choose 1 to 1024".to_owned()),
    }
}

/// Permission bits, as chmod(1) takes them.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err(format!(
            "'{text}' is not permissions in octal; choose some like 660"
        )),
    }
}

fn rounds(text: &str) -> Result<u32, String> {
    match parse_whole(text) {
        Ok(rounds @ 1..=1_000) => Ok(rounds),
        _ => Err(format!("'{text}' is no number of rounds; choose 1 to 1000")),
    }
}

fn connections(text: &str) -> Result<usize, String> {
    match parse_whole(text) {
        Ok(number @ 1..=100_000) => Ok(number),
        _ => Err("it is no number of connections; choose 1 to 100000".to_owned()),
    }
}

/// The proxy takes no larger JSON request, unless told otherwise.
fn message(text: &str) -> Result<usize, String> {
    match parse_whole(text) {
        Ok(bytes @ 1..=1_000_000) => Ok(bytes),
        _ => Err("it is no size of a message; choose 1 to 1000000 bytes".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match parse_number(text) {
        Ok(rate) if (1.0..=1e8).contains(&rate) => Ok(rate),
        Ok(_) => Err("it is no rate that can be kept; choose 1 to 100M a second".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// In bytes.
fn megabytes(text: &str) -> Result<u64, String> {
    match parse_number(text).map(|number| number * 1e6) {
        Ok(bytes) if (1.0..=1e15).contains(&bytes) => Ok(bytes as u64),
        Ok(_) => Err("it is no amount of data; choose 0.000001 to 1G".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
