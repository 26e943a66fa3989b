//! Charts of compared settings, and the section of two compared records.

use std::io::{self, Write};
use std::iter;

use super::chart::{Axis, Bar, Bars, Chart, Lines, Series, Whisker};
use super::percentiles::percentiles;
use super::units::rate_unit;
use super::{escape::Escaped, over_time, page, table};
use crate::report::compare::records::RecordComparison;
use crate::report::export::columns::PROXY_SETTING;
use crate::report::export::headline::{self, PROXY_SETTINGS, comparison_notes};
use crate::report::export::rate::Rate;
use crate::report::figures::{figure, ratio_with_interval};
use crate::report::model::{Curve, proxy, udp};
use crate::stats::ratio::{Ratio, Verdict};
use crate::stats::spread::Spread;
use crate::udp::result::Interval;

/// Name of each compared figure, and its ratio to the base.
pub(super) type Ratios = Vec<(&'static str, Option<Ratio>)>;

/// A compared setting. Its name selects its colour in every chart.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    name: String,
    /// Settings with equal figures are in a group: a scenario, or none.
    group: String,
    /// The rate over the runs, in KB/s or requests per second.
    rate: Option<Spread>,
    rate_name: &'static str,
    /// `KB/s`, `requests/s` or `round trips/s`.
    rate_unit: &'static str,
    /// Without a base, empty.
    ratios: Ratios,
    curve: Option<Curve>,
    /// Of its typical run.
    intervals: Vec<Interval>,
    /// The rate of the intervals.
    interval_rate: Rate,
}

impl Setting {
    /// A setting of `bench udp`.
    pub(super) fn of_udp(
        of: &udp::ComparedSetting,
        curve: Option<Curve>,
        intervals: Vec<Interval>,
    ) -> Self {
        let rate = Rate::of_setting(of);
        let ratios = of.ratios.map(|ratios| {
            vec![
                match rate {
                    Rate::RoundTrips => ("Round trips", rate.ratio(ratios)),
                    Rate::Goodput => ("Goodput", rate.ratio(ratios)),
                },
                ("CPU time per datagram", ratios.cpu_s_per_million),
                ("99 % latency", ratios.latency_p99_ns),
            ]
        });
        Self {
            name: of.setting.clone(),
            group: String::new(),
            rate: rate.spread(of),
            rate_name: rate.name(),
            rate_unit: rate.unit(),
            ratios: ratios.unwrap_or_default(),
            curve,
            intervals,
            interval_rate: rate,
        }
    }

    /// A setting of `bench proxy`.
    fn of_proxy(
        of: &proxy::ComparedSetting,
        curve: Option<Curve>,
        intervals: Vec<Interval>,
    ) -> Self {
        let ratios = of.ratios.map(|ratios| {
            let rate = ("Rate", ratios.rate);
            let latency = ("99 % latency", ratios.latency_p99_ns);
            let cpu = ("Proxy CPU time", ratios.proxy_cpu);
            match (of.is_bulk(), &of.path[..]) {
                (_, "direct") => vec![rate, latency],
                (true, _) => vec![rate, cpu],
                (false, _) => vec![rate, latency, cpu],
            }
        });
        let in_kb = |of: Spread| Spread {
            min: of.min / 1e3,
            median: of.median / 1e3,
            max: of.max / 1e3,
            ..of
        };
        // The title of a chart has the scenario.
        let name = of.setting.strip_prefix(&of.scenario);
        let name = name.and_then(|name| name.strip_prefix(' '));
        Self {
            name: name.unwrap_or(&of.setting).to_owned(),
            group: of.scenario.clone(),
            rate: match of.is_bulk() {
                true => of.bytes_per_s.map(in_kb),
                false => of.requests_per_s,
            },
            rate_name: "rate",
            rate_unit: if of.is_bulk() { "KB/s" } else { "requests/s" },
            ratios: ratios.unwrap_or_default(),
            curve,
            intervals,
            interval_rate: Rate::Goodput,
        }
    }
}

