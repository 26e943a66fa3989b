//! Results of `bench udp`, `bench proxy` and `bench doctor`: records, comparisons, exports and saved files.
//!
//! - [`model`]: the records, as types with stable keys.
//! - [`compare`]: settings of one command, or of two records, and the regression gate.
//! - [`export`]: the formats. `results/README.md` explains every column and key; a test compares it with the code.
//! - [`store`]: the run folder, the ledger, and reading a record back.

pub mod compare;
pub mod export;
pub(crate) mod figures;
pub mod model;
pub mod store;

#[cfg(test)]
mod readme;
#[cfg(test)]
mod sample;
