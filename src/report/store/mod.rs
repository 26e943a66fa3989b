//! Saved results: the run folder, the ledger beside it, and reading a record back.
//!
//! [`atomic_file`] writes a file that is complete or absent. [`partial`] removes incomplete files when the program must end at once.

pub mod atomic_file;
mod folder;
pub mod histograms;
mod journal;
pub mod ledger;
pub mod partial;
pub mod saved;

pub use folder::{RunFolder, StoreError};
pub use ledger::Ledger;
