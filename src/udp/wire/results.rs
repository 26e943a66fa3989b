//! The results of a run as they are sent: intervals, the counts of each stream, and the totals of each side.

use serde::{Deserialize, Serialize};

use super::stages::{ReceiverStages, SenderStages};
use super::stats::{OutOfRange, ReceiveStats, SendStats};
use super::text;

/// The counts of a stream's sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSent {
    /// Datagrams offered to the kernel.
    pub packets: u64,
    /// Message bytes in these datagrams.
    pub bytes: u64,
    /// Datagrams that the kernel refused for good.
    pub not_sent: u64,
}

/// A histogram of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Histogram {
    /// Latency from the actual send.
    Latency,
    /// Latency from the intended send.
    Intended,
    /// Lateness of each send.
    Lateness,
    /// Deviation of each gap between two sends from the scheduled gap.
    GapError,
    /// The sender's stage of the latency. Sent only if the client requests stages, as the next two.
    SenderStage,
    /// The qdisc's stage.
    QdiscStage,
    /// The receiver's stage.
    ReceiverStage,
}

/// The counts of the receivers of all streams in an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Start, in seconds from the start of the run.
    pub start_s: f64,
    /// Length in seconds.
    pub seconds: f64,
    /// Datagrams received, including duplicates.
    pub packets: u64,
    /// Message bytes of the unique datagrams.
    pub bytes: u64,
    /// Change of the number of missing datagrams.
    pub missing: i64,
    /// Duplicates.
    pub duplicates: u64,
    /// Reordered datagrams.
    pub reordered: u64,
    /// Median, 99th percentile and maximum of the latency, in ns.
    pub latency_ns: [Option<u64>; 3],
    /// Datagrams received with the mark CE. Absent unless the plan sets the DSCP or the ECN field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce: Option<u64>,
}

/// The latency of the datagrams of one size.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SizeLatency {
    /// Message bytes.
    pub chunk: usize,
    /// Datagrams.
    pub packets: u64,
    /// Mean in ns.
    pub mean_ns: Option<f64>,
    /// Minimum, median, 90th and 99th percentile and maximum, in ns.
    pub latency_ns: [Option<u64>; 5],
}

/// The counts of a stream's receiver.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StreamReceived {
    /// The stream, counted from 0.
    pub stream: usize,
    /// First arrivals.
    pub unique: u64,
    /// Message bytes of the first arrivals.
    pub bytes: u64,
    /// Further arrivals of a sequence number.
    pub duplicates: u64,
    /// First arrivals after a higher sequence number.
    pub reordered: u64,
    /// Arrivals below the sequence window, which count as lost.
    pub late: u64,
    /// Foreign datagrams with another token.
    pub foreign_token: u64,
    /// Foreign datagrams shorter than a header.
    pub foreign_short: u64,
    /// Foreign datagrams that are malformed.
    pub foreign_malformed: u64,
    /// One above the highest sequence number received.
    pub next: u64,
    /// RFC 3550 jitter in ns.
    pub jitter_ns: Option<f64>,
    /// The earliest send stamp received, in ns of the server's clock.
    pub first_sent: Option<u64>,
    /// Receive stamp of the first datagram, in ns of the server's clock.
    pub first_received: Option<u64>,
    /// Receive stamp of the last first arrival, in ns of the server's clock.
    pub last_received: Option<u64>,
    /// Datagrams dropped at the socket, as the kernel counts them.
    pub drops: u64,
    /// Credit window at the end, in datagrams.
    pub window: u64,
    /// TOS bytes of the datagrams received, and their numbers. Absent unless the plan sets the DSCP or the ECN field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<(u8, u64)>,
}

