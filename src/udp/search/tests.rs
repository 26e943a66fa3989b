//! Searches of simulated paths.

use proptest::prelude::*;

use super::*;

const RANGE: Range = Range {
    min: 10.0,
    max: 1e7,
};

/// More trials than any search of these takes.
const MOST: usize = 400;

fn goal(loss_ratio: f64) -> Goal {
    Goal {
        loss_ratio,
        exceed_ratio: 0.5,
        width: 0.005,
        initial_trial_s: 0.25,
        final_trial_s: 1.0,
        duration_sum_s: 5.0,
    }
}

/// A search to its end, with its trials in order.
fn search(goals: &[Goal], hint: f64, mut path: impl FnMut(Next) -> Trial) -> (Search, Vec<Trial>) {
    for goal in goals {
        goal.validate().unwrap();
    }
    let mut search = Search::new(goals, RANGE, hint);
    let mut trials = Vec::new();
    while let Some(next) = search.next_trial() {
        assert!((RANGE.min..=RANGE.max).contains(&next.load), "{next:?}");
        let trial = path(next);
        trials.push(trial);
        search.add(trial);
        assert!(trials.len() < MOST, "{:?}", search.results());
    }
    (search, trials)
}

/// The trial of a path that forwards `capacity` datagrams a second and `queue` once.
fn forwarded(next: Next, capacity: f64, queue: f64) -> Trial {
    let sent = (next.load * next.duration_s).round().max(1.0);
    let through = sent.min(capacity * next.duration_s + queue);
    Trial {
        load: next.load,
        duration_s: next.duration_s,
        loss_ratio: 1.0 - through / sent,
        offered: Offered::Full,
        is_lost_at_receiver: false,
    }
}

/// Uniform numbers from 0 to 1 (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Asserts that the bounds of each goal are as close as it demands, and contain `truth` within `tolerance`.
fn assert_bracket(search: &Search, goals: &[Goal], truth: impl Fn(&Goal) -> f64, tolerance: f64) {
    for (goal, result) in goals.iter().zip(search.results()) {
        let (lower, upper) = (result.lower.unwrap(), result.upper.unwrap());
        let truth = truth(goal);
        assert_eq!(result.limit, Limit::Path, "{result:?}");
        assert!(
            upper.load - lower.load <= upper.load * goal.width,
            "{result:?}"
        );
        assert!(
            lower.load <= truth * (1.0 + tolerance) && truth * (1.0 - tolerance) <= upper.load,
            "{truth}: {result:?}"
        );
        assert!(lower.throughput <= lower.load, "{result:?}");
        assert!(
            lower.throughput >= lower.load * (1.0 - goal.loss_ratio) - 1e-6,
            "{result:?}"
        );
    }
}

#[test]
fn a_search_takes_few_trials() {
    let goals = [goal(0.0), goal(0.005)];
    let (search, trials) = search(&goals, 120_000.0, |next| forwarded(next, 100_000.0, 0.0));
    assert_bracket(
        &search,
        &goals,
        |goal| 100_000.0 / (1.0 - goal.loss_ratio),
        1e-5,
    );
    let seconds: f64 = trials.iter().map(|trial| trial.duration_s).sum();
    assert!(
        trials.len() <= 24 && seconds <= 17.0,
        "{} trials, {seconds} s",
        trials.len()
    );
}

#[test]
fn a_path_without_a_limit_has_no_upper_bound() {
    let goals = [goal(0.0), goal(0.1)];
    let (search, trials) = search(&goals, 1_000.0, |next| forwarded(next, 1e12, 0.0));
    for result in search.results() {
        assert_eq!((result.limit, result.upper), (Limit::Max, None));
        assert_eq!(result.lower.unwrap().load, RANGE.max);
        assert!(result.is_final());
    }
    assert!(trials.len() < 40, "{}", trials.len());
}

#[test]
fn a_path_that_drops_everything_has_no_lower_bound() {
    let goals = [goal(0.0), goal(0.1)];
    let (search, trials) = search(&goals, 1e6, |next| forwarded(next, 0.0, 0.0));
    for result in search.results() {
        assert_eq!((result.limit, result.lower), (Limit::Min, None));
        assert_eq!(result.upper.unwrap().load, RANGE.min);
    }
    assert!(trials.len() < 60, "{}", trials.len());
}

#[test]
fn a_slow_sender_is_the_limit_of_the_search() {
    const FASTEST: f64 = 50_000.0;
    let goals = [goal(0.0), goal(0.005)];
    let (search, trials) = search(&goals, 4e6, |next| {
        let offered = match next.load > FASTEST {
            true => Offered::Short { achieved: FASTEST },
            false => Offered::Full,
        };
        Trial {
            offered,
            ..forwarded(next, 1e6, 0.0)
        }
    });
    for result in search.results() {
        assert_eq!(result.limit, Limit::Sender, "{result:?}");
        let (lower, upper) = (result.lower.unwrap(), result.upper.unwrap());
        assert!(lower.load <= FASTEST && FASTEST <= upper.load, "{result:?}");
        assert!(upper.load - lower.load <= upper.load * 0.005, "{result:?}");
    }
    assert!(trials.len() < 60, "{}", trials.len());
}

#[test]
fn a_sender_slower_than_the_lowest_load_is_the_limit() {
    let (search, _) = search(&[goal(0.0)], 1e6, |next| Trial {
        offered: Offered::Short { achieved: 5.0 },
        ..forwarded(next, 1e6, 0.0)
    });
    let result = search.results()[0];
    assert_eq!((result.limit, result.lower), (Limit::Sender, None));
    assert_eq!(result.upper.unwrap().load, RANGE.min);
}

