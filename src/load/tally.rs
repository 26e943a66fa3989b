//! What became of the requests: latencies of those that were answered rightly, errors by kind of all others.

use super::fault::{Errors, Failure, Fault};
use crate::stats::latency::Latency;

/// Counts, and the histograms.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// From the actual start to the whole answer, in ns.
    pub latency: Latency,
    /// The same from the time it should have started; empty where there is no schedule.
    pub from_intended: Latency,
    /// How late requests were started, in ns; empty where there is no schedule.
    pub lateness: Latency,
    /// Answered rightly.
    pub answered: u64,
    /// Message bytes of these, one way.
    pub bytes: u64,
    /// What went wrong.
    pub errors: Errors,
    /// When the last right answer was complete, in ns.
    pub last: u64,
}

/// When a request was and should have been started and was answered, in ns of one clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Its time in the schedule.
    pub intended: u64,
    /// Its start.
    pub started: u64,
    /// The end of its answer.
    pub answered: u64,
}

impl Tally {
    /// A request was answered rightly.
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

    /// A request was not.
    pub fn failed(&mut self, failure: Failure) {
        self.errors.add(failure);
    }

    /// Requests of a schedule that nobody could start.
    pub fn not_started(&mut self, requests: u64) {
        if requests > 0 {
            self.errors.add_many(Fault::NotStarted, requests);
        }
    }

    /// Takes in what another thread counted.
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
