//! The metrics of a proxy in the text format of Prometheus (version 0.0.4): pure, a [`Snapshot`] becomes a page.
//!
//! Counters end in `_total`, sizes are bytes and times are seconds, as that format's conventions ask. Every series exists
//! from the start, with 0, so that a rate of events that have not occurred yet is 0 and not missing.

use super::access_log::Handle;
use super::associations::{self, counters::AssociationTotals};
use super::counters::Totals;
use super::datagrams::{self, counters::DatagramTotals};
use super::record::{BusyCause, CloseReason, Decision};
use super::rules::Rules;
use super::server::StatsHandle;
use crate::blocklist::load::LoadedFile;
use crate::blocklist::reload::Reloads;
use crate::exposition::{Format, Kind, Page};
use crate::protocol;

/// The state of a proxy at a moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The totals of all threads.
    pub totals: Totals,
    /// The totals of forwarded datagrams, if any are forwarded.
    pub datagrams: Option<DatagramTotals>,
    /// The totals of associations of datagrams, if clients may open any.
    pub associations: Option<AssociationTotals>,
    /// Whether the proxy stops, and accepts no more clients.
    pub draining: bool,
    /// When the proxy started, in ns since 1970.
    pub started_at: u64,
    /// The access log, if there is one.
    pub log: Option<Lines>,
    /// The active lists.
    pub lists: Vec<LoadedFile>,
    /// Reloads of the lists.
    pub reloads: Reloads,
}

/// Lines of an access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// Written.
    pub written: u64,
    /// Missing.
    pub dropped: u64,
}

impl Snapshot {
    /// The current state of a proxy.
    pub fn take(stats: &StatsHandle, rules: &Rules, log: Option<&Handle>, started_at: u64) -> Self {
        Self {
            totals: stats.totals(),
            datagrams: stats.datagram_totals(),
            associations: stats.association_totals(),
            draining: stats.is_draining(),
            started_at,
            log: log.map(|log| Lines {
                written: log.written(),
                dropped: log.dropped(),
            }),
            lists: rules.policies.current().files().to_vec(),
            reloads: rules.policies.reloads(),
        }
    }

    /// The page.
    pub fn page(&self) -> String {
        let mut page = Page::new(Format::Prometheus, "wirebench_proxy_");
        self.connections(&mut page);
        self.work(&mut page);
        if let Some(totals) = &self.datagrams {
            datagrams::metrics::add(totals, &mut page);
        }
        if let Some(totals) = &self.associations {
            associations::metrics::add(totals, &mut page);
        }
        self.lists(&mut page);
        if let Some(Lines { written, dropped }) = self.log {
            page.family(
                "log_lines_total",
                Kind::Counter,
                "Lines of the access log written.",
            )
            .value(written);
            page.family(
                "log_dropped_lines_total",
                Kind::Counter,
                "Closed connections without a line in the access log, for lack of time, space or a reader.",
            )
            .value(dropped);
        }
        page.family(
            "draining",
            Kind::Gauge,
            "Whether the proxy stops, and accepts no more clients.",
        )
        .value(u8::from(self.draining));
        page.family(
            "start_time_seconds",
            Kind::Gauge,
            "When the proxy started, since 1970.",
        )
        .value(seconds(self.started_at));
        page.family(
            "build_info",
            Kind::Info,
            "The version of the program; always 1.",
        )
        .labelled("version", env!("CARGO_PKG_VERSION"), 1);
        page.finish()
    }