#[test]
fn one_pause_of_the_host_is_no_limit() {
    let mut number = 0;
    let goals = [goal(0.0)];
    let (search, _) = search(&goals, 90_000.0, |next| {
        number += 1;
        let pauses = number % 4 == 0;
        Trial {
            offered: match pauses {
                true => Offered::Short {
                    achieved: next.load / 2.0,
                },
                false => Offered::Full,
            },
            ..forwarded(next, 100_000.0, 0.0)
        }
    });
    assert_bracket(&search, &goals, |_| 100_000.0, 1e-5);
}

#[test]
fn losses_at_the_socket_are_the_limit_of_the_receiver() {
    let (search, _) = search(&[goal(0.0)], 90_000.0, |next| Trial {
        is_lost_at_receiver: true,
        ..forwarded(next, 100_000.0, 0.0)
    });
    assert_eq!(search.results()[0].limit, Limit::Receiver);
}

#[test]
fn bounds_of_an_unfinished_search_are_known() {
    let goals = [goal(0.0)];
    let mut search = Search::new(&goals, RANGE, 150_000.0);
    for _ in 0..8 {
        let next = search.next_trial().unwrap();
        search.add(forwarded(next, 100_000.0, 0.0));
    }
    let result = &search.results()[0];
    assert_eq!(result.limit, Limit::Unfinished);
    assert!(!result.is_final());
    // The bounds are those of the first target.
    let (lower, upper) = (result.lower.unwrap().load, result.upper.unwrap().load);
    assert!(lower <= 100_000.0 && 100_000.0 < upper, "{result:?}");
    assert!(
        search
            .classify(123.0)
            .iter()
            .all(|of| *of == Bound::Undecided)
    );
}

#[test]
fn a_goal_out_of_range_is_an_error() {
    let of = |change: fn(&mut Goal)| {
        let mut goal = goal(0.0);
        change(&mut goal);
        goal.validate().unwrap_err().to_string()
    };
    assert!(of(|goal| goal.loss_ratio = 1.0).contains("100 %"));
    assert!(of(|goal| goal.exceed_ratio = -0.1).contains("exceed ratio of -10 %"));
    assert!(of(|goal| goal.width = 0.000_05).contains("0.005 %"));
    for change in [
        |goal: &mut Goal| goal.initial_trial_s = 2.0,
        |goal: &mut Goal| goal.duration_sum_s = 0.5,
        |goal: &mut Goal| goal.initial_trial_s = 0.001,
        |goal: &mut Goal| goal.final_trial_s = f64::NAN,
        |goal: &mut Goal| goal.duration_sum_s = f64::INFINITY,
    ] {
        assert!(of(change).contains("trials of"));
    }
}

proptest! {
    #[test]
    fn bounds_bracket_the_capacity(
        capacity in 20.0..5e6_f64,
        hint in 10.0..1e7_f64,
        losses in prop::collection::vec(0.0..0.3_f64, 1..4),
        exceed in 0.0..0.9_f64,
        width in 0.001..0.1_f64,
    ) {
        let goals: Vec<Goal> = losses
            .iter()
            .map(|loss| Goal { exceed_ratio: exceed, width, ..goal(*loss) })
            .collect();
        let (search, trials) = search(&goals, hint, |next| forwarded(next, capacity, 0.0));
        // A trial of 0.25 s at 20 datagrams a second has 5 of them.
        assert_bracket(&search, &goals, |goal| capacity / (1.0 - goal.loss_ratio), 1.0 / capacity + 1e-5);
        prop_assert!(trials.len() <= 60 + 90 * goals.len(), "{}", trials.len());
    }

    #[test]
    fn bounds_of_a_noisy_path_are_close_to_its_capacity(seed: u64, noise in 0.0..0.05_f64, hint in 1e3..1e6_f64) {
        let mut random = Random(seed);
        let goals = [goal(0.0), goal(0.005)];
        let (search, trials) = search(&goals, hint, |next| {
            let capacity = 1e5 * (1.0 + noise * (2.0 * random.next() - 1.0));
            forwarded(next, capacity, 0.0)
        });
        assert_bracket(&search, &goals, |goal| 1e5 / (1.0 - goal.loss_ratio), noise + 1e-5);
        prop_assert!(trials.len() < 250, "{}", trials.len());
    }

    #[test]
    fn any_results_end_the_search(seed: u64, goals in 1..4_usize, hint in 10.0..1e7_f64) {
        let mut random = Random(seed);
        let goals: Vec<Goal> = (0..goals).map(|number| goal(number as f64 / 10.0)).collect();
        let mut at: std::collections::HashMap<u64, usize> = std::collections::HashMap::new();
        let (search, _) = search(&goals, hint, |next| {
            *at.entry(next.load.to_bits()).or_default() += 1;
            Trial {
                load: next.load,
                duration_s: next.duration_s,
                loss_ratio: if random.next() < 0.5 { 0.0 } else { random.next() },
                offered: match (random.next() * 4.0) as u32 {
                    0 => Offered::Late,
                    1 => Offered::Short { achieved: next.load * random.next() },
                    _ => Offered::Full,
                },
                is_lost_at_receiver: random.next() < 0.5,
            }
        });
        // No load is tried forever.
        prop_assert!(at.values().all(|trials| *trials <= 8 * goals.len()), "{at:?}");
        for result in search.results() {
            prop_assert!(result.is_final(), "{result:?}");
        }
    }
}
