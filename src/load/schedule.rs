//! When requests are to start: pure, the time is an argument.
//!
//! **Closed**: whoever is free starts the next one at once, so a slow answer slows the load down. **Open**: each has its time,
//! whether or not those before it have been answered; one that finds no connection free starts late, and its
//! latency counts from its time all the same (coordinated omission).

/// How long after the end requests whose time was before it may still be started, in ns: as late as a thread may wake. What
/// nobody could start by then is a backlog.
const GRACE: u64 = 10_000_000;

/// When requests are to start, of one thread. Times are in ns of any one clock.
#[derive(Debug, Clone)]
pub struct Schedule {
    end: u64,
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Open {
    start: u64,
    /// From one request to the next, in ns.
    gap: f64,
    /// How many have been started.
    count: u64,
}

/// What there is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Start a request whose time was or is this.
    Now(u64),
    /// None before this time.
    At(u64),
    /// None any more.
    Never,
}

impl Schedule {
    /// As many as can be until `end`.
    pub fn closed(end: u64) -> Self {
        Self { end, open: None }
    }

    /// `rate` a second from `start` until `end`, evenly.
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

    /// Whether every request has its time.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// What to do at `now`, for one who is free. What is [`Due::Now`] counts as started.
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

    /// Nothing is or will be due any more.
    #[inline]
    pub fn is_over(&self, now: u64) -> bool {
        match &self.open {
            None => now >= self.end,
            Some(open) => open.time() >= self.end || now >= self.end.saturating_add(GRACE),
        }
    }

    /// How many had their time by `end` and were not started.
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
        // From the start each time: sums of gaps would drift.
        self.start + (self.count as f64 * self.gap) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_closed_one_starts_whenever_somebody_is_free() {
        let mut schedule = Schedule::closed(100);
        assert_eq!(schedule.next(0), Due::Now(0));
        assert_eq!(schedule.next(99), Due::Now(99));
        assert_eq!(schedule.next(100), Due::Never);
        assert_eq!(schedule.left(), 0);
    }

    #[test]
    fn a_stall_makes_requests_late_and_forgets_none() {
        let mut schedule = Schedule::open(1_000, 2_000, 1e7);
        assert_eq!(schedule.next(1_000), Due::Now(1_000));
        assert_eq!(schedule.next(1_050), Due::At(1_100));
        // Nobody was free for a while.
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
    fn what_was_due_just_before_the_end_is_still_started() {
        let mut schedule = Schedule::open(0, 1_000, 1e7);
        let all: Vec<_> = (0..12).map(|_| schedule.next(1_001)).collect();
        let times = (0..10).map(|number| Due::Now(number * 100));
        assert!(times.chain([Due::Never, Due::Never]).eq(all));
        assert_eq!(schedule.left(), 0);
        // A closed one has no backlog.
        assert_eq!(Schedule::closed(1_000).next(1_000), Due::Never);
    }

    proptest! {
        #[test]
        fn every_request_is_started_in_order_or_left(rate in 1.0..1e7f64, span in 1u64..10_000_000, steps in prop::collection::vec(0u64..100_000, 1..300)) {
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