    fn connections(&self, page: &mut Page) {
        let totals = &self.totals;
        page.family(
            "connections_accepted_total",
            Kind::Counter,
            "Accepted clients.",
        )
        .value(totals.accepted);
        page.family("connections_open", Kind::Gauge, "Open connections.")
            .value(totals.open());
        let mut family = page.family(
            "connections_ended_total",
            Kind::Counter,
            "Closed connections, by reason.",
        );
        for reason in CloseReason::ALL {
            family.labelled("ending", reason.name(), totals.ended(reason));
        }
        let mut family = page.family(
            "connections_busy_total",
            Kind::Counter,
            "Clients refused as busy, by cause.",
        );
        for (cause, count) in BusyCause::ALL.iter().zip(totals.busy) {
            family.labelled("cause", cause.name(), count);
        }
        let mut family = page.family(
            "requests_total",
            Kind::Counter,
            "Closed connections, by the protocol of the request.",
        );
        for (kind, count) in protocol::Kind::ALL.iter().zip(totals.protocols) {
            family.labelled("protocol", kind.name(), count);
        }
        let mut family = page.family(
            "decisions_total",
            Kind::Counter,
            "Closed connections, by the decision on their destination.",
        );
        for (name, count) in Decision::NAMES.iter().zip(totals.decisions) {
            family.labelled("decision", name, count);
        }
    }

    fn work(&self, page: &mut Page) {
        let totals = &self.totals;
        page.family(
            "relayed_bytes_total",
            Kind::Counter,
            "Bytes sent to servers and clients.",
        )
        .labelled("to", "server", totals.to_server)
        .labelled("to", "client", totals.to_client);
        page.family(
            "spliced_bytes_total",
            Kind::Counter,
            "Bytes that went through a pipe.",
        )
        .value(totals.spliced);
        let all = totals.to_server.saturating_add(totals.to_client);
        page.family(
            "forwarded_bytes_total",
            Kind::Counter,
            "Bytes sent to servers and clients, by method.",
        )
        .labelled("method", "copy", all.saturating_sub(totals.spliced))
        .labelled("method", "splice", totals.spliced);
        let methods = &totals.methods;
        let [copying, splicing] = methods.threads;
        page.family(
            "forwarding_threads",
            Kind::Gauge,
            "Threads by the method that their bulk transfers use.",
        )
        .labelled("method", "copy", copying)
        .labelled("method", "splice", splicing);
        let costs = methods.cpu_seconds_per_gb();
        let mut cpu = page.family(
            "forwarding_cpu_seconds_per_byte",
            Kind::Gauge,
            "CPU time of bulk transfers by method, as measured by --forwarding auto; absent before that.",
        );
        if let Some([copy, splice]) = costs {
            cpu.labelled("method", "copy", copy / 1e9)
                .labelled("method", "splice", splice / 1e9);
        }
        let mut rate = page.family(
            "forwarding_bytes_per_second",
            Kind::Gauge,
            "Rate of bulk transfers by method, as measured by --forwarding auto; absent before that.",
        );
        if costs.is_some() {
            let [copy, splice] = methods.rate;
            rate.labelled("method", "copy", copy)
                .labelled("method", "splice", splice);
        }
        page.family(
            "missing_pipes_total",
            Kind::Counter,
            "Chunks of closed connections that were copied because no pipe was available.",
        )
        .value(totals.no_pipe);
        page.family(
            "accept_pauses_total",
            Kind::Counter,
            "Pauses in accepting for lack of file descriptors or memory.",
        )
        .value(totals.pauses);
        page.family("lookups_total", Kind::Counter, "Lookups of names.")
            .value(totals.lookups);
    }

    fn lists(&self, page: &mut Page) {
        let mut family = page.family(
            "list_entries",
            Kind::Gauge,
            "Entries of the active lists, by file.",
        );
        for list in &self.lists {
            let file = list.file.to_string_lossy();
            family.labelled("file", &file, list.entries);
        }
        page.family(
            "list_reloads_total",
            Kind::Counter,
            "Reloads of the lists. The previous lists stay active if the new ones are invalid (failed), or empty or much smaller (refused).",
        )
        .labelled("outcome", "ok", self.reloads.ok)
        .labelled("outcome", "failed", self.reloads.failed)
        .labelled("outcome", "refused", self.reloads.refused);
        let mut family = page.family(
            "list_skipped_lines",
            Kind::Gauge,
            "Invalid lines of the active lists that were skipped, by file.",
        );
        for list in &self.lists {
            let file = list.file.to_string_lossy();
            let skipped = list.skipped.as_ref().map_or(0, |skipped| skipped.bad);
            family.labelled("file", &file, skipped);
        }
        page.family(
            "list_last_success_time_seconds",
            Kind::Gauge,
            "When the active lists were read, since 1970.",
        )
        .value(seconds(self.reloads.read_at));
    }
}

