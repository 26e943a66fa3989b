//! Command-line options, as clap parses them. The modules of the commands validate combinations of options.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::EnumValueParser;
use clap::error::Error;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::exports::{DocumentExports, RunExports};
use super::list::{List, joined_list, list};
use super::man::Man;
use super::merge::MergeArgs;
use super::parse::{at_least_one, buffer_size, nonzero_duration, percentage, ports, repeats};
use super::proxy::args::Proxy;
use super::saving::Saving;
use super::udp::fleet::FleetArgs;
use super::udp::round_trip::RoundTripArgs;
use super::udp::search::args::UdpCommand;
use super::udp::stamps::StampArgs;
use super::udp::traffic::{Chunk, TrafficArgs, is_weighted};
use crate::engine::{self, EngineKind};
use crate::udp::placement::Choice;
use crate::udp::plan::SpinChoice;
use crate::udp::plan::{Df, Offload};
use crate::units::{parse_duration, parse_number, parse_whole};

/// The default port of `bench serve` and `bench udp --to`.
pub(super) const DEFAULT_PORT: u16 = 5_210;

/// Printed after the options of `bench udp`.
const AFTER: &str = "\
Without --rate, --pps or --unpaced a run is lossless: the receiver grants credit, and the sender waits for it.

Options shown as <N,...> take several values, like --engine mio,uring or --batch 1,16,64. Every combination is a setting; \
settings run interleaved in each of --repeat rounds and are compared with the first.";

