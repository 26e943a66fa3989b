//! Settings side by side: what the runs of each come to, and that as a multiple of the first.
//!
//! [`within`] compares the settings of one `bench udp`, which took turns; [`between`](between::between) the same
//! settings in two saved records, for which [`gate`] says whether the one is slower. A run that is not complete
//! counts nowhere. [`columns`] is the table `comparison.csv`.
//!
//! Two records of any kind can be compared whose runs are [`Comparable`]: those of `bench udp` are so here, those of
//! `bench proxy` in [`proxy`](super::proxy).

pub mod between;
pub mod columns;
pub mod gate;
mod group;
pub mod labels;
pub mod settings;
mod udp;

use std::io::{self, Write};

use super::record::{Compared, Measured, Run};
use crate::stats::latency::Latency;
use group::groups;
use udp::{figures, ratios};

pub use group::{Comparable, Figure, Group, Row};
pub use udp::latency;

/// The latencies of each setting's complete runs, merged, since percentiles cannot be averaged.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<(Option<String>, Latency)>);

impl Latencies {
    /// Takes in a run.
    pub fn add(&mut self, measured: &Measured) {
        let run = &measured.run;
        if !run.complete {
            return;
        }
        let latency = match run.mode.as_str() {
            "paced" => &measured.latency_from_intended,
            _ => &measured.latency,
        };
        match self.0.iter_mut().find(|(of, _)| *of == run.setting) {
            Some((_, merged)) => merged.merge(latency),
            None => self.0.push((run.setting.clone(), latency.clone())),
        }
    }

    fn percentile(&self, setting: Option<&String>, percent: f64) -> Option<u64> {
        let mut all = self.0.iter();
        let (_, latency) = all.find(|(of, _)| of.as_ref() == setting)?;
        latency.percentile(percent)
    }
}

/// Compares the settings among `runs` of one command, whose latencies are in `latencies`, with the first.
pub fn within(runs: &[Run], latencies: &Latencies) -> Vec<Compared> {
    let groups = groups(runs);
    let Some(base) = groups.first() else {
        return Vec::new();
    };
    let name = |group: &Group<'_, Run>| group.runs.first().and_then(|run| run.setting.clone());
    groups
        .iter()
        .enumerate()
        .map(|(number, group)| {
            let setting = name(group);
            let mut compared = Compared {
                latency_p50_ns: latencies.percentile(setting.as_ref(), 50.0),
                latency_p99_ns: latencies.percentile(setting.as_ref(), 99.0),
                setting: setting.unwrap_or_default(),
                ..figures(group)
            };
            if number > 0 {
                compared.base = name(base);
                compared.ratios = Some(ratios(|figure| group.in_rounds(base, figure)));
            }
            compared
        })
        .collect()
}

/// Writes `comparison.csv`: the header and a row a setting.
///
/// # Errors
/// Those of `out`.
pub fn write(rows: &[Compared], out: impl Write) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(out);
    table.write_record(columns::names())?;
    for row in rows {
        table.write_record(columns::cells(row))?;
    }
    table.flush()
}

#[cfg(test)]
pub(super) mod tests;
