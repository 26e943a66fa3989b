use proptest::prelude::*;

use super::*;

/// Bytes between two calls.
const STEP: u64 = 256_000;

/// A worker whose bytes cost what `cost` returns, by method and forwarded bytes: CPU and time in ns a byte.
struct Worker<F> {
    learner: Learner,
    cost: F,
    traffic: Traffic,
    cpu: f64,
    time: f64,
    spliced: u64,
    switches: usize,
    reads: usize,
}

impl<F: FnMut(Via, u64) -> (f64, f64)> Worker<F> {
    fn new(cost: F) -> Self {
        Self {
            learner: Learner::default(),
            cost,
            traffic: Traffic::default(),
            cpu: 0.0,
            time: 0.0,
            spliced: 0,
            switches: 0,
            reads: 0,
        }
    }

    /// Forwards so many bytes in bulk.
    fn forward(&mut self, bytes: u64) {
        for _ in 0..bytes.div_ceil(STEP) {
            let method = self.learner.method();
            let (cpu, time) = (self.cost)(method, self.traffic.bulk);
            self.cpu += cpu * STEP as f64;
            self.time += time * STEP as f64;
            self.traffic.bytes += STEP;
            self.traffic.bulk += STEP;
            if method == Via::Pipe {
                self.spliced += STEP;
            }
            let clocks = Clocks {
                cpu: self.cpu as u64,
                time: self.time as u64,
            };
            let (chosen, reads) = (self.learner.chosen(), &mut self.reads);
            self.learner.advance(self.traffic, || {
                *reads += 1;
                clocks
            });
            self.switches += usize::from(self.learner.chosen() != chosen);
        }
    }
}

const GB: u64 = 1_000_000_000;

/// Bytes of the first looks.
const FIRST: u64 =
    START + FIRST_LOOKS as u64 * WINDOWS.len() as u64 * (WARM_UP + WINDOW + 2 * STEP);

/// Noise of at most `part`, deterministic.
fn noise(seed: &mut u64, part: f64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    1.0 + part * ((*seed >> 33) as f64 / f64::from(1u32 << 30) - 1.0)
}

fn cost(method: Via, copy: f64, splice: f64) -> (f64, f64) {
    let cpu = match method {
        Via::Copy => copy,
        Via::Pipe => splice,
    };
    (cpu, 1.5 * cpu)
}