/// Measures UDP throughput, loss and one-way latency, and the cost of a TCP proxy.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
pub(super) struct Bench {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Parses the command line.
///
/// # Errors
/// From clap; these include help and version.
pub(super) fn parse() -> Result<Bench, Error> {
    let mut command = allow_hyphen_values(Bench::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Bench::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Lets options for quantities take values that begin with a hyphen, so that `--mb -1` is rejected for its value and not for an
/// unknown option `-1`.
fn allow_hyphen_values(command: clap::Command) -> clap::Command {
    let quantities = ["N", "TIME", "BITS", "BYTES", "PERCENT", "PID"];
    let is_quantity = |arg: &clap::Arg| {
        let mut names = arg.get_value_names().into_iter().flatten();
        names.any(|name| quantities.contains(&name.trim_end_matches(",...")))
    };
    let command = command.mut_args(|arg| match is_quantity(&arg) {
        true => arg.allow_hyphen_values(true),
        false => arg,
    });
    command.mut_subcommands(allow_hyphen_values)
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Measure UDP on loopback, or to a `bench serve` on another host (--to)
    Udp(Box<Udp>),
    /// Run the receiver for `bench udp --to` on other hosts
    #[command(after_long_help = include_str!("serve_notes.txt"))]
    Serve(Serve),
    /// Measure a TCP proxy, or run the proxy, the origin server or a client
    Proxy(Box<Proxy>),
    /// Check blocklists of the proxy
    #[command(subcommand)]
    Blocklist(Blocklist),
    /// Compare two saved runs of `bench udp` or `bench proxy`
    Compare(Compare),
    /// Merge saved runs of `bench udp` on several hosts into one: counts and histograms are added
    Merge(MergeArgs),
    /// Write saved runs of `bench udp` or `bench proxy` as one HTML page with charts
    Report(Report),
    /// Report what this kernel, user and machine support, and how to lift each limit
    ///
    /// Exit code 0 if the mio engine can run, 3 if not.
    Doctor(Doctor),
    /// Print the completion script of a shell
    ///
    /// For bash: bench completions bash > ~/.local/share/bash-completion/completions/bench
    Completions(Completions),
    /// Write the manual pages, one for each command
    ///
    /// To read one: man -l DIR/bench-udp.1
    Man(Man),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER)]
pub(super) struct Udp {
    #[command(subcommand)]
    pub(super) command: Option<UdpCommand>,
    /// Message data to send, in MB of 10^6 bytes; fractions are allowed [default: 100]
    #[arg(long, value_name = "N", value_parser = parse_number, group = "amount", help_heading = "Workload")]
    pub(super) mb: Option<f64>,
    /// Datagrams to send
    #[arg(long, value_name = "N", value_parser = parse_whole::<u64>, group = "amount", help_heading = "Workload")]
    pub(super) packets: Option<u64>,
    /// Time to send, like 5s or 500ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration, group = "amount", help_heading = "Workload")]
    pub(super) duration: Option<Duration>,
    /// Message bytes of a datagram, 1 to 65475, without the header of 32 bytes; 64-1400 for all sizes of a range, 100:7,1400:1 for sizes
    /// with weights, or imix for 7 Ethernet frames of 64 bytes, 4 of 594 and 1 of 1518; the header makes those of 64 longer, 79 bytes over
    /// IPv4 and 99 over IPv6
    #[arg(long, value_name = "BYTES,...", value_parser = joined_list(Chunk::parse, is_weighted), default_value = "1000", help_heading = "Workload")]
    pub(super) chunk: List<Chunk>,
    /// Socket pairs, each with a sender and a receiver thread
    #[arg(long, value_name = "N,...", value_parser = list(parse_whole::<usize>), default_value = "1", help_heading = "Workload")]
    pub(super) streams: List<usize>,
    /// Let the server send and this host receive
    #[arg(long, conflicts_with = "bidir", help_heading = "Workload")]
    pub(super) reverse: bool,
    /// Send in both directions at once
    #[arg(long, help_heading = "Workload")]
    pub(super) bidir: bool,
    #[command(flatten)]
    pub(super) round_trip: RoundTripArgs,
    /// Message bits a second of all streams, like 500M
    #[arg(long, value_name = "BITS,...", value_parser = list(parse_number), groups = ["pace", "paced"], help_heading = "Rate")]
    pub(super) rate: Option<List<f64>>,
    /// Datagrams a second of all streams, like 20k
    #[arg(long, value_name = "N,...", value_parser = list(parse_number), groups = ["pace", "paced"], help_heading = "Rate")]
    pub(super) pps: Option<List<f64>>,
    /// Send as fast as possible and report losses
    #[arg(long, group = "pace", help_heading = "Rate")]
    pub(super) unpaced: bool,
    /// Spin before each deadline of a paced run; auto stops spinning when it makes the sender late
    #[arg(long, value_name = "SPIN,...", value_parser = list(EnumValueParser::<OnOffAuto>::new()), default_value = "auto", help_heading = "Rate")]
    pub(super) spin: List<OnOffAuto>,
    /// Engine for datagram I/O
    #[arg(long, value_name = "ENGINE,...", value_parser = list(EnumValueParser::<Engine>::new()), default_value = "mio", help_heading = "I/O")]
    pub(super) engine: List<Engine>,
    /// Most datagrams of a send call [default: one GSO send, 64 without GSO]
    #[arg(long, value_name = "N,...", value_parser = list(parse_whole::<usize>), help_heading = "I/O")]
    pub(super) batch: Option<List<usize>>,
    /// Segment sends and coalesce receives in the kernel (UDP GSO and GRO)
    #[arg(long, value_name = "GSO,...", value_parser = list(EnumValueParser::<Gso>::new()), default_value = "auto", help_heading = "I/O")]
    pub(super) gso: List<Gso>,
    /// Send without a copy in the kernel; splice needs lossless mode and --engine mio
    #[arg(long, value_name = "HOW,...", value_parser = list(EnumValueParser::<ZeroCopyArg>::new()), default_value = "off", help_heading = "I/O")]
    pub(super) zerocopy: List<ZeroCopyArg>,
    /// Submit io_uring requests from a kernel thread (SQPOLL)
    #[arg(long, help_heading = "I/O")]
    pub(super) uring_sqpoll: bool,
    /// Entries of the io_uring submission queue [default: sized for a batch]
    #[arg(long, value_name = "N,...", value_parser = list(parse_whole::<u32>), help_heading = "I/O")]
    pub(super) uring_ring_size: Option<List<u32>>,
    /// Receive method of io_uring [default: multishot]
    #[arg(long, value_name = "HOW,...", value_parser = list(EnumValueParser::<UringRecv>::new()), help_heading = "I/O")]
    pub(super) uring_recv: Option<List<UringRecv>>,
    /// CPUs of the threads: a list like 0,1 (sender, receiver, next sender, ...; repeated if too short), free (the kernel chooses), or
    /// auto (with both ends on this host, the faster of one CPU and two by trials of 10 ms; paced runs, and runs over a network or through a relay: free)
    #[arg(long, value_name = "LIST", value_parser = Choice::parse, default_value = "auto", help_heading = "I/O")]
    pub(super) cpus: Choice,
    /// Send buffer to request [default: 4 MiB, limited by wmem_max]
    #[arg(long, value_name = "BYTES,...", value_parser = list(buffer_size), help_heading = "I/O")]
    pub(super) sndbuf: Option<List<usize>>,
    /// Receive buffer to request [default: 4 MiB, limited by rmem_max]
    #[arg(long, value_name = "BYTES,...", value_parser = list(buffer_size), help_heading = "I/O")]
    pub(super) rcvbuf: Option<List<usize>>,
    /// Server to measure against: a `bench serve`, by name or address [default port: 5210]
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Network")]
    pub(super) to: Option<String>,
    #[command(flatten)]
    pub(super) via: super::udp::via::ViaArgs,
    /// Local address to send from
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        requires = "to",
        help_heading = "Network"
    )]
    pub(super) bind: Option<String>,
    /// Network interface to send from (SO_BINDTODEVICE)
    #[arg(long, value_name = "NAME", requires = "to", help_heading = "Network")]
    pub(super) bind_dev: Option<String>,
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6", help_heading = "Network")]
    pub(super) ipv4: bool,
    /// Use IPv6 only, also on loopback
    #[arg(short = '6', long, help_heading = "Network")]
    pub(super) ipv6: bool,
    /// Set the DF bit: on rejects datagrams longer than the path MTU, off allows fragments at any hop, auto allows them at the sender only
    #[arg(long, value_name = "DF,...", value_parser = list(EnumValueParser::<OnOffAuto>::new()), default_value = "auto", help_heading = "Network")]
    pub(super) df: List<OnOffAuto>,
    #[command(flatten)]
    pub(super) traffic: TrafficArgs,
    /// File with the key of the server, with --fleet also of rank 0
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub(super) key_file: Option<PathBuf>,
    /// Fail after this long without an answer of the server
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "30s", help_heading = "Network")]
    pub(super) peer_timeout: Duration,
    /// How to relate the clocks of both ends
    #[arg(long, value_enum, default_value_t = ClockArg::Auto, help_heading = "Network")]
    pub(super) clock: ClockArg,
    #[command(flatten)]
    pub(super) fleet: FleetArgs,
    #[command(flatten)]
    pub(super) stamps: StampArgs,
    /// Runs of each setting
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = repeats, help_heading = "Repetition")]
    pub(super) repeat: u32,
    /// Unreported run of each setting before the first round [default: 0, 200ms in comparisons]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Repetition")]
    pub(super) warmup: Option<Duration>,
    /// Interval of rows in intervals.csv; if given, rows are also printed, except with --live, and --hlog has a line for each
    /// [default: 1s, 250ms with --live]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Output")]
    pub(super) interval: Option<Duration>,
    /// Show the run on the full screen while it lasts: goodput, losses and latencies; q or Ctrl-C ends it and prints the summary
    #[arg(long, conflicts_with = "quiet", help_heading = "Output")]
    pub(super) live: bool,
    #[command(flatten)]
    pub(super) exports: RunExports,
    /// Write one test in the JSON layout of iperf3; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    pub(super) iperf3_json: Option<PathBuf>,
    #[command(flatten)]
    pub(super) saving: Saving,
    /// Also save packets.csv: sequence, send time, receive time and latency of each datagram
    #[arg(long, conflicts_with = "no_save", help_heading = "Output")]
    pub(super) packets_csv: bool,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address to listen on; port 0 selects a free port [default: all addresses, port 5210]
    #[arg(long, value_name = "ADDR[:PORT]", help_heading = "Network")]
    pub(super) bind: Option<String>,
    /// UDP ports for data, like 6000-6099 [default: the port of --bind]
    #[arg(long, value_name = "A-B", value_parser = ports, help_heading = "Network")]
    pub(super) data_ports: Option<RangeInclusive<u16>>,
    /// File with a key of at least 16 bytes that clients must present
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub(super) key_file: Option<PathBuf>,
    /// CPUs of the receiver threads: a list, repeated if too short, or free
    #[arg(long, value_name = "LIST", value_parser = Choice::parse, default_value = "free", help_heading = "I/O")]
    pub(super) cpus: Choice,
    /// Concurrent sessions
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 64, help_heading = "Limits")]
    pub(super) max_sessions: usize,
    /// Concurrent sessions of one client address [default: 32, or --max-sessions if that is more than 64]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Limits")]
    pub(super) max_sessions_per_client: Option<usize>,
    /// Concurrent streams of all sessions [default: 256, or 4 for each of --max-sessions if that is more]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Limits")]
    pub(super) max_streams: Option<usize>,
    /// Concurrent control connections, including those without a session [default: 1024, or twice --max-sessions if that is more]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Limits")]
    pub(super) max_connections: Option<usize>,
    /// Longest duration of a session
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "1h", help_heading = "Limits")]
    pub(super) max_duration: Duration,
    /// End a session after this long without datagrams or without its client
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "30s", help_heading = "Limits")]
    pub(super) idle_timeout: Duration,
    /// Packet rows of a session that are kept on disk until it ends, 24 bytes each
    #[arg(long, value_name = "N", value_parser = parse_whole::<u64>, default_value_t = 50_000_000, help_heading = "Limits")]
    pub(super) max_packet_rows: u64,
    /// Largest receive or send buffer of a stream that a client may request
    #[arg(long, value_name = "BYTES", value_parser = buffer_size, default_value = "64M", help_heading = "Limits")]
    pub(super) max_rcvbuf: usize,
    /// Folder for results of sessions whose client was lost
    #[arg(
        long,
        value_name = "DIR",
        default_value = "results",
        help_heading = "Output"
    )]
    pub(super) out: PathBuf,
    /// Save nothing
    #[arg(long, conflicts_with = "out", help_heading = "Output")]
    pub(super) no_save: bool,
    /// Print errors and the listening address only
    #[arg(long, short, help_heading = "Output")]
    pub(super) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Blocklist {
    /// Print the entry that blocks or excepts each destination
    ///
    /// Exit code 1 if a destination is blocked.
    ///
    /// List formats are detected by content: one entry a line with # or ; comments (FireHOL, Spamhaus DROP, ipsum, dnscrypt-proxy,
    /// Squid), Spamhaus JSON lines, hosts, adblock (||name^), dnsmasq, unbound local-zone, ipset save, DShield, P2P and DAT ranges.
    /// An entry is an address, a network, a range, a name, or *.name or .name for a name and its subdomains. :PORT or :PORT-PORT
    /// limits an entry to these ports.
    ///
    /// The first matching rule decides: the name is in --except (allowed); the name is in a blocklist (blocked); the address is in
    /// --except (allowed); the address is in a blocklist or covered by --deny-private (blocked); neither name nor address is in
    /// --allow, if given (blocked).
    Check(Check),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Blocklists
    #[arg(value_name = "FILE", required_unless_present_any = ["blocklist_subdomains", "allow", "deny_private"])]
    pub(super) files: Vec<PathBuf>,
    /// Blocklist whose plain names include their subdomains; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) blocklist_subdomains: Vec<PathBuf>,
    /// Block everything that is not on an --allow list; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) allow: Vec<PathBuf>,
    /// Block addresses outside the public Internet (private, loopback, link-local, multicast, ...) and every address of this host
    #[arg(long)]
    pub(super) deny_private: bool,
    /// List of exceptions from the other lists; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) except: Vec<PathBuf>,
    /// Skip invalid lines with a warning, up to 1 % of a list
    #[arg(long)]
    pub(super) skip_bad_lines: bool,
    /// Destination: ADDR, ADDR:PORT, [V6]:PORT, NAME or NAME:PORT. Names are not resolved. Without a port, a destination is
    /// blocked if any of its ports is
    #[arg(value_name = "DEST", last = true, required = true)]
    pub(super) destinations: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Write the report as JSON; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH")]
    pub(super) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(super) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// Saved run to compare with: its folder or run.json
    #[arg(value_name = "BASE")]
    pub(super) base: PathBuf,
    /// Saved run to compare
    #[arg(value_name = "NEW")]
    pub(super) new: PathBuf,
    /// Exit with 1 if NEW is slower than BASE by more than this, like 5%, at the lower bound of the interval, or has errors
    /// through a proxy where BASE has none
    #[arg(long, value_name = "PERCENT", value_parser = percentage)]
    pub(super) threshold: Option<f64>,
    #[command(flatten)]
    pub(super) exports: DocumentExports,
}

