//! Loads with their trials, and the classification of a load.

use super::goal::Target;

/// The result of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Trial load, in datagrams a second.
    pub load: f64,
    /// Trial effective duration in seconds.
    pub duration_s: f64,
    /// Trial loss ratio.
    pub loss_ratio: f64,
    /// Whether the sender offered the load.
    pub offered: Offered,
    /// Whether most losses are at the receiver's socket.
    pub is_lost_at_receiver: bool,
}

/// Whether a sender offered its load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Offered {
    /// On time.
    Full,
    /// In bursts after pauses, which may have caused the losses.
    Late,
    /// Not all of it: `achieved` datagrams a second.
    Short {
        /// Datagrams a second.
        achieved: f64,
    },
}

/// The class of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Enough trials within the goal's loss ratio.
    Lower,
    /// Too many trials that are not.
    Upper(Cause),
    /// Too few trials.
    Undecided,
}

impl Bound {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Upper(Cause::Loss) => "upper",
            Self::Upper(Cause::Sender) => "sender",
            Self::Undecided => "undecided",
        }
    }
}

/// The cause of an upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Losses.
    Loss,
    /// The sender does not offer the load.
    Sender,
}

/// `load` with six significant digits, so that equal loads are equal numbers.
pub fn rounded(load: f64) -> f64 {
    if !load.is_normal() {
        return load;
    }
    let digits = 5 - load.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits.abs());
    match digits {
        0.. => (load * scale).round() / scale,
        _ => (load / scale).round() * scale,
    }
}

/// All trials, by load.
#[derive(Debug, Clone, Default)]
pub(super) struct Loads(Vec<(f64, Vec<Trial>)>);

impl Loads {
    pub(super) fn add(&mut self, trial: Trial) {
        match self.0.iter_mut().find(|(load, _)| *load == trial.load) {
            Some((_, trials)) => trials.push(trial),
            None => self.0.push((trial.load, vec![trial])),
        }
    }

    fn trials(&self, load: f64) -> &[Trial] {
        let found = self.0.iter().find(|(of, _)| *of == load);
        found.map_or(&[], |(_, trials)| trials)
    }

    pub(super) fn classify(&self, load: f64, target: &Target) -> Bound {
        classify(self.trials(load), target)
    }

    /// The relevant lower and upper bound (RFC 9971, 4.8): the smallest upper bound, and the largest lower bound below it. A limit of
    /// the sender is a bound only above that lower bound: the sender has offered less.
    pub(super) fn bounds(&self, target: &Target) -> (Option<f64>, Option<(f64, Cause)>) {
        let classes = self
            .0
            .iter()
            .map(|(load, trials)| (*load, classify(trials, target)));
        let classes: Vec<(f64, Bound)> = classes.collect();
        let of = |class: Bound| {
            let all = classes.iter().filter(move |(_, of)| *of == class);
            all.map(|(load, _)| *load)
        };
        let lossy = of(Bound::Upper(Cause::Loss)).min_by(f64::total_cmp);
        let lower = of(Bound::Lower)
            .filter(|load| lossy.is_none_or(|upper| *load < upper))
            .max_by(f64::total_cmp);
        let limit = of(Bound::Upper(Cause::Sender))
            .filter(|load| lower.is_none_or(|lower| *load > lower))
            .min_by(f64::total_cmp);
        let upper = match (lossy, limit) {
            (Some(lossy), Some(limit)) if limit < lossy => Some((limit, Cause::Sender)),
            (Some(lossy), _) => Some((lossy, Cause::Loss)),
            (None, limit) => limit.map(|limit| (limit, Cause::Sender)),
        };
        (lower, upper)
    }

    /// Whether most of the trials with too much loss at this load lost it at the receiver's socket.
    pub(super) fn is_lossy_at_receiver(&self, load: f64, target: &Target) -> bool {
        let trials = self.trials(load).iter();
        let lossy = trials.filter(|trial| trial.loss_ratio > target.loss_ratio);
        let at_receiver = lossy.clone().filter(|trial| trial.is_lost_at_receiver);
        2 * at_receiver.count() > lossy.count()
    }

