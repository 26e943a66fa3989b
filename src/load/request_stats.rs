//! Statistics of requests: latencies of correctly answered ones, error counts of the others.

use super::error::{ErrorCounts, ErrorKind, RequestError};
use crate::stats::latency::Latency;

/// Counts and histograms.
#[derive(Debug, Clone, Default)]
pub struct RequestStats {
    /// From the actual start to the complete answer, in ns.
    pub latency: Latency,
    /// From the intended start to the complete answer, in ns; empty without a schedule.
    pub from_intended: Latency,
    /// From the intended start to the actual one, in ns; empty without a schedule.
    pub lateness: Latency,
    /// Correctly answered requests.
    pub answered: u64,
    /// Message bytes of these requests, one way.
    pub bytes: u64,
    /// Errors of the others.
    pub errors: ErrorCounts,
    /// When the last correct answer was complete, in ns.
    pub last: u64,
}

/// Times of a request, in ns of one clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// The intended start.
    pub intended: u64,
    /// The actual start.
    pub started: u64,
    /// The end of the answer.
    pub answered: u64,
}

impl RequestStats {
    /// Counts a correctly answered request.
    #[inline]
    pub fn answered(&mut self, times: Times, bytes: usize, scheduled: bool) {
        self.answered += 1;
        self.bytes += bytes as u64;
        self.latency.record_between(times.started, times.answered);
        if scheduled {
            self.from_intended
                .record_between(times.intended, times.answered);
            self.lateness.record_between(times.intended, times.started);
        }
        self.last = self.last.max(times.answered);
    }

    /// Counts a failed request.
    pub fn failed(&mut self, error: RequestError) {
        self.errors.add(error);
    }

    /// Counts requests of a schedule that were never started.
    pub fn not_started(&mut self, requests: u64) {
        if requests > 0 {
            self.errors.add_many(ErrorKind::NotStarted, requests);
        }
    }

    /// Adds the statistics of another thread.
    pub fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.from_intended.merge(&other.from_intended);
        self.lateness.merge(&other.lateness);
        self.answered += other.answered;
        self.bytes += other.bytes;
        self.errors.merge(&other.errors);
        self.last = self.last.max(other.last);
    }
}
