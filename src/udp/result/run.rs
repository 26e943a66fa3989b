//! A measured run: the types behind an entry of `runs` in `run.json`.
//!
//! Other programs rely on the keys: add, never rename. Byte counts, packet counts and ns are integers; a missing value is null, never 0.

use serde::{Deserialize, Serialize};

use super::by_size::SizeLatency;
use super::counts;
use super::explained::Explained;
use super::fleet::Fleet;
use super::interval::Interval;
use super::packets::{Lost, Received, Traffic};
use super::stages::Stages;
use crate::stats::latency::Summary;
use crate::udp::engine::stats::{IcmpStats, RingStats, ZeroCopyStats};
use crate::udp::result::marks::Marks;
use crate::udp::result::round_trip::RoundTrip;
use crate::udp::result::traffic::TrafficRequested;

/// One run of `bench udp`, or as much of it as was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    /// `mio` or `uring`.
    pub engine: String,
    /// `lossless`, `paced`, `blast` or `round-trip`.
    pub mode: String,
    /// The sender: `forward` is the client, `reverse` the server.
    #[serde(default = "forward")]
    pub direction: String,
    /// Whether the run reached its end and the results of both sides are known.
    pub complete: bool,
    /// How it ended: `complete`, `interrupted`, `peer_lost`, `limit` or `failed`.
    pub ended: String,
    /// Why the run is not `complete`: a sentence.
    pub reason: Option<String>,
    /// The settings as given; null for those not given.
    pub requested: Requested,
    /// The settings in force.
    pub effective: Effective,
    /// The sender's wall clock at its stamp of the first datagram, RFC 3339.
    pub first_sent_at: Option<String>,
    /// The receiver's wall clock at its stamp of the last datagram, RFC 3339.
    pub last_received_at: Option<String>,
    /// The sender's address, as the receiver sees it.
    pub client_ip: Option<String>,
    /// Datagrams offered to the kernel, once each, including `lost.not_sent`; null if the sender was lost.
    pub sent: Traffic,
    /// Datagrams that arrived.
    pub received: Received,
    /// Datagrams that did not arrive: `sent.packets - received.unique`, split by where they were lost.
    pub lost: Lost,
    /// The marks of the received datagrams; absent unless the DSCP or the ECN field was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marks: Option<Marks>,
    /// From the sender's stamp of the first datagram to the receiver's stamp of the last; of round trips to the end of the run. With
    /// bursts, and the time for which the last burst stands at the mean pace.
    pub seconds: Option<f64>,
    /// Half-width of the error bar of `seconds`, equal to that of the clock offset; null if one clock has both stamps.
    #[serde(default)]
    pub seconds_error: Option<f64>,
    /// Unique message bytes / 1000 / seconds.
    pub kb_per_s: Option<f64>,
    /// Half-width of the error bar of `kb_per_s`, on its longer side; null if `seconds_error` is null or not below `seconds`.
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
    /// RFC 3550 jitter; the largest of several streams.
    pub jitter_ns: Option<f64>,
    /// The accuracy of the schedule; null unless paced.
    pub pacing: Option<Pacing>,
    /// CPU time of the threads that send and receive.
    pub cpu: Cpu,
    /// Counters of the engines.
    pub engine_stats: EngineStats,
    /// One entry per stream.
    pub streams: Vec<Stream>,
    /// IntervalRows of `intervals.csv`; of a very long run only the first [`MAX_INTERVALS`].
    pub intervals: Vec<Interval>,
    /// Further rows of `intervals.csv`.
    pub intervals_omitted: u64,
    /// Datagrams without a row in `packets.csv`, since the receiver's packet log was full.
    pub packet_rows_omitted: u64,
    /// The compared setting that the run belongs to; null if there is only one. The n-th run of each setting belongs to round n.
    #[serde(default)]
    pub setting: Option<String>,
    /// Effects of the measuring program or its host on the result, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Figures that only round trips have; absent in other runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<RoundTrip>,
    /// The losses by cause; null unless requested, or if the losses are unknown.
    #[serde(default)]
    pub explained: Option<Explained>,
    /// The stages of the latency; null unless requested.
    #[serde(default)]
    pub stages: Option<Stages>,
    /// The latency of each size of a mix; absent without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency_by_size: Vec<SizeLatency>,
    /// The ranks that the run was merged from; absent of a run of one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
}

