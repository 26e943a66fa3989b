//! Searches a simulated path with the core of `bench udp search`: `search CAPACITY NOISE QUEUE LOSS SEED GOAL...`.
//!
//! The path forwards CAPACITY datagrams a second, changed by up to the share NOISE in each trial, and QUEUE datagrams once, and loses
//! the share LOSS of them. GOALs are loss ratios. Prints `goal lower upper throughput` for each goal, then `trials seconds`.

use std::process::ExitCode;

use wirebench::udp::search::{Goal, Next, Offered, Range, Search, Trial};

/// As in `compare.py`.
const RANGE: Range = Range {
    min: 10.0,
    max: 1e7,
};

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

struct Path {
    capacity: f64,
    noise: f64,
    queue: f64,
    loss: f64,
    random: u64,
}

impl Path {
    /// A uniform number from 0 to 1 (splitmix64).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn trial(&mut self, next: Next) -> Trial {
        let capacity = self.capacity * (1.0 + self.noise * (2.0 * self.random() - 1.0));
        let sent = (next.load * next.duration_s).floor().max(1.0);
        let through = sent.min((capacity * next.duration_s + self.queue).floor());
        let through = (through * (1.0 - self.loss)).floor();
        Trial {
            load: next.load,
            duration_s: next.duration_s,
            loss_ratio: 1.0 - through / sent,
            offered: Offered::Full,
            is_lost_at_receiver: false,
        }
    }
}

fn main() -> ExitCode {
    let numbers: Option<Vec<f64>> = std::env::args()
        .skip(1)
        .map(|word| word.parse().ok())
        .collect();
    let Some([capacity, noise, queue, loss, seed, goals @ ..]) = numbers.as_deref() else {
        eprintln!("usage: search CAPACITY NOISE QUEUE LOSS SEED GOAL...");
        return ExitCode::from(2);
    };
    let mut path = Path {
        capacity: *capacity,
        noise: *noise,
        queue: *queue,
        loss: *loss,
        random: *seed as u64,
    };
    let goals: Vec<Goal> = goals.iter().copied().map(goal).collect();
    // As the program: the first trial is at the highest load, and its forwarding rate is the hint.
    let first = Next {
        load: RANGE.max,
        duration_s: 0.25,
    };
    let (mut trials, mut seconds) = (1, first.duration_s);
    let hint = RANGE.max * (1.0 - path.trial(first).loss_ratio);
    let mut search = Search::new(&goals, RANGE, hint);
    while let Some(next) = search.next_trial() {
        (trials, seconds) = (trials + 1, seconds + next.duration_s);
        search.add(path.trial(next));
    }
    for (goal, result) in goals.iter().zip(search.results()) {
        let lower = result.lower.map(|lower| (lower.load, lower.throughput));
        let (lower, throughput) = lower.unwrap_or((f64::NAN, f64::NAN));
        let upper = result.upper.map_or(f64::NAN, |upper| upper.load);
        println!("{} {lower} {upper} {throughput}", goal.loss_ratio);
    }
    println!("{trials} {seconds}");
    ExitCode::SUCCESS
}
