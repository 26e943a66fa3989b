//! What a run is to do: validated, the same on both sides of the control connection.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::{ChoiceError, EngineChoice, ZeroCopy};
use crate::sys::socket::PathMtuDiscovery;
use crate::udp::send::pacing::{FASTEST_PPS, SLOWEST_PPS};
use crate::udp::send::spin::SpinChoice;
use crate::udp::wire::header::{HEADER, MOST_CHUNK, MOST_SHORT};

/// Most streams of a run.
pub const MOST_STREAMS: usize = 128;

/// Shortest and longest interval between rows.
pub const INTERVALS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(3_600));

/// How much is sent, all streams together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Message bytes; the last datagram may be short.
    Bytes(u64),
    /// Datagrams.
    Packets(u64),
    /// As many as go in this time.
    Time(Duration),
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As far as the receiver's credit goes.
    Lossless,
    /// On a schedule, this many datagrams a second, all streams together.
    Paced(f64),
    /// As fast as the sender can.
    Blast,
}

impl Mode {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lossless => "lossless",
            Self::Paced(_) => "paced",
            Self::Blast => "blast",
        }
    }
}

/// Who sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offload {
    /// Or the run is not done.
    On,
    /// One datagram a message.
    Off,
    /// Where the kernel and the path can.
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

/// Whether datagrams may be fragmented on their way: the DF bit of IPv4, and the local counterpart of IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Df {
    /// Never; a datagram longer than the path MTU is not sent.
    On,
    /// Wherever a hop's MTU is smaller.
    Off,
    /// By the sender once it knows that the path MTU is smaller, else not.
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

    /// What the kernel calls it.
    pub fn policy(self) -> PathMtuDiscovery {
        match self {
            Self::On => PathMtuDiscovery::Do,
            Self::Off => PathMtuDiscovery::Dont,
            Self::Auto => PathMtuDiscovery::Want,
        }
    }
}

/// The part of a plan that both sides must know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How much.
    pub amount: Amount,
    /// How fast.
    pub mode: Mode,
    /// Who sends: the amount and the pace are those of each direction.
    pub direction: Direction,
    /// Message bytes a datagram, 1 to [`MOST_CHUNK`].
    pub chunk: usize,
    /// What does the I/O, at both ends.
    pub engine: EngineChoice,
    /// Socket pairs, 1 to [`MOST_STREAMS`].
    pub streams: usize,
    /// Datagrams a system call, where not left to us.
    pub batch: Option<usize>,
    /// GSO at the sender, GRO at the receiver.
    pub offload: Offload,
    /// Whether datagrams may be fragmented.
    #[serde(default)]
    pub df: Df,
    /// Whether a paced sender spins.
    #[serde(default)]
    pub spin: SpinChoice,
    /// Receive buffer to ask for, in bytes.
    pub receive_buffer: Option<usize>,
    /// Send buffer to ask for, in bytes.
    pub send_buffer: Option<usize>,
    /// Time between interval rows.
    pub interval: Duration,
    /// Whether the receiver keeps a row a packet.
    pub packet_rows: bool,
}

/// Why a plan cannot be run. One sentence that names the value.
#[derive(Debug, Error, PartialEq)]
pub enum PlanError {
    /// Outside 1 to [`MOST_CHUNK`].
    #[error("a chunk of {0} bytes does not fit; choose 1 to {MOST_CHUNK}")]
    Chunk(usize),
    /// Outside 1 to [`MOST_STREAMS`].
    #[error("{0} streams cannot be run; choose 1 to {MOST_STREAMS}")]
    Streams(usize),
    /// Outside [`SLOWEST_PPS`] and [`FASTEST_PPS`].
    #[error("{0} datagrams a second cannot be paced; choose {SLOWEST_PPS} to {FASTEST_PPS}")]
    Pace(f64),
    /// Nothing to send, or more than sequence numbers last.
    #[error("{0} datagrams cannot be sent; choose 1 to {MOST_SHORT}")]
    Packets(u64),
    /// No time.
    #[error("a duration of 0 measures nothing; choose more, like 5s")]
    Time,
    /// Outside [`INTERVALS`].
    #[error("an interval of {0:?} cannot be kept; choose {shortest:?} to {longest:?}", shortest = INTERVALS.0, longest = INTERVALS.1)]
    Interval(Duration),
    /// The engine cannot do that.
    #[error(transparent)]
    Engine(#[from] ChoiceError),
    /// Pages may be used again only once the receiver has read them, and only its credit tells.
    #[error(
        "--zerocopy splice works in lossless mode only: the pages sent may be written to again only when the receiver's credit says that it has read them; leave out --rate, --pps and --unpaced, or choose --zerocopy msg or off"
    )]
    SpliceNeedsCredit,
    /// Nothing to segment.
    #[error(
        "GSO (--gso on) cannot be used with a batch of one datagram; choose a --batch of 2 or more, or --gso off"
    )]
    NothingToSegment,
    /// None, or more than any kernel takes.
    #[error("a batch of {0} cannot be sent; choose 1 to {MOST_BATCH}")]
    Batch(usize),
}