/// The direction of runs saved by versions that had only one.
fn forward() -> String {
    "forward".to_owned()
}

/// Most interval rows in `run.json`, so that it stays readable and memory is bounded.
pub const MAX_INTERVALS: usize = 4_096;

/// The settings as given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Requested {
    /// Message bytes.
    pub bytes: Option<u64>,
    /// Datagrams.
    pub packets: Option<u64>,
    /// Sending time in seconds.
    pub duration_s: Option<f64>,
    /// Message bytes per datagram, the largest of several sizes.
    pub chunk: usize,
    /// Message bits per second.
    pub rate_bits_per_s: Option<f64>,
    /// Datagrams per second.
    pub pps: Option<f64>,
    /// Datagrams per send call.
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
    /// Who takes the receive stamp of a datagram: `user` or `kernel`.
    #[serde(default)]
    pub timestamps: String,
    /// Settings of io_uring; null with other engines.
    #[serde(default)]
    pub uring: Option<UringRequested>,
    /// Options of the datagrams.
    #[serde(flatten)]
    pub traffic: TrafficRequested,
    /// Socket pairs.
    pub streams: usize,
    /// The CPU list.
    pub cpus: Option<String>,
    /// Bytes.
    pub sndbuf: Option<usize>,
    /// Bytes.
    pub rcvbuf: Option<usize>,
    /// The stream beside round trips, `lossless` or its pace; absent on an idle path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_load: Option<String>,
    /// The server, if it is another process.
    pub to: Option<String>,
    /// The relay of all datagrams; absent on a direct path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Who sends: `forward`, `reverse` or `both`.
    #[serde(default = "forward")]
    pub direction: String,
}

/// Settings of io_uring as given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UringRequested {
    /// Whether a kernel thread takes submissions.
    pub sqpoll: bool,
    /// Entries of the submission ring.
    pub ring_size: Option<u32>,
    /// `multishot` or `single`.
    pub receive: String,
}

/// The settings in force.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Effective {
    /// Message bytes per datagram, the largest of several sizes.
    pub chunk: usize,
    /// Mean of the message bytes of a datagram; absent if all have `chunk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_chunk: Option<f64>,
    /// Header bytes per datagram.
    pub header: usize,
    /// UDP payload: `chunk` plus `header`.
    pub datagram: usize,
    /// Bytes of the header of a SOCKS5 relay, in front of each datagram; absent without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_header: Option<usize>,
    /// Most datagrams per send call.
    #[serde(default, with = "counts::positive")]
    pub batch: usize,
    /// Datagrams per message with GSO; 1 without.
    #[serde(default, with = "counts::positive")]
    pub segments: usize,
    /// Whether sends are segmented by the kernel, at the end of the run.
    pub gso: bool,
    /// Whether receives are coalesced by the kernel.
    pub gro: bool,
    /// Why GSO or GRO is off although `auto` would use it.
    pub offload_note: Option<String>,
    /// The outcome of the path probe, if full-size datagrams do not simply arrive.
    #[serde(default)]
    pub path_note: Option<String>,
    /// How the senders shared their threads; absent if each had its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_note: Option<String>,
    /// How the receivers shared their threads; absent if each had its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver_note: Option<String>,
    /// Whether fragmentation was forbidden: `on`, `off` or `auto`.
    #[serde(default)]
    pub df: String,
    /// Path MTU at the end of the run, in bytes of IP packet, as the sender's kernel reports it; the smallest of several streams.
    #[serde(default)]
    pub path_mtu: Option<u64>,
    /// `off`, `splice` or `msg`.
    #[serde(default)]
    pub zerocopy: String,
    /// Who took the receive stamp of a datagram: `user` or `kernel`.
    #[serde(default)]
    pub timestamps: String,
    /// `SO_SNDBUF` as read back, in bytes.
    #[serde(default, with = "counts::positive")]
    pub sndbuf: usize,
    /// `SO_RCVBUF` as read back, in bytes.
    #[serde(default, with = "counts::positive")]
    pub rcvbuf: usize,
    /// Socket pairs.
    pub streams: usize,
    /// The sender threads' CPUs; null if the kernel chooses.
    pub sender_cpus: Option<Vec<usize>>,
    /// The receiver threads' CPUs; null if the kernel chooses.
    pub receiver_cpus: Option<Vec<usize>>,
    /// The trials by which these CPUs were chosen; null if there was no choice.
    #[serde(default)]
    pub cpu_trials: Option<Vec<CpuTrial>>,
    /// Credit window of a stream, in datagrams; null unless lossless.
    pub window: Option<u64>,
    /// Whether a paced sender spun before deadlines at the end of the run.
    pub spin: bool,
    /// Why `auto` did not spin, or stopped spinning.
    #[serde(default)]
    pub spin_note: Option<String>,
    /// The relation of the two clocks.
    pub clock: Clock,
}

