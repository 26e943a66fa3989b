//! Metrics of runs: OpenMetrics 1.0, and the text format of Prometheus for the textfile collector of its node exporter.
//!
//! Names end in their base unit. A run has the labels of its setting and its number in the command. Unknown values have no sample.

mod proxy;
mod search;
mod udp;

use std::io::{self, Write};

use super::column::Cell;
use super::{Document, Exporter};
use crate::dates;
use crate::exposition::{Format, Kind, Page};
use crate::report::model::Meta;
use crate::stats::latency::Summary;
use crate::stats::ratio::Ratio;
use crate::stats::spread::Spread;

/// The runs in OpenMetrics, or the figures of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct OpenMetrics;

/// The same metrics in the text format of Prometheus.
#[derive(Debug, Clone, Copy)]
pub struct Prometheus;

impl Exporter for OpenMetrics {
    fn write(&self, document: &Document<'_>, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(page(document, Format::OpenMetrics).as_bytes())
    }
}

impl Exporter for Prometheus {
    fn write(&self, document: &Document<'_>, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(page(document, Format::Prometheus).as_bytes())
    }
}

fn page(document: &Document<'_>, format: Format) -> String {
    let prefix = match document {
        Document::UdpRuns { .. } | Document::UdpComparison(_) => "wirebench_udp_",
        Document::UdpSearch { .. } => "wirebench_udp_search_",
        // The proxy itself has the metrics `wirebench_proxy_*`.
        Document::ProxyRuns { .. } | Document::ProxyComparison(_) => "wirebench_load_",
    };
    let mut page = Page::new(format, prefix);
    match document {
        Document::UdpRuns { record, .. } => {
            command(&mut page, &record.meta);
            udp::runs(&mut page, &record.runs);
        }
        Document::UdpSearch { record, .. } => {
            command(&mut page, &record.meta);
            search::goals(&mut page, record);
        }
        Document::ProxyRuns { record, .. } => {
            command(&mut page, &record.meta);
            proxy::runs(&mut page, &record.runs);
        }
        Document::UdpComparison(found) => {
            command(&mut page, &found.new.meta);
            udp::settings(&mut page, &found.comparison);
        }
        Document::ProxyComparison(found) => {
            command(&mut page, &found.new.meta);
            proxy::settings(&mut page, &found.comparison);
        }
    }
    page.finish()
}

/// Names and values of labels.
type Labels = Vec<(&'static str, String)>;

/// A metric: its name, its type and its meaning.
type Named<'a> = (&'static str, Kind, &'a str);

/// Rows, each with its labels.
struct Rows<'a, R>(Vec<(Labels, &'a R)>);

impl<'a, R> Rows<'a, R> {
    fn new(rows: &'a [R], labels: impl Fn(usize, &'a R) -> Labels) -> Self {
        let rows = rows.iter().enumerate();
        Self(
            rows.map(|(number, row)| (labels(number, row), row))
                .collect(),
        )
    }

    /// Adds a metric with a sample a row.
    fn each<C: Into<Cell>>(&self, page: &mut Page, named: Named<'_>, get: impl Fn(&R) -> C) {
        self.split(page, named, "", |row| vec![("", get(row))]);
    }

    /// Adds a metric with several samples a row, which differ in the value of `label`.
    fn split<C: Into<Cell>>(
        &self,
        page: &mut Page,
        (name, kind, help): Named<'_>,
        label: &str,
        get: impl Fn(&R) -> Vec<(&'static str, C)>,
    ) {
        let mut samples = Vec::new();
        for (labels, row) in &self.0 {
            for (part, value) in get(row) {
                if let Some(value) = number(value.into()) {
                    samples.push((labels, part, value));
                }
            }
        }
        if samples.is_empty() {
            return;
        }
        let mut family = page.family(name, kind, help);
        for (labels, part, value) in samples {
            let part = (!label.is_empty()).then_some((label, part));
            family.sample("", texts(labels).chain(part), value);
        }
    }

    /// Adds a summary of latencies in ns, in seconds.
    fn summary(
        &self,
        page: &mut Page,
        name: &'static str,
        help: &str,
        get: impl Fn(&R) -> Option<&Summary>,
    ) {
        let of = |(labels, row): &(Labels, &'a R)| Some((labels.clone(), *get(row)?));
        let known: Vec<(Labels, Summary)> = self.0.iter().filter_map(of).collect();
        if known.is_empty() {
            return;
        }
        let mut family = page.family(name, Kind::Summary, help);
        for (labels, of) in &known {
            for (quantile, ns) in [
                ("0.5", of.p50),
                ("0.9", of.p90),
                ("0.99", of.p99),
                ("0.999", of.p99_9),
                ("0.9999", of.p99_99),
            ] {
                if let Some(ns) = ns {
                    let labels = texts(labels).chain([("quantile", quantile)]);
                    family.sample("", labels, seconds(ns));
                }
            }
            if let Some(mean) = of.mean {
                family.sample("_sum", texts(labels), mean * of.count as f64 / 1e9);
            }
            family.sample("_count", texts(labels), of.count);
        }
    }
}

fn texts(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(name, text)| (*name, text.as_str()))
}

