//! The result of `bench doctor`: its `--json`. Programs rely on the keys: add keys, never rename them.

use serde::Serialize;

use super::meta::Meta;
use crate::doctor::Check;
use crate::doctor::fitness::Fitness;

/// The checks of one machine.
#[derive(Debug, Clone, Serialize)]
pub struct DoctorReport {
    /// Command, version and machine.
    #[serde(flatten)]
    pub meta: Meta,
    /// One entry per check, in a fixed order.
    pub checks: Vec<Check>,
    /// Whether runs on this machine can be compared.
    pub comparing: Fitness,
}