/// The charts of `settings`: of each group the rates, the ratios, the curves and the lines over time.
pub(super) fn charts(settings: &[Setting]) -> io::Result<Vec<Chart>> {
    let mut charts = Vec::new();
    let of_group = |one: &Setting, next: &Setting| one.group == next.group;
    // A setting has one colour in all groups.
    let mut names: Vec<&str> = Vec::new();
    for setting in settings {
        if !names.contains(&&setting.name[..]) {
            names.push(&setting.name);
        }
    }
    for group in settings.chunk_by(of_group) {
        let series =
            |of: &Setting| Series(names.iter().position(|name| *name == of.name).unwrap_or(0));
        let numbered: Vec<(Series, &Setting)> = group.iter().map(|of| (series(of), of)).collect();
        let suffix = match group.first() {
            Some(first) if !first.group.is_empty() => format!(", {}", first.group),
            _ => String::new(),
        };
        charts.push(rates(&numbered, &suffix).draw()?);
        for chart in ratios(&numbered, &suffix) {
            charts.push(chart.draw()?);
        }
        if let Some(overlaid) = curves(&numbered, &suffix) {
            charts.push(overlaid.draw()?);
        }
        let rows = numbered.iter();
        let rows: Vec<_> = rows
            .map(|(series, of)| (*series, &of.name[..], &of.intervals[..]))
            .collect();
        let rate = group.first().map_or(Rate::Goodput, |of| of.interval_rate);
        for chart in over_time::settings(rate, &rows) {
            charts.push(chart.draw()?);
        }
    }
    Ok(charts)
}

fn rates(settings: &[(Series, &Setting)], suffix: &str) -> Bars {
    let rates = || settings.iter().filter_map(|(_, of)| of.rate);
    let (name, base_unit) = settings
        .first()
        .map_or(("rate", "KB/s"), |(_, of)| (of.rate_name, of.rate_unit));
    let (unit, scale) = match base_unit {
        "KB/s" => rate_unit(rates().map(|rate| rate.max)),
        unit => (unit, 1.0),
    };
    let bars = settings.iter().map(|(series, of)| {
        let rate = of.rate.map(|rate| rate.median / scale);
        let text = rate.map(|rate| format!("{} {unit}", figure(rate)));
        Bar {
            series: *series,
            name: of.name.clone(),
            text: text.unwrap_or_default(),
            value: rate,
            whisker: of.rate.filter(|rate| rate.count > 1).map(|rate| Whisker {
                low: rate.min / scale,
                high: rate.max / scale,
            }),
            is_hollow: false,
        }
    });
    Bars {
        title: format!("Median {name}{suffix}"),
        how: "Longer is faster. The whiskers reach from the slowest to the fastest run.".into(),
        x: Axis::from_zero(name, unit, rates().map(|rate| rate.max / scale)),
        rows: "setting",
        origin: 0.0,
        bars: bars.collect(),
    }
}

fn curves(settings: &[(Series, &Setting)], suffix: &str) -> Option<Lines> {
    let named = settings
        .iter()
        .map(|(series, of)| (*series, of.name.clone(), of.curve.clone()));
    let how = "Read up from a percentile: that share took at most this long. Lower is better; a steep right end is a long tail.";
    percentiles(
        &format!("Latency by percentile{suffix}"),
        how,
        "latency",
        named,
    )
}

