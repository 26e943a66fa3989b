//! A measured run: the types behind an entry of `runs` in `run.json`.
//!
//! Other programs rely on the keys: add, never rename. Byte counts, packet counts and ns are integers; a missing value is null, never 0.

use serde::{Deserialize, Serialize};

use super::counts;
use crate::stats::latency::{Latency, Summary};
use crate::udp::engine::stats::{IcmpStats, RingStats, ZeroCopyStats};

/// One run of `bench udp`, or as much of it as was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    /// `mio` or `uring`.
    pub engine: String,
    /// `lossless`, `paced` or `blast`.
    pub mode: String,
    /// Who sent: `forward` is the client, `reverse` the server.
    #[serde(default = "forward")]
    pub direction: String,
    /// Whether the run reached its end and both sides' figures are here.
    pub complete: bool,
    /// How it ended: `complete`, `interrupted`, `peer_lost`, `limit` or `failed`.
    pub ended: String,
    /// A sentence on why, when it is not `complete`.
    pub reason: Option<String>,
    /// What was asked for, as given; null where nothing was.
    pub requested: Requested,
    /// What was in force.
    pub effective: Effective,
    /// The sender's wall clock at its stamp of the first datagram, RFC 3339.
    pub first_sent_at: Option<String>,
    /// The receiver's wall clock at its stamp of the last datagram, RFC 3339.
    pub last_received_at: Option<String>,
    /// The sender's address, as the receiver sees it.
    pub client_ip: Option<String>,
    /// What was offered to the kernel, once each, `lost.not_sent` among it.
    pub sent: Traffic,
    /// What arrived.
    pub received: Received,
    /// What did not: `sent.packets - received.unique`, split by where it went.
    pub lost: Lost,
    /// From the sender's stamp of the first datagram to the receiver's stamp of the last.
    pub seconds: Option<f64>,
    /// Half-width of the error bar of `seconds`, which is that of the clocks' offset; null where one clock has both stamps.
    #[serde(default)]
    pub seconds_error: Option<f64>,
    /// Unique message bytes / 1000 / seconds.
    pub kb_per_s: Option<f64>,
    /// Half-width of the error bar of `kb_per_s`, to the side on which it is longer; null as `seconds_error`, and where
    /// that is not below `seconds`.
    #[serde(default)]
    pub kb_per_s_error: Option<f64>,
    /// Unique message bytes / 1024 / seconds.
    pub kib_per_s: Option<f64>,
    /// Unique message bits / 10^9 / seconds.
    pub gbit_per_s: Option<f64>,
    /// Unique datagrams / seconds.
    pub packets_per_s: Option<f64>,
    /// Message bytes / 1000 / the sum of all transit times in seconds.
    pub transit_kb_per_s: Option<f64>,
    /// One-way latency from the actual send; null when nothing was received.
    pub latency_ns: Option<Summary>,
    /// One-way latency from the intended send; null unless paced.
    pub latency_from_intended_ns: Option<Summary>,
    /// RFC 3550; of several streams the largest.
    pub jitter_ns: Option<f64>,
    /// How well the schedule was held; null unless paced.
    pub pacing: Option<Pacing>,
    /// CPU time of the threads that send and receive.
    pub cpu: Cpu,
    /// What the I/O cost, and what went wrong in it.
    pub engine_stats: EngineStats,
    /// One entry a stream.
    pub streams: Vec<Stream>,
    /// Rows of `intervals.csv`; of a very long run only the first [`MOST_INTERVALS`].
    pub intervals: Vec<Interval>,
    /// How many rows `intervals.csv` has beyond those.
    pub intervals_omitted: u64,
    /// Datagrams that `packets.csv` has no row of, since the receiver had no room to keep it.
    pub packet_rows_omitted: u64,
    /// Which of the settings compared it belongs to; null when there is only one. The n-th run of each
    /// belongs to round n.
    #[serde(default)]
    pub setting: Option<String>,
    /// What the measuring program or its host may have added to these figures, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The direction of runs that were saved before there was another one.
fn forward() -> String {
    "forward".to_owned()
}

