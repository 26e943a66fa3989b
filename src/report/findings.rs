//! What `bench doctor` found: the type behind its `--json`. Others rely on the keys: add, never rename.

use serde::Serialize;

use super::record::Host;
use crate::doctor::Check;

/// The whole of it.
#[derive(Debug, Clone, Serialize)]
pub struct Findings {
    /// [`super::record::SCHEMA`].
    pub schema: u32,
    /// `doctor`.
    pub kind: &'static str,
    /// The version of wirebench that wrote it.
    pub wirebench: String,
    /// When the command began, RFC 3339 in UTC.
    pub started_at: String,
    /// The command line.
    pub command: Vec<String>,
    /// The machine.
    pub host: Host,
    /// One entry a check, always the same ones in the same order.
    pub checks: Vec<Check>,
}
