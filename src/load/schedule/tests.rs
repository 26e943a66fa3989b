//! Tests of schedules.

use super::*;
use proptest::prelude::*;

/// The only thread.
const ALONE: Turn = Turn {
    number: 0,
    count: 1,
};

fn open(start: u64, end: u64, rate: f64) -> Schedule {
    Schedule::open(start, end, Pace { rate, phase: 0.0 }, ALONE)
}

/// All times at which a schedule starts requests.
fn times(mut schedule: Schedule) -> Vec<u64> {
    let mut all = Vec::new();
    // The clock stands just before the end, so that every request is due.
    while let Due::Now(at) = schedule.next(schedule.end) {
        all.push(at);
    }
    all
}

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
    let mut schedule = open(1_000, 2_000, 1e7);
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
    let mut schedule = open(0, 1_000, 1e7);
    let all: Vec<_> = (0..12).map(|_| schedule.next(1_001)).collect();
    let times = (0..10).map(|number| Due::Now(number * 100));
    assert!(times.chain([Due::Never, Due::Never]).eq(all));
    assert_eq!(schedule.left(), 0);
    // A closed loop has no backlog.
    assert_eq!(Schedule::closed(1_000).next(1_000), Due::Never);
}

#[test]
fn whole_products_of_rate_and_duration_are_exact() {
    for (rate, ms, requests) in [
        (201.0, 1_000, 201),
        (50.0, 300, 15),
        (0.1, 10_000, 1),
        (33.3, 10_000, 333),
        (1e8, 3_600_000, 360_000_000_000),
        // A fraction of a request is one that is due before the end.
        (2.5, 1_000, 3),
        (1.0, 400, 1),
    ] {
        let schedule = open(7, 7 + ms * 1_000_000, rate);
        assert_eq!(schedule.left(), requests, "{rate} for {ms} ms");
    }
    assert_eq!(open(7, 7, 100.0).left(), 0);
}

proptest! {
    #[test]
    fn every_request_starts_in_order_or_is_left(
        rate in 1.0..1e7f64,
        span in 1u64..10_000_000,
        phase in 0.0..1.0f64,
        steps in prop::collection::vec(0u64..100_000, 1..300),
    ) {
        let (start, mut now, mut started, mut last) = (5, 5, 0u64, 0);
        let mut schedule = Schedule::open(start, start + span, Pace { rate, phase }, ALONE);
        let all = schedule.left();
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
        prop_assert_eq!(started + schedule.left(), all);
    }

    /// Whole rates and milliseconds: the count is the quotient, rounded up.
    #[test]
    fn requests_are_those_due_before_the_end(rate in 1u64..200_000, ms in 1u64..3_000) {
        let all = (rate * ms).div_ceil(1_000);
        let schedule = open(9, 9 + ms * 1_000_000, rate as f64);
        prop_assert_eq!(schedule.left(), all);
        if all < 1_000 {
            let times = times(schedule);
            prop_assert_eq!(times.len() as u64, all);
            prop_assert!(times.iter().all(|at| *at < 9 + ms * 1_000_000));
        }
    }

    /// Ranks of a fleet and their threads: sorted together, their requests are those of one thread at the whole rate.
    #[test]
    fn ranks_and_threads_start_evenly_spaced_requests(
        rate in 1u64..20_000,
        ms in 1u64..200,
        ranks in 1u64..6,
        threads in 1u64..6,
    ) {
        let end = ms * 1_000_000;
        let mut all = Vec::new();
        for rank in 0..ranks {
            let pace = Pace {
                rate: rate as f64 / ranks as f64,
                phase: rank as f64 / ranks as f64,
            };
            for number in 0..threads {
                let turn = Turn { number, count: threads };
                all.extend(times(Schedule::open(0, end, pace, turn)));
            }
        }
        all.sort_unstable();
        let one = times(open(0, end, rate as f64));
        prop_assert_eq!(all.len(), one.len());
        for (at, expected) in all.into_iter().zip(one) {
            // Fractions of a ns are cut off.
            prop_assert!(at.abs_diff(expected) <= 1, "{at} {expected}");
        }
    }
}