/// Short runs with a placement of the threads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CpuTrial {
    /// The sender threads' CPUs; null if the kernel chooses.
    pub sender_cpus: Option<Vec<usize>>,
    /// The receiver threads' CPUs; null if the kernel chooses.
    pub receiver_cpus: Option<Vec<usize>>,
    /// Datagrams received a second, the median of the trials.
    pub packets_per_s: f64,
}

/// The relation of the sender's clock to the receiver's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Clock {
    /// `same` (one kernel's monotonic clock), `estimated`, or `none` (the offset is unknown).
    pub source: String,
    /// The receiver's clock minus the sender's, in ns; null if unknown.
    #[serde(default)]
    pub offset_ns: Option<i64>,
    /// Half-width of the offset's error bar, in ns: half the best round trip, and the drift; null if unknown.
    #[serde(default)]
    pub error_ns: Option<u64>,
    /// Change of the estimate during the run, in ns.
    #[serde(default)]
    pub drift_ns: Option<i64>,
    /// Half-width of the error bar of `drift_ns`; null if unknown.
    #[serde(default)]
    pub drift_error_ns: Option<u64>,
    /// How much faster the receiver's clock ran than the sender's, in parts per million; null if not estimated.
    #[serde(default)]
    pub drift_ppm: Option<f64>,
    /// Half-width of the error bar of `drift_ppm`; null if unknown.
    #[serde(default)]
    pub drift_error_ppm: Option<f64>,
    /// Why the offset is unknown, or known less well than usual: a sentence, or null.
    #[serde(default)]
    pub note: Option<String>,
}

/// The accuracy of a paced sender's schedule.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pacing {
    /// Requested datagrams per second.
    pub target_pps: f64,
    /// Datagrams per second from the first send stamp to the last, or in the requested time if datagrams are `unsent`.
    pub achieved_pps: Option<f64>,
    /// Datagrams that were due before the end of the requested time and were never offered to the kernel. They are not in `sent` and
    /// have no lateness; `None` in records of older versions.
    #[serde(default)]
    pub unsent: Option<u64>,
    /// Time from the intended send of each datagram to its stamp.
    pub lateness_ns: Summary,
    /// Deviation of each gap between two datagrams from the intended gap.
    pub gap_error_ns: Summary,
}

