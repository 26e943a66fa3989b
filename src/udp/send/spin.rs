//! Whether a paced sender spins for the last stretch before a deadline. Pure: times and counters in, a decision out.
//!
//! While the sender has its CPU, spinning sends closer to the deadline than sleeping. If another thread needs the CPU, the scheduler
//! preempts a thread that never sleeps, and favours a thread that wakes up. Under a CPU quota, the spinning uses up the quota.
//! In both cases spinning makes the sender late.

use crate::udp::plan::SpinChoice;
use crate::udp::wire::results;
use crate::units::counted;

/// How long before a deadline a spinning sender wakes up, in ns. A wake-up takes 16 to 50 µs on bare metal; on a virtual machine
/// 1 % take more than 100 µs. With 60 µs, the 99 % gap error at 1,000 datagrams per second was above 100 µs; with this value it is
/// mostly below 25 µs, at the cost of 0.3 CPUs.
const LEAD_NS: u64 = 300_000;

/// A preempted spin that ends later than this, in ns, is a late spin. A sleeping thread wakes up within this time.
const LATE_NS: u64 = 200_000;

/// Late spins after which the sender stops spinning.
const MAX_LATE: u32 = 3;

/// Spins in time after which one late spin is no longer counted.
const FORGIVEN_AFTER: u32 = 1_000;

/// Why a sender does not spin under `auto`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NoSpin {
    /// Other threads of this program share its CPU.
    Shared,
    /// CPU quota of its control group, in CPUs.
    Quota(f64),
    /// Times that it was preempted while it spun.
    Preempted(u32),
}

impl From<NoSpin> for results::NoSpin {
    fn from(why: NoSpin) -> Self {
        match why {
            NoSpin::Shared => Self::Shared,
            NoSpin::Quota(cpus) => Self::Quota(cpus),
            NoSpin::Preempted(times) => Self::Preempted(times),
        }
    }
}

impl From<results::NoSpin> for NoSpin {
    fn from(why: results::NoSpin) -> Self {
        match why {
            results::NoSpin::Shared => Self::Shared,
            results::NoSpin::Quota(cpus) => Self::Quota(cpus),
            results::NoSpin::Preempted(times) => Self::Preempted(times),
        }
    }
}

impl std::fmt::Display for NoSpin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shared => write!(f, "it has no CPU to itself"),
            Self::Quota(cpus) => write!(f, "its control group has a quota of {cpus} CPUs"),
            Self::Preempted(times) => write!(
                f,
                "other threads took its CPU away {} while it spun, which made it late",
                counted((*times).into(), "time")
            ),
        }
    }
}

/// The decision for one sender.
#[derive(Debug, Clone)]
pub struct Spin {
    choice: SpinChoice,
    why_not: Option<NoSpin>,
    /// Preemptions of the thread at the last late spin.
    preemptions: u64,
    late: u32,
    in_time: u32,
}

impl Spin {
    /// For a sender thread that was preempted `preemptions` times so far. `alone` is true if no other thread of this program is
    /// pinned to its CPU, `quota` is the CPU quota of its control group in CPUs, and `streams` is the number of senders.
    pub fn new(
        choice: SpinChoice,
        alone: bool,
        quota: Option<f64>,
        streams: usize,
        preemptions: u64,
    ) -> Self {
        // Each spinning sender uses one CPU, and the rest of the program needs some time too.
        let quota = quota.filter(|&cpus| cpus < streams as f64 + 1.0);
        let why_not = match (choice, alone, quota) {
            (SpinChoice::Auto, _, Some(cpus)) => Some(NoSpin::Quota(cpus)),
            (SpinChoice::Auto, false, None) => Some(NoSpin::Shared),
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

    /// How long before a deadline to stop sleeping, in ns; 0 if the sender does not spin.
    #[inline]
    pub fn lead_ns(&self) -> u64 {
        match self.is_on() {
            true => LEAD_NS,
            false => 0,
        }
    }

    /// Records a spin that ended `late` ns after its deadline. `preemptions` returns the preemptions of the thread so far.
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
            if self.late == MAX_LATE {
                self.why_not = Some(NoSpin::Preempted(self.late));
            }
        }
        self.preemptions = now;
    }

    /// Whether the sender spins now.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.choice != SpinChoice::Off && self.why_not.is_none()
    }

    /// Why `auto` does not spin, or stopped spinning.
    pub fn why_not(&self) -> Option<NoSpin> {
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
    fn auto_stops_spinning_after_preempted_spins_only() {
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
        assert_eq!(spin.why_not(), Some(NoSpin::Preempted(3)));
    }

    #[test]
    fn rare_late_spins_are_forgiven() {
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
    fn a_quota_or_a_shared_cpu_prevents_spinning_under_auto_only() {
        let of = |choice, alone, quota| Spin::new(choice, alone, quota, 1, 0);
        let by_quota = of(SpinChoice::Auto, true, Some(0.2));
        assert_eq!(by_quota.why_not(), Some(NoSpin::Quota(0.2)));
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
