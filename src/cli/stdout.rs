//! Who writes to standard output: at most one document (the record, or an error in its place), or text.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether stdout has a document.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Reserves stdout for a document; `false` if it already has one.
pub(super) fn take() -> bool {
    !TAKEN.swap(true, Ordering::Relaxed)
}
