//! The options of round trips.

use clap::Args;

/// Port of the echo protocol (RFC 862).
pub(in crate::cli) const ECHO_PORT: u16 = 7;

#[derive(Debug, Args)]
pub(in crate::cli) struct RoundTripArgs {
    /// Measure round trips: each datagram is a request that the server sends back, minus the server's own time. One request is in flight,
    /// or with --pps as many a second as given, whether or not responses arrive [default amount: 5s]
    #[arg(long, conflicts_with_all = ["mb", "reverse", "bidir", "rate", "unpaced", "spin", "batch", "gso", "zerocopy", "uring_sqpoll",
        "uring_ring_size", "uring_recv", "clock", "explain", "packets_csv", "iperf3_json"], help_heading = "Workload")]
    pub(in crate::cli) round_trip: bool,
    /// Spin for the next datagram at both ends of a round trip, instead of sleeping
    #[arg(long, requires = "round_trip", help_heading = "Rate")]
    pub(in crate::cli) busy_poll: bool,
    /// UDP echo server (RFC 862) to measure round trips to, by name or address. Its own time is part of the latency [default port: 7]
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        requires = "round_trip",
        conflicts_with = "to",
        help_heading = "Network"
    )]
    pub(in crate::cli) echo: Option<String>,
}
