//! The schedule of request starts. Pure: time is an argument.
//!
//! **Closed loop**: an idle connection starts the next request at once, so slow answers reduce the load. **Open loop**: each
//! request has its time, whether or not earlier ones are answered. Without an idle connection it starts late, and its latency
//! still counts from its time (coordinated omission).

/// How long after the end a due request may still start, in ns: threads wake this late. A request that is not started by then
/// is backlog.
const GRACE: u64 = 10_000_000;

/// The request starts of one thread. Times are in ns of one clock.
#[derive(Debug, Clone)]
pub struct Schedule {
    end: u64,
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Open {
    start: u64,
    /// Time between requests, in ns.
    gap: f64,
    /// Requests started.
    count: u64,
}

/// The next action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Start a request with this intended time.
    Now(u64),
    /// Nothing is due before this time.
    At(u64),
    /// The schedule is over.
    Never,
}

impl Schedule {
    /// A closed loop until `end`.
    pub fn closed(end: u64) -> Self {
        Self { end, open: None }
    }

    /// An open loop of `rate` evenly spaced requests a second from `start` until `end`.
    pub fn open(start: u64, end: u64, rate: f64) -> Self {
        let open = Open {
            start,
            gap: 1e9 / rate,
            count: 0,
        };
        Self {
            end,
            open: Some(open),
        }
    }

    /// Whether requests have intended times.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The next action of an idle connection at `now`. [`Due::Now`] counts the request as started.
    #[inline]
    pub fn next(&mut self, now: u64) -> Due {
        if self.is_over(now) {
            return Due::Never;
        }
        let Some(open) = &mut self.open else {
            return Due::Now(now);
        };
        let at = open.time();
        if at > now {
            return Due::At(at);
        }
        open.count += 1;
        Due::Now(at)
    }

    /// Whether no further request will be due.
    #[inline]
    pub fn is_over(&self, now: u64) -> bool {
        match &self.open {
            None => now >= self.end,
            Some(open) => open.time() >= self.end || now >= self.end.saturating_add(GRACE),
        }
    }

    /// Requests that were due by `end` and not started.
    pub fn left(&self) -> u64 {
        let Some(open) = &self.open else {
            return 0;
        };
        let span = self.end.saturating_sub(open.start) as f64;
        let all = (span / open.gap).ceil() as u64;
        all.saturating_sub(open.count)
    }
}

impl Open {
    fn time(&self) -> u64 {
        // Computed from the start each time: summed gaps would drift.
        self.start + (self.count as f64 * self.gap) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_loop_starts_a_request_at_once() {
        let mut schedule = Schedule::closed(100);
        assert_eq!(schedule.next(0), Due::Now(0));
        assert_eq!(schedule.next(99), Due::Now(99));
        assert_eq!(schedule.next(100), Due::Never);
        assert_eq!(schedule.left(), 0);
    }

    #[test]
    fn stall_delays_requests_and_skips_none() {
        let mut schedule = Schedule::open(1_000, 2_000, 1e7);
        assert_eq!(schedule.next(1_000), Due::Now(1_000));
        assert_eq!(schedule.next(1_050), Due::At(1_100));
        // A stall.
        let late: Vec<_> = (0..4).map(|_| schedule.next(1_350)).collect();
        assert_eq!(
            late,
            [
                Due::Now(1_100),
                Due::Now(1_200),
                Due::Now(1_300),
                Due::At(1_400)
            ]
        );
        assert_eq!(schedule.next(2_000 + GRACE), Due::Never);
        assert_eq!(schedule.left(), 6);
    }

    #[test]
    fn requests_due_just_before_the_end_still_start() {
        let mut schedule = Schedule::open(0, 1_000, 1e7);
        let all: Vec<_> = (0..12).map(|_| schedule.next(1_001)).collect();
        let times = (0..10).map(|number| Due::Now(number * 100));
        assert!(times.chain([Due::Never, Due::Never]).eq(all));
        assert_eq!(schedule.left(), 0);
        // A closed loop has no backlog.
        assert_eq!(Schedule::closed(1_000).next(1_000), Due::Never);
    }

    proptest! {
        #[test]
        fn every_request_starts_in_order_or_is_left(rate in 1.0..1e7f64, span in 1u64..10_000_000, steps in prop::collection::vec(0u64..100_000, 1..300)) {
            let (start, mut now, mut started, mut last) = (5, 5, 0u64, 0);
            let mut schedule = Schedule::open(start, start + span, rate);
            for step in steps {
                now += step;
                for _ in 0..3 {
                    match schedule.next(now) {
                        Due::Now(at) => {
                            prop_assert!(at <= now && at < start + span && at >= last);
                            last = at;
                            started += 1;
                        }
                        Due::At(at) => prop_assert!(at > now),
                        Due::Never => {}
                    }
                }
            }
            let all = (span as f64 * rate / 1e9).ceil() as u64;
            prop_assert!((started + schedule.left()).abs_diff(all) <= 1);
        }
    }
}
