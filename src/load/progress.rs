//! Progress of a running measurement, for a display. The threads publish their statistics a few times a second, not per request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::ErrorCounts;
use super::request_stats::RequestStats;
use crate::stats::latency::Latency;

/// Time between two publications of a thread.
pub const PERIOD: Duration = Duration::from_millis(100);

/// Statistics of all threads of the running measurement.
#[derive(Debug, Default)]
pub struct Progress {
    threads: Mutex<Vec<Snapshot>>,
}

/// Statistics from the end of the warm-up to `at`.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// When counting began, in ns of the monotonic clock.
    pub began: u64,
    /// The time of the statistics, in ns of the monotonic clock.
    pub at: u64,
    /// Correctly answered requests.
    pub answered: u64,
    /// Message bytes of answered requests; for bulk, bytes sent, which no receipt confirms yet.
    pub bytes: u64,
    /// Failed requests.
    pub errors: ErrorCounts,
    /// Latency from the intended start with a rate, from the actual start without.
    pub latency: Latency,
}

impl Progress {
    /// Forgets the previous measurement.
    pub(super) fn reset(&self) {
        self.lock().clear();
    }

    /// A publisher of a thread that begins to count at `now`.
    pub(super) fn publisher(self: &Arc<Self>, now: u64) -> Publisher {
        let mut threads = self.lock();
        threads.push(Snapshot {
            began: now,
            at: now,
            ..Snapshot::default()
        });
        Publisher {
            progress: self.clone(),
            thread: threads.len() - 1,
            due: now + PERIOD.as_nanos() as u64,
        }
    }

    /// The sum of all threads; `None` before the end of the warm-up.
    pub fn total(&self) -> Option<Snapshot> {
        let threads = self.lock();
        let (first, others) = threads.split_first()?;
        let mut total = first.clone();
        for thread in others {
            total.began = total.began.min(thread.began);
            total.at = total.at.max(thread.at);
            total.answered += thread.answered;
            total.bytes += thread.bytes;
            total.errors.merge(&thread.errors);
            total.latency.merge(&thread.latency);
        }
        Some(total)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Snapshot>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes the statistics of a thread.
#[derive(Debug)]
pub(super) struct Publisher {
    progress: Arc<Progress>,
    thread: usize,
    due: u64,
}

impl Publisher {
    /// Whether the next publication is due.
    #[inline]
    pub(super) fn is_due(&self, now: u64) -> bool {
        now >= self.due
    }

    /// Publishes. `bytes` replaces the count of confirmed bytes.
    pub(super) fn publish(&mut self, now: u64, stats: &RequestStats, bytes: Option<u64>) {
        self.due = now + PERIOD.as_nanos() as u64;
        let mut threads = self.progress.lock();
        let Some(snapshot) = threads.get_mut(self.thread) else {
            return;
        };
        snapshot.at = now;
        snapshot.answered = stats.answered;
        snapshot.bytes = bytes.unwrap_or(stats.bytes);
        snapshot.errors.clone_from(&stats.errors);
        snapshot.latency.clear();
        snapshot
            .latency
            .merge(match stats.from_intended.is_empty() {
                true => &stats.latency,
                false => &stats.from_intended,
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::request_stats::Times;

    fn answered(requests: u64) -> RequestStats {
        let mut stats = RequestStats::default();
        for _ in 0..requests {
            let times = Times {
                intended: 0,
                started: 10,
                answered: 110,
            };
            stats.answered(times, 5, false);
        }
        stats
    }

    #[test]
    fn the_total_is_the_sum_of_the_threads() {
        let progress = Arc::new(Progress::default());
        assert!(progress.total().is_none());
        let mut one = progress.publisher(100);
        let mut two = progress.publisher(200);
        assert!(!one.is_due(100) && one.is_due(100 + PERIOD.as_nanos() as u64));
        one.publish(1_000, &answered(2), None);
        two.publish(3_000, &answered(3), Some(7));
        let total = progress.total().unwrap();
        assert_eq!((total.began, total.at), (100, 3_000));
        assert_eq!((total.answered, total.bytes), (5, 17));
        assert_eq!((total.latency.count(), total.latency.max()), (5, Some(100)));
        // Statistics are cumulative, so a publication replaces the previous one.
        one.publish(4_000, &answered(4), None);
        assert_eq!(progress.total().unwrap().answered, 7);
        progress.reset();
        assert!(progress.total().is_none());
        // A thread of the previous measurement.
        one.publish(5_000, &answered(4), None);
        assert!(progress.total().is_none());
    }
}
