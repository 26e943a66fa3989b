//! Large fleets by simulation: what the merge costs, what a server does for its ranks, and how far their starts are apart.
//!
//! ```text
//! fleet write DIR RANKS        writes records of a minute, for bench merge
//! fleet merge RANKS            merges so many results, as the collector does, one after the other and as a tree
//! fleet ranks RANKS            connects so many ranks to a server in this process, for a run
//! fleet skew                   the skew of the start by the error of the clocks and the number of ranks
//! ```

#![allow(clippy::unwrap_used, reason = "a tool that cannot go on fails")]

mod merge;
mod ranks;
mod skew;

use std::env;
use std::fs;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["write", folder, ranks] => merge::write(folder.as_ref(), ranks.parse().unwrap()),
        ["merge", ranks] => merge::merge(ranks.parse().unwrap()),
        ["ranks", ranks] => ranks::run(ranks.parse().unwrap()),
        ["skew"] => skew::table(),
        _ => panic!("write DIR RANKS, merge RANKS, ranks RANKS or skew"),
    }
}

/// The largest resident size of this process so far, in MB.
fn peak_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: f64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024.0 / 1e6
}

/// CPU time of this process in s.
fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let of_cpu = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .skip(11)
        .take(2);
    of_cpu
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}

/// Random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Of the standard normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
