//! The options for the kernel's timestamps, and for explanations.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(in crate::cli) struct StampArgs {
    /// Who takes the receive stamp of a datagram, at which its latency ends
    #[arg(long, value_enum, default_value_t = Timestamps::User, help_heading = "Network")]
    pub(super) timestamps: Timestamps,
    /// Explain losses: each lost datagram by its cause on either host, with the kernel's reasons where this runs as root. Explain latency:
    /// by kernel timestamps, the time in the sender, its qdisc, on the wire and in the receiver, and what the timestamps cost. Paced runs
    /// send each datagram by itself for this, unless --gso is on
    #[arg(long, help_heading = "Output")]
    pub(super) explain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Timestamps {
    /// bench, when it reads the datagram
    User,
    /// The receiver's kernel, when the datagram arrives, as with ping: the latency is without the queue of the receive socket and the
    /// wake-up of its reader
    Kernel,
}
