//! The result of one measurement: a scenario on one path in one round.
//!
//! These types are also the `runs` of a saved record. Programs rely on the keys: add keys, never rename them. Unknown values are
//! null.

use serde::{Deserialize, Serialize};

use super::fleet::Fleet;
use crate::stats::latency::{Latency, Summary};

/// Load generator threads that are busy for at least this share of their time may limit the result.
pub const BUSY: f64 = 0.95;

/// One measurement, or the part before a signal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    /// `connect`, `request-response`, `bulk`, `blocked` or `udp`.
    pub scenario: String,
    /// `direct`, `proxied` or `blocked`.
    pub path: String,
    /// The proxy's event loop; null for a proxy that the command did not start, and on the direct path.
    pub engine: Option<String>,
    /// The proxy protocol of the requests: `json`, `socks5`, `connect` or `forward`; null on the direct path.
    pub protocol: Option<String>,
    /// How the proxy forwards bytes; null where `engine` is null.
    pub forwarding: Option<String>,
    /// The proxy's threads; null where `engine` is null.
    pub proxy_threads: Option<usize>,
    /// Name of the compared setting; null without a comparison, and on the direct path.
    pub setting: Option<String>,
    /// Round number, from 0.
    pub round: usize,
    /// The measurement lasted its full time and at least one request was answered correctly.
    pub complete: bool,
    /// A sentence that explains `complete: false`.
    pub reason: Option<String>,
    /// A signal ended the measurement early; the figures cover the time before the signal.
    #[serde(default)]
    pub interrupted: bool,
    /// The requested load.
    pub requested: Requested,
    /// Correctly answered requests; for bulk, streams of which every byte arrived.
    pub requests: u64,
    /// Failed requests, by kind.
    pub errors: Errors,
    /// The first error of each kind, as a sentence.
    pub first_errors: Vec<String>,
    /// Message bytes of correctly answered requests, one way.
    pub bytes: u64,
    /// Measured time.
    pub seconds: Option<f64>,
    /// Requests / seconds; null for bulk.
    pub requests_per_s: Option<f64>,
    /// Bytes / seconds; null for blocked.
    pub bytes_per_s: Option<f64>,
    /// From the actual start of a request to the end of its answer; null for bulk.
    pub latency_ns: Option<Summary>,
    /// From the scheduled start of a request to the end of its answer; null without a rate.
    pub latency_from_intended_ns: Option<Summary>,
    /// From the scheduled start to the actual start; null without a rate.
    pub lateness_ns: Option<Summary>,
    /// CPU time of proxy, load generator and origin server.
    pub cpu: Cpu,
    /// Effects of the load generator, the origin server or this host on the figures, one sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What only datagrams have; absent in other scenarios.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Datagrams>,
    /// When counting began, in RFC 3339; null for scenario udp, and in records of older versions.
    #[serde(default)]
    pub started_at: Option<String>,
    /// The ranks of a merged run; absent of a run of one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
}

/// Datagrams at the requested rate, and the highest rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Datagrams {
    /// The highest rate at which at most 0.1 % are lost, in datagrams per second; null for blocked.
    pub delivered_pps: Option<f64>,
    /// Datagrams sent at the requested rate.
    pub sent: u64,
    /// Those that did not arrive.
    pub lost: u64,
    /// Refused by the sender's kernel.
    pub lost_sender: u64,
    /// Dropped at the proxy's sockets; null if unknown, and on the direct path.
    pub lost_proxy: Option<u64>,
    /// Dropped at the receiver's socket.
    pub lost_receiver: u64,
    /// Lost elsewhere: through the proxy or on the path; for blocked, dropped by the proxy.
    pub lost_elsewhere: u64,
    /// The proxy's user and kernel time per 10^6 datagrams.
    pub proxy_s_per_million: Option<f64>,
}