    /// The conditional throughput at a load (RFC 9971, appendix B): the load without the loss ratio that the longer trials exceed in
    /// no more than the exceed ratio of their time. Missing time counts as lost.
    pub(super) fn conditional_throughput(&self, load: f64, target: &Target) -> f64 {
        let counted =
            |trial: &&Trial| trial.duration_s >= target.trial_s && is_valid(trial, target);
        let mut long: Vec<&Trial> = self.trials(load).iter().filter(counted).collect();
        long.sort_by(|one, other| one.loss_ratio.total_cmp(&other.loss_ratio));
        let all: f64 = long.iter().map(|trial| trial.duration_s).sum();
        let mut remaining = all.max(target.sum_s) * (1.0 - target.exceed_ratio);
        let mut loss = 1.0;
        for (at, trial) in long.iter().enumerate() {
            if at > 0 && remaining <= 0.0 {
                return load * (1.0 - loss);
            }
            loss = trial.loss_ratio;
            remaining -= trial.duration_s;
        }
        load * match remaining > 0.0 {
            true => 0.0,
            false => 1.0 - loss,
        }
    }
}

/// Whether the trial shows the path: not one of a sender that fell short, or was late and so may have caused too much loss.
fn is_valid(trial: &Trial, target: &Target) -> bool {
    match trial.offered {
        Offered::Full => true,
        Offered::Late => trial.loss_ratio <= target.loss_ratio,
        Offered::Short { .. } => false,
    }
}