/// The value of a sample; `None` if it is unknown.
fn number(cell: Cell) -> Option<String> {
    match cell {
        Cell::Unknown | Cell::Text(_) => None,
        Cell::Flag(flag) => Some(u8::from(flag).to_string()),
        Cell::Integer(_) | Cell::Number(_) => Some(cell.to_string()),
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Labels with a value.
fn known<const N: usize>(labels: [(&'static str, Option<String>); N]) -> Labels {
    let known = labels.into_iter();
    known
        .filter_map(|(name, text)| Some((name, text?)))
        .collect()
}

fn command(page: &mut Page, meta: &Meta) {
    page.family(
        "build_info",
        Kind::Info,
        "Version of wirebench, kernel and CPU of the machine.",
    )
    .sample(
        "",
        [
            ("version", &*meta.wirebench),
            ("kernel", &*meta.host.kernel),
            ("cpu", &*meta.host.cpu),
        ],
        1,
    );
    if let Some(ns) = dates::parse_rfc3339(&meta.started_at) {
        page.family(
            "start_time_seconds",
            Kind::Gauge,
            "Start of the command, since 1970.",
        )
        .value(seconds(ns));
    }
}

/// Adds the latencies from the actual and from the intended start: a summary and the extremes of each.
fn latencies<R>(
    page: &mut Page,
    all: &Rows<'_, R>,
    help: [&str; 2],
    get: [fn(&R) -> Option<&Summary>; 2],
) {
    let names = [
        [
            "latency_seconds",
            "latency_min_seconds",
            "latency_max_seconds",
            "latency_out_of_range_total",
        ],
        [
            "latency_from_intended_seconds",
            "latency_from_intended_min_seconds",
            "latency_from_intended_max_seconds",
            "latency_from_intended_out_of_range_total",
        ],
    ];
    for (([name, min, max, out_of_range], help), get) in names.into_iter().zip(help).zip(get) {
        all.summary(page, name, help, get);
        let least = (min, Kind::Gauge, "The shortest of these latencies.");
        all.each(page, least, |run| get(run)?.min.map(seconds));
        let most = (max, Kind::Gauge, "The longest of these latencies.");
        all.each(page, most, |run| get(run)?.max.map(seconds));
        let out = (
            out_of_range,
            Kind::Counter,
            "Latencies that are not recorded: below 0 by the estimated clocks, or above 60 s.",
        );
        all.each(page, out, |run| {
            let of = get(run)?.out_of_range;
            Some(of.negative.saturating_add(of.too_long))
        });
    }
}

/// The median, the least and the largest value of a figure, each times `factor`.
fn spread(of: Option<Spread>, factor: f64) -> Vec<(&'static str, f64)> {
    let parts = |of: Spread| vec![("median", of.median), ("min", of.min), ("max", of.max)];
    let parts = of.map(parts).unwrap_or_default().into_iter();
    parts.map(|(name, value)| (name, value * factor)).collect()
}

/// Adds the ratio of a figure to the base's, with the ends of its 95 % interval.
fn ratio<S>(
    page: &mut Page,
    all: &Rows<'_, S>,
    (name, figure): (&'static str, &str),
    get: impl Fn(&S) -> Option<Ratio>,
) {
    let help = format!("{figure} as a multiple of the base's, with the ends of the 95 % interval.");
    all.split(page, (name, Kind::Gauge, &help), "bound", |of| {
        let ratio = get(of);
        let interval = ratio.and_then(|of| of.interval);
        vec![
            ("estimate", ratio.map(|of| of.ratio)),
            ("low", interval.map(|of| of.low)),
            ("high", interval.map(|of| of.high)),
        ]
    });
}

/// Adds CPU seconds in user and in kernel mode.
fn cpu_time<R>(
    page: &mut Page,
    all: &Rows<'_, R>,
    (name, help): (&'static str, &str),
    get: impl Fn(&R) -> [Option<f64>; 2],
) {
    all.split(page, (name, Kind::Counter, help), "cpu_mode", |run| {
        let [user, system] = get(run);
        vec![("user", user), ("system", system)]
    });
}

/// Adds the number of warnings.
fn warnings<R>(page: &mut Page, all: &Rows<'_, R>, count: impl Fn(&R) -> usize) {
    let named = (
        "warnings",
        Kind::Gauge,
        "Warnings about effects of the measurement on the run.",
    );
    all.each(page, named, count);
}

#[cfg(test)]
mod tests;
