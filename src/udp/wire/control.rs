//! The messages of the control connection, as JSON in frames ([`crate::udp::wire::framing`]).
//!
//! ```text
//!   client                                  server
//!   [greet: version, nonce  ------------->           only with a key
//!                           <-------------  challenge: nonce
//!    proof                  ------------->
//!                           <-------------  proven]
//!   hello: version, plan    ------------->
//!                           <-------------  welcome: session, a token a stream   (or refused: why)
//!           knocks, answers and clock exchanges over UDP
//!   begin                   ------------->           the server's senders start
//!   finish: what was sent   <------------>  finish, by the side that sent
//!                           <-------------  results, done
//! ```
//!
//! Every message from `begin` and the first result on is *numbered*: each side counts those that it received, reports the
//! count in [`Alive`], and keeps what is not reported yet. When the connection is lost, the client opens another one
//! with [`Resume`], and both sides send again what the other has not counted ([`crate::udp::control::retransmission`]). A long answer is
//! split into messages of at most [`crate::udp::wire::framing::MOST_MESSAGE`] bytes.
//!
//! Every type here is the wire's own: a field added to a record does not change it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stats::latency::OutOfRange;
use crate::udp::control::retransmission::Message;
use crate::udp::engine::stats::{ReceiveStats, SendStats};
use crate::udp::plan::Plan;
use crate::udp::send::spin::WhyNot;

/// The version of these messages and of the datagram header. Both sides must have the same.
pub const VERSION: u32 = 3;

/// How often each side sends [`Alive`].
pub const ALIVE: Duration = Duration::from_secs(1);

/// A connection without a message for this long is replaced: the wait of TCP between two tries may be longer than an outage.
pub const RECONNECT: Duration = Duration::from_secs(3);

/// How long a peer may be silent, over TCP and UDP, before it is given up, where nothing else is asked for.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// Counts or rows in one message: at most 66 bytes each.
pub const MOST_ROWS: usize = 900;

/// What the first message of every version has.
#[derive(Debug, Serialize, Deserialize)]
pub struct Preface {
    /// The client's [`VERSION`].
    pub version: u32,
}

/// From the client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Asks for a challenge. The first message of a client that has a key.
    Greet {
        /// [`VERSION`].
        version: u32,
        /// [`crate::udp::control::key::Nonce`] as hexadecimal digits.
        nonce: String,
    },
    /// Answers a challenge.
    Proof {
        /// The authentication code as hexadecimal digits.
        mac: String,
    },
    /// Sets a session up.
    Hello(Hello),
    /// Takes a session up again over a new connection.
    Resume(Resume),
    /// Keeps the session alive.
    Alive(Alive),
    /// Every stream is open: the server's senders start.
    Begin {
        /// The client's receivers; `None` unless the server sends.
        receiver: Option<ReceiverFacts>,
    },
    /// The client's senders have sent everything.
    Finish(Finish),
    /// The server's senders are to stop.
    Stop,
}

/// Sets a session up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// What is to be done.
    pub plan: Plan,
    /// [`crate::sys::clock::identity`] of the client; `None` asks for clock exchanges in any case.
    pub clock: Option<String>,
    /// The CPUs that the client's threads are kept on, one a stream. Useful only on the same host.
    pub cpus: Option<Vec<usize>>,
}

/// Takes a session up again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resume {
    /// [`VERSION`].
    pub version: u32,
    /// The session, as [`Welcome`] names it.
    pub session: u64,
    /// How many numbered messages were received.
    pub received: u64,
}

/// Keeps a session alive and acknowledges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// How many numbered messages were received.
    pub received: u64,
    /// How many datagrams of the session were received.
    pub datagrams: u64,
}

/// The last message about sending: no datagram follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// What each stream has sent.
    pub streams: Vec<StreamSent>,
    /// How long the receiver waits for stragglers once nothing arrives, in ns.
    pub quiet_ns: u64,
}

/// What a stream's sender counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSent {
    /// Datagrams offered to the kernel.
    pub packets: u64,
    /// Message bytes in them.
    pub bytes: u64,
    /// Those that the kernel refused for good.
    pub not_sent: u64,
}

/// From the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The client must prove that it has the key.
    Challenge {
        /// [`crate::udp::control::key::Nonce`] as hexadecimal digits.
        nonce: String,
    },
    /// The client's proof holds, and this is the server's.
    Proven {
        /// The authentication code as hexadecimal digits.
        mac: String,
    },
    /// The session is set up.
    Welcome(Welcome),
    /// It is not. Every version of this program understands this one.
    Refused {
        /// A sentence.
        reason: String,
    },
    /// The session goes on over this connection.
    Resumed {
        /// How many numbered messages the server received.
        received: u64,
    },
    /// Keeps the session alive.
    Alive(Alive),
    /// An interval is over.
    Interval(Row),
    /// A part of a histogram's counts: values in ns and how many.
    Counts {
        /// Which histogram.
        of: Histogram,
        /// Each value with its count.
        counts: Vec<(u64, u64)>,
    },
    /// Rows a packet: sequence, sent, received, in ns of the server's clock.
    Rows {
        /// Of which stream.
        stream: usize,
        /// In the order of arrival.
        rows: Vec<(u64, u64, u64)>,
    },
    /// One stream's receiver.
    Stream(StreamReceived),
    /// The receivers' last message.
    Done(Box<Done>),
    /// The server's senders have sent everything.
    Finish(Finish),
    /// One stream's sender.
    Sender(Box<SenderFacts>),
    /// The senders' last message.
    SendersDone {
        /// Why the server ended it; `None` when all was sent.
        reason: Option<String>,
    },
}

