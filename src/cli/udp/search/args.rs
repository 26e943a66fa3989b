//! Options of `bench udp search`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::EnumValueParser;
use clap::{Args, Command, FromArgMatches, Subcommand};

use crate::cli::args::{ClockArg, Engine, Gso, OnOffAuto, Udp, UringRecv, ZeroCopyArg};
use crate::cli::error::CliError;
use crate::cli::exports::SearchExports;
use crate::cli::list::{List, list};
use crate::cli::parse::{buffer_size, nonzero_duration, percentage};
use crate::cli::saving::Saving;
use crate::cli::udp::traffic::Chunk;
use crate::cli::udp::via::ViaArgs;
use crate::udp::placement::Choice;
use crate::udp::plan::{MAX_PPS, MIN_PPS};
use crate::udp::search::{Goal, MOST_GOALS, Range, WIDTHS};
use crate::units::{parse_duration, parse_number, parse_whole};

/// Printed after the options.
const AFTER: &str = "\
The search is a multiple loss ratio search (RFC 9971). Trials at one load make it a lower or an upper bound of a goal: by default, 3 of 5 \
trials of 1 s with as little loss as the goal allows, or 3 of 5 with more. Shorter trials find the region first. The result is the largest \
lower bound below the smallest upper bound.

A queue on the path that holds Q seconds of datagrams raises a bound by up to Q divided by --trial. Losses while the sender was too \
slow or late are not those of the path; if they recur, the sender is named as the limit.

A search loads the path beyond its limit; without --max, the first trial sends as fast as this host can.";

/// Initial trials in a final one.
const INITIAL: u32 = 4;

/// Final trials in the duration sum.
const SUM: u32 = 5;

/// Subcommands of `bench udp`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum UdpCommand {
    /// Find the highest rate with no more loss than each of several goals allows, and the latency below it
    Search(Box<Search>),
}

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(in crate::cli) struct Search {
    /// Loss ratios of the goals, like 0 or 0.1%; the latency curve is of the first
    #[arg(long, value_name = "PERCENT,...", value_parser = list(loss), default_value = "0", help_heading = "Goals")]
    pub(super) loss: List<f64>,
    /// Share of the trial time at a lower bound that may have more loss; 0% allows none, as RFC 2544 does
    #[arg(long, value_name = "PERCENT", value_parser = percentage, default_value = "50%", help_heading = "Goals")]
    pub(super) exceed: f64,
    /// Distance of the bounds at which the search ends, in percent of the upper bound
    #[arg(long, value_name = "PERCENT", value_parser = width, default_value = "0.5%", help_heading = "Goals")]
    pub(super) width: f64,
    /// Time of a final trial
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "1s", help_heading = "Goals")]
    pub(super) trial: Duration,
    /// Time of an initial trial [default: a quarter of --trial]
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, help_heading = "Goals")]
    pub(super) first_trial: Option<Duration>,
    /// Time of all trials that classify a load [default: 5 times --trial]
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, help_heading = "Goals")]
    pub(super) trial_sum: Option<Duration>,
    /// Lowest load to try, in datagrams a second of all streams
    #[arg(long, value_name = "N", value_parser = parse_number, default_value = "10", help_heading = "Goals")]
    pub(super) min: f64,
    /// Highest load to try, like 200k [default: what the sender can]
    #[arg(long, value_name = "N", value_parser = parse_number, help_heading = "Goals")]
    pub(super) max: Option<f64>,
    /// Pause before each trial, in which queues on the path become empty
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "100ms", help_heading = "Goals")]
    pub(super) pause: Duration,
    /// End the search after this long, with the bounds so far
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "10m", help_heading = "Goals")]
    pub(super) time_limit: Duration,
    #[command(flatten)]
    pub(super) path: PathArgs,
    #[command(flatten)]
    pub(super) exports: SearchExports,
    #[command(flatten)]
    pub(super) saving: Saving,
}

