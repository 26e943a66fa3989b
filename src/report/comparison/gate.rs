//! Whether a new record is slower than its base by more than is allowed.
//!
//! A slowdown is `1 - new / base` of the goodput. Paced runs have their goodput from the schedule, so
//! theirs is that of the 99 % latency from the intended send, taken as a speed: `1 - base / new`.

use crate::report::record::Compared;
use crate::stats::ratio::Interval;

/// What became of each setting.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gate {
    /// Slower for certain, by more than the threshold: a sentence each.
    pub regressed: Vec<String>,
    /// Too few runs to tell: their names.
    pub undecided: Vec<String>,
}

/// Judges every row of `rows` that has a base, with `threshold` as a share of 1. What fails is a slowdown that
/// is larger even at its lower bound, so that noise fails nobody.
pub fn judge(rows: &[Compared], threshold: f64) -> Gate {
    let mut gate = Gate::default();
    for row in rows.iter().filter(|row| row.base.is_some()) {
        let (name, interval) = speed(row);
        match interval {
            None => gate.undecided.push(row.setting.clone()),
            Some(speed) if speed.high < 1.0 - threshold => gate.regressed.push(format!(
                "{} is slower than {} by {:.2} % or more in {name}",
                row.setting,
                row.base.as_deref().unwrap_or_default(),
                (1.0 - speed.high) * 100.0,
            )),
            Some(_) => {}
        }
    }
    gate
}

/// The figure that settings are judged by, as a multiple of the base's, more being better.
fn speed(row: &Compared) -> (&'static str, Option<Interval>) {
    let ratios = row.ratios.unwrap_or_default();
    if row.mode != "paced" {
        return ("KB/s", ratios.kb_per_s.and_then(|ratio| ratio.interval));
    }
    let slowness = ratios.latency_p99_ns.and_then(|ratio| ratio.interval);
    let speed = slowness.map(|of| Interval {
        low: 1.0 / of.high,
        high: 1.0 / of.low,
    });
    ("99 % latency", speed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::Ratios;
    use crate::stats::ratio::{Ratio, Verdict};

    fn row(mode: &str, low: f64, high: f64) -> Compared {
        let ratio = Some(Ratio {
            ratio: f64::midpoint(low, high),
            interval: Some(Interval { low, high }),
            verdict: Verdict::Lower,
        });
        let none = Ratios::default();
        Compared {
            setting: "new".into(),
            base: Some("base".into()),
            mode: mode.into(),
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
            ..Compared::default()
        }
    }

    #[test]
    fn only_a_slowdown_beyond_the_threshold_at_its_lower_bound_fails() {
        let regressed =
            |mode, low, high| !judge(&[row(mode, low, high)], 0.05).regressed.is_empty();
        assert!(regressed("lossless", 0.80, 0.94));
        assert!(!regressed("lossless", 0.80, 0.96));
        assert!(!regressed("lossless", 0.80, 0.95));
        assert!(!regressed("blast", 1.10, 1.20));
        assert!(regressed("blast", 0.10, 0.20));
    }

    #[test]
    fn a_paced_run_is_slower_when_its_latency_is_longer() {
        let told = judge(&[row("paced", 1.25, 1.50)], 0.05);
        assert_eq!(
            told.regressed,
            ["new is slower than base by 20.00 % or more in 99 % latency"]
        );
        assert_eq!(judge(&[row("paced", 1.04, 1.50)], 0.05), Gate::default());
        assert_eq!(judge(&[row("paced", 0.50, 0.60)], 0.05), Gate::default());
    }

    #[test]
    fn without_an_interval_nothing_is_decided_and_the_base_is_not_judged() {
        let mut unknown = row("lossless", 0.1, 0.2);
        unknown.ratios = None;
        assert_eq!(
            judge(&[Compared::default(), unknown], 0.05).undecided,
            ["new"]
        );
    }
}
