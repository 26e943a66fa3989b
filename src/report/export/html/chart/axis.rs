//! An axis: its range, its labelled ticks, and the position of a value on it.

use crate::report::figures::figure;

/// An axis of a chart.
#[derive(Debug, Clone)]
pub(in super::super) struct Axis {
    name: &'static str,
    /// Follows the name in the chart; empty where every label has its unit.
    unit: String,
    /// The units of the labels, in the description, where every label has its unit.
    kind: &'static str,
    scale: Scale,
    /// Ends of the axis, as values.
    low: f64,
    high: f64,
    /// Values and labels.
    pub(super) ticks: Vec<(f64, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Logarithmic,
}

/// Steps within a decade.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

/// Steps within a part of a decade.
const FINE_STEPS: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];

/// Most ticks on a linear axis.
const MOST_TICKS: f64 = 6.0;

/// The largest end of an axis. Lengths, steps and ends rounded up stay finite.
const LARGEST: f64 = 1e300;

impl Axis {
    /// A linear axis over `values` and 0.
    pub(in super::super) fn from_zero(
        name: &'static str,
        unit: impl Into<String>,
        values: impl Iterator<Item = f64>,
    ) -> Self {
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        Self::linear(name, unit.into(), low, high)
    }

    /// As [`Self::from_zero`], of counts: a tick is a whole number.
    pub(in super::super) fn of_counts(
        name: &'static str,
        unit: &'static str,
        values: impl Iterator<Item = f64>,
    ) -> Self {
        let mut axis = Self::from_zero(name, unit, values);
        axis.ticks.retain(|(value, _)| value.fract() == 0.0);
        for (value, label) in &mut axis.ticks {
            *label = decimal(*value, 1.0);
        }
        axis
    }

    /// A linear axis from `low` to at least `high`.
    pub(in super::super) fn linear(name: &'static str, unit: String, low: f64, high: f64) -> Self {
        let (low, high) = (low.max(-LARGEST), high.min(LARGEST));
        let high = if high > low { high } else { low + 1.0 };
        let step = step(high - low);
        // An end that rounding errors put just beyond a tick is at that tick.
        let first = (low / step + 1e-9).floor();
        let last = (high / step - 1e-9).ceil().max(first + 1.0);
        let count = (last - first).clamp(1.0, 2.0 * MOST_TICKS) as usize;
        let ticks = (0..=count).map(|n| (first + n as f64) * step);
        Self {
            name,
            unit,
            kind: "",
            scale: Scale::Linear,
            low: first * step,
            high: last * step,
            ticks: ticks.map(|value| (value, decimal(value, step))).collect(),
        }
    }

    /// A linear axis that ends at `high`, for time.
    pub(in super::super) fn time(seconds: f64) -> Self {
        let (unit, scale) = match seconds {
            _ if seconds >= 600.0 => ("min", 60.0),
            _ if seconds >= 1.0 => ("s", 1.0),
            _ => ("ms", 1e-3),
        };
        let mut axis = Self::linear(
            "time since the start",
            unit.to_owned(),
            0.0,
            seconds / scale,
        );
        axis.ticks.iter_mut().for_each(|tick| tick.0 *= scale);
        (axis.high, axis.low) = (seconds.max(scale * 1e-9), 0.0);
        axis.ticks.retain(|tick| tick.0 <= seconds * 1.001);
        axis
    }

    /// A logarithmic axis over `values` in ns.
    pub(in super::super) fn latency(name: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::MAX, 1.0_f64);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value.max(1.0)), high.max(value.min(LARGEST)));
        }
        let (low, high) = (down(low.min(high)), up(high));
        let high = if high > low { high } else { low * 10.0 };
        let decades = (high / low).log10();
        let steps = match decades {
            _ if decades <= 0.75 => &FINE_STEPS[..],
            _ if decades <= 2.6 => &STEPS[..],
            _ => &STEPS[..1],
        };
        let mut ticks = Vec::new();
        // The longest latency of 64 bits is in the twentieth decade.
        let every = if decades > 9.0 { 3 } else { 1 };
        for exponent in (0..=19).step_by(every) {
            for step in steps {
                let value = step * 10_f64.powi(exponent);
                if value >= low * 0.999 && value <= high * 1.001 {
                    ticks.push((value, time_label(value)));
                }
            }
        }
        Self {
            name,
            unit: String::new(),
            kind: "in ns, us, ms or s, logarithmic",
            scale: Scale::Logarithmic,
            low,
            high,
            ticks,
        }
    }

    /// Percentiles by the logarithm of 1/(1-p), up to that of one in `count` values.
    pub(in super::super) fn percentile(count: u64) -> Self {
        let high = (count as f64).clamp(10.0, 1e12);
        let mut ticks = vec![(2.0, "50 %".to_owned())];
        for exponent in 1..12 {
            let value = 10_f64.powi(exponent);
            if value <= high * 1.001 {
                let decimals = (exponent - 2).max(0) as usize;
                ticks.push((value, format!("{:.decimals$} %", 100.0 - 100.0 / value)));
            }
        }
        Self {
            name: "percentile",
            unit: String::new(),
            kind: "in %, by 1/(1-p), logarithmic",
            scale: Scale::Logarithmic,
            low: 1.0,
            high,
            ticks,
        }
    }

    /// The axis, longer by `margin` at both ends.
    pub(in super::super) fn widened(mut self, margin: f64) -> Self {
        (self.low, self.high) = (self.low - margin, self.high + margin);
        self
    }

    /// The axis, ending at `high`.
    pub(super) fn cut(mut self, high: f64) -> Self {
        self.high = high;
        self
    }

    /// Name and unit.
    pub(super) fn title(&self) -> String {
        match &self.unit[..] {
            "" => format!("{} ({})", self.name, self.kind),
            unit => format!("{}, {unit}", self.name),
        }
    }

    /// The title in the chart.
    pub(super) fn short_title(&self) -> String {
        match &self.unit[..] {
            "" => self.name.to_owned(),
            _ => self.title(),
        }
    }

    /// Both ends, as positions.
    pub(super) fn range(&self) -> (f64, f64) {
        (self.position(self.low), self.position(self.high))
    }

    /// The position of a value; values beyond the ends are at the ends.
    pub(super) fn position(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.log10(),
        }
    }
}