/// Seconds from ns.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::counters::Methods;
    use crate::proxy::datagrams::record::{DropCause, Drops, Traffic};
    use std::collections::{HashMap, HashSet};

    fn datagram_totals() -> DatagramTotals {
        let traffic = |datagrams| Traffic {
            datagrams,
            bytes: 2 * datagrams,
            sends: 3 * datagrams,
        };
        let mut drops = Drops::default();
        drops.add(DropCause::OverLimit, 35);
        DatagramTotals {
            opened: 30,
            ended: [1, 2, 3],
            would_block: 0,
            to_server: traffic(31),
            to_client: traffic(32),
            drops,
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            totals: Totals {
                accepted: 50,
                closed: std::array::from_fn(|n| n as u64 % 3),
                busy: [9, 10, 0, 11],
                protocols: [1, 2, 3, 4],
                decisions: [5, 6, 7, 8],
                to_server: u64::MAX,
                to_client: 12,
                spliced: 13,
                no_pipe: 14,
                pauses: 15,
                lookups: 16,
                methods: Methods {
                    threads: [1, 3],
                    auto: 4,
                    unavailable: 0,
                    measured: 2,
                    cpu: [800, 500],
                    rate: [24, 25],
                },
            },
            datagrams: Some(datagram_totals()),
            associations: Some(AssociationTotals {
                opened: 40,
                closed: 3,
                refused: 41,
                ..AssociationTotals::default()
            }),
            draining: true,
            started_at: 1_795_356_301_500_000_000,
            log: Some(Lines {
                written: 17,
                dropped: 18,
            }),
            lists: vec![LoadedFile {
                file: "a \"b\"\\c\nd/ü.txt".into(),
                format: None,
                entries: 19,
                skipped: None,
            }],
            reloads: Reloads {
                ok: 20,
                failed: 21,
                refused: 23,
                read_at: 22_000_000_000,
            },
        }
    }

    #[test]
    fn costs_that_are_not_measured_are_absent() {
        let mut snapshot = snapshot();
        snapshot.totals.methods.measured = 0;
        let page = snapshot.page();
        assert!(page.contains("# TYPE") && page.contains("forwarding_threads{"));
        for metric in [
            "forwarding_cpu_seconds_per_byte{",
            "forwarding_bytes_per_second{",
        ] {
            assert!(!page.contains(metric), "{page}");
        }
    }

    #[test]
    fn every_metric_has_its_value() {
        let page = snapshot().page();
        for line in [
            "connections_accepted_total 50",
            "connections_open 38",
            "connections_ended_total{ending=\"finished\"} 0",
            "connections_ended_total{ending=\"client_reset\"} 1",
            "connections_ended_total{ending=\"server_reset\"} 2",
            "connections_busy_total{cause=\"over_limit\"} 9",
            "connections_busy_total{cause=\"request_memory\"} 11",
            "requests_total{protocol=\"json\"} 1",
            "requests_total{protocol=\"forward\"} 4",
            "decisions_total{decision=\"undecided\"} 5",
            "decisions_total{decision=\"blocked\"} 8",
            "relayed_bytes_total{to=\"server\"} 18446744073709551615",
            "relayed_bytes_total{to=\"client\"} 12",
            "spliced_bytes_total 13",
            "forwarded_bytes_total{method=\"copy\"} 18446744073709551602",
            "forwarded_bytes_total{method=\"splice\"} 13",
            "forwarding_threads{method=\"copy\"} 1",
            "forwarding_threads{method=\"splice\"} 3",
            "forwarding_cpu_seconds_per_byte{method=\"copy\"} 0.0000000004",
            "forwarding_cpu_seconds_per_byte{method=\"splice\"} 0.00000000025",
            "forwarding_bytes_per_second{method=\"copy\"} 24",
            "forwarding_bytes_per_second{method=\"splice\"} 25",
            "udp_flows_opened_total 30",
            "udp_flows_open 24",
            "udp_flows_ended_total{ending=\"idle_timeout\"} 1",
            "udp_flows_ended_total{ending=\"stopped\"} 3",
            "udp_datagrams_total{to=\"server\"} 31",
            "udp_datagrams_total{to=\"client\"} 32",
            "udp_bytes_total{to=\"client\"} 64",
            "udp_messages_total{to=\"server\"} 93",
            "udp_dropped_datagrams_total{cause=\"over_limit\"} 35",
            "udp_dropped_datagrams_total{cause=\"stopping\"} 0",
            "udp_associations_opened_total 40",
            "udp_associations_open 37",
            "udp_associations_refused_total 41",
            "udp_association_datagrams_total{to=\"client\"} 0",
            "udp_association_dropped_datagrams_total{cause=\"fragment\"} 0",
            "missing_pipes_total 14",
            "accept_pauses_total 15",
            "lookups_total 16",
            "log_lines_total 17",
            "log_dropped_lines_total 18",
            "list_entries{file=\"a \\\"b\\\"\\\\c\\nd/ü.txt\"} 19",
            "list_reloads_total{outcome=\"ok\"} 20",
            "list_reloads_total{outcome=\"failed\"} 21",
            "list_reloads_total{outcome=\"refused\"} 23",
            "list_skipped_lines{file=\"a \\\"b\\\"\\\\c\\nd/ü.txt\"} 0",
            "list_last_success_time_seconds 22",
            "draining 1",
            "start_time_seconds 1795356301.5",
            &format!("build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
        ] {
            let line = format!("wirebench_proxy_{line}");
            assert!(page.lines().any(|is| is == line), "no {line} in:\n{page}");
        }
    }

    #[test]
    fn without_udp_forwarding_it_has_no_metrics() {
        let page = Snapshot {
            datagrams: None,
            associations: None,
            ..snapshot()
        };
        assert!(!page.page().contains("udp_"));
    }

    #[test]
    fn without_a_log_it_has_no_metrics() {
        let page = Snapshot {
            log: None,
            ..snapshot()
        };
        assert!(!page.page().contains("log_"));
    }

    /// The rules of the format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    #[test]
    fn the_page_obeys_the_rules_of_its_format() {
        let page = snapshot().page();
        assert!(page.ends_with('\n'));
        let mut types: HashMap<&str, &str> = HashMap::new();
        let (mut helped, mut series) = (HashSet::new(), HashSet::new());
        let mut family = "";
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(helped.insert(name), "{line}");
                assert!(
                    !help.contains('\\') && help.ends_with(|end| ".;1".contains(end)),
                    "{line}"
                );
                family = name;
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                // Directly behind its help, before its values.
                assert_eq!(name, family);
                assert!(types.insert(name, kind).is_none(), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(series.insert(name), "{line}");
                let base = name.split('{').next().unwrap();
                assert_eq!(base, family, "{line}");
                assert!(types.contains_key(base), "{line}");
                let character =
                    |character: char| character.is_ascii_lowercase() || character == '_';
                assert!(base.chars().all(character), "{line}");
                let value: f64 = value.parse().unwrap();
                assert!(value.is_finite() && value >= 0.0, "{line}");
            }
        }
        assert_eq!(helped.len(), types.len());
        assert!(series.len() > 30);
    }
}