/// Most datagrams a system call: `UIO_MAXIOV`, beyond which sendmmsg(2) stops.
pub const MOST_BATCH: usize = 1_024;

impl Plan {
    /// Whether it can be run. Both sides ask: the server does not believe a client.
    ///
    /// # Errors
    /// [`PlanError`], naming the first value that cannot be.
    pub fn validate(&self) -> Result<(), PlanError> {
        if !(1..=MOST_CHUNK).contains(&self.chunk) {
            return Err(PlanError::Chunk(self.chunk));
        }
        if !(1..=MOST_STREAMS).contains(&self.streams) {
            return Err(PlanError::Streams(self.streams));
        }
        if let Some(batch) = self.batch
            && !(1..=MOST_BATCH).contains(&batch)
        {
            return Err(PlanError::Batch(batch));
        }
        if self.offload == Offload::On && self.batch == Some(1) {
            return Err(PlanError::NothingToSegment);
        }
        self.engine.validate()?;
        if self.engine.zerocopy == ZeroCopy::Splice && self.mode != Mode::Lossless {
            return Err(PlanError::SpliceNeedsCredit);
        }
        if let Mode::Paced(pps) = self.mode
            && !(SLOWEST_PPS..=FASTEST_PPS).contains(&pps)
        {
            return Err(PlanError::Pace(pps));
        }
        if !(INTERVALS.0..=INTERVALS.1).contains(&self.interval) {
            return Err(PlanError::Interval(self.interval));
        }
        match (self.amount, self.packets()) {
            (Amount::Time(Duration::ZERO), _) => Err(PlanError::Time),
            (_, Some(packets)) if !(1..MOST_SHORT).contains(&packets) => {
                Err(PlanError::Packets(packets))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of a full datagram.
    pub fn datagram(&self) -> usize {
        self.chunk + HEADER
    }

    /// Datagrams in all; `None` when time decides.
    pub fn packets(&self) -> Option<u64> {
        match self.amount {
            Amount::Bytes(bytes) => Some(bytes.div_ceil(self.chunk.max(1) as u64)),
            Amount::Packets(packets) => Some(packets),
            Amount::Time(_) => None,
        }
    }

    /// What stream number `stream` of the plan is to send.
    pub fn quota(&self, stream: usize) -> Quota {
        let count = self.streams.max(1) as u64;
        let (packets, last_chunk) = match self.packets() {
            None => (None, self.chunk),
            Some(all) => {
                let share = all / count + u64::from((stream as u64) < all % count);
                // The one short datagram is the last of the last stream that sends any.
                let holder = all.min(count).saturating_sub(1) as usize;
                let rest = match self.amount {
                    Amount::Bytes(bytes) => (bytes % self.chunk.max(1) as u64) as usize,
                    _ => 0,
                };
                let short = rest > 0 && stream == holder;
                (Some(share), if short { rest } else { self.chunk })
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

    /// The pace of one stream in datagrams a second, and how far its schedule is shifted, in ns,
    /// so that the streams together are evenly spaced; `None` unless paced.
    pub fn stream_pace(&self, stream: usize) -> Option<(f64, u64)> {
        let Mode::Paced(pps) = self.mode else {
            return None;
        };
        Some((
            pps / self.streams.max(1) as f64,
            (1e9 / pps * stream as f64) as u64,
        ))
    }

    /// Streams of both directions together.
    pub fn all_streams(&self) -> usize {
        let directions = [self.direction.client_sends(), self.direction.server_sends()];
        self.streams * directions.iter().filter(|sends| **sends).count()
    }

    /// The longest time between two datagrams of a paced run.
    pub fn longest_gap(&self) -> Duration {
        match self.mode {
            Mode::Paced(pps) => {
                Duration::try_from_secs_f64(self.streams as f64 / pps).unwrap_or(Duration::MAX)
            }
            Mode::Lossless | Mode::Blast => Duration::ZERO,
        }
    }

    /// How long it takes at least, where that can be said beforehand.
    pub fn expected_time(&self) -> Option<Duration> {
        match (self.amount, self.mode, self.packets()) {
            (Amount::Time(time), ..) => Some(time),
            (_, Mode::Paced(pps), Some(packets)) => {
                Duration::try_from_secs_f64(packets as f64 / pps).ok()
            }
            _ => None,
        }
    }
}

/// One stream's share of the amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Datagrams; `None` when time decides.
    pub packets: Option<u64>,
    /// Message bytes of the last of them.
    pub last_chunk: usize,
    /// How long to send; `None` when the count decides.
    pub time: Option<Duration>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 100 datagrams of 1000 bytes, lossless.
    pub(crate) fn small_plan() -> Plan {
        Plan {
            amount: Amount::Packets(100),
            mode: Mode::Lossless,
            direction: Direction::Forward,
            chunk: 1_000,
            engine: EngineChoice::default(),
            streams: 1,
            batch: None,
            offload: Offload::Auto,
            df: Df::Auto,
            spin: SpinChoice::Auto,
            receive_buffer: None,
            send_buffer: None,
            interval: Duration::from_secs(1),
            packet_rows: false,
        }
    }

    #[test]
    fn each_bad_value_is_named() {
        let plan = small_plan();
        assert_eq!(plan.validate(), Ok(()));
        let cases = [
            (
                Plan {
                    chunk: 0,
                    ..plan.clone()
                },
                PlanError::Chunk(0),
            ),
            (
                Plan {
                    chunk: MOST_CHUNK + 1,
                    ..plan.clone()
                },
                PlanError::Chunk(MOST_CHUNK + 1),
            ),
            (
                Plan {
                    streams: 0,
                    ..plan.clone()
                },
                PlanError::Streams(0),
            ),
            (
                Plan {
                    batch: Some(0),
                    ..plan.clone()
                },
                PlanError::Batch(0),
            ),
            (
                Plan {
                    mode: Mode::Paced(0.0),
                    ..plan.clone()
                },
                PlanError::Pace(0.0),
            ),
            (
                Plan {
                    amount: Amount::Bytes(0),
                    ..plan.clone()
                },
                PlanError::Packets(0),
            ),
            (
                Plan {
                    amount: Amount::Packets(u64::MAX),
                    ..plan.clone()
                },
                PlanError::Packets(u64::MAX),
            ),
            (
                Plan {
                    amount: Amount::Time(Duration::ZERO),
                    ..plan.clone()
                },
                PlanError::Time,
            ),
            (
                Plan {
                    interval: Duration::ZERO,
                    ..plan.clone()
                },
                PlanError::Interval(Duration::ZERO),
            ),
        ];
        for (plan, error) in cases {
            assert_eq!(plan.validate(), Err(error));
        }
        let one = Plan {
            offload: Offload::On,
            batch: Some(1),
            ..plan.clone()
        };
        assert_eq!(one.validate(), Err(PlanError::NothingToSegment));
        assert!(
            Plan {
                mode: Mode::Paced(f64::NAN),
                ..plan
            }
            .validate()
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn the_streams_together_send_the_bytes_exactly(bytes in 1u64..1_000_000, chunk in 1usize..3_000, streams in 1usize..9) {
            let plan = Plan { amount: Amount::Bytes(bytes), chunk, streams, ..small_plan() };
            let total: u64 = (0..streams).map(|stream| {
                let quota = plan.quota(stream);
                match quota.packets.unwrap() {
                    0 => 0,
                    packets => (packets - 1) * chunk as u64 + quota.last_chunk as u64,
                }
            }).sum();
            prop_assert_eq!(total, bytes);
        }
    }
}
