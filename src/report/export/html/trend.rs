//! The trend over records: rate and 99 % latency by start time, and where their level changed.

use std::io::{self, Write};

use super::chart::{Axis, Band, Line, Lines, Series};
use super::page;
use super::units::rate_unit;
use crate::dates;
use crate::report::export::Document;
use crate::report::figures::figure;
use crate::report::model::{Distributed, Meta};
use crate::stats::change::{self, Change, changes};
use crate::stats::latency::Summary;
use crate::stats::ratio::Interval;
use crate::stats::spread::{Spread, interval_of_median};
use crate::units::short_ns;

/// Fewest records with a trend; two are compared instead.
const FEWEST: usize = 3;

/// Most figures with a chart.
const MOST: usize = 24;

/// A figure of one setting over the records.
struct Trend {
    /// The setting; empty if there is only one.
    name: String,
    figure: Figure,
    points: Vec<Point>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Figure {
    /// KB/s.
    Goodput,
    /// Round trips per second.
    RoundTrips,
    /// Requests per second.
    Requests,
    /// ns.
    Latency,
}

/// The figure in one record: the median of its runs, and the 95 % interval of the median.
struct Point {
    started_ns: u64,
    /// Other causes of a change: names and values.
    context: [(&'static str, String); 4],
    value: f64,
    interval: Option<Interval>,
}

/// Trends of the records among some documents.
pub(super) struct Trends(Vec<Trend>);

impl Trends {
    /// The trends; `None` without enough records of a setting.
    pub(super) fn of(documents: &[Document<'_>]) -> Option<Self> {
        let mut trends = Vec::new();
        for document in documents {
            match document {
                Document::UdpRuns { record, .. } => {
                    let runs = record.runs.iter().filter(|run| run.complete);
                    let values = runs.map(|run| {
                        let name = run.setting.clone().unwrap_or_default();
                        let (figure, rate) = match run.round_trip {
                            Some(_) => (Figure::RoundTrips, run.packets_per_s),
                            None => (Figure::Goodput, run.kb_per_s),
                        };
                        (name, figure, rate, p99(run))
                    });
                    add(&mut trends, "udp", &record.meta, values.collect());
                }
                Document::ProxyRuns { record, .. } => {
                    let runs = record.runs.iter().filter(|run| run.complete);
                    let values = runs.map(|run| {
                        let setting = run.setting.as_deref().unwrap_or_default();
                        let name = format!("{} {} {setting}", run.scenario, run.path);
                        let (figure, rate) = match run.requests_per_s {
                            Some(rate) => (Figure::Requests, Some(rate)),
                            None => (Figure::Goodput, run.bytes_per_s.map(|rate| rate / 1e3)),
                        };
                        (name.trim_end().to_owned(), figure, rate, p99(run))
                    });
                    add(&mut trends, "proxy", &record.meta, values.collect());
                }
                Document::UdpSearch { .. }
                | Document::UdpComparison(_)
                | Document::ProxyComparison(_) => {}
            }
        }
        let mut trends: Vec<Trend> = trends.into_iter().map(|(_, trend)| trend).collect();
        trends.retain(|trend| trend.points.len() >= FEWEST);
        for trend in &mut trends {
            trend.points.sort_by_key(|point| point.started_ns);
        }
        (!trends.is_empty()).then_some(Self(trends))
    }

    /// Writes the changes as sentences, and the charts.
    pub(super) fn section(mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut notes = Vec::new();
        if self.0.len() > MOST {
            notes.push(format!(
                "only the first {MOST} of {} figures are drawn",
                self.0.len()
            ));
            self.0.truncate(MOST);
        }
        let fewest = self.0.iter().map(|trend| trend.points.len()).min();
        if let Some(count) = fewest.filter(|count| *count < change::FEWEST) {
            notes.push(format!(
                "too few records to tell a change from chance: {count}, and {} are needed",
                change::FEWEST
            ));
        }
        let found: Vec<(Trend, Vec<Change>)> = self
            .0
            .into_iter()
            .map(|trend| {
                let changes = trend.changes();
                (trend, changes)
            })
            .collect();
        for (trend, changes) in &found {
            notes.extend(changes.iter().map(|change| trend.sentence(change)));
        }
        let is_searched = fewest.is_some_and(|count| count >= change::FEWEST);
        if is_searched && found.iter().all(|(_, changes)| changes.is_empty()) {
            notes.push(format!(
                "no change of level shown, at the {} % level",
                100.0 * change::LEVEL
            ));
        }
        page::notices(false, &notes, out)?;
        writeln!(out, "<div class=\"charts\">")?;
        for (trend, changes) in &found {
            trend.chart(changes).draw()?.write(out)?;
        }
        writeln!(out, "</div>")
    }
}

/// An instant to the minute: `2026-11-22 14:05`.
fn minute(ns: u64) -> String {
    let date = dates::rfc3339(ns);
    date.get(..16).unwrap_or_default().replace('T', " ")
}

/// The 99 % latency that settings are compared by.
fn p99(run: &impl Distributed) -> Option<f64> {
    let [actual, intended] = run.summaries();
    let of = match run.is_from_intended() {
        true => intended.or(actual),
        false => actual,
    };
    of.and_then(|of: &Summary| of.p99).map(|ns| ns as f64)
}

/// A run: its setting, its rate and its 99 % latency.
type Values = (String, Figure, Option<f64>, Option<f64>);

/// Adds the medians of a record.
fn add(
    trends: &mut Vec<(&'static str, Trend)>,
    kind: &'static str,
    meta: &Meta,
    runs: Vec<Values>,
) {
    let Some(started_ns) = dates::parse_rfc3339(&meta.started_at) else {
        return;
    };
    let options = meta.command.iter().skip(1).map(String::as_str);
    let context = [
        ("the command", options.collect::<Vec<_>>().join(" ")),
        ("the version of wirebench", meta.wirebench.clone()),
        ("the kernel", meta.host.kernel.clone()),
        ("the CPU", meta.host.cpu.clone()),
    ];
    let mut names: Vec<&String> = runs.iter().map(|(name, ..)| name).collect();
    names.dedup();
    let mut seen: Vec<&String> = Vec::new();
    for name in names {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let of = || runs.iter().filter(|(of, ..)| of == name);
        let rate = of()
            .next()
            .map_or(Figure::Goodput, |(_, figure, ..)| *figure);
        for (figure, values) in [
            (rate, of().filter_map(|(.., rate, _)| *rate).collect()),
            (
                Figure::Latency,
                of().filter_map(|(.., latency)| *latency).collect(),
            ),
        ] {
            let values: Vec<f64> = values;
            let Some(spread) = Spread::of(values.iter().copied()) else {
                continue;
            };
            let point = Point {
                started_ns,
                context: context.clone(),
                value: spread.median,
                interval: interval_of_median(&values),
            };
            let is_same = |(of, trend): &&mut (&'static str, Trend)| {
                (*of, &trend.name, trend.figure) == (kind, name, figure)
            };
            match trends.iter_mut().find(is_same) {
                Some((_, trend)) => trend.points.push(point),
                None => trends.push((
                    kind,
                    Trend {
                        name: name.clone(),
                        figure,
                        points: vec![point],
                    },
                )),
            }
        }
    }
}

impl Trend {
    /// The changes, of values on a ratio scale: of their logarithms, with levels as geometric means.
    fn changes(&self) -> Vec<Change> {
        let logarithms: Vec<f64> = self.points.iter().map(|point| point.value.ln()).collect();
        let found = changes(&logarithms).into_iter();
        found
            .map(|change| Change {
                before: change.before.exp(),
                after: change.after.exp(),
                ..change
            })
            .collect()
    }

    fn title(&self) -> String {
        let figure = match self.figure {
            Figure::Goodput => "Goodput",
            Figure::RoundTrips => "Round trips per second",
            Figure::Requests => "Requests per second",
            Figure::Latency => "99 % latency",
        };
        match &self.name[..] {
            "" => format!("{figure} of each record"),
            name => format!("{figure} of each record, {name}"),
        }
    }

    fn sentence(&self, change: &Change) -> String {
        let value = |value: f64| match self.figure {
            Figure::Goodput => format!("{} KB/s", figure(value)),
            Figure::RoundTrips => format!("{} round trips/s", figure(value)),
            Figure::Requests => format!("{} requests/s", figure(value)),
            Figure::Latency => short_ns(value),
        };
        let p = match change.p {
            p if p < 1e-4 => "p below 0.0001".to_owned(),
            p => format!("p at most {p:.4}"),
        };
        let (last, first) = (&self.points[change.at - 1], &self.points[change.at]);
        let also = last.context.iter().zip(&first.context);
        let also: Vec<String> = also
            .filter(|(before, after)| before != after)
            .map(|((name, before), (_, after))| format!("{name} from '{before}' to '{after}'"))
            .collect();
        let also = match also.is_empty() {
            true => String::new(),
            false => format!("; the records also differ in {}", also.join(", ")),
        };
        format!(
            "{} changed between {} and {} UTC: {} before, {} after, {:+.1} % ({p}){also}",
            self.title().replace(" of each record", ""),
            minute(last.started_ns),
            minute(first.started_ns),
            value(change.before),
            value(change.after),
            100.0 * (change.after / change.before - 1.0),
        )
    }

    fn chart(&self, changes: &[Change]) -> Lines {
        let first = self.points.first().map_or(0, |point| point.started_ns);
        let last = self.points.last().map_or(0, |point| point.started_ns);
        let (unit, length) = match last - first {
            span if span >= 2 * 86_400_000_000_000 => ("days", 86_400e9),
            _ => ("hours", 3_600e9),
        };
        let at = |point: &Point| (point.started_ns - first) as f64 / length;
        let values = || {
            self.points.iter().flat_map(|point| {
                let interval = point
                    .interval
                    .map_or([point.value; 2], |of| [of.low, of.high]);
                interval.into_iter().chain([point.value])
            })
        };
        let (y, scale) = match self.figure {
            Figure::Goodput => {
                let (unit, scale) = rate_unit(values());
                let scaled = values().map(|value| value / scale);
                (Axis::from_zero("goodput", unit, scaled), scale)
            }
            Figure::RoundTrips => (Axis::from_zero("round trips", "1/s", values()), 1.0),
            Figure::Requests => (Axis::from_zero("requests", "1/s", values()), 1.0),
            Figure::Latency => (Axis::latency("99 % latency", values()), 1.0),
        };
        let starts: Vec<usize> = changes.iter().map(|change| change.at).collect();
        let levels = (0..=changes.len()).flat_map(|part| {
            let start = part.checked_sub(1).map_or(0, |before| starts[before]);
            let end = starts.get(part).copied().unwrap_or(self.points.len());
            let level = match part.checked_sub(1) {
                Some(before) => Some(changes[before].after),
                None => changes.first().map(|change| change.before),
            };
            let points = self.points[start..end].iter();
            points
                .map(|point| (at(point), level.map(|level| level / scale)))
                .chain([(0.0, None)])
                .collect::<Vec<_>>()
        });
        let points = self.points.iter();
        let mut lines = vec![Line {
            series: Series(0),
            name: "median of the record's runs".into(),
            points: points
                .map(|point| (at(point), Some(point.value / scale)))
                .collect(),
            is_envelope: false,
        }];
        if !changes.is_empty() {
            lines.push(Line {
                series: Series(1),
                name: "level between changes".into(),
                points: levels.collect(),
                is_envelope: false,
            });
            let between = changes.iter().flat_map(|change| {
                let [before, after] = [change.at - 1, change.at].map(|of| at(&self.points[of]));
                let middle = f64::midpoint(before, after);
                // Over the whole height: values beyond the ends are at the ends.
                [
                    (middle, Some(f64::MIN)),
                    (middle, Some(f64::MAX)),
                    (middle, None),
                ]
            });
            lines.push(Line {
                series: Series(2),
                name: "change".into(),
                points: between.collect(),
                is_envelope: false,
            });
        }
        let bands = self.points.iter().map(|point| {
            let interval = point.interval;
            let interval = interval.map(|of| (of.low / scale, of.high / scale));
            (at(point), interval)
        });
        let bands: Vec<_> = bands.collect();
        let has_bands = bands.iter().filter(|(_, band)| band.is_some()).count() > 1;
        let mut how = format!("Starts are {unit} since {} UTC.", minute(first));
        if has_bands {
            how += " The shade is the 95 % interval of the median.";
        }
        if !changes.is_empty() {
            how += " Changes are found by Worsley's test for a shift of the mean, of logarithms.";
        }
        Lines {
            title: self.title(),
            how,
            x: Axis::linear(
                "start",
                unit.to_owned(),
                0.0,
                (last - first) as f64 / length,
            ),
            y,
            bands: match has_bands {
                true => vec![Band {
                    series: Series(0),
                    points: bands,
                }],
                false => Vec::new(),
            },
            lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::UdpRecord;
    use crate::report::sample::udp as sample;

    /// Records of consecutive nights with `runs` runs each.
    fn nights(rates: &[f64], runs: usize) -> Vec<UdpRecord> {
        let nights = rates.iter().enumerate();
        nights
            .map(|(night, rate)| {
                let run = |number: usize| {
                    let mut run = sample::measured().run;
                    run.setting = None;
                    run.kb_per_s = Some(rate * (1.0 + 0.001 * number as f64));
                    run
                };
                let mut record = sample::record((0..runs).map(run).collect());
                record.meta.started_at = format!("2026-11-{:02}T02:00:00Z", night + 1);
                record
            })
            .collect()
    }

    fn written(records: &[UdpRecord]) -> Option<String> {
        let documents: Vec<_> = records
            .iter()
            .map(|record| Document::UdpRuns { id: "", record })
            .collect();
        let mut text = Vec::new();
        Trends::of(&documents)?.section(&mut text).unwrap();
        Some(String::from_utf8(text).unwrap())
    }

    #[test]
    fn change_of_a_week_is_named_with_its_dates() {
        let mut records = nights(&[1e6, 1.01e6, 0.99e6, 1e6, 0.9e6, 0.905e6, 0.895e6], 5);
        records[4].meta.host.kernel = "6.19.0".into();
        records[5].meta.host.kernel = "6.19.0".into();
        // The order of the paths does not matter.
        records.reverse();
        let text = written(&records).unwrap();
        assert!(
            text.contains("Goodput changed between 2026-11-04 02:00 and 2026-11-05 02:00 UTC: "),
            "{text}"
        );
        assert!(text.contains(", -10."), "{text}");
        let also = "also differ in the kernel from &#39;6.18.0&#39; to &#39;6.19.0&#39;<";
        assert!(text.contains(also), "{text}");
        assert!(text.contains("95 % interval"), "{text}");
        // The latency is that of the sample in all of them.
        assert_eq!(text.matches("changed between").count(), 1);
        assert_eq!(text.matches("<figure>").count(), 2);
    }

    #[test]
    fn steady_week_has_no_change_and_few_records_cannot_show_one() {
        let steady = written(&nights(&[1e6, 1.01e6, 0.99e6, 1e6, 1.005e6], 1)).unwrap();
        assert!(steady.contains("no change of level shown"), "{steady}");
        assert!(!steady.contains("95 % interval"), "{steady}");
        let few = written(&nights(&[1e6, 1e6, 9e5, 9e5], 1)).unwrap();
        assert!(few.contains("too few records"), "{few}");
        assert!(written(&nights(&[1e6, 9e5], 1)).is_none());
    }

    #[test]
    fn records_without_a_date_or_a_figure_have_no_trend() {
        let mut records = nights(&[f64::NAN; 6], 1);
        for record in &mut records {
            record.runs[0].latency_ns = None;
            record.runs[0].latency_from_intended_ns = None;
        }
        assert!(written(&records).is_none());
        let mut records = nights(&[1e6; 6], 1);
        for record in &mut records {
            record.meta.started_at = "yesterday".into();
        }
        assert!(written(&records).is_none());
    }
}