/// How datagrams are sent, and where: options of `bench udp`, with one value each.
#[derive(Debug, Args)]
pub(super) struct PathArgs {
    /// Message bytes of a datagram, 1 to 65475, without the header of 32 bytes
    #[arg(long, value_name = "BYTES", value_parser = parse_whole::<usize>, default_value = "1000", help_heading = "Workload")]
    chunk: usize,
    /// Socket pairs, each with a sender and a receiver thread
    #[arg(long, value_name = "N", value_parser = parse_whole::<usize>, default_value = "1", help_heading = "Workload")]
    streams: usize,
    /// Let the server send and this host receive
    #[arg(long, help_heading = "Workload")]
    reverse: bool,
    /// Spin before each deadline; auto stops spinning when it makes the sender late
    #[arg(long, value_name = "SPIN", value_parser = EnumValueParser::<OnOffAuto>::new(), default_value = "auto", help_heading = "I/O")]
    spin: OnOffAuto,
    /// Engine for datagram I/O
    #[arg(long, value_name = "ENGINE", value_parser = EnumValueParser::<Engine>::new(), default_value = "mio", help_heading = "I/O")]
    engine: Engine,
    /// Most datagrams of a send call [default: one GSO send, 64 without GSO]
    #[arg(long, value_name = "N", value_parser = parse_whole::<usize>, help_heading = "I/O")]
    batch: Option<usize>,
    /// Segment sends and coalesce receives in the kernel (UDP GSO and GRO)
    #[arg(long, value_name = "GSO", value_parser = EnumValueParser::<Gso>::new(), default_value = "auto", help_heading = "I/O")]
    gso: Gso,
    /// Send without a copy in the kernel: off or msg
    #[arg(long, value_name = "HOW", value_parser = EnumValueParser::<ZeroCopyArg>::new(), default_value = "off", help_heading = "I/O")]
    zerocopy: ZeroCopyArg,
    /// Submit io_uring requests from a kernel thread (SQPOLL)
    #[arg(long, help_heading = "I/O")]
    uring_sqpoll: bool,
    /// Entries of the io_uring submission queue [default: sized for a batch]
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>, help_heading = "I/O")]
    uring_ring_size: Option<u32>,
    /// Receive method of io_uring [default: multishot]
    #[arg(long, value_name = "HOW", value_parser = EnumValueParser::<UringRecv>::new(), help_heading = "I/O")]
    uring_recv: Option<UringRecv>,
    /// CPUs of the threads: a list like 0,1 (sender, receiver, next sender, ...; repeated if too short), free (the kernel chooses), or
    /// auto (free)
    #[arg(long, value_name = "LIST", value_parser = Choice::parse, default_value = "auto", help_heading = "I/O")]
    cpus: Choice,
    /// Send buffer to request [default: 4 MiB, limited by wmem_max]
    #[arg(long, value_name = "BYTES", value_parser = buffer_size, help_heading = "I/O")]
    sndbuf: Option<usize>,
    /// Receive buffer to request [default: 4 MiB, limited by rmem_max]
    #[arg(long, value_name = "BYTES", value_parser = buffer_size, help_heading = "I/O")]
    rcvbuf: Option<usize>,
    /// Server to measure against: a `bench serve`, by name or address [default port: 5210]
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Network")]
    to: Option<String>,
    #[command(flatten)]
    via: ViaArgs,
    /// Local address to send from
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        requires = "to",
        help_heading = "Network"
    )]
    bind: Option<String>,
    /// Network interface to send from (SO_BINDTODEVICE)
    #[arg(long, value_name = "NAME", requires = "to", help_heading = "Network")]
    bind_dev: Option<String>,
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6", help_heading = "Network")]
    ipv4: bool,
    /// Use IPv6 only, also on loopback
    #[arg(short = '6', long, help_heading = "Network")]
    pub(super) ipv6: bool,
    /// Set the DF bit: on rejects datagrams longer than the path MTU, off allows fragments at any hop, auto allows them at the sender only
    #[arg(long, value_name = "DF", value_parser = EnumValueParser::<OnOffAuto>::new(), default_value = "auto", help_heading = "Network")]
    df: OnOffAuto,
    /// File with the key of the server
    #[arg(long, value_name = "FILE", requires = "to", help_heading = "Network")]
    key_file: Option<PathBuf>,
    /// Fail after this long without an answer of the server
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "30s", help_heading = "Network")]
    peer_timeout: Duration,
    /// How to relate the clocks of both ends
    #[arg(long, value_enum, default_value_t = ClockArg::Auto, help_heading = "Network")]
    clock: ClockArg,
}

