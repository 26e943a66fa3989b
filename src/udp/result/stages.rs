//! The stages of latency: the types behind `stages` of a run in `run.json`.

use serde::{Deserialize, Serialize};

use crate::stats::latency::Summary;

/// The stages of one-way latency, by kernel stamps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stages {
    /// Datagrams from one to the next whose message is stamped: 1, which is every message, in a paced run. A GSO message has several
    /// datagrams, and the stamps of its first.
    pub every: u64,
    /// From the sender's stamp to its qdisc: the rest of the batch, the system call and the network stack.
    pub sender: Stage,
    /// From the qdisc to the driver. If the kernel refuses a message, mostly since the qdisc is full, the stage begins with the first
    /// refusal, also for the datagrams that wait behind it.
    pub qdisc: Stage,
    /// From the sender's driver to the receiver's kernel.
    pub wire: Stage,
    /// From the receiver's kernel to its stamp: the receive socket's queue and the wake-up.
    pub receiver: Stage,
    /// The cost of the stamps.
    pub cost: StampCost,
    /// Limits of the figures, a sentence each.
    pub notes: Vec<String>,
}

impl Stages {
    /// The stages with their names, in the order in which a datagram passes them.
    pub fn all(&self) -> [(&'static str, &Stage); 4] {
        [
            ("sender", &self.sender),
            ("qdisc", &self.qdisc),
            ("wire", &self.wire),
            ("receiver", &self.receiver),
        ]
    }
}

/// One stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Time in the stage; null without stamps.
    pub latency_ns: Option<Summary>,
    /// Why there is none.
    pub reason: Option<String>,
}

/// The measured cost of the stamps. The trial sends datagrams over loopback on the sender's host, with and without stamps in turn; it
/// is null if it was impossible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StampCost {
    /// Time in which the sender read the stamps of a datagram during the run, in ns.
    pub read_ns: Option<f64>,
    /// CPU time to send a datagram without stamps in the trial, in ns.
    pub plain_send_ns: Option<f64>,
    /// The same with stamps, which are read.
    pub stamped_send_ns: Option<f64>,
    /// CPU time to receive a datagram without stamps in the trial, in ns.
    pub plain_receive_ns: Option<f64>,
    /// The same with stamps.
    pub stamped_receive_ns: Option<f64>,
}