/// The totals of a side's receivers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Done {
    /// Why the receiver ended the run; `None` when the sender ended it.
    #[serde(default, deserialize_with = "text::plain_or_none")]
    pub reason: Option<String>,
    /// CPU seconds in user mode, all streams.
    pub user_s: f64,
    /// CPU seconds in the kernel.
    pub system_s: f64,
    /// Counters of the engines.
    pub stats: ReceiveStats,
    /// Wall time of the last receive stamp, in ns since the epoch.
    pub last_received_wall: Option<u64>,
    /// Increase of `UdpRcvbufErrors` on the receiver's host during the run.
    pub host_receive_buffer_errors: Option<u64>,
    /// Exact sums of the actual and the intended latencies in ns, as decimal text, since JSON numbers lose digits.
    pub sums_ns: [String; 2],
    /// Actual and intended latencies that the histograms cannot hold.
    pub out_of_range: [OutOfRange; 2],
    /// Rows that the packet log had no capacity for.
    pub rows_omitted: u64,
    /// The stamps of the receivers' kernel, if the client requests them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<ReceiverStages>,
    /// The latency of each size of a mix. Absent without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_size: Vec<SizeLatency>,
    /// Periods and ns in which the receiver's control group was throttled by its CPU quota. Absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<(u64, u64)>,
}

/// The result of a stream's sender at the server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SenderResult {
    /// The stream, counted from 0.
    pub stream: usize,
    /// Datagrams and bytes.
    pub sent: StreamSent,
    /// The first and the last send stamp, in ns of the server's clock.
    pub span: Option<(u64, u64)>,
    /// Wall time of the first send stamp, in ns since the epoch.
    pub first_sent_wall: Option<u64>,
    /// Requests for credit.
    pub probes: u64,
    /// CPU seconds in user mode and in the kernel.
    pub cpu_s: (f64, f64),
    /// Counters of the engine.
    pub stats: SendStats,
    /// Datagrams refused as too long for the path.
    pub too_long: u64,
    /// Datagrams that were due before the end of the run and were never offered to the kernel. Absent unless paced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsent: Option<u64>,
    /// Datagrams per kernel message at the end.
    pub segments: usize,
    /// Path MTU at the end, and bytes of the IP and UDP headers.
    pub path: Option<(Option<usize>, usize)>,
    /// Whether the sender spun until the end; `None` unless paced.
    pub spin: Option<bool>,
    /// Why the sender did not spin, or stopped spinning.
    pub why_no_spin: Option<NoSpin>,
    /// Times that the scheduler gave the sender's CPU to another thread.
    pub preemptions: u64,
    /// Periods and ns in which the sender's control group was throttled by its CPU quota.
    pub throttled: Option<(u64, u64)>,
    /// The settings in force.
    pub effective: SenderEffective,
    /// The stamps of the sender's kernel, if the client requests them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<SenderStages>,
    /// The figures of the sender's schedule that its histograms lack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleTotals>,
}

/// The totals of a sender's lateness and of the error of its gaps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ScheduleTotals {
    /// Exact sums in ns, as decimal text.
    pub sums_ns: [String; 2],
    /// Values that the histograms cannot hold.
    pub out_of_range: [OutOfRange; 2],
}

/// Why a paced sender does not spin under `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoSpin {
    /// Other threads of the program share its CPU.
    Shared,
    /// CPU quota of its control group, in CPUs.
    Quota(f64),
    /// Times that it was preempted while it spun.
    Preempted(u32),
}

/// The settings in force at a sender.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderEffective {
    /// Whether sends are segmented.
    pub gso: bool,
    /// Datagrams per kernel message.
    pub segments: usize,
    /// Datagrams per submit.
    pub batch: usize,
    /// `SO_SNDBUF` as read back, in bytes.
    pub send_buffer: usize,
    /// Why GSO is off although `auto` would use it.
    pub gso_note: Option<String>,
    /// The outcome of the path probe, where full-size datagrams do not simply arrive.
    pub path_note: Option<String>,
    /// Whether the sender may spin before a deadline.
    pub spin: bool,
    /// Whether the senders share their threads with other streams.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shares_loops: bool,
    /// Why the kernel stamps no datagrams although the client requests it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp_note: Option<String>,
}
