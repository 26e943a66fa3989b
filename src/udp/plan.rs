//! The plan of a run: its datagrams, their pace and the way they are sent. The client sends it to the server, and each side validates it.

mod pace;
pub mod sizes;
pub mod traffic;
mod wire;

use std::time::Duration;

use thiserror::Error;

use crate::engine::{ChoiceError, EngineChoice, ZeroCopy};
use crate::sys::socket::PathMtuDiscovery;
use crate::udp::stages::SPARSE;
use crate::udp::wire::header::{HEADER, MAX_48_BIT, MAX_CHUNK};
pub use pace::{MAX_PPS, MIN_PPS, SpinChoice};
use sizes::SizePattern;
use traffic::{Schedule, TrafficError, TrafficOptions};

/// Most streams of a run.
pub const MAX_STREAMS: usize = 128;

/// Shortest and longest interval between rows.
pub const INTERVALS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(3_600));

/// How much is sent, over all streams of a direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Message bytes; the last datagram may be short.
    Bytes(u64),
    /// Datagrams.
    Packets(u64),
    /// Sending time.
    Time(Duration),
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Limited by the receiver's credit.
    Lossless,
    /// On a schedule: datagrams per second over all streams of a direction.
    Paced(f64),
    /// As fast as possible.
    Blast,
    /// Requests that are sent back, and the time until then: as many a second, or one after the other.
    RoundTrip(Option<f64>),
}

impl Mode {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lossless => "lossless",
            Self::Paced(_) => "paced",
            Self::Blast => "blast",
            Self::RoundTrip(_) => "round-trip",
        }
    }
}

/// Who sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// The client sends.
    #[default]
    Forward,
    /// The server sends.
    Reverse,
    /// Both send at once.
    Both,
}

impl Direction {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
            Self::Both => "both",
        }
    }

    /// Whether the client sends.
    pub fn client_sends(self) -> bool {
        self != Self::Reverse
    }

    /// Whether the server sends.
    pub fn server_sends(self) -> bool {
        self != Self::Forward
    }
}

/// Whether the kernel segments sends and coalesces receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Required: the run fails without it.
    On,
    /// One datagram per message.
    Off,
    /// If the kernel and the path support it.
    Auto,
}

impl Offload {
    /// The name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }
}

/// Whether fragmentation is forbidden: the DF bit of IPv4, and its local counterpart of IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Df {
    /// Never fragment; a datagram that exceeds the path MTU is not sent.
    On,
    /// Fragment at any hop with a smaller MTU.
    Off,
    /// Fragment at the sender only, once it knows that the path MTU is smaller.
    #[default]
    Auto,
}

impl Df {
    /// The name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }

    /// The kernel's name of the setting.
    pub fn policy(self) -> PathMtuDiscovery {
        match self {
            Self::On => PathMtuDiscovery::Do,
            Self::Off => PathMtuDiscovery::Dont,
            Self::Auto => PathMtuDiscovery::Want,
        }
    }
}

/// A run, as both sides must know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How much.
    pub amount: Amount,
    /// How fast.
    pub mode: Mode,
    /// Who sends. Each direction has the amount and the pace.
    pub direction: Direction,
    /// Message bytes per datagram, 1 to [`MAX_CHUNK`]; of datagrams of several sizes, the largest.
    pub chunk: usize,
    /// The I/O engine of both ends.
    pub engine: EngineChoice,
    /// Socket pairs per direction, 1 to [`MAX_STREAMS`].
    pub streams: usize,
    /// Datagrams per system call; `None` leaves it to the program.
    pub batch: Option<usize>,
    /// GSO at the sender, GRO at the receiver.
    pub offload: Offload,
    /// Whether fragmentation is forbidden.
    pub df: Df,
    /// Whether a paced sender spins.
    pub spin: SpinChoice,
    /// Requested `SO_RCVBUF`, in bytes.
    pub receive_buffer: Option<usize>,
    /// Requested `SO_SNDBUF`, in bytes.
    pub send_buffer: Option<usize>,
    /// Length of an interval.
    pub interval: Duration,
    /// Whether the receiver keeps a packet log.
    pub packet_rows: bool,
    /// Whether the receiver sends the latency histograms of each interval.
    pub interval_histograms: bool,
    /// Options of the datagrams.
    pub traffic: TrafficOptions,
    /// Whether the receive stamp of a datagram is that of the kernel.
    pub kernel_latency: bool,
    /// Whether the kernel's stamps divide the latency into stages.
    pub stages: bool,
}

