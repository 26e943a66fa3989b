//! The columns of `udp.csv`: each with its name and how its cell is taken from a run.
//!
//! Numbers are bytes, ns, seconds or counts as the name says. What is missing is an empty cell. The
//! order is part of the contract: a new column goes to the end.

use std::fmt::Display;

use crate::report::record::{Lost, Received, Record, Run};
use crate::stats::latency::Summary;

/// One run of a command.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The name of the command's folder; empty when there is none.
    pub id: &'a str,
    /// Which run of the command, counted from 0.
    pub number: usize,
    /// The command.
    pub record: &'a Record,
    /// The run.
    pub run: &'a Run,
}

impl<'a> Row<'a> {
    /// A row for each run of `record`, whose folder is called `id`.
    pub fn all(id: &'a str, record: &'a Record) -> Vec<Self> {
        let runs = record.runs.iter().enumerate();
        runs.map(|(number, run)| Self {
            id,
            number,
            record,
            run,
        })
        .collect()
    }

    /// That of the last run.
    pub fn last(id: &'a str, record: &'a Record) -> Option<Self> {
        record.runs.last().map(|run| Self {
            id,
            number: record.runs.len() - 1,
            record,
            run,
        })
    }
}

impl super::Row for Row<'_> {
    const LEDGER: &'static str = "udp.csv";

    fn names() -> impl Iterator<Item = &'static str> {
        COLUMNS.iter().map(|(name, _)| *name)
    }

    fn cells(&self) -> impl Iterator<Item = String> {
        COLUMNS.iter().map(|(_, cell)| cell(self))
    }
}

type Column = (&'static str, fn(&Row<'_>) -> String);

