//! The part of a run that only round trips have.

use serde::{Deserialize, Serialize};

use crate::stats::latency::Summary;

/// Figures that only round trips have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// `closed` (one request in flight) or `open` (requests at intended times).
    #[serde(rename = "loop")]
    pub kind: String,
    /// Whether the other end is an echo server (RFC 862), whose own time is unknown and part of the latency.
    pub echo: bool,
    /// Time after which a request without a response is lost, in seconds.
    pub timeout_s: f64,
    /// Requests that arrived at the server; null with an echo server, or if the server was lost.
    pub requests_received: Option<u64>,
    /// The server's own time of each exchange, which no latency includes; null with an echo server.
    pub server_time_ns: Option<Summary>,
    /// Goodput of the stream beside the round trips, in 1000 bytes per second; null on an idle path.
    #[serde(default)]
    pub load_kb_per_s: Option<f64>,
}
