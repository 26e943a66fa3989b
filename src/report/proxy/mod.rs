//! What `bench proxy` leaves behind: the types behind its `run.json`, and what is made of them.
//!
//! As with [`record`], others rely on the keys: add, never rename. A run is one slice of measuring: a scenario, on
//! one path, in one round. [`totals`] are all rounds of such a path together, [`overhead`] is the proxied path against the direct
//! one, and [`columns`] are those of the ledger.

pub mod columns;
pub mod overhead;
#[cfg(test)]
pub(super) mod sample;
mod settings;
pub mod side;
pub mod text;
pub mod totals;

use serde::{Deserialize, Serialize};

use super::record;
use crate::stats::latency::{Latency, Summary};

pub use overhead::{Added, Compared, Overhead};
pub use settings::Settings;
pub use totals::Total;

/// The whole of a `run.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// What records of every kind have.
    #[serde(flatten)]
    pub frame: record::Record<Run, Compared>,
    /// One entry a scenario, path and setting: all its rounds together.
    pub totals: Vec<Total>,
    /// One entry a scenario and setting: the proxied path against the direct one.
    pub overhead: Vec<Overhead>,
    /// The command was ended by a signal before all was measured.
    #[serde(default)]
    pub interrupted: bool,
}

/// One slice of measuring, or as much of it as was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    /// `connect`, `request-response`, `bulk` or `blocked`.
    pub scenario: String,
    /// `direct`, `proxied` or `blocked`.
    pub path: String,
    /// The proxy's event loop; null where it is not ours, or there is none.
    pub engine: Option<String>,
    /// How the proxy is asked: `json`, `socks5`, `connect` or `forward`; null on the direct path.
    pub protocol: Option<String>,
    /// How the proxy brings bytes along; null where it is not ours, or there is none.
    pub forwarding: Option<String>,
    /// The proxy's threads; null where it is not ours, or there is none.
    pub proxy_threads: Option<usize>,
    /// Which setting compared it belongs to; null when there is only one, and on the direct path.
    pub setting: Option<String>,
    /// Which round, counted from 0.
    pub round: usize,
    /// Whether it was measured to its end and anything was answered rightly.
    pub complete: bool,
    /// A sentence on why not.
    pub reason: Option<String>,
    /// It was ended by a signal, and its figures are of as much as was measured by then.
    #[serde(default)]
    pub interrupted: bool,
    /// What was asked for.
    pub requested: Requested,
    /// Requests answered rightly; of bulk, streams of which every byte arrived.
    pub requests: u64,
    /// Requests that were not, by kind.
    pub errors: Errors,
    /// The first of each kind, in words.
    pub first_errors: Vec<String>,
    /// Message bytes of the requests that were answered rightly, one way.
    pub bytes: u64,
    /// The time it took.
    pub seconds: Option<f64>,
    /// Requests / seconds; null for bulk.
    pub requests_per_s: Option<f64>,
    /// Bytes / seconds; null where requests are refused.
    pub bytes_per_s: Option<f64>,
    /// From the actual start of a request to the end of its answer; null for bulk.
    pub latency_ns: Option<Summary>,
    /// From the time it should have started; null unless there is a rate.
    pub latency_from_intended_ns: Option<Summary>,
    /// From that time to the actual start; null unless there is a rate.
    pub lateness_ns: Option<Summary>,
    /// CPU time of all who took part.
    pub cpu: Cpu,
    /// What the load generator, the answering server or this host may have added to these figures, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Requested {
    /// The proxy, where it was running already.
    pub via: Option<String>,
    /// The server, where it was running already.
    pub origin: Option<String>,
    /// Clients sign in at the proxy, by user and password.
    #[serde(default)]
    pub signed_in: bool,
    /// Connections at once; of bulk, streams.
    pub connections: usize,
    /// Bytes of a message; null for bulk.
    pub message: Option<usize>,
    /// Requests a second; null for as many as can be.
    pub rate_per_s: Option<f64>,
    /// Bytes of bulk data; null for as many as can be in the time.
    pub bytes: Option<u64>,
    /// Seconds of this slice.
    pub duration_s: f64,
    /// Threads of the load generator.
    pub load_threads: usize,
}

