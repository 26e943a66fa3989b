//! What the live view shows. Commands update it; the drawing thread draws a copy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::load::progress::Progress;
use crate::stats::latency::Latency;

/// Rates that a chart has room for on any terminal.
const HISTORY: usize = 1_024;

/// The state of the view.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    /// The command.
    pub(super) command: &'static str,
    /// The running setting.
    pub(super) subject: String,
    /// Its position among all runs.
    pub(super) position: String,
    pub(super) phase: Phase,
    pub(super) goal: Option<Goal>,
    /// A panel for each direction.
    pub(super) panels: Vec<Panel>,
    /// Number of planned runs, each direction counted.
    pub(super) runs: usize,
    pub(super) finished: Vec<Finished>,
    /// Heading of [`Finished::failures`].
    pub(super) failures: &'static str,
    /// The source of the panels of `bench proxy`.
    pub(super) sampler: Option<Sampler>,
}

/// The phase of the command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Starting,
    WarmingUp,
    /// Measuring since then.
    Running(Instant),
    /// A signal or a key ended the run, and its results are awaited.
    Stopping,
}

/// When the run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    Time(Duration),
    /// Datagrams of all panels.
    Packets(u64),
}

/// One direction of a run.
#[derive(Debug, Clone)]
pub(super) struct Panel {
    pub(super) title: String,
    /// Unit of the rates.
    pub(super) unit: Unit,
    /// Rates of the last intervals.
    pub(super) rates: VecDeque<f64>,
    /// Length of an interval, in seconds.
    pub(super) interval: f64,
    /// Datagrams so far, for [`Goal::Packets`].
    pub(super) packets: u64,
    /// Totals of the rows of `bench udp`.
    pub(super) totals: Totals,
    /// Counts so far.
    pub(super) counts: Vec<Count>,
    /// Latencies so far.
    pub(super) latency: Latency,
    pub(super) latency_title: &'static str,
    /// Why there are no latencies.
    pub(super) no_latency: &'static str,
}

/// The unit of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Message bytes / 1000 a second.
    Kilobytes,
    /// Message bytes / 10^9 a second.
    Gigabytes,
    Requests,
    RoundTrips,
}

impl Unit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kilobytes => "KB/s",
            Self::Gigabytes => "GB/s",
            Self::Requests => "requests/s",
            Self::RoundTrips => "round trips/s",
        }
    }
}

/// A count with its name.
#[derive(Debug, Clone)]
pub(super) struct Count {
    pub(super) name: &'static str,
    pub(super) text: String,
    /// Whether the count is a failure.
    pub(super) is_failure: bool,
}

/// A finished run.
#[derive(Debug, Clone, Default)]
pub(super) struct Finished {
    pub(super) name: String,
    pub(super) rate: String,
    pub(super) failures: String,
    pub(super) p50: Option<u64>,
    pub(super) p99: Option<u64>,
}

impl Panel {
    pub(super) fn new(title: &str, unit: Unit, interval: f64) -> Self {
        Self {
            title: title.to_owned(),
            unit,
            rates: VecDeque::new(),
            interval,
            packets: 0,
            totals: Totals::default(),
            counts: Vec::new(),
            latency: Latency::new(),
            latency_title: "latency",
            no_latency: "",
        }
    }

    /// Adds the rate of the last `seconds`, which may have been several intervals.
    pub(super) fn add_rate(&mut self, rate: f64, seconds: f64) {
        let intervals = (seconds / self.interval).round().clamp(1.0, HISTORY as f64);
        for _ in 0..intervals as usize {
            if self.rates.len() == HISTORY {
                self.rates.pop_front();
            }
            self.rates.push_back(rate);
        }
    }
}

impl Model {
    /// The share of the run that is done.
    pub(super) fn share(&self, now: Instant) -> Option<f64> {
        let Phase::Running(since) = self.phase else {
            return None;
        };
        let share = match self.goal? {
            Goal::Time(time) => {
                now.saturating_duration_since(since).as_secs_f64() / time.as_secs_f64()
            }
            Goal::Packets(packets) => {
                let done: u64 = self.panels.iter().map(|panel| panel.packets).sum();
                done as f64 / packets as f64
            }
        };
        share.is_finite().then(|| share.clamp(0.0, 1.0))
    }
}

/// The totals of a panel's rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) packets: u64,
    pub(super) missing: i64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
}

/// Reads the progress of a measurement.
#[derive(Debug, Clone)]
pub(super) struct Sampler {
    pub(super) progress: Arc<Progress>,
    pub(super) is_bulk: bool,
    /// The time of the last snapshot, in ns, and what the rate counts.
    pub(super) before: Option<(u64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_interval_has_the_width_of_several() {
        let mut panel = Panel::new("", Unit::Kilobytes, 0.25);
        panel.add_rate(1.0, 0.25);
        panel.add_rate(2.0, 0.75);
        panel.add_rate(3.0, 0.01);
        assert_eq!(panel.rates, [1.0, 2.0, 2.0, 2.0, 3.0]);
        panel.add_rate(4.0, f64::INFINITY);
        assert_eq!(panel.rates.len(), HISTORY);
    }

    #[test]
    fn the_share_is_that_of_the_time_or_of_the_packets() {
        let now = Instant::now();
        let mut panel = Panel::new("", Unit::Kilobytes, 1.0);
        panel.packets = 30;
        let mut model = Model {
            phase: Phase::Running(now),
            goal: Some(Goal::Time(Duration::from_secs(4))),
            panels: vec![panel.clone(), panel],
            ..Model::default()
        };
        assert_eq!(model.share(now + Duration::from_secs(1)), Some(0.25));
        assert_eq!(model.share(now + Duration::from_secs(9)), Some(1.0));
        model.goal = Some(Goal::Packets(120));
        assert_eq!(model.share(now), Some(0.5));
        model.goal = Some(Goal::Packets(0));
        assert_eq!(model.share(now), None);
        model.phase = Phase::Starting;
        assert_eq!(model.share(now), None);
    }
}