/// Why a plan is invalid: a sentence with the value.
#[derive(Debug, Error, PartialEq)]
pub enum PlanError {
    /// Outside 1 to [`MAX_CHUNK`].
    #[error("a chunk of {0} bytes does not fit; choose 1 to {MAX_CHUNK}")]
    Chunk(usize),
    /// Outside 1 to [`MAX_STREAMS`].
    #[error("{0} streams cannot be run; choose 1 to {MAX_STREAMS}")]
    Streams(usize),
    /// Outside [`MIN_PPS`] to [`MAX_PPS`].
    #[error("{0} datagrams a second cannot be paced; choose {MIN_PPS} to {MAX_PPS}")]
    Pace(f64),
    /// No datagram, or more datagrams than sequence numbers.
    #[error("{0} datagrams cannot be sent; choose 1 to {MAX_48_BIT}")]
    Packets(u64),
    /// A duration of 0.
    #[error("a duration of 0 measures nothing; choose more, like 5s")]
    Time,
    /// Outside [`INTERVALS`].
    #[error("an interval of {0:?} is out of range; choose {shortest:?} to {longest:?}", shortest = INTERVALS.0, longest = INTERVALS.1)]
    Interval(Duration),
    /// An invalid option of the datagrams.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
    /// A setting that the engine does not support.
    #[error(transparent)]
    Engine(#[from] ChoiceError),
    /// Pages may be reused only once the receiver has read them, and only its credit shows this.
    #[error(
        "--zerocopy splice works in lossless mode only: the sender may reuse its pages only after the receiver has read them, as its credit shows; leave out --rate, --pps and --unpaced, or choose --zerocopy msg or off"
    )]
    SpliceNeedsCredit,
    /// GSO with one datagram per batch.
    #[error(
        "GSO (--gso on) cannot be used with a batch of one datagram; choose a --batch of 2 or more, or --gso off"
    )]
    NothingToSegment,
    /// An option without a meaning for round trips.
    #[error("--round-trip measures one datagram at a time between two sockets; leave out {0}")]
    RoundTrip(&'static str),
    /// Outside 1 to [`MAX_BATCH`].
    #[error("a batch of {0} cannot be sent; choose 1 to {MAX_BATCH}")]
    Batch(usize),
}

/// Most datagrams per system call: `UIO_MAXIOV`, the limit of sendmmsg(2).
pub const MAX_BATCH: usize = 1_024;

impl Plan {
    /// Checks the plan. Both sides do: the server does not trust the client.
    ///
    /// # Errors
    /// [`PlanError`], with the first invalid value.
    pub fn validate(&self) -> Result<(), PlanError> {
        if !(1..=MAX_CHUNK).contains(&self.chunk) {
            return Err(PlanError::Chunk(self.chunk));
        }
        if !(1..=MAX_STREAMS).contains(&self.streams) {
            return Err(PlanError::Streams(self.streams));
        }
        if let Some(batch) = self.batch
            && !(1..=MAX_BATCH).contains(&batch)
        {
            return Err(PlanError::Batch(batch));
        }
        if self.offload == Offload::On && self.batch == Some(1) {
            return Err(PlanError::NothingToSegment);
        }
        self.engine.validate()?;
        self.traffic.validate()?;
        if self.traffic.schedule != Schedule::default() && !matches!(self.mode, Mode::Paced(_)) {
            return Err(TrafficError::NeedsPace.into());
        }
        if self.traffic.group.is_some() {
            if self.direction != Direction::Forward {
                return Err(TrafficError::GroupDirection.into());
            }
            if !matches!(self.mode, Mode::Paced(_) | Mode::Blast) {
                return Err(TrafficError::GroupCredit.into());
            }
        }
        if let Some(sizes) = &self.traffic.sizes {
            if sizes.bounds().1 != self.chunk {
                return Err(TrafficError::Chunk(self.chunk).into());
            }
            if self.offload == Offload::On {
                return Err(TrafficError::Segments.into());
            }
        }
        if self.engine.zerocopy == ZeroCopy::Splice && self.mode != Mode::Lossless {
            return Err(PlanError::SpliceNeedsCredit);
        }
        if matches!(self.mode, Mode::RoundTrip(_)) {
            self.validate_round_trip()?;
        }
        if let Mode::Paced(pps) | Mode::RoundTrip(Some(pps)) = self.mode
            && !(MIN_PPS..=MAX_PPS).contains(&pps)
        {
            return Err(PlanError::Pace(pps));
        }
        if !(INTERVALS.0..=INTERVALS.1).contains(&self.interval) {
            return Err(PlanError::Interval(self.interval));
        }
        match (self.amount, self.packets()) {
            (Amount::Time(Duration::ZERO), _) => Err(PlanError::Time),
            (_, Some(packets)) if !(1..MAX_48_BIT).contains(&packets) => {
                Err(PlanError::Packets(packets))
            }
            _ => Ok(()),
        }
    }

