//! The data from which the record of a run is computed.

use super::ended::Ended;
use super::interval_rows::IntervalRows;
use super::run::{Effective, Requested};
use super::stage_inputs::StageInputs;
use crate::udp::latencies::Latencies;
use crate::udp::plan::Plan;
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::wire::explain::HostReport;
use crate::udp::wire::results::{Done, StreamReceived, StreamSent};

/// The data from which the record of a run is computed.
pub struct RunInputs<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// `forward` for the client's streams, `reverse` for the server's.
    pub direction: &'static str,
    /// The settings as given.
    pub requested: Requested,
    /// The settings in force.
    pub effective: Effective,
    /// How the run ended.
    pub ended: Ended,
    /// The counts of each stream's sender, or lower bounds of them.
    pub sent: Vec<StreamSent>,
    /// Whether the senders were lost, so that `sent` is a lower bound.
    pub senders_lost: bool,
    /// The outcome of each sender thread; empty if the senders are at the other side.
    pub senders: Vec<SenderOutcome>,
    /// The first send stamp, in ns of the server's clock.
    pub first_sent: Option<u64>,
    /// Wall time of the first send stamp, RFC 3339.
    pub first_sent_at: Option<String>,
    /// End of the run, in ns of the server's clock; `None` if the run ends with the last arrival.
    pub end: Option<u64>,
    /// The counts of each stream's receiver.
    pub received: Vec<StreamReceived>,
    /// The totals of the receivers; `None` if they were lost.
    pub done: Option<Done>,
    /// Wall time of the last arrival, RFC 3339.
    pub last_received_at: Option<String>,
    /// The sender's address.
    pub client_ip: Option<String>,
    /// All latencies.
    pub latencies: Latencies,
    /// The interval rows.
    pub intervals: IntervalRows,
    /// The drops on both hosts; `None` unless losses are to be explained.
    pub hosts: Option<Hosts>,
    /// The kernel's stamps on both hosts; `None` in a server's own record.
    pub stages: Option<StageInputs>,
    /// Why the sender stamped nothing, if the plan requests stages.
    pub stamp_note: Option<String>,
}

/// The drops on both hosts.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// The sender's host, if it explains its side.
    pub sender: Option<HostReport>,
    /// The receiver's host, if it explains its side.
    pub receiver: Option<HostReport>,
    /// Clock exchanges that were lost during the run.
    pub lost_exchanges: u64,
}
