//! The record of a command's runs: the types behind `run.json`.
//!
//! Export types only, apart from those the measurement works with. Others rely on the keys: add,
//! never rename. Byte and packet counts and ns are integers; a value that is missing is null, never 0.

mod compared;

use serde::{Deserialize, Serialize};

use crate::sys::machine;

pub use crate::udp::result::{
    Clock, Cpu, Effective, EngineStats, Interval, Lost, MAX_INTERVALS, Measured, Pacing, Received,
    Requested, Run, Stream, Traffic, UringRequested,
};
pub use compared::{Compared, Ratios};

/// The version of the keys in `run.json`.
pub const SCHEMA: u32 = 1;

/// Most runs of a command, so that its record can be held in memory and read back.
pub const MOST_RUNS: usize = 10_000;

/// The whole of a `run.json`: of `bench udp`, or with other runs of another command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record<R = Run, C = Compared> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `udp`, or what the runs are of.
    pub kind: String,
    /// The version of wirebench that wrote it.
    pub wirebench: String,
    /// When the command began, RFC 3339 in UTC.
    pub started_at: String,
    /// The command line.
    pub command: Vec<String>,
    /// The machine it ran on; of two, the sender's.
    pub host: Host,
    /// One entry a repetition.
    pub runs: Vec<R>,
    /// One entry a setting, the base first; empty unless several were compared.
    #[serde(default = "Vec::new")]
    pub comparison: Vec<C>,
}

/// What a reader needs to know of the machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// The CPU's model name.
    pub cpu: String,
    /// CPUs this process may use.
    pub cores: usize,
    /// The frequency governor, where there is one.
    pub governor: Option<String>,
    /// Largest unprivileged receive buffer, in bytes.
    pub rmem_max: Option<u64>,
    /// Largest unprivileged send buffer, in bytes.
    pub wmem_max: Option<u64>,
}

impl Host {
    /// The one this runs on.
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