/// A loss ratio, as a fraction. A number other than 0 has a percent sign, as 0.1 could mean 10 %.
fn loss(text: &str) -> Result<f64, String> {
    match (text, percentage(text)) {
        ("0", _) => Ok(0.0),
        (_, Ok(percent)) => Ok(percent / 100.0),
        _ => Err("expected 0 or a percentage below 100%, like 0.1%".to_owned()),
    }
}

/// A width in percent. [`Goal::validate`] checks its range.
fn width(text: &str) -> Result<f64, String> {
    let percent = text
        .strip_suffix('%')
        .and_then(|number| parse_number(number).ok());
    percent.ok_or_else(|| {
        let [least, most] = [WIDTHS.0, WIDTHS.1].map(|width| width * 100.0);
        format!("expected a percentage from {least}% to {most}%, like 0.5%")
    })
}

impl Search {
    /// The goals, in the order of their loss ratios on the command line.
    pub(super) fn goals(&self) -> Result<Vec<Goal>, CliError> {
        let goal = |loss_ratio: &f64| Goal {
            loss_ratio: *loss_ratio,
            exceed_ratio: self.exceed / 100.0,
            width: self.width / 100.0,
            initial_trial_s: self
                .first_trial
                .unwrap_or(self.trial / INITIAL)
                .as_secs_f64(),
            final_trial_s: self.trial.as_secs_f64(),
            duration_sum_s: self
                .trial_sum
                .unwrap_or(self.trial.saturating_mul(SUM))
                .as_secs_f64(),
        };
        let goals: Vec<Goal> = self.loss.iter().map(goal).collect();
        if goals.len() > MOST_GOALS {
            return Err(CliError::Usage(format!(
                "{} values of --loss are too many; choose at most {MOST_GOALS}",
                goals.len()
            )));
        }
        goals
            .iter()
            .try_for_each(Goal::validate)
            .map_err(CliError::usage)?;
        Ok(goals)
    }

    /// The loads to try.
    pub(super) fn range(&self) -> Result<Range, CliError> {
        let range = Range {
            min: self.min,
            max: self.max.unwrap_or(MAX_PPS),
        };
        if range.min < MIN_PPS || range.max > MAX_PPS || range.min >= range.max {
            return Err(CliError::Usage(format!(
                "--min {} and --max {} are no range of loads; choose {MIN_PPS} to {MAX_PPS} datagrams a second, --min below --max",
                range.min, range.max
            )));
        }
        Ok(range)
    }

    /// The options of a `bench udp` that is a trial: paced, with the defaults of `bench udp` for all options that a search lacks.
    pub(super) fn of_trial(&self) -> Result<Udp, CliError> {
        let command = Udp::augment_args(Command::new("udp"));
        let defaults = command
            .try_get_matches_from(["udp"])
            .and_then(|matches| Udp::from_arg_matches(&matches))
            .map_err(CliError::runtime)?;
        let path = &self.path;
        Ok(Udp {
            duration: Some(self.trial),
            pps: Some(List::one(self.max.unwrap_or(self.min))),
            chunk: List::one(Chunk::Bytes(path.chunk)),
            streams: List::one(path.streams),
            reverse: path.reverse,
            spin: List::one(path.spin),
            engine: List::one(path.engine),
            batch: path.batch.map(List::one),
            gso: List::one(path.gso),
            zerocopy: List::one(path.zerocopy),
            uring_sqpoll: path.uring_sqpoll,
            uring_ring_size: path.uring_ring_size.map(List::one),
            uring_recv: path.uring_recv.map(List::one),
            cpus: path.cpus.clone(),
            sndbuf: path.sndbuf.map(List::one),
            rcvbuf: path.rcvbuf.map(List::one),
            to: path.to.clone(),
            via: path.via.clone(),
            bind: path.bind.clone(),
            bind_dev: path.bind_dev.clone(),
            ipv4: path.ipv4,
            ipv6: path.ipv6,
            df: List::one(path.df),
            key_file: path.key_file.clone(),
            peer_timeout: path.peer_timeout,
            clock: path.clock,
            ..defaults
        })
    }
}