proptest! {
    #[test]
    fn the_cheaper_method_is_chosen_and_trials_are_a_bounded_share(
        copy in 0.05f64..2.0,
        ratio in prop_oneof![0.2f64..0.9, 1.1f64..5.0],
        seed: u64,
    ) {
        let mut seed = seed;
        // The noise of one call; a window is about 190 of them.
        let mut worker = Worker::new(|method, _| {
            let (cpu, time) = cost(method, copy, copy * ratio);
            (cpu * noise(&mut seed, 0.1), time * noise(&mut seed, 0.1))
        });
        worker.forward(FIRST);
        let cheaper = if ratio < 1.0 { Via::Pipe } else { Via::Copy };
        prop_assert_eq!(worker.learner.chosen(), cheaper);
        let first = worker.spliced;
        worker.forward(20 * GB);
        prop_assert_eq!(worker.learner.chosen(), cheaper);
        let spliced = worker.spliced - first;
        let trials = if ratio < 1.0 { worker.traffic.bulk - FIRST - spliced } else { spliced };
        prop_assert!(trials <= 20 * GB / SHARE + FIRST / 2, "{trials}");
        prop_assert!(worker.switches <= 1);
    }

    #[test]
    fn noise_of_windows_does_not_flip_it_constantly(ratio in 0.98f64..1.02, seed: u64) {
        let mut seed = seed;
        let mut at = 0;
        let mut factor = 1.0;
        // Constant for 15 MB, so that a window averages few values.
        let mut worker = Worker::new(|method, bulk| {
            if bulk / 15_000_000 != at {
                at = bulk / 15_000_000;
                factor = noise(&mut seed, 0.1);
            }
            let (cpu, time) = cost(method, 1.0, ratio);
            (cpu * factor, time * factor)
        });
        worker.forward(300 * GB);
        prop_assert!(worker.switches <= 6, "{}", worker.switches);
    }

    #[test]
    fn a_change_of_costs_changes_the_choice_within_bounded_bytes(ratio in 1.15f64..3.0, first in 1u64..30) {
        let mut worker = Worker::new(|method, bulk| match bulk < first * GB {
            true => cost(method, 1.0, 1.0 / ratio),
            false => cost(method, 1.0, ratio),
        });
        worker.forward(first * GB);
        prop_assert_eq!(worker.learner.chosen(), Via::Pipe);
        worker.forward(50 * GB);
        prop_assert_eq!(worker.learner.chosen(), Via::Copy);
    }

    #[test]
    fn no_sequence_of_costs_makes_it_fail(
        costs in prop::collection::vec((0.0f64..10.0, 0.0f64..10.0), 1..50),
        failures in prop::collection::vec(0usize..10_000, 0..5),
    ) {
        let mut calls = 0;
        let mut worker = Worker::new(|_, _| {
            calls += 1;
            costs[calls % costs.len()]
        });
        for call in 0..10_000 {
            if failures.contains(&call) {
                worker.learner.unavailable(worker.traffic);
                prop_assert_eq!(worker.learner.method(), Via::Copy);
            }
            worker.forward(STEP);
        }
        if let Some(Costs { copy, splice }) = worker.learner.costs() {
            let all = [copy.cpu, copy.time, splice.cpu, splice.time];
            prop_assert!(all.iter().all(|cost| cost.is_finite()));
        }
    }
}

#[test]
fn the_clocks_are_read_twice_a_window() {
    let mut worker = Worker::new(|method, _| cost(method, 1.0, 2.0));
    worker.forward(START - STEP);
    assert_eq!((worker.reads, worker.spliced), (0, 0));
    worker.forward(FIRST);
    assert_eq!(worker.reads, 2 * WINDOWS.len() * FIRST_LOOKS as usize);
}

#[test]
fn an_unavailable_method_is_not_tried_for_a_while() {
    let mut worker = Worker::new(|method, _| cost(method, 1.0, 0.5));
    worker.forward(GB);
    assert_eq!(worker.learner.chosen(), Via::Pipe);
    worker.learner.unavailable(worker.traffic);
    assert!(worker.learner.is_unavailable());
    let spliced = worker.spliced;
    worker.forward(RETRY - GB);
    assert_eq!(worker.spliced, spliced);
    worker.forward(2 * GB);
    assert!(worker.spliced > spliced);
    assert!(!worker.learner.is_unavailable());
}

#[test]
fn a_method_that_uses_less_cpu_but_lowers_the_rate_further_is_not_chosen() {
    let choice = |cpu: f64, time: f64| {
        let mut worker = Worker::new(|method, _| match method {
            Via::Copy => (0.36, 0.5),
            Via::Pipe => (0.36 * cpu, 0.5 * time),
        });
        worker.forward(GB);
        worker.learner.chosen()
    };
    assert_eq!(choice(0.79, 1.1), Via::Pipe);
    assert_eq!(choice(0.9, 1.25), Via::Copy);
}

#[test]
fn the_rate_of_a_worker_that_sleeps_does_not_count() {
    let mut worker = Worker::new(|method, _| match method {
        Via::Copy => (0.36, 8.0),
        Via::Pipe => (0.30, 9.0),
    });
    worker.forward(GB);
    assert_eq!(worker.learner.chosen(), Via::Pipe);
}

#[test]
fn windows_with_many_messages_are_left_out() {
    let mut worker = Worker::new(|method, _| cost(method, 0.3, 0.1));
    for _ in 0..4_000 {
        worker.traffic.messages += 50;
        worker.forward(STEP);
    }
    assert_eq!(worker.learner.costs(), None);
    assert_eq!(worker.learner.chosen(), Via::Copy);
}
