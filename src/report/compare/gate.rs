//! The regression gate: whether a new record is slower than its base by more than a threshold.
//!
//! The slowdown of a rate is `1 - new / base`; the slowdown of a latency is `1 - base / new`. [`Compared::judged`] selects the
//! figures of a setting.

use super::setting::Compared;

/// The outcome for each setting.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gate {
    /// Number of judged settings.
    pub judged: usize,
    /// Slower by more than the threshold at the lower bound of the slowdown: one sentence each.
    pub regressed: Vec<String>,
    /// Faults that the base does not have, which need no threshold: one sentence each.
    pub faults: Vec<String>,
    /// Names of settings with too few runs.
    pub undecided: Vec<String>,
    /// Names of slower controls, which are not judged. The cause may be common to all settings.
    pub controls: Vec<String>,
}

/// Judges the second of each pair in `settings` by the first, with `threshold` as a share of 1. A setting fails if its slowdown
/// exceeds the threshold even at the lower bound of its interval, so noise fails no setting.
pub fn judge(settings: &[impl Compared], threshold: f64) -> Gate {
    let mut gate = Gate::default();
    for [base, new] in settings.as_chunks().0 {
        if new.is_slower_control() {
            gate.controls.push(new.name().to_owned());
        }
        let figures = new.judged();
        if figures.is_empty() {
            continue;
        }
        gate.judged += 1;
        let regressed: Vec<String> = figures
            .iter()
            .filter_map(|figure| {
                let best = figure.interval?.high;
                let is_regression = best < 1.0 - threshold;
                is_regression.then(|| {
                    format!(
                        "{} is {} than {} by {:.2} % or more in {}",
                        new.name(),
                        figure.worse,
                        base.name(),
                        (1.0 - best) * 100.0,
                        figure.figure
                    )
                })
            })
            .collect();
        let fault = new.new_fault(base);
        let is_unknown = figures.iter().any(|of| of.interval.is_none());
        if is_unknown && regressed.is_empty() && fault.is_none() {
            gate.undecided.push(new.name().to_owned());
        }
        gate.regressed.extend(regressed);
        gate.faults.extend(fault);
    }
    gate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::udp::{ComparedSetting, Ratios};
    use crate::stats::ratio::{Interval, Ratio, Verdict};

    /// A base, and a setting with this ratio to it.
    fn pair(mode: &str, low: f64, high: f64) -> [ComparedSetting; 2] {
        let ratio = Some(Ratio {
            ratio: f64::midpoint(low, high),
            interval: Some(Interval { low, high }),
            verdict: Verdict::Lower,
        });
        let none = Ratios::default();
        let base = ComparedSetting {
            setting: "base".into(),
            mode: mode.into(),
            ..ComparedSetting::default()
        };
        let new = ComparedSetting {
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
    fn slowdown_fails_only_above_the_threshold_at_its_lower_bound() {
        let regressed = |mode, low, high| !judge(&pair(mode, low, high), 0.05).regressed.is_empty();
        assert!(regressed("lossless", 0.80, 0.94));
        assert!(!regressed("lossless", 0.80, 0.96));
        assert!(!regressed("lossless", 0.80, 0.95));
        assert!(!regressed("blast", 1.10, 1.20));
        assert!(regressed("blast", 0.10, 0.20));
    }

    #[test]
    fn paced_setting_is_slower_with_a_longer_latency() {
        let gate = judge(&pair("paced", 1.25, 1.50), 0.05);
        assert_eq!(
            gate.regressed,
            ["new is slower than base by 20.00 % or more in 99 % latency"]
        );
        assert_eq!(judge(&pair("paced", 1.04, 1.50), 0.05), passed());
        assert_eq!(judge(&pair("paced", 0.50, 0.60), 0.05), passed());
    }

    #[test]
    fn setting_without_an_interval_is_undecided() {
        let [base, mut unknown] = pair("lossless", 0.1, 0.2);
        unknown.ratios = None;
        let gate = judge(&[base, unknown], 0.05);
        assert_eq!((gate.judged, gate.undecided), (1, vec!["new".to_owned()]));
    }
}
