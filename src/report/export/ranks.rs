//! `ranks.csv`: a row for each rank of each merged run, and a row with their total.

use std::io::{self, Write};

use super::columns::{PROXY_RANK, ProxyRank, RANK, RUN_NUMBER};
use super::csv::{record, table};
use super::{Document, Exporter};
use crate::load;
use crate::udp::result::{Rank, Run};

/// The ranks of merged runs as CSV.
#[derive(Debug, Clone, Copy)]
pub struct RanksCsv;

impl Exporter for RanksCsv {
    fn write(&self, document: &Document<'_>, out: &mut dyn Write) -> io::Result<()> {
        match document {
            Document::UdpRuns { record, .. } => ranks(&record.runs, out),
            Document::ProxyRuns { record, .. } => proxy_ranks(&record.runs, out),
            _ => Ok(()),
        }
    }
}

/// Writes the rows of `runs`.
///
/// # Errors
/// Those of `out`.
pub fn ranks(runs: &[Run], out: impl Write) -> io::Result<()> {
    let mut rows = csv::Writer::from_writer(out);
    let names = RANK.iter().map(|column| column.name);
    rows.write_record([RUN_NUMBER.name].into_iter().chain(names))?;
    for (number, run) in runs.iter().enumerate() {
        let Some(fleet) = &run.fleet else {
            continue;
        };
        let total = total(run);
        for rank in fleet.ranks.iter().chain([&total]) {
            let cells = RANK.iter().map(|column| (column.get)(rank));
            let number = [(RUN_NUMBER.get)(&number)].into_iter();
            rows.write_byte_record(&record(number.chain(cells)))?;
        }
    }
    rows.flush()
}

/// Writes the rows of `runs` of `bench proxy load`.
///
/// # Errors
/// Those of `out`.
pub fn proxy_ranks(runs: &[load::result::Run], out: impl Write) -> io::Result<()> {
    table(PROXY_RANK, &ProxyRank::all(runs), out)
}

/// The merged run as a row.
fn total(run: &Run) -> Rank {
    let latency = run.latency_ns.unwrap_or_default();
    let skew = run.fleet.as_ref().and_then(|fleet| fleet.start_skew_ns);
    let both = |one: Option<f64>, other: Option<f64>| Some(one? + other?);
    Rank {
        rank: None,
        name: "total".to_owned(),
        host: String::new(),
        complete: run.complete,
        ended: run.ended.clone(),
        reason: run.reason.clone(),
        start_ns: skew.and_then(|skew| i64::try_from(skew).ok()),
        phase_ns: 0,
        sent: run.sent,
        received: run.received,
        lost: run.lost,
        seconds: run.seconds,
        kb_per_s: run.kb_per_s,
        latency_p50_ns: latency.p50,
        latency_p99_ns: latency.p99,
        latency_max_ns: latency.max,
        sender_s: both(run.cpu.sender_user_s, run.cpu.sender_system_s),
        receiver_s: both(run.cpu.receiver_user_s, run.cpu.receiver_system_s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn each_rank_has_a_row_and_the_total_is_last() {
        let mut text = Vec::new();
        ranks(&[sample::udp::measured().run], &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 3, "{text}");
        assert!(rows[0].starts_with("run,rank,name,host,"), "{text}");
        assert!(rows[1].starts_with("0,3,rank 3,node03,true,"), "{text}");
        assert!(rows[2].starts_with("0,,total,,"), "{text}");
    }

    #[test]
    fn ranks_of_load_generators_have_rows_too() {
        let mut text = Vec::new();
        let runs = [sample::proxy::merged(2).run, sample::proxy::merged(1).run];
        proxy_ranks(&runs, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 6, "{text}");
        assert!(rows[1].starts_with("0,connect,proxied,,0,0,rank 0,node0,true,"));
        assert!(
            rows[3].starts_with("0,connect,proxied,,0,,total,,"),
            "{text}"
        );
        assert!(
            rows[5].starts_with("1,connect,proxied,,0,,total,,"),
            "{text}"
        );
    }
}
