//! What sender and receiver say to each other over the control connection.
//!
//! ```text
//!   sender                               receiver
//!   hello: version, plan  ------------->
//!                         <------------- welcome: token, a UDP port a stream   (or refused: why)
//!           probes, pings and data over UDP, credits and pongs back
//!   alive, once a second  <------------>  interval rows, alive
//!   finish: what was sent ------------->
//!                         <------------- rows a packet, latencies, streams, done
//! ```
//!
//! Either side that hears nothing for [`SILENCE`] takes the other for dead. What is long comes in several
//! messages, so that each stays within [`super::frame::MOST_MESSAGE`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::engine::stats::ReceiveStats;
use crate::report::record::Interval;
use crate::stats::latency::OutOfRange;

/// The version of these messages and of the datagram header. Both sides must have the same.
pub const VERSION: u32 = 2;

/// How often each side shows that it is alive.
pub const ALIVE: Duration = Duration::from_secs(1);

/// A side that says nothing for so long is taken for dead.
pub const SILENCE: Duration = Duration::from_secs(4);

/// Counts or rows in one message: at most 66 bytes each.
pub const MOST_ROWS: usize = 900;

/// What every version of the first message holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Preface {
    /// The sender's [`VERSION`].
    pub version: u32,
}

/// From the sender.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Comes first.
    Hello(Hello),
    /// Still there.
    Alive,
    /// No more data will come.
    Finish {
        /// What each stream has sent.
        streams: Vec<StreamSent>,
    },
}

/// Sets a run up.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// What is to be done.
    pub plan: Plan,
    /// [`crate::sys::clock::identity`] of the sender.
    pub clock: Option<String>,
    /// The CPU that each stream's sender is kept on, if any. Means something only on the same host.
    pub cpus: Option<Vec<usize>>,
}

/// What a stream's sender counted.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct StreamSent {
    /// Datagrams offered to the kernel.
    pub packets: u64,
    /// Message bytes in them.
    pub bytes: u64,
    /// Those that the kernel refused for good.
    pub not_sent: u64,
}

/// From the receiver.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The run may begin.
    Welcome(Welcome),
    /// It may not. Every version of this program understands this one.
    Refused {
        /// A sentence.
        reason: String,
    },
    /// Still there.
    Alive,
    /// An interval is over.
    Interval(Interval),
    /// A part of a histogram's counts: values in ns and how many.
    Counts {
        /// Whether of latency from the intended send.
        intended: bool,
        /// Each value with its count.
        counts: Vec<(u64, u64)>,
    },
    /// Rows a packet: sequence, sent, received, in ns of the receiver's clock.
    Rows {
        /// Of which stream.
        stream: usize,
        /// In the order of arrival.
        rows: Vec<(u64, u64, u64)>,
    },
    /// One stream's figures.
    Stream(StreamReceived),
    /// All has been said.
    Done(Box<Done>),
}

/// How to reach the receivers, and what they have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// The run's name in every datagram.
    pub token: u64,
    /// A UDP port a stream.
    pub ports: Vec<u16>,
    /// `SO_RCVBUF` as read back, in bytes.
    pub receive_buffer: usize,
    /// Whether receives are coalesced.
    pub gro: bool,
    /// Why not, when `auto` would have.
    pub gro_note: Option<String>,
    /// Datagrams granted ahead at first, a stream; `None` unless lossless.
    pub window: Option<u64>,
    /// Where the receiver threads are pinned.
    pub cpus: Option<Vec<usize>>,
    /// Whether the sender shares the receiver's clock.
    pub same_clock: bool,
    /// The sender's address as the receiver sees it.
    pub client_ip: String,
}

/// What a stream's receiver counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StreamReceived {
    /// Which stream.
    pub stream: usize,
    /// First arrivals.
    pub unique: u64,
    /// Message bytes in them.
    pub bytes: u64,
    /// Further arrivals.
    pub duplicates: u64,
    /// First arrivals after a higher number.
    pub reordered: u64,
    /// Arrivals after their number was given up.
    pub late: u64,
    /// Foreign: another token.
    pub foreign_token: u64,
    /// Foreign: too short.
    pub foreign_short: u64,
    /// Foreign: not well-formed.
    pub foreign_malformed: u64,
    /// One above the highest number seen.
    pub next: u64,
    /// RFC 3550, in ns.
    pub jitter_ns: Option<f64>,
    /// The earliest send stamp seen, in ns of the receiver's clock.
    pub first_sent: Option<u64>,
    /// When the last first arrival came, likewise.
    pub last_received: Option<u64>,
    /// Drops at the socket as the kernel counts them.
    pub drops: u64,
    /// Datagrams granted ahead, at the end.
    pub window: u64,
}

/// The receiver's side of the run as a whole.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Done {
    /// Why the receiver ended it; `None` when the sender did.
    pub reason: Option<String>,
    /// CPU seconds in user mode, all streams.
    pub user_s: f64,
    /// CPU seconds in the kernel.
    pub system_s: f64,
    /// What the I/O cost.
    pub stats: ReceiveStats,
    /// The receiver's wall time at its stamp of the last datagram, ns since the epoch.
    pub last_received_wall: Option<u64>,
    /// How far `UdpRcvbufErrors` of the receiver's host rose meanwhile.
    pub host_receive_buffer_errors: Option<u64>,
    /// Exact sums of the latencies in ns, actual and intended, as decimal text, since JSON numbers lose digits.
    pub sums_ns: [String; 2],
    /// Latencies that no histogram holds, actual and intended.
    pub out_of_range: [OutOfRange; 2],
    /// Rows a packet that there was no room for.
    pub rows_omitted: u64,
}
