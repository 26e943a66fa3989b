//! The stages of latency, as they are sent: absent unless the client requests them. The histograms and the stamps are messages of
//! their own.

use serde::{Deserialize, Serialize};

use super::stats::OutOfRange;

/// The end of the path whose stamps these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StampedEnd {
    /// When the sender's driver took the datagram.
    Sent,
    /// When the receiver's kernel took the datagram from its device.
    Received,
}

/// The stamps of a stream's sender.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SenderStages {
    /// Datagrams whose stamps were requested.
    pub requested: u64,
    /// Datagrams stamped before the qdisc.
    pub scheduled: u64,
    /// Datagrams stamped by the driver.
    pub sent: u64,
    /// Time in which the sender read stamps, in ns.
    pub read_ns: u64,
    /// Steps of wall time during the run.
    pub clock_steps: u64,
    /// Datagrams that waited because the kernel refused a message.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waited: u64,
    /// Exact sums of the stages sender and qdisc in ns, as decimal text.
    pub sums_ns: [String; 2],
    /// Values of both stages that the histograms cannot hold.
    pub out_of_range: [OutOfRange; 2],
    /// The cost of stamps in a trial.
    pub trial: Option<StampTrial>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// CPU time of a datagram in ns, in a trial on loopback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StampTrial {
    /// Sent, without and with stamps.
    pub send_ns: (f64, f64),
    /// Received, without and with stamps.
    pub receive_ns: (f64, f64),
}

/// The stamps of a side's receivers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverStages {
    /// First arrivals with a stamp of the kernel, of those sampled.
    pub stamped: u64,
    /// First arrivals without one.
    pub unstamped: u64,
    /// Steps of wall time during the run.
    pub clock_steps: u64,
    /// Exact sum of the receiver's stage in ns, as decimal text.
    pub sum_ns: String,
    /// Values of the stage that the histogram cannot hold.
    pub out_of_range: OutOfRange,
}