/// CPU seconds. Each is null where it is not known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// The proxy's process with all its threads and children, user mode.
    pub proxy_user_s: Option<f64>,
    /// The same in the kernel.
    pub proxy_system_s: Option<f64>,
    /// Both, per 10^9 bytes; null but for bulk.
    pub proxy_s_per_gb: Option<f64>,
    /// Both, per 10,000 requests; null for bulk.
    pub proxy_s_per_10k: Option<f64>,
    /// The load generator's threads, user mode.
    pub load_user_s: Option<f64>,
    /// The same in the kernel.
    pub load_system_s: Option<f64>,
    /// Both, as a share of the time its threads had: at 1 the load generator is the limit.
    pub load_busy: Option<f64>,
    /// The answering server's process, user mode.
    pub origin_user_s: Option<f64>,
    /// The same in the kernel.
    pub origin_system_s: Option<f64>,
}

impl Cpu {
    /// The proxy's, both.
    pub fn proxy(&self) -> Option<f64> {
        Some(self.proxy_user_s? + self.proxy_system_s?)
    }

    /// The load generator's, both.
    pub fn load(&self) -> Option<f64> {
        Some(self.load_user_s? + self.load_system_s?)
    }
}

/// Declares the error kinds as fields, which are then keys of the record.
macro_rules! errors {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// Requests that went wrong, by how.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Errors {
            /// The sum of all kinds.
            pub total: u64,
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Errors {
            /// Each kind with its name.
            pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field)),*].into_iter()
            }

            /// Adds others.
            pub fn add(&mut self, other: &Self) {
                self.total = self.total.saturating_add(other.total);
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}

errors! {
    /// Nobody listened.
    connect_refused,
    /// There was no way there.
    connect_failed,
    /// This host had no more ports, files or memory.
    local,
    /// The proxy said that it will not, or could not.
    refused_by_proxy,
    /// What the proxy said was not its protocol.
    bad_reply,
    /// What it should have refused, it did not.
    not_refused,
    /// The answer was not complete in time.
    timeout,
    /// The connection broke.
    reset,
    /// The connection ended before the answer did.
    closed_early,
    /// The answer was another one.
    corrupt,
    /// The answer was right, but the connection did not end after it.
    not_closed,
    /// Its time came, and there was no connection free until the end.
    not_started,
}

/// A run with the histograms its summaries were taken from.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The figures.
    pub run: Run,
    /// From the actual start.
    pub latency: Latency,
    /// From the time in the schedule; empty where there is none.
    pub latency_from_intended: Latency,
}

impl Measured {
    /// The one that says what a client would see: with a rate, from the time in the schedule.
    pub fn told(&self) -> &Latency {
        match self.run.requested.rate_per_s {
            Some(_) => &self.latency_from_intended,
            None => &self.latency,
        }
    }
}

impl Run {
    /// As [`Measured::told`].
    pub fn told(&self) -> Option<&Summary> {
        match self.requested.rate_per_s {
            Some(_) => self.latency_from_intended_ns.as_ref(),
            None => self.latency_ns.as_ref(),
        }
    }

    /// The rate that its scenario is about: of requests, or of bulk bytes.
    pub fn rate(&self) -> Option<f64> {
        self.requests_per_s.or(self.bytes_per_s)
    }
}

/// From this share of its time on the load generator may have been what limited a path.
pub(crate) const BUSY: f64 = 0.95;

/// That, in a sentence.
fn limited_by_load(path: &str, busy: f64) -> String {
    format!(
        "{path}: the load generator's threads were busy {:.0} % of the time, so they may be what limited it; try more --load-threads",
        busy * 100.0
    )
}

#[cfg(test)]
mod tests;
