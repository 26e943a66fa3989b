//! A host's explanation of losses, as it is sent: absent unless the client requests it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The client requests that the server explains the losses on its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// The boot id of the kernel whose drops the client traces; `None` if it traces none. A server on that kernel need not trace.
    pub traced_kernel: Option<String>,
}

/// The drops of a host during the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The kernel's boot id.
    pub kernel: Option<String>,
    /// The network namespace.
    pub namespace: Option<String>,
    /// The network device of the route to the other host.
    pub device: Option<String>,
    /// The kind of the device's root qdisc.
    pub qdisc: Option<String>,
    /// Increase of each counter that the host has.
    pub counters: BTreeMap<String, u64>,
    /// Datagrams that the senders' kernel refused for good: errno and number.
    pub refused: Vec<(i32, u64)>,
    /// Whether the kernel's drops were traced.
    pub traced: bool,
    /// The traced drops, by reason and place.
    pub drops: Vec<TracedDrops>,
    /// Missing parts, a sentence each.
    pub notes: Vec<String>,
}

/// Traced drops of one reason at one place in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedDrops {
    /// The kernel's name of the reason.
    pub reason: String,
    /// The function that dropped the packets.
    pub place: String,
    /// Packets.
    pub drops: u64,
}