    /// A round trip has one socket at each end, and one datagram a system call.
    fn validate_round_trip(&self) -> Result<(), PlanError> {
        let plain_engine = EngineChoice {
            kind: self.engine.kind,
            ..EngineChoice::default()
        };
        let refused = [
            (self.streams != 1, "--streams"),
            (
                self.direction != Direction::Forward,
                "--reverse and --bidir",
            ),
            (
                self.engine != plain_engine,
                "--zerocopy and the options of io_uring",
            ),
            (self.batch.is_some_and(|batch| batch != 1), "--batch"),
            (self.offload == Offload::On, "--gso on"),
            (self.packet_rows, "--packets-csv"),
            (self.kernel_latency, "--timestamps kernel"),
            (self.stages, "--explain"),
            (matches!(self.amount, Amount::Bytes(_)), "--mb"),
            (self.traffic.sizes.is_some(), "--chunk with several sizes"),
        ];
        match refused.iter().find(|(is_set, _)| *is_set) {
            Some((_, option)) => Err(PlanError::RoundTrip(option)),
            None => Ok(()),
        }
    }

    /// Whether the kernel segments and coalesces. Stages of a paced run need a message per datagram, each with its stamps.
    pub fn offload_in_force(&self) -> Offload {
        match (self.stages, self.mode, self.offload) {
            (true, Mode::Paced(_), Offload::Auto) => Offload::Off,
            (.., offload) => offload,
        }
    }

    /// Datagrams from one stamped datagram to the next, if the kernel's stamps divide the latency into stages.
    pub fn stamped_every(&self) -> u64 {
        match self.mode {
            Mode::Paced(_) => 1,
            Mode::Lossless | Mode::Blast | Mode::RoundTrip(_) => SPARSE,
        }
    }

    /// Bytes of a full datagram, the largest of several sizes.
    pub fn datagram(&self) -> usize {
        self.chunk + HEADER
    }

    /// Bytes of the smallest datagram, without the last of a stream.
    pub fn smallest_datagram(&self) -> usize {
        let sizes = self.traffic.sizes.as_ref();
        sizes.map_or(self.chunk, |sizes| sizes.bounds().0) + HEADER
    }

    /// The sizes of each stream's datagrams; `None` if all have the plan's chunk.
    pub fn pattern(&self) -> Option<SizePattern> {
        self.traffic.sizes.as_ref().map(SizePattern::new)
    }

    /// Mean of the message bytes of a datagram.
    pub fn mean_chunk(&self) -> f64 {
        let pattern = self.pattern();
        pattern.map_or(self.chunk as f64, |pattern| pattern.mean())
    }

    /// A stream's share of `bytes` message bytes in datagrams of several sizes.
    fn share(&self, bytes: u64, stream: usize) -> u64 {
        let count = self.streams.max(1) as u64;
        bytes / count + u64::from((stream as u64) < bytes % count)
    }