/// CPU seconds of the sending and the receiving threads.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// Sender, user mode; null in a server's own record, which lacks the client's CPU time.
    #[serde(default)]
    pub sender_user_s: Option<f64>,
    /// Sender, kernel.
    #[serde(default)]
    pub sender_system_s: Option<f64>,
    /// Receiver, user mode; null if the receiver was lost.
    pub receiver_user_s: Option<f64>,
    /// Receiver, kernel.
    pub receiver_system_s: Option<f64>,
    /// Sender, both modes, per million datagrams sent.
    pub sender_s_per_million: Option<f64>,
    /// Receiver, both modes, per million datagrams received.
    pub receiver_s_per_million: Option<f64>,
    /// Times that the scheduler gave a sender thread's CPU to another thread.
    #[serde(default)]
    pub sender_preemptions: Option<u64>,
    /// Periods in which the sender's control group used up its CPU quota; null without a quota.
    #[serde(default)]
    pub sender_throttled_periods: Option<u64>,
    /// How long the group's threads were throttled by the quota, in seconds, added up over CPUs.
    #[serde(default)]
    pub sender_throttled_s: Option<f64>,
    /// As `sender_throttled_periods`, of the receiver's control group.
    #[serde(default)]
    pub receiver_throttled_periods: Option<u64>,
    /// As `sender_throttled_s`, of the receiver's control group.
    #[serde(default)]
    pub receiver_throttled_s: Option<f64>,
}

/// Counters of the engines, over all streams.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct EngineStats {
    /// Send calls, including those that failed.
    pub send_syscalls: u64,
    /// Messages accepted by the kernel (with GSO each holds several datagrams).
    pub send_messages: u64,
    /// Send calls that accepted only some of the messages.
    pub send_partial: u64,
    /// Send calls that found the send buffer full.
    pub send_eagain: u64,
    /// Send calls that found the kernel out of memory or the device's queue full, and were repeated.
    pub send_enobufs: u64,
    /// Messages refused for good.
    pub send_errors: u64,
    /// The errno of the last refusal.
    pub last_send_error: Option<i32>,
    /// Datagrams among `lost.not_sent` that were too long for the path (`EMSGSIZE`).
    #[serde(default)]
    pub send_too_long: u64,
    /// Streams whose segmented sends were refused, and that sent a message per datagram from then on.
    #[serde(default)]
    pub gso_fallbacks: u64,
    /// ICMP errors at the senders' sockets.
    #[serde(default)]
    pub icmp: IcmpStats,
    /// Times the sender slept.
    pub send_waits: u64,
    /// Requests for credit by lossless senders.
    pub credit_probes: u64,
    /// The senders' io_uring rings; null with other engines.
    #[serde(default)]
    pub send_ring: Option<RingStats>,
    /// Counters of zero-copy sends; null without them.
    #[serde(default)]
    pub zerocopy: Option<ZeroCopyStats>,
    /// Receive calls.
    pub receive_syscalls: u64,
    /// Messages received (with GRO each may hold several datagrams).
    pub receive_messages: u64,
    /// Receive calls that found nothing.
    pub receive_eagain: u64,
    /// Messages longer than the buffer.
    pub receive_truncated: u64,
    /// Times the receiver slept.
    pub receive_waits: u64,
    /// ICMP errors at the receivers' sockets, which send credits and pongs.
    #[serde(default)]
    pub receive_icmp: IcmpStats,
    /// The receivers' io_uring rings; null with other engines.
    #[serde(default)]
    pub receive_ring: Option<RingStats>,
    /// Datagrams that the receivers sent: credits and pongs.
    pub credits: u64,
    /// Drops at the receiver's sockets as the kernel counts them (with GRO, one drop may stand for several datagrams).
    pub receiver_socket_drops: u64,
    /// Increase of `UdpRcvbufErrors` in the receiver's network namespace during the run, from all of its sockets.
    pub host_receive_buffer_errors: Option<u64>,
    /// First arrivals without a stamp of the kernel; null unless stamps were requested.
    #[serde(default)]
    pub receive_unstamped: Option<u64>,
}

/// One stream of the run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stream {
    /// Counted from 0, in a merged run over all ranks.
    pub stream: usize,
    /// The name of the rank that the stream is of; absent of a run of one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<String>,
    /// As [`Run::sent`].
    pub sent: Traffic,
    /// As [`Run::received`].
    pub received: Received,
    /// As [`Run::lost`].
    pub lost: Lost,
    /// As [`Run::jitter_ns`].
    pub jitter_ns: Option<f64>,
}
