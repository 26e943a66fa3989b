//! The messages of the control connection: JSON, framed by [`super::framing`].
//!
//! ```text
//!   client                                  server
//!   [greet: version, nonce  ------------->           only with a key
//!                           <-------------  challenge: nonce
//!    proof                  ------------->
//!                           <-------------  proven]
//!   hello: version, plan    ------------->
//!                           <-------------  welcome: session, one token per stream   (or refused: reason)
//!           opening probes, answers and clock exchanges over UDP
//!   begin                   ------------->           the server's senders start
//!   finish: counts sent     <------------>  finish, by the side that sent
//!                           <-------------  results, done
//! ```
//!
//! All messages from `begin` and the first result on are *numbered*: each side counts the numbered messages that it receives,
//! reports the count in [`Alive`], and keeps the messages that the peer has not reported. When the connection is lost, the client
//! opens a new one with [`Resume`], and both sides retransmit the messages that the peer has not counted
//! ([`crate::udp::control::retransmission`]). A long result is split into messages of at most
//! [`super::framing::MAX_MESSAGE`] bytes.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::explain::{ExplainRequest, HostReport};
use super::fleet::{FleetReply, FleetRequest};
use super::plan::Plan;
use super::results::{Done, Histogram, Interval, SenderResult, StreamReceived, StreamSent};
use super::stages::StampedEnd;
use super::text;

/// Interval between two [`Alive`] messages of each side.
pub const ALIVE: Duration = Duration::from_secs(1);

/// A connection without a message for this long is replaced: TCP's retransmission timeout may be longer than an outage.
pub const RECONNECT: Duration = Duration::from_secs(3);

/// Default time after which a peer that is silent over TCP and UDP counts as lost.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most counts or packet rows in one message, at most 66 bytes each.
pub const MAX_ROWS: usize = 900;

/// Most packet rows with their lateness in one message, at most 87 bytes each.
pub const MAX_LATE_ROWS: usize = 680;

/// A message of the control connection.
pub trait Message: Serialize + DeserializeOwned {
    /// Whether the message is counted, and retransmitted over a new connection.
    fn is_numbered(&self) -> bool;

    /// How many numbered messages the peer received, if this message reports the count.
    fn acknowledges(&self) -> Option<u64>;
}

/// The field that the first message of every protocol version has.
#[derive(Debug, Serialize, Deserialize)]
pub struct Preface {
    /// The client's [`VERSION`](super::VERSION).
    pub version: u32,
}

/// A message of the client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Requests a challenge. The first message of a client that has a key.
    Greet {
        /// [`VERSION`](super::VERSION).
        version: u32,
        /// [`Nonce`](crate::udp::control::key::Nonce) in hexadecimal.
        nonce: String,
    },
    /// Responds to a challenge.
    Proof {
        /// The authentication code in hexadecimal.
        mac: String,
    },
    /// Opens a session.
    Hello(Hello),
    /// Resumes a session over a new connection.
    Resume(Resume),
    /// Keeps the session alive.
    Alive(Alive),
    /// All streams are open: the server's senders start.
    Begin {
        /// Settings of the client's receivers; `None` unless the server sends.
        receiver: Option<ReceiverEffective>,
    },
    /// The client's senders are done.
    Finish(Finish),
    /// Stops the server's senders.
    Stop,
    /// A message of a rank to its fleet, on a connection without a session. A server that does not know the variant refuses the
    /// connection, which the client explains.
    Fleet(FleetRequest),
}

/// Opens a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`](super::VERSION).
    pub version: u32,
    /// The run that the client asks for.
    pub plan: Plan,
    /// [`crate::sys::clock::identity`] of the client; `None` forces clock exchanges.
    pub clock: Option<String>,
    /// The CPUs that the client's threads are pinned to, one per stream. Of use only on one host.
    pub cpus: Option<Vec<usize>>,
    /// Requests that the server explains losses. Absent unless requested; a server that does not know the field explains none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<ExplainRequest>,
}

/// Resumes a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resume {
    /// [`VERSION`](super::VERSION).
    pub version: u32,
    /// [`Welcome::session`].
    pub session: u64,
    /// Numbered messages that the client received.
    pub received: u64,
}

/// Keeps a session alive and acknowledges messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Numbered messages received.
    pub received: u64,
    /// Datagrams of the session received.
    pub datagrams: u64,
}

/// The last message about sending: no datagram follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// The counts of each stream's sender.
    pub streams: Vec<StreamSent>,
    /// How long the receiver waits for stragglers after the last arrival, in ns.
    pub quiet_ns: u64,
}

