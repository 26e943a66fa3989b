//! The options, as clap reads them. What they mean together is decided where they are turned into plans.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::EnumValueParser;
use clap::error::Error;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::exports::{ComparisonExports, RunExports};
use super::list::{List, list};
use super::proxy::args::Proxy;
use crate::engine::choice;
use crate::udp::placement::Choice;
use crate::udp::plan::{Df, Offload};
use crate::udp::spin::SpinChoice;
use crate::units::{parse_duration, parse_number, parse_whole};

/// The port `bench serve` listens on, and `bench udp --to` goes to, where none is named.
pub(super) const DEFAULT_PORT: u16 = 5_210;

/// Shown below the options of `bench udp`.
const LISTS: &str = "\
Options shown as <N,...> take several values, like --engine mio,uring or --batch 1,16,64: every combination \
is run, taking turns in each of --repeat rounds, and compared with the first.";

/// Measures UDP on Linux, in numbers that survive scrutiny.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
pub(super) struct Bench {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Reads the command line.
///
/// # Errors
/// What clap says of it, help and version among that.
pub(super) fn parse() -> Result<Bench, Error> {
    let mut command = takes_negatives(Bench::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Bench::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// What is behind an option for a quantity is its value, also where it begins with a hyphen: so `--mb -1` is refused for its
/// value, and not for an option `-1` that there is none of.
fn takes_negatives(command: clap::Command) -> clap::Command {
    let quantities = ["N", "TIME", "BITS", "BYTES", "PERCENT", "PID"];
    let is_quantity = |arg: &clap::Arg| {
        let mut names = arg.get_value_names().into_iter().flatten();
        names.any(|name| quantities.contains(&name.trim_end_matches(",...")))
    };
    let command = command.mut_args(|arg| match is_quantity(&arg) {
        true => arg.allow_hyphen_values(true),
        false => arg,
    });
    command.mut_subcommands(takes_negatives)
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Measure UDP: sender and receiver here, or to a `bench serve` elsewhere (--to)
    Udp(Box<Udp>),
    /// Receive for other hosts' `bench udp --to`, many at once
    Serve(Serve),
    /// The TCP proxy, its answering server and its client
    Proxy(Box<Proxy>),
    /// Work with the lists of what the proxy refuses
    #[command(subcommand)]
    Blocklist(Blocklist),
    /// Compare saved runs of `bench udp` or of `bench proxy`: how NEW stands to BASE, setting by setting
    Compare(Compare),
    /// Tell what this kernel, user and machine allow, what each shortfall costs, and the command that lifts it
    ///
    /// Exit code 0 as long as the mio engine can measure, whatever else falls short; 3 when it cannot.
    Doctor(Doctor),
}

#[derive(Debug, Args)]
#[command(after_help = LISTS)]
pub(super) struct Udp {
    /// Message bytes to send, in MB of 10^6 bytes; fractions allowed [default: 100]
    #[arg(long, value_name = "N", value_parser = parse_number, group = "amount", help_heading = "How much")]
    pub(super) mb: Option<f64>,
    /// Datagrams to send
    #[arg(long, value_name = "N", value_parser = parse_whole::<u64>, group = "amount", help_heading = "How much")]
    pub(super) packets: Option<u64>,
    /// How long to send, like 5s or 500ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration, group = "amount", help_heading = "How much")]
    pub(super) duration: Option<Duration>,
    /// Message bytes in each datagram, 1 to 65475; a header of 32 comes on top
    #[arg(
        long,
        value_name = "BYTES,...",
        value_parser = list(parse_whole::<usize>),
        default_value = "1000",
        help_heading = "How much"
    )]
    pub(super) chunk: List<usize>,
    /// Pace by message bits a second, like 500M; all streams together
    #[arg(long, value_name = "BITS,...", value_parser = list(parse_number), group = "pace", help_heading = "How fast (nothing: lossless, as fast as the receiver takes it)")]
    pub(super) rate: Option<List<f64>>,
    /// Pace by datagrams a second, like 20k; all streams together
    #[arg(long, value_name = "N,...", value_parser = list(parse_number), group = "pace", help_heading = "How fast (nothing: lossless, as fast as the receiver takes it)")]
    pub(super) pps: Option<List<f64>>,
    /// As fast as the sender can; what is lost is reported
    #[arg(
        long,
        group = "pace",
        help_heading = "How fast (nothing: lossless, as fast as the receiver takes it)"
    )]
    pub(super) unpaced: bool,
    /// How datagrams get into the kernel and out of it
    #[arg(long, value_name = "ENGINE,...", value_parser = list(EnumValueParser::<Engine>::new()), default_value = "mio", help_heading = "How")]
    pub(super) engine: List<Engine>,
    /// Datagrams a send call at most [default: what fits one with GSO, else 64]
    #[arg(long, value_name = "N,...", value_parser = list(parse_whole::<usize>), help_heading = "How")]
    pub(super) batch: Option<List<usize>>,
    /// Have the kernel cut sends into datagrams and join receives (UDP GSO and GRO)
    #[arg(long, value_name = "GSO,...", value_parser = list(EnumValueParser::<Gso>::new()), default_value = "auto", help_heading = "How")]
    pub(super) gso: List<Gso>,
    /// Forbid fragments (the DF bit): on refuses a datagram longer than the path MTU, off fragments it anywhere, auto here only
    #[arg(long, value_name = "DF,...", value_parser = list(EnumValueParser::<OnOffAuto>::new()), default_value = "auto", help_heading = "How")]
    pub(super) df: List<OnOffAuto>,
    /// Spin before each deadline of a paced run; auto stops when that makes the sender late
    #[arg(long, value_name = "SPIN,...", value_parser = list(EnumValueParser::<OnOffAuto>::new()), default_value = "auto", help_heading = "How")]
    pub(super) spin: List<OnOffAuto>,
    /// Send without the kernel copying the data: splice lends it pages (lossless, mio), msg is MSG_ZEROCOPY or SENDMSG_ZC
    #[arg(long, value_name = "HOW,...", value_parser = list(EnumValueParser::<ZeroCopyArg>::new()), default_value = "off", help_heading = "How")]
    pub(super) zerocopy: List<ZeroCopyArg>,
    /// Have a kernel thread take io_uring submissions (--engine uring)
    #[arg(long, help_heading = "How")]
    pub(super) uring_sqpoll: bool,
    /// Entries of the io_uring submission rings [default: what a batch needs]
    #[arg(long, value_name = "N,...", value_parser = list(parse_whole::<u32>), help_heading = "How")]
    pub(super) uring_ring_size: Option<List<u32>>,
    /// How io_uring receives: one request that goes on, or a request a message [default: multishot]
    #[arg(long, value_name = "HOW,...", value_parser = list(EnumValueParser::<UringRecv>::new()), help_heading = "How")]
    pub(super) uring_recv: Option<List<UringRecv>>,
    /// Socket pairs, each with a sender and a receiver thread
    #[arg(long, value_name = "N,...", value_parser = list(parse_whole::<usize>), default_value = "1", help_heading = "How")]
    pub(super) streams: List<usize>,
    /// Which CPU each thread is kept on: a list like 0,1 (sender, receiver, next sender, ...; from the front again), auto, or free
    #[arg(long, value_name = "LIST", value_parser = Choice::parse, default_value = "auto", help_heading = "How")]
    pub(super) cpus: Choice,
    /// Send buffer to ask for [default: 4 MiB as far as wmem_max allows]
    #[arg(long, value_name = "BYTES,...", value_parser = list(parse_bytes), help_heading = "How")]
    pub(super) sndbuf: Option<List<usize>>,
    /// Receive buffer to ask for [default: 4 MiB as far as rmem_max allows]
    #[arg(long, value_name = "BYTES,...", value_parser = list(parse_bytes), help_heading = "How")]
    pub(super) rcvbuf: Option<List<usize>>,
    /// The `bench serve` at the other end: a name or an address, port 5210 where none is given
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Where")]
    pub(super) to: Option<String>,
    /// The local address, with or without a port
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        requires = "to",
        help_heading = "Where"
    )]
    pub(super) bind: Option<String>,
    /// The interface to send over (SO_BINDTODEVICE)
    #[arg(long, value_name = "NAME", requires = "to", help_heading = "Where")]
    pub(super) bind_dev: Option<String>,
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6", help_heading = "Where")]
    pub(super) ipv4: bool,
    /// Use IPv6 only; without --to, loopback is ::1
    #[arg(short = '6', long, help_heading = "Where")]
    pub(super) ipv6: bool,
    /// Let the server send and this side receive
    #[arg(long, conflicts_with = "bidir", help_heading = "Where")]
    pub(super) reverse: bool,
    /// Send in both directions at once
    #[arg(long, help_heading = "Where")]
    pub(super) bidir: bool,
    /// The file with the key that the server asks for
    #[arg(long, value_name = "FILE", requires = "to", help_heading = "Where")]
    pub(super) key_file: Option<PathBuf>,
    /// Give the server up after this long without an answer
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "30s", help_heading = "Where")]
    pub(super) peer_timeout: Duration,
    /// How the two clocks are related: auto estimates the offset only between two hosts
    #[arg(long, value_enum, default_value_t = ClockArg::Auto, help_heading = "Where")]
    pub(super) clock: ClockArg,
    /// Runs to do, each reported; of a comparison, rounds
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = repeats, help_heading = "How often")]
    pub(super) repeat: u32,
    /// Run this long beforehand, unreported [default: nothing, or 200ms with each setting compared]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "How often")]
    pub(super) warmup: Option<Duration>,
    /// Time between rows; when given, rows are printed as they come [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "What comes out")]
    pub(super) interval: Option<Duration>,
    #[command(flatten)]
    pub(super) exports: RunExports,
    /// Folder for the ledger and a folder a run
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
    /// Also save a row a packet: sequence, sent, received, latency
    #[arg(long, conflicts_with = "no_save", help_heading = "What comes out")]
    pub(super) packets_csv: bool,
    /// Print errors only
    #[arg(long, short, help_heading = "What comes out")]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where to listen; port 0 lets the kernel choose [default: all addresses, port 5210]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub(super) bind: Option<String>,
    /// UDP ports for the data, like 6000-6099 [default: the port of --bind]
    #[arg(long, value_name = "A-B", value_parser = ports)]
    pub(super) data_ports: Option<RangeInclusive<u16>>,
    /// The file with the key that clients must have, at least 16 bytes
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
    /// Which CPU each receiver thread is kept on: a list, used from the front again, or free
    #[arg(long, value_name = "LIST", value_parser = Choice::parse, default_value = "free")]
    pub(super) cpus: Choice,
    /// Sessions at once
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 64)]
    pub(super) max_sessions: usize,
    /// Sessions at once of one client address
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 32)]
    pub(super) max_sessions_per_client: usize,
    /// Streams at once, over all sessions
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 256)]
    pub(super) max_streams: usize,
    /// Control connections at once, those without a session among them
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 1_024)]
    pub(super) max_connections: usize,
    /// Longest session
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "1h")]
    pub(super) max_duration: Duration,
    /// End a session after this long without a datagram, or without its client
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "30s")]
    pub(super) idle_timeout: Duration,
    /// Rows a packet that a session may keep on this disk until it is over, 24 bytes each
    #[arg(long, value_name = "N", value_parser = parse_whole::<u64>, default_value_t = 50_000_000)]
    pub(super) max_packet_rows: u64,
    /// Largest receive or send buffer that a client may ask for, a stream
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "64M")]
    pub(super) max_rcvbuf: usize,
    /// Folder for sessions whose client was lost before it had its result
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub(super) out: PathBuf,
    /// Save nothing
    #[arg(long, conflicts_with = "out")]
    pub(super) no_save: bool,
    /// Print errors and the address only
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Blocklist {
    /// Print which entry, if any, blocks or excepts each DEST; exit with 1 if one is blocked
    ///
    /// The format of a file is told by its content: an entry a line with # or ; before comments (FireHOL, Spamhaus DROP, ipsum,
    /// dnscrypt-proxy, Squid), Spamhaus JSON lines, hosts, adblock (||name^), dnsmasq, unbound local-zone, ipset save, DShield, P2P or
    /// DAT ranges. Entries are addresses, networks, ranges, names, and *.name or .name for a name and all below it, each with
    /// :PORT or :PORT-PORT if only those are meant.
    ///
    /// The first of these that applies decides: --except has the name; a blocklist has the name; --except has the address; a blocklist
    /// or --deny-private has the address; --allow has neither.
    Check(Check),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Lists of what is blocked
    #[arg(value_name = "FILE", required_unless_present_any = ["blocklist_subdomains", "allow", "deny_private"])]
    pub(super) files: Vec<PathBuf>,
    /// A blocklist in which a plain name also covers all names below it; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(super) blocklist_subdomains: Vec<PathBuf>,
    /// Block everything that is on no such list; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(super) allow: Vec<PathBuf>,
    /// Block all that is not the public Internet (private, loopback, link-local, documentation, multicast, ...), and every
    /// address of this host
    #[arg(long)]
    pub(super) deny_private: bool,
    /// A list of exceptions, which the others do not block; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(super) except: Vec<PathBuf>,
    /// Skip the lines of a list that are not valid, with a warning, unless they are more than 1 %
    #[arg(long)]
    pub(super) skip_bad_lines: bool,
    /// ADDR, ADDR:PORT, [V6]:PORT, NAME or NAME:PORT; names are not resolved, so their addresses are not looked at. Without
    /// a port: blocked where any port is
    #[arg(value_name = "DEST", last = true, required = true)]
    pub(super) destinations: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Also write it as JSON; with - that is all that goes to stdout
    #[arg(long, value_name = "PATH")]
    pub(super) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// What was measured before: a run's folder or its run.json
    #[arg(value_name = "BASE")]
    pub(super) base: PathBuf,
    /// What is to be compared with it
    #[arg(value_name = "NEW")]
    pub(super) new: PathBuf,
    /// Exit with 1 where NEW is slower by more than this, like 5%, even at the lower bound of the slowdown, or has
    /// errors through a proxy where BASE has none
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub(super) threshold: Option<f64>,
    #[command(flatten)]
    pub(super) exports: ComparisonExports,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Engine {
    /// A mio (epoll) event loop with sendmmsg and recvmmsg
    Mio,
    /// io_uring: sends and receives as requests in rings shared with the kernel (Linux 6.1 or newer)
    Uring,
}

impl From<Engine> for choice::Kind {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Mio => Self::Mio,
            Engine::Uring => Self::Uring,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum ZeroCopyArg {
    /// The kernel copies
    Off,
    /// Pages go through a pipe into the socket
    Splice,
    /// MSG_ZEROCOPY (mio) or SENDMSG_ZC (uring); the kernel says whether it copied anyway
    Msg,
}

impl From<ZeroCopyArg> for choice::ZeroCopy {
    fn from(zerocopy: ZeroCopyArg) -> Self {
        match zerocopy {
            ZeroCopyArg::Off => Self::Off,
            ZeroCopyArg::Splice => Self::Splice,
            ZeroCopyArg::Msg => Self::Msg,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum UringRecv {
    /// One request fills buffer after buffer
    Multishot,
    /// A request a message
    Single,
}

impl From<UringRecv> for choice::UringReceive {
    fn from(receive: UringRecv) -> Self {
        match receive {
            UringRecv::Multishot => Self::Multishot,
            UringRecv::Single => Self::Single,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Gso {
    /// Or the run is not done
    On,
    /// Every datagram on its own
    Off,
    /// Where the kernel and the path can
    Auto,
}

impl From<Gso> for Offload {
    fn from(gso: Gso) -> Self {
        match gso {
            Gso::On => Self::On,
            Gso::Off => Self::Off,
            Gso::Auto => Self::Auto,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum OnOffAuto {
    On,
    Off,
    Auto,
}

impl From<OnOffAuto> for Df {
    fn from(df: OnOffAuto) -> Self {
        match df {
            OnOffAuto::On => Self::On,
            OnOffAuto::Off => Self::Off,
            OnOffAuto::Auto => Self::Auto,
        }
    }
}

impl From<OnOffAuto> for SpinChoice {
    fn from(spin: OnOffAuto) -> Self {
        match spin {
            OnOffAuto::On => Self::On,
            OnOffAuto::Off => Self::Off,
            OnOffAuto::Auto => Self::Auto,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ClockArg {
    /// The same clock where both ends read one, else an estimate
    Auto,
    /// Always an estimate
    Estimate,
}

/// A number of bytes that a socket option takes, K, M and G allowed.
fn parse_bytes(text: &str) -> Result<usize, String> {
    let bytes = parse_number(text).map_err(|error| error.to_string())?;
    if !(1.0..=f64::from(i32::MAX)).contains(&bytes) {
        return Err(format!(
            "'{text}' is no size for a buffer; choose 1 to {}",
            i32::MAX
        ));
    }
    Ok(bytes as usize)
}

/// A share of less than all, in percent.
fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text
        .strip_suffix('%')
        .and_then(|number| parse_number(number).ok());
    match percent {
        Some(percent) if percent < 100.0 => Ok(percent),
        _ => Err(format!(
            "'{text}' is no percentage from 0% up to but not 100%; write it like 5%"
        )),
    }
}

/// Runs of a command: no more than a record holds.
fn repeats(text: &str) -> Result<u32, String> {
    match parse_whole(text) {
        Ok(runs @ 1..=10_000) => Ok(runs),
        Ok(runs) => Err(format!("{runs} is not in 1..=10000")),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a range of UDP ports like `6000-6099`, or a single one.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    const MOST: u16 = 1_024;
    let port = |text: &str| text.parse().ok().filter(|port: &u16| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last && last - first < MOST => Ok(first..=last),
        (Some(first), Some(last)) if first <= last => {
            Err(format!("more than {MOST} ports; choose a smaller range"))
        }
        _ => Err("expected ports like 6000-6099".to_owned()),
    }
}

/// A limit that lets anybody in at all.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match parse_whole(text) {
        Ok(0) => Err("nobody could be served; choose 1 or more".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// A limit that leaves any time at all.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("that is no time at all; choose more, like 30s".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}
