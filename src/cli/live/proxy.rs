//! The view of `bench proxy`: one panel, fed by the progress that the load generator publishes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Live;
use super::model::{Count, Finished, Goal, Model, Panel, Phase, Sampler, Unit};
use crate::load::plan::Scenario;
use crate::load::progress::{PERIOD, Progress, Snapshot};
use crate::load::result::Measured;
use crate::report::figures::figure;
use crate::units::grouped;

/// A measurement that starts.
pub(in crate::cli) struct Measurement<'a> {
    pub(in crate::cli) scenario: Scenario,
    /// The path, and the name of the proxy's setting.
    pub(in crate::cli) path: String,
    /// Number of the measurement, from 1, and number of all.
    pub(in crate::cli) number: (usize, usize),
    /// Number of the round, from 1.
    pub(in crate::cli) round: usize,
    /// How long it lasts.
    pub(in crate::cli) duration: Duration,
    pub(in crate::cli) progress: &'a Arc<Progress>,
}

impl Live {
    /// A measurement starts, with a warm-up.
    pub(in crate::cli) fn measurement(&self, start: &Measurement<'_>) {
        let is_bulk = start.scenario == Scenario::Bulk;
        let (title, unit) = match is_bulk {
            true => ("bytes sent", Unit::Gigabytes),
            false => ("answered requests", Unit::Requests),
        };
        let title = format!("{} {}: {title}", start.scenario.name(), start.path);
        let (number, all) = start.number;
        self.update(|model| {
            model.subject = format!("{} {}", start.scenario.name(), start.path);
            model.position = format!("measurement {number} of {all}, round {}", start.round);
            model.runs = all;
            model.goal = Some(Goal::Time(start.duration));
            let mut panel = Panel::new(&title, unit, PERIOD.as_secs_f64());
            if is_bulk {
                panel.no_latency = "since bulk data has none";
            }
            model.panels = vec![panel];
            model.phase = Phase::WarmingUp;
            model.sampler = Some(Sampler {
                progress: start.progress.clone(),
                is_bulk,
                before: None,
            });
        });
    }

    /// A measurement has ended.
    pub(in crate::cli) fn measured(&self, measured: &Measured) {
        let run = &measured.run;
        let latency = run.client_latency().copied().unwrap_or_default();
        let rate = match (run.requests_per_s, run.bytes_per_s) {
            (Some(rate), _) => format!("{} requests/s", figure(rate)),
            (None, Some(rate)) => format!("{} GB/s", figure(rate / 1e9)),
            (None, None) => "-".to_owned(),
        };
        let setting = run.setting.iter().flat_map(|name| [" ", name]);
        let row = Finished {
            name: [run.scenario.as_str(), " ", &run.path]
                .into_iter()
                .chain(setting)
                .collect(),
            rate,
            failures: grouped(run.errors.total),
            p50: latency.p50,
            p99: latency.p99,
        };
        self.update(|model| {
            model.sampler = None;
            model.finished.push(row);
        });
    }
}

impl Model {
    /// Adds the progress since the last call.
    pub(super) fn sample(&mut self) {
        let Some(sampler) = &mut self.sampler else {
            return;
        };
        let (Some(total), Some(panel)) = (sampler.progress.total(), self.panels.first_mut()) else {
            return;
        };
        if self.phase == Phase::WarmingUp {
            self.phase = Phase::Running(Instant::now());
        }
        sampler.add(total, panel);
    }
}

impl Sampler {
    fn add(&mut self, total: Snapshot, panel: &mut Panel) {
        let (at, before) = self.before.unwrap_or((total.began, 0.0));
        if total.at <= at {
            return;
        }
        let count = match self.is_bulk {
            true => total.bytes as f64 / 1e9,
            false => total.answered as f64,
        };
        let seconds = (total.at - at) as f64 / 1e9;
        panel.add_rate((count - before).max(0.0) / seconds, seconds);
        panel.counts = counts(&total, self.is_bulk);
        panel.latency = total.latency;
        self.before = Some((total.at, count));
    }
}

fn counts(total: &Snapshot, is_bulk: bool) -> Vec<Count> {
    let first = match is_bulk {
        true => ("GB sent", figure(total.bytes as f64 / 1e9)),
        false => ("answered", grouped(total.answered)),
    };
    let errors = total.errors.total();
    let always = [(first, false), (("errors", grouped(errors)), errors > 0)];
    let kinds = total
        .errors
        .kinds()
        .map(|(kind, count, _)| ((kind.name(), grouped(count)), true));
    always
        .into_iter()
        .chain(kinds)
        .map(|((name, text), is_failure)| Count {
            name,
            text,
            is_failure,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::error::ErrorKind;

    #[test]
    fn rates_are_those_since_the_last_snapshot() {
        let mut sampler = Sampler {
            progress: Arc::default(),
            is_bulk: false,
            before: None,
        };
        let mut panel = Panel::new("", Unit::Requests, 0.1);
        let mut total = Snapshot {
            began: 1_000_000_000,
            at: 1_100_000_000,
            answered: 50,
            ..Snapshot::default()
        };
        sampler.add(total.clone(), &mut panel);
        // A snapshot is counted once.
        sampler.add(total.clone(), &mut panel);
        total.at += 200_000_000;
        total.answered += 20;
        total.errors.add_many(ErrorKind::Timeout, 3);
        sampler.add(total, &mut panel);
        let rates: Vec<_> = panel.rates.iter().map(|rate| rate.round()).collect();
        assert_eq!(rates, [500.0, 100.0, 100.0]);
        let counts: Vec<_> = panel
            .counts
            .iter()
            .map(|count| (count.name, count.text.as_str(), count.is_failure))
            .collect();
        assert_eq!(
            counts,
            [
                ("answered", "70", false),
                ("errors", "3", true),
                ("timeout", "3", true)
            ]
        );
    }
}