/// How many interval rows `run.json` keeps, so that it stays readable and memory flat.
pub const MOST_INTERVALS: usize = 4_096;

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Requested {
    /// Message bytes in all.
    pub bytes: Option<u64>,
    /// Datagrams in all.
    pub packets: Option<u64>,
    /// Seconds of sending.
    pub duration_s: Option<f64>,
    /// Message bytes a datagram.
    pub chunk: usize,
    /// Message bits a second.
    pub rate_bits_per_s: Option<f64>,
    /// Datagrams a second.
    pub pps: Option<f64>,
    /// Datagrams a send call.
    pub batch: Option<usize>,
    /// `on`, `off` or `auto`.
    pub gso: String,
    /// `on`, `off` or `auto`.
    #[serde(default)]
    pub df: String,
    /// `on`, `off` or `auto`.
    #[serde(default)]
    pub spin: String,
    /// `off`, `splice` or `msg`.
    #[serde(default)]
    pub zerocopy: String,
    /// What was asked of io_uring; null with other engines.
    #[serde(default)]
    pub uring: Option<UringRequested>,
    /// Socket pairs.
    pub streams: usize,
    /// As given.
    pub cpus: Option<String>,
    /// Bytes.
    pub sndbuf: Option<usize>,
    /// Bytes.
    pub rcvbuf: Option<usize>,
    /// The server, when it is another process.
    pub to: Option<String>,
    /// Who was to send: `forward`, `reverse` or `both`.
    #[serde(default = "forward")]
    pub direction: String,
}

/// What was asked of io_uring.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UringRequested {
    /// Whether a kernel thread takes submissions.
    pub sqpoll: bool,
    /// Entries of the submission ring.
    pub ring_size: Option<u32>,
    /// `multishot` or `single`.
    pub receive: String,
}

/// What was in force.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Effective {
    /// Message bytes a datagram.
    pub chunk: usize,
    /// Header bytes a datagram.
    pub header: usize,
    /// Both together: the UDP payload.
    pub datagram: usize,
    /// Most datagrams a send call.
    #[serde(default, with = "counts::positive")]
    pub batch: usize,
    /// Datagrams a message with GSO; 1 without.
    #[serde(default, with = "counts::positive")]
    pub segments: usize,
    /// Whether sends are segmented by the kernel, at the end of the run.
    pub gso: bool,
    /// Whether receives are coalesced by the kernel.
    pub gro: bool,
    /// Why GSO or GRO is off although `auto` would have taken it.
    pub offload_note: Option<String>,
    /// What was found out about the path before the run, where full-size datagrams do not simply arrive.
    #[serde(default)]
    pub path_note: Option<String>,
    /// Whether datagrams might be fragmented: `on`, `off` or `auto`.
    #[serde(default)]
    pub df: String,
    /// Path MTU in bytes of IP packet, as the sender's kernel knew it at the end of the run; of several streams the
    /// smallest.
    #[serde(default)]
    pub path_mtu: Option<u64>,
    /// `off`, `splice` or `msg`.
    #[serde(default)]
    pub zerocopy: String,
    /// `SO_SNDBUF` as read back, in bytes.
    #[serde(default, with = "counts::positive")]
    pub sndbuf: usize,
    /// `SO_RCVBUF` as read back, in bytes.
    #[serde(default, with = "counts::positive")]
    pub rcvbuf: usize,
    /// Socket pairs.
    pub streams: usize,
    /// The sender threads' CPUs; null where the kernel chooses.
    pub sender_cpus: Option<Vec<usize>>,
    /// The receiver threads' CPUs; null where the kernel chooses.
    pub receiver_cpus: Option<Vec<usize>>,
    /// Datagrams the receiver grants ahead, a stream; null unless lossless.
    pub window: Option<u64>,
    /// Whether a paced sender spins for the last stretch before a deadline, at the end of the run.
    pub spin: bool,
    /// Why `auto` did not spin, or stopped to.
    #[serde(default)]
    pub spin_note: Option<String>,
    /// How the two clocks were related.
    pub clock: Clock,
}

