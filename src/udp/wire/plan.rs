//! The plan of a run as it is sent. [`crate::udp::plan`] has the meaning of each field and the conversions.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How much is sent.
    pub amount: Amount,
    /// How fast.
    pub mode: Mode,
    /// Who sends.
    pub direction: Direction,
    /// Message bytes per datagram.
    pub chunk: usize,
    /// The I/O engine.
    pub engine: Engine,
    /// Streams.
    pub streams: usize,
    /// Datagrams per system call.
    pub batch: Option<usize>,
    /// GSO at the sender, GRO at the receiver.
    pub offload: Toggle,
    /// Whether fragmentation is forbidden.
    #[serde(default)]
    pub df: Toggle,
    /// Whether a paced sender spins.
    #[serde(default)]
    pub spin: Toggle,
    /// `SO_RCVBUF` in bytes.
    pub receive_buffer: Option<usize>,
    /// `SO_SNDBUF` in bytes.
    pub send_buffer: Option<usize>,
    /// Length of an interval.
    pub interval: Duration,
    /// Whether the receiver keeps a packet log.
    pub packet_rows: bool,
    /// Whether the receiver sends the latency histograms of each interval. Absent unless requested; a server that does not know the
    /// field sends none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interval_histograms: bool,
    /// Options of the datagrams. Absent unless one is set; a server that knows them confirms it in
    /// [`Welcome::traffic`](super::control::Welcome::traffic).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// Whether the receive stamp of a datagram is that of the kernel. Absent unless requested; a receiver that supports it confirms it
    /// in its settings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kernel_latency: bool,
    /// Whether the kernel's stamps divide the latency into stages. Absent unless requested; a server that does not know the field
    /// sends no stages.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stages: bool,
}

/// Options of the datagrams. A server refuses a plan with an option that it does not know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Differentiated services code point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
    /// Explicit congestion notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecn: Option<Ecn>,
    /// TTL or hop limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// Datagrams of a burst.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Seed of exponential gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poisson: Option<u32>,
    /// Message bytes of datagrams that differ in size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Sizes>,
    /// Multicast group of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<IpAddr>,
}

/// Sizes of datagrams. [`SizePattern`](crate::udp::plan::sizes::SizePattern) has their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sizes {
    /// Sizes and weights.
    Mix(Vec<(usize, u32)>),
    /// First and last size.
    Range(usize, usize),
}

/// The ECN field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ecn {
    /// Not-ECT.
    NotEct,
    /// ECT(0).
    Ect0,
    /// ECT(1).
    Ect1,
    /// CE.
    Ce,
}

/// How much is sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Message bytes.
    Bytes(u64),
    /// Datagrams.
    Packets(u64),
    /// Sending time.
    Time(Duration),
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Limited by the receiver's credit.
    Lossless,
    /// Datagrams per second.
    Paced(f64),
    /// Unlimited.
    Blast,
    /// Requests that the server sends back: as many a second, or one after the other. A server that does not know the variant refuses
    /// the session as an invalid message, which the client explains.
    RoundTrip(Option<f64>),
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The client.
    Forward,
    /// The server.
    Reverse,
    /// Both.
    Both,
}

/// A setting that may be left to the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Toggle {
    /// Required.
    On,
    /// Forbidden.
    Off,
    /// Left to the program.
    #[default]
    Auto,
}

/// The I/O engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// Which engine.
    pub kind: EngineKind,
    /// How a sender avoids the copy into the kernel.
    pub zerocopy: ZeroCopy,
    /// Settings of the io_uring engine.
    pub uring: Uring,
}

/// An I/O engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// epoll.
    Mio,
    /// io_uring.
    Uring,
}

/// How a sender avoids the copy into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroCopy {
    /// It does not.
    Off,
    /// splice(2).
    Splice,
    /// `MSG_ZEROCOPY`.
    Msg,
}

/// Settings of the io_uring engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uring {
    /// Whether a kernel thread takes submissions.
    pub sqpoll: bool,
    /// Entries of the submission ring.
    pub ring_size: Option<u32>,
    /// How datagrams are received.
    pub receive: UringReceive,
}

/// How the io_uring engine receives datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UringReceive {
    /// Multishot receives.
    Multishot,
    /// One request per message.
    Single,
}