const COLUMNS: &[Column] = &[
    ("id", |row| row.id.to_owned()),
    ("run", |row| row.number.to_string()),
    ("started_at", |row| row.record.started_at.clone()),
    ("wirebench", |row| row.record.wirebench.clone()),
    ("kernel", |row| row.record.host.kernel.clone()),
    ("cpu", |row| row.record.host.cpu.clone()),
    ("cores", |row| row.record.host.cores.to_string()),
    ("engine", |row| row.run.engine.clone()),
    ("mode", |row| row.run.mode.clone()),
    ("complete", |row| row.run.complete.to_string()),
    ("ended", |row| row.run.ended.clone()),
    ("to", |row| text(&row.run.requested.to)),
    ("requested_bytes", |row| some(row.run.requested.bytes)),
    ("requested_packets", |row| some(row.run.requested.packets)),
    ("requested_duration_s", |row| {
        figure(row.run.requested.duration_s)
    }),
    ("requested_rate_bits_per_s", |row| {
        figure(row.run.requested.rate_bits_per_s)
    }),
    ("requested_pps", |row| figure(row.run.requested.pps)),
    ("requested_gso", |row| row.run.requested.gso.clone()),
    ("requested_sndbuf", |row| some(row.run.requested.sndbuf)),
    ("requested_rcvbuf", |row| some(row.run.requested.rcvbuf)),
    ("chunk", |row| row.run.effective.chunk.to_string()),
    ("datagram", |row| row.run.effective.datagram.to_string()),
    ("batch", |row| positive(row.run.effective.batch)),
    ("segments", |row| positive(row.run.effective.segments)),
    ("gso", |row| row.run.effective.gso.to_string()),
    ("gro", |row| row.run.effective.gro.to_string()),
    ("streams", |row| row.run.effective.streams.to_string()),
    ("sender_cpus", |row| {
        cpus(row.run.effective.sender_cpus.as_deref())
    }),
    ("receiver_cpus", |row| {
        cpus(row.run.effective.receiver_cpus.as_deref())
    }),
    ("sndbuf", |row| positive(row.run.effective.sndbuf)),
    ("rcvbuf", |row| positive(row.run.effective.rcvbuf)),
    ("window", |row| some(row.run.effective.window)),
    ("sent_packets", |row| row.run.sent.packets.to_string()),
    ("sent_bytes", |row| row.run.sent.bytes.to_string()),
    ("received_packets", |row| received(row, |of| of.packets)),
    ("received_bytes", |row| received(row, |of| of.bytes)),
    ("unique", |row| received(row, |of| of.unique)),
    ("duplicates", |row| received(row, |of| of.duplicates)),
    ("reordered", |row| received(row, |of| of.reordered)),
    ("late", |row| received(row, |of| of.late)),
    ("foreign", |row| received(row, |of| of.foreign)),
    ("lost_packets", |row| lost(row, |of| of.packets)),
    ("lost_not_sent", |row| lost(row, |of| of.not_sent)),
    ("lost_receiver_socket", |row| {
        lost(row, |of| of.receiver_socket)
    }),
    ("lost_elsewhere", |row| lost(row, |of| of.elsewhere)),
    ("seconds", |row| figure(row.run.seconds)),
    ("kb_per_s", |row| figure(row.run.kb_per_s)),
    ("kib_per_s", |row| figure(row.run.kib_per_s)),
    ("gbit_per_s", |row| figure(row.run.gbit_per_s)),
    ("packets_per_s", |row| figure(row.run.packets_per_s)),
    ("transit_kb_per_s", |row| figure(row.run.transit_kb_per_s)),
    ("latency_count", |row| latency(row, |of| Some(of.count))),
    ("latency_min_ns", |row| latency(row, |of| of.min)),
    ("latency_mean_ns", |row| {
        figure(row.run.latency_ns.and_then(|of| of.mean))
    }),
    ("latency_stdev_ns", |row| {
        figure(row.run.latency_ns.and_then(|of| of.stdev))
    }),
    ("latency_p50_ns", |row| latency(row, |of| of.p50)),
    ("latency_p90_ns", |row| latency(row, |of| of.p90)),
    ("latency_p99_ns", |row| latency(row, |of| of.p99)),
    ("latency_p99_9_ns", |row| latency(row, |of| of.p99_9)),
    ("latency_p99_99_ns", |row| latency(row, |of| of.p99_99)),
    ("latency_max_ns", |row| latency(row, |of| of.max)),
    ("latency_negative", |row| {
        latency(row, |of| Some(of.out_of_range.negative))
    }),
    ("latency_too_long", |row| {
        latency(row, |of| Some(of.out_of_range.too_long))
    }),
    ("intended_p50_ns", |row| intended(row, |of| of.p50)),
    ("intended_p99_ns", |row| intended(row, |of| of.p99)),
    ("intended_p99_9_ns", |row| intended(row, |of| of.p99_9)),
    ("intended_max_ns", |row| intended(row, |of| of.max)),
    ("jitter_ns", |row| figure(row.run.jitter_ns)),
    ("achieved_pps", |row| {
        figure(row.run.pacing.as_ref().and_then(|of| of.achieved_pps))
    }),
    ("sender_user_s", |row| figure(row.run.cpu.sender_user_s)),
    ("sender_system_s", |row| figure(row.run.cpu.sender_system_s)),
    ("receiver_user_s", |row| figure(row.run.cpu.receiver_user_s)),
    ("receiver_system_s", |row| {
        figure(row.run.cpu.receiver_system_s)
    }),
    ("sender_s_per_million", |row| {
        figure(row.run.cpu.sender_s_per_million)
    }),
    ("receiver_s_per_million", |row| {
        figure(row.run.cpu.receiver_s_per_million)
    }),
    ("send_syscalls", |row| {
        row.run.engine_stats.send_syscalls.to_string()
    }),
    ("receive_syscalls", |row| {
        row.run.engine_stats.receive_syscalls.to_string()
    }),
    ("clock_source", |row| row.run.effective.clock.source.clone()),
    ("clock_offset_ns", |row| {
        some(row.run.effective.clock.offset_ns)
    }),
    ("clock_error_ns", |row| {
        some(row.run.effective.clock.error_ns)
    }),
    ("clock_drift_ns", |row| {
        some(row.run.effective.clock.drift_ns)
    }),
    ("first_sent_at", |row| text(&row.run.first_sent_at)),
    ("last_received_at", |row| text(&row.run.last_received_at)),
    ("client_ip", |row| text(&row.run.client_ip)),
    ("reason", |row| text(&row.run.reason)),
    ("zerocopy", |row| row.run.effective.zerocopy.clone()),
    ("setting", |row| text(&row.run.setting)),
    ("warnings", |row| row.run.warnings.join(" ")),
    ("seconds_error", |row| figure(row.run.seconds_error)),
    ("kb_per_s_error", |row| figure(row.run.kb_per_s_error)),
    ("clock_drift_ppm", |row| {
        figure(row.run.effective.clock.drift_ppm)
    }),
    ("clock_note", |row| text(&row.run.effective.clock.note)),
    ("direction", |row| row.run.direction.clone()),
    ("df", |row| row.run.effective.df.clone()),
    ("path_mtu", |row| some(row.run.effective.path_mtu)),
    ("gso_fallbacks", |row| {
        row.run.engine_stats.gso_fallbacks.to_string()
    }),
    ("spin", |row| row.run.effective.spin.to_string()),
    ("icmp_errors", |row| {
        row.run.engine_stats.icmp.total().to_string()
    }),
];

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