/// A message of the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The client must prove that it has the key.
    Challenge {
        /// [`Nonce`](crate::udp::control::key::Nonce) in hexadecimal.
        nonce: String,
    },
    /// The client's proof is valid; this is the server's proof.
    Proven {
        /// The authentication code in hexadecimal.
        mac: String,
    },
    /// The session is open.
    Welcome(Welcome),
    /// The session is refused. All versions of this program understand this message.
    Refused {
        /// A sentence.
        #[serde(deserialize_with = "text::plain")]
        reason: String,
    },
    /// The session continues over this connection.
    Resumed {
        /// Numbered messages that the server received.
        received: u64,
    },
    /// Keeps the session alive.
    Alive(Alive),
    /// A part of a latency histogram of the next [`Self::Interval`], if the plan requests them.
    IntervalCounts {
        /// The histogram.
        of: Histogram,
        /// Pairs of a value in ns and its count.
        counts: Vec<(u64, u64)>,
    },
    /// An interval has ended.
    Interval(Interval),
    /// A part of a histogram's counts.
    Counts {
        /// The histogram.
        of: Histogram,
        /// Pairs of a value in ns and its count.
        counts: Vec<(u64, u64)>,
    },
    /// A part of the packet log.
    Rows {
        /// The stream.
        stream: usize,
        /// Sequence number, send stamp and receive stamp of each datagram, in order of arrival. Stamps are in ns of the
        /// server's clock.
        rows: Vec<(u64, u64, u64)>,
        /// How late each datagram was sent, in ns. Absent unless the run is paced.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lateness: Vec<u64>,
    },
    /// A part of the stamps of one side of a stream, if the client requests stages.
    Stamps {
        /// The stream.
        stream: usize,
        /// The side.
        of: StampedEnd,
        /// Sequence number and stamp of each datagram. Stamps are in ns of the server's clock.
        rows: Vec<(u64, u64)>,
    },
    /// The counts of one stream's receiver.
    Stream(StreamReceived),
    /// The drops on the server's host so far, if the client requests them. Precedes the last message of the receivers and that of the
    /// senders; the last one counts.
    Explained(Box<HostReport>),
    /// The receivers' last message.
    Done(Box<Done>),
    /// The server's senders are done.
    Finish(Finish),
    /// The result of one stream's sender.
    Sender(Box<SenderResult>),
    /// The senders' last message.
    SendersDone {
        /// Why the server stopped sending; `None` when all was sent.
        #[serde(default, deserialize_with = "text::plain_or_none")]
        reason: Option<String>,
    },
    /// A message to a rank of a fleet.
    Fleet(FleetReply),
}

/// The session's streams, and the settings of the server's side.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// Names the session in [`Resume`]. A secret of client and server.
    pub session: u64,
    /// The streams that the client sends.
    pub forward: Vec<StreamOffer>,
    /// The streams that the server sends.
    pub reverse: Vec<StreamOffer>,
    /// Where clock exchanges go.
    pub clock: StreamOffer,
    /// Settings of the server's receivers; `None` unless the client sends.
    pub receiver: Option<ReceiverEffective>,
    /// The CPUs that the server's senders are pinned to.
    pub sender_cpus: Option<Vec<usize>>,
    /// Whether client and server have the same clock identity.
    pub same_clock: bool,
    /// The server's clock when it replies, in ns. If both sides read one clock, this lies between request and reply at the client.
    pub clock_ns: u64,
    /// The client's address as the server sees it.
    pub client_ip: String,
    /// Whether the server knows the options of the plan's datagrams. Absent if the plan has none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub traffic: bool,
}

/// One UDP flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOffer {
    /// Identifies the flow in each of its datagrams. A secret of client and server.
    pub token: u64,
    /// The server's UDP port; `None` is the port to which the client opened the control connection.
    pub port: Option<u16>,
}

/// The settings in force at a side's receivers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverEffective {
    /// `SO_RCVBUF` as read back, in bytes.
    pub receive_buffer: usize,
    /// Whether receives are coalesced.
    pub gro: bool,
    /// Why GRO is off although `auto` would use it.
    pub gro_note: Option<String>,
    /// Credit window of a stream at the start, in datagrams; `None` unless lossless.
    pub window: Option<u64>,
    /// The CPUs that the receivers are pinned to.
    pub cpus: Option<Vec<usize>>,
    /// Whether the receivers share their threads with other streams.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shares_loops: bool,
    /// Whether receive stamps are those of the kernel, as the plan requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kernel_latency: bool,
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
                | Self::Fleet(_)
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
