//! The view of `bench udp`: a panel for each direction, fed by its interval rows.

use std::time::{Duration, Instant};

use super::Live;
use super::model::{Count, Finished, Goal, Panel, Phase, Totals, Unit};
use crate::report::figures::{figure, percent};
use crate::udp::latencies::Latencies;
use crate::udp::plan::{Amount, Direction, Mode, Plan};
use crate::udp::result::{Interval, Measured};
use crate::units::grouped;

const UNRELATED: &str = "since the offset of the two clocks is unknown";
const NOT_REPORTED: &str = "since the server is older and reports no histogram of an interval";

/// A run that starts.
pub(in crate::cli) struct Start<'a> {
    pub(in crate::cli) plan: &'a Plan,
    /// Name of the setting in a comparison.
    pub(in crate::cli) setting: Option<String>,
    /// The server, if it is another process.
    pub(in crate::cli) server: Option<&'a str>,
    /// Number of the setting, from 0, and number of all.
    pub(in crate::cli) of_settings: (usize, usize),
    /// Number of the round, from 0, and number of all.
    pub(in crate::cli) of_rounds: (usize, usize),
}

impl Live {
    /// A run starts. It runs once [`Self::begun`] is called.
    pub(in crate::cli) fn udp_run(&self, start: &Start<'_>) {
        let plan = start.plan;
        let interval = plan.interval.as_secs_f64();
        let unit = match plan.mode {
            Mode::RoundTrip(_) => Unit::RoundTrips,
            _ => Unit::Kilobytes,
        };
        let panel = |title| Panel {
            latency_title: match plan.mode {
                Mode::Paced(_) => "latency from the intended send",
                Mode::RoundTrip(Some(_)) => "round trip from the intended send",
                Mode::RoundTrip(None) => "round trip",
                Mode::Lossless | Mode::Blast => "latency from the actual send",
            },
            ..Panel::new(title, unit, interval)
        };
        let panels = match plan.direction {
            _ if unit == Unit::RoundTrips => vec![panel("round trips")],
            Direction::Forward => vec![panel("forward: goodput")],
            Direction::Reverse => vec![panel("reverse: goodput")],
            Direction::Both => vec![panel("forward: goodput"), panel("reverse: goodput")],
        };
        self.update(|model| {
            model.subject = subject(start);
            model.position = position(start.of_settings, start.of_rounds);
            model.goal = goal(plan, panels.len() as u64);
            model.runs = panels.len() * start.of_settings.1 * start.of_rounds.1;
            model.panels = panels;
            model.phase = Phase::Starting;
        });
    }

    /// The measurement of the run begins.
    pub(in crate::cli) fn begun(&self) {
        self.update(|model| model.phase = Phase::Running(Instant::now()));
    }

    /// An interval has ended.
    pub(in crate::cli) fn interval(
        &self,
        direction: Direction,
        row: &Interval,
        latencies: Option<&Latencies>,
    ) {
        self.update(|model| {
            let number = usize::from(direction == Direction::Reverse && model.panels.len() > 1);
            if let Some(panel) = model.panels.get_mut(number) {
                panel.add_row(row, latencies);
            }
        });
    }

    /// A run of a direction has ended.
    pub(in crate::cli) fn udp_finished(&self, measured: &Measured) {
        let run = &measured.run;
        let latency = run.latency_from_intended_ns.or(run.latency_ns);
        let latency = latency.unwrap_or_default();
        let (rate, unit) = match run.round_trip {
            Some(_) => (run.packets_per_s, "trips/s"),
            None => (run.kb_per_s, "KB/s"),
        };
        let rate = rate.filter(|rate| rate.is_finite());
        let row = Finished {
            name: run.setting.clone().unwrap_or(run.direction.clone()),
            rate: rate.map_or("-".to_owned(), |rate| format!("{} {unit}", figure(rate))),
            failures: match run.lost.is_unknown {
                true => "-".to_owned(),
                false => share(run.lost.packets, run.sent.packets),
            },
            p50: latency.p50,
            p99: latency.p99,
        };
        self.update(|model| model.finished.push(row));
    }
}

impl Panel {
    fn add_row(&mut self, row: &Interval, latencies: Option<&Latencies>) {
        let rate = match self.unit {
            Unit::RoundTrips if row.seconds > 0.0 => row.packets as f64 / row.seconds,
            Unit::RoundTrips => 0.0,
            _ => row.kb_per_s,
        };
        self.add_rate(rate, row.seconds);
        let totals = &mut self.totals;
        totals.packets = totals.packets.saturating_add(row.packets);
        totals.missing = totals.missing.saturating_add(row.missing);
        totals.duplicates = totals.duplicates.saturating_add(row.duplicates);
        totals.reordered = totals.reordered.saturating_add(row.reordered);
        let Totals {
            packets,
            missing,
            duplicates,
            reordered,
        } = *totals;
        let unique = packets.saturating_sub(duplicates);
        let lost = u64::try_from(missing).unwrap_or(0);
        self.packets = unique.saturating_add(lost);
        let count = |name, text, is_failure| Count {
            name,
            text,
            is_failure,
        };
        self.counts = vec![
            count(
                match self.unit {
                    Unit::RoundTrips => "responses",
                    _ => "packets",
                },
                grouped(packets),
                false,
            ),
            count("lost", loss(lost, self.packets), lost > 0),
            count("duplicates", grouped(duplicates), false),
            count("reordered", grouped(reordered), false),
        ];
        if let Some(latencies) = latencies {
            self.latency.merge(match latencies.intended.is_empty() {
                true => &latencies.actual,
                false => &latencies.intended,
            });
        }
        self.no_latency = match (row.latency_p50_ns, self.latency.count()) {
            (Some(_), 0) => NOT_REPORTED,
            (None, 0) if row.packets > 0 => UNRELATED,
            _ => self.no_latency,
        };
    }
}

