//! Whether a paced sender spins for the last stretch before a deadline. Pure: times and counters in, a decision out.
//!
//! Spinning sends closer to the deadline than sleeping as long as the sender has its CPU. Where another thread wants the same
//! CPU, the scheduler takes it away from a thread that never sleeps and gives it at once to one that was asleep; under a CPU
//! quota the time spent spinning is what stops the sender. In both cases spinning makes the sender late.

use serde::{Deserialize, Serialize};

/// A sender that spins sleeps until this long before a deadline, in ns. Waking up takes 16 to 50 µs on bare metal; on a virtual
/// machine every hundredth time takes more than 100 µs. With 60 µs the 99 % gap error at 1,000 datagrams a second was above
/// 100 µs, with this it is mostly below 25, for 0.3 of a CPU.
const LEAD_NS: u64 = 300_000;

/// A spin that ends later than this, in ns, and in which another thread got the CPU, counts against spinning. A thread that
/// sleeps is woken within this time.
const LATE_NS: u64 = 200_000;

/// So many of them end it.
const MOST_LATE: u32 = 3;

/// Spins in time after which a late one is forgotten.
const FORGIVEN_AFTER: u32 = 1_000;

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpinChoice {
    /// As long as it does not make the sender late.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl SpinChoice {
    /// The name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// Why a sender that might spin does not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyNot {
    /// Threads of this program share its CPU.
    Shared,
    /// The CPU time that its control group may use, in CPUs.
    Quota(f64),
    /// It was preempted this often while it spun.
    Preempted(u32),
}

impl std::fmt::Display for WhyNot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shared => write!(f, "it has no CPU to itself"),
            Self::Quota(cpus) => write!(f, "its control group has a quota of {cpus} CPUs"),
            Self::Preempted(times) => write!(
                f,
                "other threads took its CPU away {times} times while it spun, which made it late"
            ),
        }
    }
}

/// The decision of one sender.
#[derive(Debug, Clone)]
pub struct Spin {
    choice: SpinChoice,
    why_not: Option<WhyNot>,
    /// Preemptions when they were last looked at.
    preemptions: u64,
    late: u32,
    in_time: u32,
}

impl Spin {
    /// Of a sender thread that was preempted `preemptions` times so far. `alone` says that no other thread of this program is
    /// kept on its CPU, `quota` is what its control group may use, in CPUs, and `streams` how many senders there are.
    pub fn new(
        choice: SpinChoice,
        alone: bool,
        quota: Option<f64>,
        streams: usize,
        preemptions: u64,
    ) -> Self {
        // A sender that spins takes a CPU, and the rest of the program needs some time too.
        let quota = quota.filter(|&cpus| cpus < streams as f64 + 1.0);
        let why_not = match (choice, alone, quota) {
            (SpinChoice::Auto, _, Some(cpus)) => Some(WhyNot::Quota(cpus)),
            (SpinChoice::Auto, false, None) => Some(WhyNot::Shared),
            _ => None,
        };
        Self {
            choice,
            why_not,
            preemptions,
            late: 0,
            in_time: 0,
        }
    }

    /// How long before a deadline to stop sleeping, in ns; 0 where it does not spin.
    #[inline]
    pub fn lead_ns(&self) -> u64 {
        match self.is_on() {
            true => LEAD_NS,
            false => 0,
        }
    }

    /// Takes note of a spin that ended `late` ns behind its deadline. `preemptions` counts those of the thread so far.
    #[inline]
    pub fn ended(&mut self, late: u64, preemptions: impl FnOnce() -> u64) {
        if self.choice != SpinChoice::Auto {
            return;
        }
        if late <= LATE_NS {
            self.in_time += 1;
            if self.in_time == FORGIVEN_AFTER {
                self.in_time = 0;
                self.late = self.late.saturating_sub(1);
            }
            return;
        }
        let now = preemptions();
        if now > self.preemptions {
            self.late += 1;
            self.in_time = 0;
            if self.late == MOST_LATE {
                self.why_not = Some(WhyNot::Preempted(self.late));
            }
        }
        self.preemptions = now;
    }

    /// Whether it spins now.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.choice != SpinChoice::Off && self.why_not.is_none()
    }

    /// Why `auto` does not spin, or has stopped to.
    pub fn why_not(&self) -> Option<WhyNot> {
        self.why_not
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto() -> Spin {
        Spin::new(SpinChoice::Auto, true, None, 1, 0)
    }

    #[test]
    fn auto_gives_up_when_spins_are_preempted_and_not_when_the_machine_is_slow() {
        let mut spin = auto();
        for _ in 0..100 {
            spin.ended(5_000_000, || 0);
        }
        assert_eq!(spin.lead_ns(), LEAD_NS);
        for preempted in 1..=3 {
            assert!(spin.is_on());
            spin.ended(3_000_000, || preempted);
        }
        assert_eq!(spin.lead_ns(), 0);
        assert_eq!(spin.why_not(), Some(WhyNot::Preempted(3)));
    }

    #[test]
    fn a_rare_disturbance_is_forgotten() {
        let mut spin = auto();
        for preempted in 1..=20 {
            spin.ended(3_000_000, || preempted);
            for _ in 0..FORGIVEN_AFTER {
                spin.ended(100, || unreachable!("it was in time"));
            }
        }
        assert!(spin.is_on());
    }

    #[test]
    fn a_quota_or_a_shared_cpu_is_reason_enough_for_auto_only() {
        let of = |choice, alone, quota| Spin::new(choice, alone, quota, 1, 0);
        let by_quota = of(SpinChoice::Auto, true, Some(0.2));
        assert_eq!(by_quota.why_not(), Some(WhyNot::Quota(0.2)));
        assert!(of(SpinChoice::Auto, true, Some(4.0)).is_on());
        assert!(!of(SpinChoice::Auto, false, None).is_on());
        let mut forced = of(SpinChoice::On, false, Some(0.2));
        for preempted in 1..=10 {
            forced.ended(3_000_000, || preempted);
        }
        assert!(forced.is_on());
        assert!(!of(SpinChoice::Off, true, None).is_on());
    }
}