/// How the sender's clock was related to the receiver's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Clock {
    /// `same` (one kernel's monotonic clock), `estimated`, or `none` (the offset is not known).
    pub source: String,
    /// The receiver's clock minus the sender's, in ns; null where it is not known.
    #[serde(default)]
    pub offset_ns: Option<i64>,
    /// Half-width of the offset's error bar, in ns: half the best round trip, and the drift; null where it is not known.
    #[serde(default)]
    pub error_ns: Option<u64>,
    /// How far the estimate moved during the run, in ns.
    #[serde(default)]
    pub drift_ns: Option<i64>,
    /// How much faster the receiver's clock ran than the sender's, in parts per million; null where it was not estimated.
    #[serde(default)]
    pub drift_ppm: Option<f64>,
    /// A sentence on why the offset is not known, or less well than usual; null where there is nothing to say.
    #[serde(default)]
    pub note: Option<String>,
}

/// Packets and message bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of message in them, headers not counted.
    pub bytes: u64,
}

/// What arrived at the receiver's sockets.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(from = "counts::Received", into = "counts::Received")]
pub struct Received {
    /// The receiver was lost before it reported anything: all counts are null in the file.
    pub is_unknown: bool,
    /// `unique + duplicates`.
    pub packets: u64,
    /// Message bytes of the unique ones.
    pub bytes: u64,
    /// First arrivals.
    pub unique: u64,
    /// Further arrivals of the same sequence number.
    pub duplicates: u64,
    /// First arrivals with a lower sequence number than one seen before (RFC 4737).
    pub reordered: u64,
    /// Arrivals so late that their place in the window was given up: lost (RFC 7680, 3.8.4), counted nowhere else.
    pub late: u64,
    /// Datagrams of no stream of this run: the sum of the three kinds below.
    pub foreign: u64,
    /// Foreign: the token is another.
    pub foreign_token: u64,
    /// Foreign: shorter than a header.
    pub foreign_short: u64,
    /// Foreign: no header of ours, or one that contradicts the datagram.
    pub foreign_malformed: u64,
}

/// What did not arrive, by where it went as far as the kernel says.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(from = "counts::Lost", into = "counts::Lost")]
pub struct Lost {
    /// The receiver was lost before the end: what it received of the rest is not known, and all counts are null in the file.
    pub is_unknown: bool,
    /// `sent.packets - received.unique`: the sum of the three below.
    pub packets: u64,
    /// The sender's kernel refused it for good.
    pub not_sent: u64,
    /// Dropped at the receiver's socket, its buffer full.
    pub receiver_socket: u64,
    /// Anywhere else.
    pub elsewhere: u64,
}

/// How well a paced sender held its schedule.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pacing {
    /// Datagrams a second asked for.
    pub target_pps: f64,
    /// Datagrams a second offered, from the first stamp to the last.
    pub achieved_pps: Option<f64>,
    /// How long after its intended time each datagram was stamped.
    pub lateness_ns: Summary,
    /// How far each gap between two datagrams was from the intended one.
    pub gap_error_ns: Summary,
}

/// CPU seconds of the sending and the receiving threads.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// Sender, user mode; null in a server's own record, which only the client could complete.
    #[serde(default)]
    pub sender_user_s: Option<f64>,
    /// Sender, kernel.
    #[serde(default)]
    pub sender_system_s: Option<f64>,
    /// Receiver, user mode; null when the receiver could not tell any more.
    pub receiver_user_s: Option<f64>,
    /// Receiver, kernel.
    pub receiver_system_s: Option<f64>,
    /// Sender, both, per million datagrams sent.
    pub sender_s_per_million: Option<f64>,
    /// Receiver, both, per million datagrams received.
    pub receiver_s_per_million: Option<f64>,
    /// Times that the scheduler gave a sender thread's CPU to another thread.
    #[serde(default)]
    pub sender_preemptions: Option<u64>,
    /// Periods in which the sender's control group used up its CPU quota; null without a quota.
    #[serde(default)]
    pub sender_throttled_periods: Option<u64>,
    /// How long threads of that group were stopped for it, in seconds, added up over CPUs.
    #[serde(default)]
    pub sender_throttled_s: Option<f64>,
}