/// A number of lost datagrams with its share.
fn loss(lost: u64, all: u64) -> String {
    match lost {
        0 => "0".to_owned(),
        _ => format!("{} ({})", grouped(lost), percent(lost, all)),
    }
}

/// A share for a narrow column.
fn share(lost: u64, all: u64) -> String {
    match (lost, lost as f64 / all.max(1) as f64 * 100.0) {
        (0, _) => "0".to_owned(),
        (_, share) if share < 0.01 => "< 0.01 %".to_owned(),
        (_, share) => format!("{share:.2} %"),
    }
}

fn subject(start: &Start<'_>) -> String {
    let plan = start.plan;
    let (engine, mode) = (plan.engine.kind.name(), plan.mode.name());
    let chunk = match &plan.traffic.sizes {
        Some(sizes) => format!("chunk {sizes}"),
        None => format!("{} B data", plan.chunk),
    };
    let mut text = format!("{mode} over {engine}, {chunk}");
    if plan.streams > 1 {
        text += &format!(", {} streams", plan.streams);
    }
    if let Some(server) = start.server {
        text += &format!(", to {server}");
    }
    match &start.setting {
        Some(setting) => format!("{setting}: {text}"),
        None => text,
    }
}

/// The position among settings and rounds, of which there may be one.
fn position(settings: (usize, usize), rounds: (usize, usize)) -> String {
    let one = |name: &str, (number, all): (usize, usize)| {
        (all > 1).then(|| format!("{name} {} of {all}", number + 1))
    };
    let parts = match settings.1 {
        // A round of one setting is a run.
        0 | 1 => [None, one("run", rounds)],
        _ => [one("setting", settings), one("round", rounds)],
    };
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn goal(plan: &Plan, directions: u64) -> Option<Goal> {
    let time = |time: Duration| Goal::Time(time);
    match (plan.amount, plan.packets()) {
        (Amount::Time(limit), _) => Some(time(limit)),
        (_, Some(packets)) => match plan.expected_time() {
            Some(limit) => Some(time(limit)),
            None => Some(Goal::Packets(packets.saturating_mul(directions))),
        },
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies() -> Latencies {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|us| latencies.actual.record(us * 1_000));
        latencies
    }

    fn row() -> Interval {
        Interval {
            seconds: 0.25,
            packets: 101,
            missing: 4,
            duplicates: 1,
            kb_per_s: 400.0,
            latency_p50_ns: Some(50_000),
            ..Interval::default()
        }
    }

    #[test]
    fn rows_add_up() {
        let mut panel = Panel::new("", Unit::Kilobytes, 0.25);
        panel.add_row(&row(), Some(&latencies()));
        let later = Interval {
            missing: -2,
            ..row()
        };
        panel.add_row(&later, Some(&latencies()));
        let counts: Vec<_> = panel
            .counts
            .iter()
            .map(|count| format!("{} {}", count.name, count.text))
            .collect();
        assert_eq!(
            counts,
            [
                "packets 202",
                "lost 2 (0.990 %)",
                "duplicates 2",
                "reordered 0"
            ]
        );
        assert_eq!((panel.packets, panel.latency.count()), (202, 200));
        assert_eq!(panel.latency.max(), Some(100_000));
        assert_eq!(panel.no_latency, "");
    }

    #[test]
    fn round_trips_are_counted_not_weighed() {
        let mut panel = Panel::new("", Unit::RoundTrips, 0.25);
        panel.add_row(&row(), Some(&latencies()));
        assert_eq!(panel.rates, [404.0]);
        assert_eq!(panel.counts[0].name, "responses");
        panel.add_row(&Interval::default(), None);
        assert_eq!(panel.rates.len(), 2);
        assert_eq!(panel.rates[1], 0.0);
    }

    #[test]
    fn unknown_latencies_have_a_reason() {
        let mut panel = Panel::new("", Unit::Kilobytes, 0.25);
        panel.add_row(&row(), None);
        assert_eq!(panel.no_latency, NOT_REPORTED);
        let mut panel = Panel::new("", Unit::Kilobytes, 0.25);
        panel.add_row(&Interval::default(), None);
        assert_eq!(panel.no_latency, "");
        let unrelated = Interval {
            latency_p50_ns: None,
            ..row()
        };
        panel.add_row(&unrelated, None);
        assert_eq!(panel.no_latency, UNRELATED);
    }

    #[test]
    fn the_position_has_only_what_there_are_several_of() {
        assert_eq!(position((0, 1), (0, 1)), "");
        assert_eq!(position((0, 1), (2, 5)), "run 3 of 5");
        assert_eq!(position((1, 2), (0, 1)), "setting 2 of 2");
        assert_eq!(position((1, 2), (3, 4)), "setting 2 of 2, round 4 of 4");
    }

    #[test]
    fn small_losses_are_not_0() {
        assert_eq!(
            [(0, 5), (1, 1_000_000), (1, 8), (7, 0)].map(|(lost, all)| share(lost, all)),
            ["0", "< 0.01 %", "12.50 %", "700.00 %"]
        );
    }
}
