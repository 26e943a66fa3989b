//! The part that records of all kinds share: schema, command and machine.

use serde::{Deserialize, Serialize};

use crate::dates;
use crate::sys::machine;

/// Version of the keys in `run.json`.
pub const SCHEMA: u32 = 1;

/// Largest number of runs in a record. A record is held in memory and read back as a whole.
pub const MOST_RUNS: usize = 10_000;

/// Command, version and machine of a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Meta {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `udp`, `udp-search`, `proxy` or `doctor`.
    pub kind: String,
    /// Version of the wirebench that wrote the record.
    pub wirebench: String,
    /// Start of the command, RFC 3339 in UTC.
    pub started_at: String,
    /// The command line.
    pub command: Vec<String>,
    /// The machine; of two, the load generator's or the sender's.
    pub host: Host,
}

impl Meta {
    /// A record of `kind` by this program on this machine, for a command that started at `started_ns` (ns since the epoch).
    pub fn here(kind: &str, started_ns: u64, command: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            kind: kind.to_owned(),
            wirebench: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: dates::rfc3339(started_ns),
            command,
            host: Host::here(),
        }
    }
}

/// The machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// CPU model name.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cores: usize,
    /// CPU frequency governor; null without one.
    pub governor: Option<String>,
    /// Largest unprivileged receive buffer, in bytes.
    pub rmem_max: Option<u64>,
    /// Largest unprivileged send buffer, in bytes.
    pub wmem_max: Option<u64>,
}

impl Host {
    /// This machine.
    pub fn here() -> Self {
        Self {
            kernel: machine::kernel(),
            cpu: machine::cpu_model(),
            cores: machine::cores(),
            governor: machine::governor(),
            rmem_max: machine::rmem_max(),
            wmem_max: machine::wmem_max(),
        }
    }
}
