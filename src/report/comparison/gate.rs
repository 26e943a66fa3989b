//! Whether a new record is slower than its base by more than is allowed.
//!
//! A slowdown is `1 - new / base` of a rate, and of a latency, taken as a speed, `1 - base / new`. Which figures a
//! setting is judged by is its [`Row`]'s to say.

use super::group::Row;
use crate::stats::ratio::Interval;

/// A figure that a setting is judged by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// What is said of the setting when the figure falls: `slower`.
    pub worse: &'static str,
    /// What the figure is called.
    pub figure: &'static str,
    /// It as a multiple of the base's, more being better; `None` where too few runs were done.
    pub interval: Option<Interval>,
}

impl Judged {
    /// A figure of speed.
    pub fn slower(figure: &'static str, interval: Option<Interval>) -> Self {
        Self {
            worse: "slower",
            figure,
            interval,
        }
    }
}

/// What became of each setting.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gate {
    /// How many there were to judge.
    pub judged: usize,
    /// Slower for certain, by more than the threshold: a sentence each.
    pub regressed: Vec<String>,
    /// In another way worse, for which there is no threshold: a sentence each.
    pub broken: Vec<String>,
    /// Too few runs to tell: their names.
    pub undecided: Vec<String>,
    /// Not judged, and slower all the same, so that the cause may lie in what all have in common: their names.
    pub controls: Vec<String>,
}

/// Judges the second of each pair in `rows` by the first, with `threshold` as a share of 1. What fails is a slowdown
/// that is larger even at its lower bound, so that noise fails nobody.
pub fn judge(rows: &[impl Row], threshold: f64) -> Gate {
    let mut gate = Gate::default();
    for [base, new] in rows.as_chunks().0 {
        if new.is_slower_control() {
            gate.controls.push(new.name().to_owned());
        }
        let figures = new.judged();
        if figures.is_empty() {
            continue;
        }
        gate.judged += 1;
        let regressed = figures.iter().filter_map(|of| of.regressed(threshold));
        let regressed: Vec<String> = regressed
            .map(|(worse, by)| {
                let (name, base) = (new.name(), base.name());
                format!(
                    "{name} is {} than {base} by {:.2} % or more in {}",
                    worse.worse,
                    by * 100.0,
                    worse.figure
                )
            })
            .collect();
        let broken = new.broken(base);
        let is_unknown = figures.iter().any(|of| of.interval.is_none());
        if is_unknown && regressed.is_empty() && broken.is_none() {
            gate.undecided.push(new.name().to_owned());
        }
        gate.regressed.extend(regressed);
        gate.broken.extend(broken);
    }
    gate
}

impl Judged {
    /// The share that it fell by at least, where that is too much.
    fn regressed(&self, threshold: f64) -> Option<(&Self, f64)> {
        let interval = self.interval?;
        (interval.high < 1.0 - threshold).then_some((self, 1.0 - interval.high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::{Compared, Ratios};
    use crate::stats::ratio::{Ratio, Verdict};

    /// A setting of which the ratio to its base is this, beside that.
    fn pair(mode: &str, low: f64, high: f64) -> [Compared; 2] {
        let ratio = Some(Ratio {
            ratio: f64::midpoint(low, high),
            interval: Some(Interval { low, high }),
            verdict: Verdict::Lower,
        });
        let none = Ratios::default();
        let base = Compared {
            setting: "base".into(),
            mode: mode.into(),
            ..Compared::default()
        };
        let new = Compared {
            setting: "new".into(),
            base: Some("base".into()),
            ratios: Some(match mode {
                "paced" => Ratios {
                    latency_p99_ns: ratio,
                    ..none
                },
                _ => Ratios {
                    kb_per_s: ratio,
                    ..none
                },
            }),
            ..base.clone()
        };
        [base, new]
    }

    fn passed() -> Gate {
        Gate {
            judged: 1,
            ..Gate::default()
        }
    }

    #[test]
    fn only_a_slowdown_beyond_the_threshold_at_its_lower_bound_fails() {
        let regressed = |mode, low, high| !judge(&pair(mode, low, high), 0.05).regressed.is_empty();
        assert!(regressed("lossless", 0.80, 0.94));
        assert!(!regressed("lossless", 0.80, 0.96));
        assert!(!regressed("lossless", 0.80, 0.95));
        assert!(!regressed("blast", 1.10, 1.20));
        assert!(regressed("blast", 0.10, 0.20));
    }

    #[test]
    fn a_paced_run_is_slower_when_its_latency_is_longer() {
        let told = judge(&pair("paced", 1.25, 1.50), 0.05);
        assert_eq!(
            told.regressed,
            ["new is slower than base by 20.00 % or more in 99 % latency"]
        );
        assert_eq!(judge(&pair("paced", 1.04, 1.50), 0.05), passed());
        assert_eq!(judge(&pair("paced", 0.50, 0.60), 0.05), passed());
    }

    #[test]
    fn without_an_interval_nothing_is_decided_and_the_base_is_not_judged() {
        let [base, mut unknown] = pair("lossless", 0.1, 0.2);
        unknown.ratios = None;
        let gate = judge(&[base, unknown], 0.05);
        assert_eq!((gate.judged, gate.undecided), (1, vec!["new".to_owned()]));
    }
}