/// The requested load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Requested {
    /// Address of a proxy that was already running.
    pub via: Option<String>,
    /// Address of an origin server that was already running.
    pub origin: Option<String>,
    /// Clients authenticate at the proxy with user and password.
    #[serde(default)]
    pub signed_in: bool,
    /// Concurrent connections; for bulk, streams.
    pub connections: usize,
    /// Bytes per message; null for bulk.
    pub message: Option<usize>,
    /// Requests per second; null for an unlimited rate.
    pub rate_per_s: Option<f64>,
    /// Bytes of bulk data; null where only the time limits them.
    pub bytes: Option<u64>,
    /// Seconds of this measurement.
    pub duration_s: f64,
    /// Threads of the load generator.
    pub load_threads: usize,
}

/// CPU seconds. Unknown values are null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// The proxy's process with all threads and children, user mode.
    pub proxy_user_s: Option<f64>,
    /// The proxy's process with all threads and children, kernel.
    pub proxy_system_s: Option<f64>,
    /// The proxy's user and kernel time per 10^9 bytes; null except for bulk.
    pub proxy_s_per_gb: Option<f64>,
    /// The proxy's user and kernel time per 10,000 requests; null for bulk.
    pub proxy_s_per_10k: Option<f64>,
    /// The load generator's threads, user mode.
    pub load_user_s: Option<f64>,
    /// The load generator's threads, kernel.
    pub load_system_s: Option<f64>,
    /// The load generator's CPU time as a share of the wall time of its threads, without those that have no connection: at 1 the
    /// load generator is the limit.
    pub load_busy: Option<f64>,
    /// The origin server's process, user mode.
    pub origin_user_s: Option<f64>,
    /// The origin server's process, kernel.
    pub origin_system_s: Option<f64>,
}

impl Cpu {
    /// The proxy's user and kernel time.
    pub fn proxy(&self) -> Option<f64> {
        Some(self.proxy_user_s? + self.proxy_system_s?)
    }

    /// The load generator's user and kernel time.
    pub fn load(&self) -> Option<f64> {
        Some(self.load_user_s? + self.load_system_s?)
    }
}

/// Declares the error kinds as fields, which are also the keys of the record.
macro_rules! errors {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// Failed requests, by kind.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Errors {
            /// The sum of all kinds.
            pub total: u64,
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Errors {
            /// Each kind: its name and its count.
            pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field)),*].into_iter()
            }

            /// Adds the counts of `other`.
            pub fn add(&mut self, other: &Self) {
                self.total = self.total.saturating_add(other.total);
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}

errors! {
    /// The connection was refused.
    connect_refused,
    /// The destination was unreachable.
    connect_failed,
    /// This host ran out of ports, files or memory.
    local,
    /// The proxy replied with a refusal or a failure.
    refused_by_proxy,
    /// The proxy's reply did not follow its protocol.
    bad_reply,
    /// The proxy did not refuse a blocked destination.
    not_refused,
    /// The answer was not complete in time.
    timeout,
    /// The connection was reset.
    reset,
    /// The connection ended before the answer did.
    closed_early,
    /// The answer was wrong.
    corrupt,
    /// The answer was correct, but the connection stayed open after it.
    not_closed,
    /// No connection was free between the scheduled time and the end.
    not_started,
}

/// A run with the histograms behind its summaries.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The figures.
    pub run: Run,
    /// From the actual start.
    pub latency: Latency,
    /// From the scheduled start; empty without a rate.
    pub latency_from_intended: Latency,
    /// From the scheduled start to the actual one; empty without a rate.
    pub lateness: Latency,
    /// When counting began, in ns of the monotonic clock; of a merged run, in ns of the clock of all ranks. `None` if unknown.
    pub start_ns: Option<u64>,
}

impl Measured {
    /// The latency as clients experience it: with a rate, from the scheduled start.
    pub fn client_latency(&self) -> &Latency {
        match self.run.requested.rate_per_s {
            Some(_) => &self.latency_from_intended,
            None => &self.latency,
        }
    }
}

impl Run {
    /// The summary of [`Measured::client_latency`].
    pub fn client_latency(&self) -> Option<&Summary> {
        match self.requested.rate_per_s {
            Some(_) => self.latency_from_intended_ns.as_ref(),
            None => self.latency_ns.as_ref(),
        }
    }

    /// The rate that the scenario measures: requests per second, or bulk bytes per second.
    pub fn rate(&self) -> Option<f64> {
        self.requests_per_s.or(self.bytes_per_s)
    }
}
