//! A record of runs that were measured elsewhere or before.

use std::path::PathBuf;

use crate::cli::command_line;
use crate::cli::error::CliError;
use crate::cli::saving::Saving;
use crate::load::result::{Measured, Run};
use crate::report::compare::proxy::{Latencies, overhead, totals, within_command};
use crate::report::export::columns::LedgerRow;
use crate::report::export::hgrm::Histograms;
use crate::report::model::{Distributed, Meta, ProxyRecord};
use crate::report::store::{Ledger, RunFolder};

/// The record of these runs, of a command that started at `started` (ns since the epoch).
pub(in crate::cli) fn record_of(started: u64, measured: &[Measured]) -> ProxyRecord {
    let runs: Vec<Run> = measured.iter().map(|of| of.run.clone()).collect();
    let (mut latencies, mut histograms) = (Latencies::default(), Histograms::default());
    for one in measured {
        latencies.add(one);
        let both = [&one.latency, &one.latency_from_intended];
        let named = one.run.histograms().into_iter().zip(both);
        for (name, latency) in named.filter(|(_, latency)| !latency.is_empty()) {
            histograms.add(&name, latency);
        }
    }
    ProxyRecord {
        meta: Meta::here("proxy", started, command_line()),
        comparison: within_command(&runs),
        totals: totals(&runs, &latencies),
        overhead: overhead(&runs),
        interrupted: runs.iter().any(|run| run.interrupted),
        curves: histograms.curves(),
        runs,
    }
}

/// Saves one run as a command of its own. Returns its folder; `None` with `--no-save`.
pub(super) fn save(
    saving: &Saving,
    started: u64,
    measured: &Measured,
) -> Result<Option<PathBuf>, CliError> {
    if saving.no_save {
        return Ok(None);
    }
    let mut folder = RunFolder::create(&saving.out, "proxy", started).map_err(CliError::runtime)?;
    let record = record_of(started, std::slice::from_ref(measured));
    let saved = folder.save_proxy(&record, measured);
    saved.map_err(CliError::runtime)?;
    let id = folder.id();
    let row = LedgerRow::last(&id, &record.meta, &record.runs);
    let added = row.map_or(Ok(()), |row| Ledger::new(&saving.out).append(&row));
    added.map_err(CliError::runtime)?;
    Ok(Some(folder.path().to_owned()))
}