#[derive(Debug, Args)]
pub(super) struct Report {
    /// Saved runs, each a folder or its run.json. The page has a section for each run, and compares each run with the first of its
    /// kind if they share a setting
    #[arg(value_name = "PATH", required = true)]
    pub(super) paths: Vec<PathBuf>,
    /// File to write; - writes the page to stdout [default: report.html in the folder of the first PATH]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) html: Option<PathBuf>,
    /// Write the headline charts of the first section as one SVG; - writes it to stdout. Without --html, no page is written
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) svg: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Engine {
    /// mio (epoll) with sendmmsg and recvmmsg
    Mio,
    /// io_uring (Linux 6.1 or newer)
    Uring,
}

impl From<Engine> for EngineKind {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Mio => Self::Mio,
            Engine::Uring => Self::Uring,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum ZeroCopyArg {
    /// Copy
    Off,
    /// splice(2) from a pipe
    Splice,
    /// MSG_ZEROCOPY (mio) or SENDMSG_ZC (uring); the report says if the kernel copied anyway
    Msg,
}

impl From<ZeroCopyArg> for engine::ZeroCopy {
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
    /// One request receives many messages
    Multishot,
    /// One request a message
    Single,
}

impl From<UringRecv> for engine::UringReceive {
    fn from(receive: UringRecv) -> Self {
        match receive {
            UringRecv::Multishot => Self::Multishot,
            UringRecv::Single => Self::Single,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Gso {
    /// Require GSO; fail if it is unavailable
    On,
    /// Send each datagram by itself
    Off,
    /// Use GSO where the kernel and the path support it
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
    /// Read one clock on one host, estimate the offset between two
    Auto,
    /// Always estimate the offset
    Estimate,
}