    /// Datagrams in all; `None` if time limits the run.
    pub fn packets(&self) -> Option<u64> {
        match (self.amount, &self.traffic.sizes) {
            (Amount::Bytes(bytes), Some(sizes)) => {
                let pattern = SizePattern::new(sizes);
                let shares = (0..self.streams).map(|stream| self.share(bytes, stream));
                Some(shares.fold(0, |sum, share| pattern.datagrams(share).saturating_add(sum)))
            }
            (Amount::Bytes(bytes), None) => Some(bytes.div_ceil(self.chunk.max(1) as u64)),
            (Amount::Packets(packets), _) => Some(packets),
            (Amount::Time(_), _) => None,
        }
    }

    /// The share of stream number `stream`.
    pub fn quota(&self, stream: usize) -> Quota {
        if let (Amount::Bytes(bytes), Some(pattern)) = (self.amount, self.pattern()) {
            let bytes = self.share(bytes, stream);
            let packets = pattern.datagrams(bytes);
            let rest = bytes - pattern.bytes(packets.saturating_sub(1));
            return Quota {
                packets: Some(packets),
                last_chunk: (rest as usize).clamp(1, self.chunk),
                time: None,
            };
        }
        let count = self.streams.max(1) as u64;
        let (packets, last_chunk) = match self.packets() {
            None => (None, self.chunk),
            Some(all) => {
                let share = all / count + u64::from((stream as u64) < all % count);
                // The only short datagram is the last one of the last stream that sends.
                let holder = all.min(count).saturating_sub(1) as usize;
                let rest = match self.amount {
                    Amount::Bytes(bytes) => (bytes % self.chunk.max(1) as u64) as usize,
                    _ => 0,
                };
                let short = rest > 0 && stream == holder;
                let full = match self.pattern() {
                    Some(pattern) => pattern.size(share.saturating_sub(1)),
                    None => self.chunk,
                };
                (Some(share), if short { rest } else { full })
            }
        };
        let time = match self.amount {
            Amount::Time(time) => Some(time),
            _ => None,
        };
        Quota {
            packets,
            last_chunk,
            time,
        }
    }

    /// The pace of one stream in datagrams per second, and the shift of its schedule in ns, which spaces the datagrams of all streams
    /// or their bursts evenly; `None` unless paced.
    pub fn stream_pace(&self, stream: usize) -> Option<(f64, u64)> {
        let Mode::Paced(pps) = self.mode else {
            return None;
        };
        let burst = f64::from(self.traffic.schedule.burst);
        Some((
            pps / self.streams.max(1) as f64,
            (1e9 / pps * burst * stream as f64) as u64,
        ))
    }

    /// Streams of both directions.
    pub fn all_streams(&self) -> usize {
        let directions = [self.direction.client_sends(), self.direction.server_sends()];
        self.streams * directions.iter().filter(|sends| **sends).count()
    }

    /// The longest time between two datagrams of a paced run.
    pub fn longest_gap(&self) -> Duration {
        match self.mode {
            Mode::Paced(pps) => {
                let gap = self.traffic.schedule.longest_gap() * self.streams as f64 / pps;
                Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX)
            }
            Mode::RoundTrip(Some(pps)) => {
                Duration::try_from_secs_f64(1.0 / pps).unwrap_or(Duration::MAX)
            }
            Mode::Lossless | Mode::Blast | Mode::RoundTrip(None) => Duration::ZERO,
        }
    }

    /// How long the run takes at least, if the plan determines it.
    pub fn expected_time(&self) -> Option<Duration> {
        match (self.amount, self.mode, self.packets()) {
            (Amount::Time(time), ..) => Some(time),
            (_, Mode::Paced(pps) | Mode::RoundTrip(Some(pps)), Some(packets)) => {
                Duration::try_from_secs_f64(packets as f64 / pps).ok()
            }
            _ => None,
        }
    }
}

/// One stream's share of the amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Datagrams; `None` if time limits the run.
    pub packets: Option<u64>,
    /// Message bytes of the last datagram.
    pub last_chunk: usize,
    /// Sending time; `None` if the count limits the run.
    pub time: Option<Duration>,
}

#[cfg(test)]
pub(crate) mod tests;
