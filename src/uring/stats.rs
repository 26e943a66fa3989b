//! Counters of an io_uring.

use serde::{Deserialize, Serialize};

/// Counters of one ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingStats {
    /// Entries of the submission ring.
    pub size: u32,
    /// Submitted requests.
    pub sqes: u64,
    /// Completions.
    pub cqes: u64,
    /// Calls of io_uring_enter(2).
    pub enters: u64,
    /// Times a multishot receive ended and was re-armed, mostly because no buffer was free (`ENOBUFS`).
    pub rearms: u64,
    /// Times the completion queue overflowed.
    pub cq_overflows: u64,
    /// CPU time of the kernel's submission thread in ns; `None` without such a thread or if it was not found.
    pub thread_cpu_ns: Option<u64>,
}

impl RingStats {
    /// Adds the counters of another ring and takes the larger size.
    pub fn add(&mut self, other: Self) {
        self.size = self.size.max(other.size);
        self.sqes += other.sqes;
        self.cqes += other.cqes;
        self.enters += other.enters;
        self.rearms += other.rearms;
        self.cq_overflows += other.cq_overflows;
        let threads = self.thread_cpu_ns.into_iter().chain(other.thread_cpu_ns);
        self.thread_cpu_ns = threads.reduce(|sum, part| sum + part);
    }
}