/// The largest step of [`STEPS`] not above `value`.
fn down(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let steps = STEPS.map(|step| step * decade);
    let fitting = steps.into_iter().rfind(|step| *step <= value * 1.000_001);
    fitting.unwrap_or(decade)
}

/// The smallest step of [`STEPS`] not below `value`.
fn up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let steps = STEPS.map(|step| step * decade);
    let fitting = steps.into_iter().find(|step| *step >= value * 0.999_999);
    fitting.unwrap_or(10.0 * decade)
}

/// Distance of ticks on a linear axis of this length.
fn step(length: f64) -> f64 {
    up((length / MOST_TICKS).max(f64::MIN_POSITIVE * 1e20))
}

/// `value` with the decimals that `step` needs.
fn decimal(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    let text = match decimals {
        0 => figure(value)
            .trim_end_matches(".00")
            .trim_end_matches(".0")
            .to_owned(),
        _ => format!("{value:.decimals$}"),
    };
    match text.trim_start_matches('-').trim_matches(['0', '.']) {
        "" => "0".to_owned(),
        _ => text,
    }
}

/// A tick of a time axis: `200 us`.
fn time_label(ns: f64) -> String {
    let (value, unit) = match ns {
        _ if ns < 999.0 => (ns, "ns"),
        _ if ns < 999e3 => (ns / 1e3, "us"),
        _ if ns < 999e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{value:.0} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| &label[..]).collect()
    }

    #[test]
    fn ticks_are_round() {
        let zero = Axis::from_zero("rate", "MB/s", [412.0].into_iter());
        assert_eq!(labels(&zero), ["0", "100", "200", "300", "400", "500"]);
        let beyond = Axis::linear("load", String::new(), 180.0, 200.0 * 1.1);
        assert_eq!(labels(&beyond).last(), Some(&"220"));
        let small = Axis::from_zero("loss", "%", [0.031].into_iter());
        assert_eq!(labels(&small)[..3], ["0", "0.01", "0.02"]);
        let negative = Axis::from_zero("missing", "datagrams", [-3.0, 4.0].into_iter());
        assert_eq!(labels(&negative), ["-4", "-2", "0", "2", "4"]);
        let latency = Axis::latency("latency", [1_500.0, 80_000.0].into_iter());
        assert_eq!(
            labels(&latency),
            ["1 us", "2 us", "5 us", "10 us", "20 us", "50 us", "100 us"]
        );
        let narrow = Axis::latency("latency", [2_100.0, 4_800.0].into_iter());
        assert_eq!(labels(&narrow), ["2 us", "3 us", "4 us", "5 us"]);
        let wide = Axis::latency("latency", [700.0, 2e9].into_iter());
        assert_eq!(labels(&wide)[..2], ["1 us", "10 us"]);
        let percentile = Axis::percentile(20_000);
        assert_eq!(
            labels(&percentile),
            ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]
        );
        assert_eq!(labels(&Axis::time(3_600.0)).last(), Some(&"60"));
    }

    #[test]
    fn the_largest_values_have_an_axis() {
        for values in [[f64::MIN, f64::MAX], [f64::MAX, f64::MAX], [f64::MIN, 0.0]] {
            for axis in [
                Axis::from_zero("a", "s", values.into_iter()),
                Axis::latency("a", values.into_iter()),
            ] {
                let (low, high) = axis.range();
                assert!(
                    low.is_finite() && high.is_finite() && low < high,
                    "{axis:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_axis_panics_or_has_many_ticks(values: Vec<f64>, seconds: f64, count: u64) {
            let values = || values.iter().copied();
            for axis in [
                Axis::from_zero("a", "s", values()),
                Axis::latency("a", values()),
                Axis::percentile(count),
                Axis::time(seconds),
            ] {
                let (low, high) = axis.range();
                prop_assert!(high > low || !seconds.is_finite() || seconds <= 0.0, "{axis:?}");
                prop_assert!(axis.ticks.len() <= 24, "{axis:?}");
            }
        }
    }
}