fn some(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn figure(value: Option<f64>) -> String {
    some(value.filter(|value| value.is_finite()))
}

fn cpus(list: Option<&[usize]>) -> String {
    let list = list.unwrap_or_default().iter();
    list.map(usize::to_string).collect::<Vec<_>>().join(" ")
}

fn positive(value: usize) -> String {
    some((value > 0).then_some(value))
}

fn received(row: &Row<'_>, of: impl Fn(&Received) -> u64) -> String {
    let received = &row.run.received;
    some((!received.is_unknown).then(|| of(received)))
}

fn lost(row: &Row<'_>, of: impl Fn(&Lost) -> u64) -> String {
    let lost = &row.run.lost;
    some((!lost.is_unknown).then(|| of(lost)))
}

fn latency(row: &Row<'_>, of: impl Fn(&Summary) -> Option<u64>) -> String {
    some(row.run.latency_ns.as_ref().and_then(of))
}

fn intended(row: &Row<'_>, of: impl Fn(&Summary) -> Option<u64>) -> String {
    some(row.run.latency_from_intended_ns.as_ref().and_then(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ledger::Row as _;
    use crate::report::sample;
    use std::collections::{HashMap, HashSet};

    fn cells(run: &Run) -> HashMap<&'static str, String> {
        let record = sample::record(Vec::new());
        let row = Row {
            id: "20261122T140501Z-udp-abc123",
            number: 0,
            record: &record,
            run,
        };
        Row::names().zip(row.cells()).collect()
    }

    #[test]
    fn every_column_has_one_name_and_a_full_run_fills_them_all() {
        assert_eq!(Row::names().collect::<HashSet<_>>().len(), COLUMNS.len());
        for (name, cell) in cells(&sample::measured().run) {
            assert!(!cell.is_empty(), "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_empty_and_never_0() {
        let run = Run {
            kb_per_s: Some(f64::NAN),
            ..Run::default()
        };
        let cells = cells(&run);
        for name in [
            "seconds",
            "kb_per_s",
            "latency_count",
            "latency_p50_ns",
            "intended_max_ns",
            "receiver_user_s",
            "sender_cpus",
            "seconds_error",
            "kb_per_s_error",
            "clock_offset_ns",
            "clock_error_ns",
            "clock_drift_ns",
            "client_ip",
        ] {
            assert_eq!(cells[name], "", "{name}");
        }
    }

    #[test]
    fn cells_are_the_figures_of_the_run() {
        let cells = cells(&sample::measured().run);
        assert_eq!(cells["sender_cpus"], "0 2");
        assert_eq!(cells["gbit_per_s"], "17.0765");
        assert_eq!(cells["clock_offset_ns"], "-1234567");
        assert_eq!(cells["seconds_error"], "0.00000085");
        assert_eq!(
            cells["latency_max_ns"],
            sample::measured()
                .run
                .latency_ns
                .unwrap()
                .max
                .unwrap()
                .to_string()
        );
    }
}