/// A chart of each figure that has a ratio.
pub(super) fn ratio_charts(named: &[(Series, String, Ratios)], suffix: &str) -> Vec<Bars> {
    let mut figures: Vec<&'static str> = Vec::new();
    for (_, _, ratios) in named {
        for (figure, ratio) in ratios {
            if ratio.is_some() && !figures.contains(figure) {
                figures.push(figure);
            }
        }
    }
    let chart = |figure: &'static str| {
        let found: Vec<(Series, &str, Ratio)> = named
            .iter()
            .filter_map(|(series, name, ratios)| {
                let (_, ratio) = ratios.iter().find(|(of, _)| *of == figure)?;
                Some((*series, &name[..], (*ratio)?))
            })
            .collect();
        let ends = found.iter().flat_map(|(.., ratio)| {
            let interval = ratio.interval.map(|of| [of.low, of.high]);
            interval.into_iter().flatten().chain([ratio.ratio])
        });
        // A range of a tenth at least: a shorter axis would make noise look like a difference.
        let (low, high) = ends
            .filter(|end| end.is_finite())
            .fold((0.95_f64, 1.05_f64), |(low, high), end| {
                (low.min(end), high.max(end))
            });
        Bars {
            title: format!("{figure} as a multiple of the base's{suffix}"),
            how: "Bars begin at 1, the base. The whiskers are the 95 % interval: if it contains 1, no difference is shown and the bar is hollow.".into(),
            x: Axis::linear("ratio", "times the base's".into(), low, high),
            rows: "setting",
            origin: 1.0,
            bars: found.into_iter().map(ratio_bar).collect(),
        }
    };
    figures.into_iter().map(chart).collect()
}

fn ratios(settings: &[(Series, &Setting)], suffix: &str) -> Vec<Bars> {
    let named: Vec<_> = settings
        .iter()
        .map(|(series, of)| (*series, of.name.clone(), of.ratios.clone()))
        .collect();
    ratio_charts(&named, suffix)
}

fn ratio_bar((series, name, ratio): (Series, &str, Ratio)) -> Bar {
    let verdict = ratio.verdict.name().replace('_', " ");
    let text = format!("{}, {verdict}", ratio_with_interval(ratio));
    Bar {
        series,
        name: name.to_owned(),
        text,
        value: Some(ratio.ratio).filter(|ratio| ratio.is_finite()),
        whisker: ratio.interval.map(|of| Whisker {
            low: of.low,
            high: of.high,
        }),
        is_hollow: matches!(
            ratio.verdict,
            Verdict::NoDifferenceShown | Verdict::TooFewRuns
        ),
    }
}

/// Writes the section of two records of `bench udp`.
pub(super) fn udp_records(
    found: &RecordComparison<udp::ComparedSetting>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let figures = headline::udp_settings(&found.comparison);
    records(found, &figures, Setting::of_udp, out)
}

/// Writes the section of two records of `bench proxy`.
pub(super) fn proxy_records(
    found: &RecordComparison<proxy::ComparedSetting>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let figures = headline::table(PROXY_SETTING, PROXY_SETTINGS, &found.comparison);
    records(found, &figures, Setting::of_proxy, out)
}

fn records<C>(
    found: &RecordComparison<C>,
    figures: &headline::Table,
    setting: impl Fn(&C, Option<Curve>, Vec<Interval>) -> Setting,
    out: &mut dyn Write,
) -> io::Result<()> {
    page::notices(false, &comparison_notes(found), out)?;
    for (name, source) in [("base", &found.base), ("new", &found.new)] {
        let path = source.path.display().to_string();
        writeln!(out, "<h3>{name}: {}</h3>", Escaped(&path))?;
        page::environment(&source.meta, out)?;
    }
    table::write(figures, out)?;
    page::charts(&charts(&settings(found, setting))?, out)
}

fn settings<C>(
    found: &RecordComparison<C>,
    setting: impl Fn(&C, Option<Curve>, Vec<Interval>) -> Setting,
) -> Vec<Setting> {
    let curves = found.curves.iter().cloned().chain(iter::repeat(None));
    let intervals = found.intervals.iter().cloned();
    let drawn = curves.zip(intervals.chain(iter::repeat(Vec::new())));
    let settings = found.comparison.iter().zip(drawn);
    settings
        .map(|(of, (curve, intervals))| setting(of, curve, intervals))
        .collect()
}

/// The charts of two records of `bench udp`.
pub(super) fn udp_charts(found: &RecordComparison<udp::ComparedSetting>) -> io::Result<Vec<Chart>> {
    charts(&settings(found, Setting::of_udp))
}

/// The charts of two records of `bench proxy`.
pub(super) fn proxy_charts(
    found: &RecordComparison<proxy::ComparedSetting>,
) -> io::Result<Vec<Chart>> {
    charts(&settings(found, Setting::of_proxy))
}