/// The class of a load with these trials (RFC 9971, appendix A). Trials that do not show the path count as lossy, because the sender
/// cannot use the load either, and decide the cause. One of them is forgiven: the host may have paused.
fn classify(trials: &[Trial], target: &Target) -> Bound {
    // Seconds of longer and of shorter trials, of each those with little and with much loss.
    let (mut long, mut short) = ([0.0; 2], [0.0; 2]);
    let (mut invalid, mut forgiven) = (0.0, 0.0_f64);
    for trial in trials {
        let is_long = trial.duration_s >= target.trial_s;
        let is_lossy = trial.loss_ratio > target.loss_ratio;
        if is_valid(trial, target) {
            let sums = if is_long { &mut long } else { &mut short };
            sums[usize::from(is_lossy)] += trial.duration_s;
        } else if is_long {
            // A pause is a larger part of a short trial, so these do not count for a stricter target.
            invalid += trial.duration_s;
            forgiven = forgiven.max(trial.duration_s);
        }
    }
    let invalid = invalid - forgiven;
    let balancing = short[0] * target.exceed_ratio / (1.0 - target.exceed_ratio);
    let lossy = long[1] + (short[1] - balancing).max(0.0);
    let bad = lossy + invalid;
    let whole = (long[0] + bad).max(target.sum_s);
    let allowed = whole * target.exceed_ratio;
    // If all missing time is lossy, or if none is.
    if whole - long[0] <= allowed {
        Bound::Lower
    } else if bad > allowed {
        Bound::Upper(match lossy >= invalid {
            true => Cause::Loss,
            false => Cause::Sender,
        })
    } else {
        Bound::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: Target = Target {
        loss_ratio: 0.01,
        exceed_ratio: 0.5,
        log_width: 0.005,
        trial_s: 1.0,
        sum_s: 5.0,
    };

    fn trial(duration_s: f64, loss_ratio: f64) -> Trial {
        Trial {
            load: 100.0,
            duration_s,
            loss_ratio,
            offered: Offered::Full,
            is_lost_at_receiver: false,
        }
    }

    fn class(trials: &[Trial]) -> Bound {
        classify(trials, &TARGET)
    }

    #[test]
    fn a_load_is_decided_once_missing_trials_cannot_change_it() {
        let (good, bad) = (trial(1.0, 0.01), trial(1.0, 0.02));
        assert_eq!(class(&[]), Bound::Undecided);
        assert_eq!(class(&[good, good]), Bound::Undecided);
        assert_eq!(class(&[good, good, good]), Bound::Lower);
        assert_eq!(class(&[good, bad, good, bad]), Bound::Undecided);
        assert_eq!(class(&[bad, bad, bad]), Bound::Upper(Cause::Loss));
        let strict = Target {
            exceed_ratio: 0.0,
            ..TARGET
        };
        assert_eq!(classify(&[good; 4], &strict), Bound::Undecided);
        assert_eq!(classify(&[good; 5], &strict), Bound::Lower);
        assert_eq!(classify(&[good, bad], &strict), Bound::Upper(Cause::Loss));
    }

    #[test]
    fn short_trials_can_only_make_an_upper_bound() {
        assert_eq!(class(&[trial(0.5, 0.0); 40]), Bound::Undecided);
        assert_eq!(class(&[trial(0.5, 0.5); 6]), Bound::Upper(Cause::Loss));
        // Short good trials balance short bad ones.
        let mixed: Vec<Trial> = [trial(0.5, 0.0), trial(0.5, 0.5)].repeat(20);
        assert_eq!(class(&mixed), Bound::Undecided);
    }

    #[test]
    fn a_sender_that_falls_short_is_no_loss_of_the_path() {
        let short = Trial {
            offered: Offered::Short { achieved: 90.0 },
            ..trial(1.0, 0.5)
        };
        let late = Trial {
            offered: Offered::Late,
            ..trial(1.0, 0.5)
        };
        let good = trial(1.0, 0.0);
        assert_eq!(class(&[short; 3]), Bound::Undecided);
        assert_eq!(class(&[short; 4]), Bound::Upper(Cause::Sender));
        assert_eq!(class(&[short, good, late, good, short, good]), Bound::Lower);
        // One pause is forgiven, also where no loss is allowed.
        let strict = Target {
            exceed_ratio: 0.0,
            ..TARGET
        };
        let trials = [late, good, good, good, good, good];
        assert_eq!(classify(&trials, &strict), Bound::Lower);
        assert_eq!(
            classify(&[late, late], &strict),
            Bound::Upper(Cause::Sender)
        );
        // Most of the bad time is that of the path.
        let bad = trial(1.0, 0.5);
        assert_eq!(class(&[bad, late, bad, late]), Bound::Upper(Cause::Loss));
        // A late sender without loss shows that the path carries the load.
        let late = Trial {
            loss_ratio: 0.0,
            ..late
        };
        assert_eq!(class(&[late, late, late]), Bound::Lower);
    }

    #[test]
    fn a_limit_of_the_sender_below_a_lower_bound_is_no_bound() {
        let mut loads = Loads::default();
        let at = |load, offered| Trial {
            load,
            offered,
            ..trial(1.0, 0.0)
        };
        let short = Offered::Short { achieved: 90.0 };
        for load in [100.0, 300.0] {
            (0..4).for_each(|_| loads.add(at(load, short)));
        }
        assert_eq!(loads.bounds(&TARGET), (None, Some((100.0, Cause::Sender))));
        (0..3).for_each(|_| loads.add(at(200.0, Offered::Full)));
        assert_eq!(
            loads.bounds(&TARGET),
            (Some(200.0), Some((300.0, Cause::Sender)))
        );
    }

    #[test]
    fn conditional_throughput_is_the_load_without_the_quantile_of_loss() {
        let mut loads = Loads::default();
        for loss in [0.0, 0.004, 0.008] {
            loads.add(trial(1.0, loss));
        }
        // Of 5 s, 2.5 s must lose no more: the third trial.
        let throughput = loads.conditional_throughput(100.0, &TARGET);
        assert!((throughput - 99.2).abs() < 1e-9, "{throughput}");
        loads.add(trial(1.0, 0.0));
        let throughput = loads.conditional_throughput(100.0, &TARGET);
        assert!((throughput - 99.6).abs() < 1e-9, "{throughput}");
        assert_eq!(loads.conditional_throughput(7.0, &TARGET), 0.0);
    }

    #[test]
    fn loads_have_six_digits() {
        for (load, expected) in [
            (123_456.78, 123_457.0),
            (12_345_678.0, 12_345_700.0),
            (0.001_234_567_8, 0.001_234_57),
            (1e9, 1e9),
            (0.0, 0.0),
        ] {
            assert_eq!(rounded(load), expected);
        }
    }

    proptest! {
        #[test]
        fn rounding_is_stable_and_close(load in 0.001..1e9) {
            let once = rounded(load);
            prop_assert_eq!(rounded(once), once);
            prop_assert!((once - load).abs() <= load * 5.1e-6);
        }

        #[test]
        fn a_load_with_the_whole_sum_is_decided(losses: [bool; 5], more in 0..8_usize, exceed in 0.0..0.99) {
            let target = Target { exceed_ratio: exceed, ..TARGET };
            let mut trials: Vec<Trial> = losses.iter().map(|lossy| trial(1.0, f64::from(u8::from(*lossy)))).collect();
            trials.extend(vec![trial(0.2, 1.0); more]);
            let late = Trial { offered: Offered::Late, ..trial(1.0, 1.0) };
            trials.extend(vec![late; more / 2]);
            prop_assert_ne!(classify(&trials, &target), Bound::Undecided);
        }
    }
}