/// What the I/O cost and what went wrong in it, over all streams.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct EngineStats {
    /// Calls that send, those that failed among them.
    pub send_syscalls: u64,
    /// Messages taken by the kernel (with GSO each holds several datagrams).
    pub send_messages: u64,
    /// Send calls that took only some of the messages.
    pub send_partial: u64,
    /// Send calls that found the send buffer full.
    pub send_eagain: u64,
    /// Send calls that found the kernel out of memory or the device's queue full; tried again.
    pub send_enobufs: u64,
    /// Sends refused for good.
    pub send_errors: u64,
    /// The last such refusal.
    pub last_send_error: Option<i32>,
    /// Datagrams among `lost.not_sent` that were too long for the path (`EMSGSIZE`).
    #[serde(default)]
    pub send_too_long: u64,
    /// Times that segmented sends were refused, so that every datagram went as a message of its own from then on.
    #[serde(default)]
    pub gso_fallbacks: u64,
    /// ICMP errors that came back to the senders' sockets.
    #[serde(default)]
    pub icmp: IcmpStats,
    /// Times the sender slept.
    pub send_waits: u64,
    /// Times a lossless sender ran dry and asked for credit.
    pub credit_probes: u64,
    /// The senders' io_uring rings; null with other engines.
    #[serde(default)]
    pub send_ring: Option<RingStats>,
    /// What became of sends without a copy; null where none were asked for.
    #[serde(default)]
    pub zerocopy: Option<ZeroCopyStats>,
    /// Calls that receive.
    pub receive_syscalls: u64,
    /// Messages received (with GRO each may hold several datagrams).
    pub receive_messages: u64,
    /// Receive calls that found nothing.
    pub receive_eagain: u64,
    /// Messages longer than the buffer.
    pub receive_truncated: u64,
    /// Times the receiver slept.
    pub receive_waits: u64,
    /// ICMP errors that came back to the receivers' sockets, which send credits and clock answers.
    #[serde(default)]
    pub receive_icmp: IcmpStats,
    /// The receivers' io_uring rings; null with other engines.
    #[serde(default)]
    pub receive_ring: Option<RingStats>,
    /// Credits the receiver sent.
    pub credits: u64,
    /// Drops at the receiver's sockets as the kernel counts them (with GRO perhaps one for a whole run of datagrams).
    pub receiver_socket_drops: u64,
    /// How far `UdpRcvbufErrors` of the receiver's network namespace rose meanwhile, whoever's they were.
    pub host_receive_buffer_errors: Option<u64>,
}

/// One stream's share of the run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stream {
    /// Counted from 0.
    pub stream: usize,
    /// As [`Run::sent`].
    pub sent: Traffic,
    /// As [`Run::received`].
    pub received: Received,
    /// As [`Run::lost`].
    pub lost: Lost,
    /// As [`Run::jitter_ns`].
    pub jitter_ns: Option<f64>,
}

/// One row of `intervals.csv`: what the receiver saw in a stretch of time, all streams together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Seconds from the start of the run to the start of the interval.
    pub start_s: f64,
    /// Its length in seconds.
    pub seconds: f64,
    /// Datagrams that arrived, duplicates among them.
    pub packets: u64,
    /// Message bytes of the unique ones.
    pub bytes: u64,
    /// Those bytes / 1000 / seconds.
    pub kb_per_s: f64,
    /// Datagrams missing at the end of the interval, less those missing at its start: negative when some came late.
    pub missing: i64,
    /// Duplicates in it.
    pub duplicates: u64,
    /// Reordered in it.
    pub reordered: u64,
    /// Median latency in ns.
    pub latency_p50_ns: Option<u64>,
    /// 99 % latency in ns.
    pub latency_p99_ns: Option<u64>,
    /// Largest latency in ns.
    pub latency_max_ns: Option<u64>,
}

/// A run with the histograms its summaries were taken from.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The figures.
    pub run: Run,
    /// One-way latency from the actual send, all streams merged.
    pub latency: Latency,
    /// One-way latency from the intended send; empty unless paced.
    pub latency_from_intended: Latency,
    /// The row at the end of `run.intervals` that was only known with the sender's count; no observer has seen it.
    pub closing_row: Option<Interval>,
}
