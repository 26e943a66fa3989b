//! The explanation of losses: the types behind `explained` of a run in `run.json`.

use serde::{Deserialize, Serialize};

/// The losses of a run by cause. `causes` and `between` or `unexplained` sum to `lost.packets + surplus`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The causes that lost datagrams, in the order in which a datagram passes them.
    pub causes: Vec<LossCause>,
    /// Datagrams lost between the two hosts: those with no cause at either. Null if a host did not explain its side.
    pub between: Option<u64>,
    /// Datagrams with no known cause, if a host did not explain its side; null otherwise.
    pub unexplained: Option<u64>,
    /// By how much the causes exceed the losses.
    pub surplus: u64,
    /// Limits of the figures, a sentence each.
    pub notes: Vec<String>,
    /// The drops on the sender's host; null if it did not explain its side.
    pub sender: Option<HostDrops>,
    /// The drops on the receiver's host; null if it did not explain its side.
    pub receiver: Option<HostDrops>,
}

/// A cause of losses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossCause {
    /// Its name, which begins with `sender_` or `receiver_`.
    pub cause: String,
    /// Datagrams lost.
    pub datagrams: u64,
    /// Whether `datagrams` is an estimate: a drop may be a run of datagrams, or have been repeated.
    pub estimated: bool,
    /// Drops as the kernel counts them.
    pub drops: u64,
    /// The counters behind `drops`.
    pub counters: Vec<Increase>,
    /// The kernel's reasons, if it was traced.
    pub reasons: Vec<Reason>,
}

/// The increase of a counter during the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Increase {
    /// The kernel's name.
    pub name: String,
    /// The increase.
    pub increase: u64,
}

/// Drops of one reason at one place in the kernel, on the whole machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The kernel's name of the reason.
    pub reason: String,
    /// The function that dropped the packets.
    pub place: String,
    /// Packets.
    pub drops: u64,
}

/// The drops on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDrops {
    /// The boot id of the kernel, by which `bench merge` finds traces of one machine; null if unknown.
    #[serde(default)]
    pub kernel: Option<String>,
    /// The network namespace, by which `bench merge` finds runs with the same counters; null if unknown.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The network device of the route to the other host; null if unknown.
    pub device: Option<String>,
    /// The kind of the device's root qdisc; null if it has none.
    pub qdisc: Option<String>,
    /// Whether the kernel's drops were traced.
    pub traced: bool,
    /// The counters that increased, except those of packets received and delivered.
    pub counters: Vec<Increase>,
    /// All traced reasons.
    pub reasons: Vec<Reason>,
}