/// Which of a session's histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Histogram {
    /// Latency from the actual send.
    Latency,
    /// Latency from the intended send.
    Intended,
    /// How late each datagram was sent.
    Lateness,
    /// How far each gap was from the scheduled one.
    GapError,
}

/// How to reach the streams, and what the server's ends have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// Names the session in [`Resume`]. A secret between the two.
    pub session: u64,
    /// The streams that the client sends.
    pub forward: Vec<StreamOffer>,
    /// The streams that the server sends.
    pub reverse: Vec<StreamOffer>,
    /// Where clock exchanges go.
    pub clock: StreamOffer,
    /// The server's receivers; `None` unless the client sends.
    pub receiver: Option<ReceiverFacts>,
    /// The CPUs that the server's senders are kept on.
    pub sender_cpus: Option<Vec<usize>>,
    /// Whether the client's clock has the name of the server's.
    pub same_clock: bool,
    /// The server's clock as it answers, in ns: with one clock, it is between the question and the answer at the client.
    pub clock_ns: u64,
    /// The client's address as the server sees it.
    pub client_ip: String,
}

/// One UDP flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOffer {
    /// Names the flow in each of its datagrams. A secret between the two.
    pub token: u64,
    /// The server's UDP port; `None` is the port of the control connection, whatever the client knows it as.
    pub port: Option<u16>,
}

/// What a side's receivers have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverFacts {
    /// `SO_RCVBUF` as read back, in bytes.
    pub receive_buffer: usize,
    /// Whether receives are coalesced.
    pub gro: bool,
    /// Why not, when `auto` would have.
    pub gro_note: Option<String>,
    /// Datagrams granted ahead at first, a stream; `None` unless lossless.
    pub window: Option<u64>,
    /// The CPUs that the receivers are kept on.
    pub cpus: Option<Vec<usize>>,
}

/// What the receivers of all streams saw in an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Seconds from the start of the run to the start of the interval.
    pub start_s: f64,
    /// Its length in seconds.
    pub seconds: f64,
    /// Datagrams, duplicates among them.
    pub packets: u64,
    /// Message bytes of the unique ones.
    pub bytes: u64,
    /// Change in the number of missing datagrams.
    pub missing: i64,
    /// Duplicates in it.
    pub duplicates: u64,
    /// Reordered in it.
    pub reordered: u64,
    /// Latency in ns: median, 99 % and largest.
    pub latency_ns: [Option<u64>; 3],
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
    /// The earliest send stamp seen, in ns of the server's clock.
    pub first_sent: Option<u64>,
    /// When the first datagram came, likewise.
    pub first_received: Option<u64>,
    /// When the last first arrival came, likewise.
    pub last_received: Option<u64>,
    /// Drops at the socket as the kernel counts them.
    pub drops: u64,
    /// Datagrams granted ahead, at the end.
    pub window: u64,
}

/// A side's receivers as a whole.
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

/// One stream's sender at the server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SenderFacts {
    /// Which stream.
    pub stream: usize,
    /// Datagrams and bytes.
    pub sent: StreamSent,
    /// The first and the last send stamp, in ns of the server's clock.
    pub span: Option<(u64, u64)>,
    /// Wall time of the first, ns since the epoch.
    pub first_sent_wall: Option<u64>,
    /// Times it asked for credit.
    pub probes: u64,
    /// CPU seconds in user mode and in the kernel.
    pub cpu_s: (f64, f64),
    /// What the I/O cost.
    pub stats: SendStats,
    /// Datagrams refused as too long for the path.
    pub too_long: u64,
    /// Datagrams a message at the end.
    pub segments: usize,
    /// Path MTU at the end and bytes of the IP and UDP headers.
    pub path: Option<(Option<usize>, usize)>,
    /// Whether it spun to the end; `None` unless paced.
    pub spin: Option<bool>,
    /// Why it did not although it might.
    pub why_no_spin: Option<WhyNot>,
    /// Times that the scheduler gave its CPU to another thread.
    pub preemptions: u64,
    /// Periods and ns in which its control group was stopped for lack of quota.
    pub throttled: Option<(u64, u64)>,
    /// What was in force.
    pub effective: SenderEffective,
}

/// What a sender's socket and loop had in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderEffective {
    /// Whether sends are segmented.
    pub gso: bool,
    /// Datagrams a message.
    pub segments: usize,
    /// Datagrams a submit.
    pub batch: usize,
    /// `SO_SNDBUF` as read back, in bytes.
    pub send_buffer: usize,
    /// Why GSO is off, when `auto` would have had it.
    pub gso_note: Option<String>,
    /// What the opening found out about the path.
    pub path_note: Option<String>,
    /// Whether it may spin before a deadline.
    pub spin: bool,
}

impl Message for Request {
    fn is_numbered(&self) -> bool {
        matches!(self, Self::Begin { .. } | Self::Finish(_) | Self::Stop)
    }

    fn acknowledges(&self) -> Option<u64> {
        match self {
            Self::Alive(alive) => Some(alive.received),
            _ => None,
        }
    }
}

impl Message for Reply {
    fn is_numbered(&self) -> bool {
        !matches!(
            self,
            Self::Challenge { .. }
                | Self::Proven { .. }
                | Self::Welcome(_)
                | Self::Refused { .. }
                | Self::Resumed { .. }
                | Self::Alive(_)
        )
    }

    fn acknowledges(&self) -> Option<u64> {
        match self {
            Self::Alive(alive) => Some(alive.received),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
