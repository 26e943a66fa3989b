//! What a proxy tells about itself, in the text format of Prometheus (version 0.0.4): pure, a [`Snapshot`] becomes a page.
//!
//! Counters end in `_total`, sizes are bytes and times are seconds, as that format's conventions ask. Every series is there from the
//! start, with 0, so that a rate of what has not happened yet is 0 and not missing.

use std::fmt::{Display, Write};

use super::facts::{Decision, Ending};
use super::log::Handle;
use super::rules::Rules;
use super::server::Watch;
use super::tally::Totals;
use crate::blocklist::load::LoadedFile;
use crate::blocklist::reload::Reloads;
use crate::protocol::Kind;

/// What the page is sent as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What there is to tell at a moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the threads have counted.
    pub totals: Totals,
    /// Whether nobody is taken any more.
    pub draining: bool,
    /// When the proxy began, in ns since 1970.
    pub started_at: u64,
    /// Of the access log, if there is one.
    pub log: Option<Lines>,
    /// The lists in force.
    pub lists: Vec<LoadedFile>,
    /// How often they were read anew.
    pub reloads: Reloads,
}

/// What became of an access log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// Written.
    pub written: u64,
    /// Missing.
    pub dropped: u64,
}

impl Snapshot {
    /// Of a proxy, as it is now.
    pub fn take(watch: &Watch, rules: &Rules, log: Option<&Handle>, started_at: u64) -> Self {
        Self {
            totals: watch.totals(),
            draining: watch.is_draining(),
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
        let mut page = Page::default();
        self.connections(&mut page);
        self.work(&mut page);
        self.lists(&mut page);
        if let Some(Lines { written, dropped }) = self.log {
            page.family(
                "log_lines_total",
                COUNTER,
                "Lines of the access log written.",
            )
            .value(written);
            page.family(
                "log_dropped_lines_total",
                COUNTER,
                "Connections that the access log lacks, for want of time, room or a reader.",
            )
            .value(dropped);
        }
        page.family("draining", GAUGE, "Whether nobody is accepted any more.")
            .value(u8::from(self.draining));
        page.family(
            "start_time_seconds",
            GAUGE,
            "When the proxy began, since 1970.",
        )
        .value(seconds(self.started_at));
        page.family("build_info", GAUGE, "Which program this is; always 1.")
            .labelled("version", env!("CARGO_PKG_VERSION"), 1);
        page.text
    }

    fn connections(&self, page: &mut Page) {
        let totals = &self.totals;
        page.family("connections_accepted_total", COUNTER, "Clients accepted.")
            .value(totals.accepted);
        page.family("connections_open", GAUGE, "Connections that are not over.")
            .value(totals.open());
        let mut family = page.family(
            "connections_ended_total",
            COUNTER,
            "Connections that are over, by how they ended.",
        );
        for ending in Ending::ALL {
            family.labelled("ending", ending.name(), totals.ended(ending));
        }
        let mut family = page.family(
            "requests_total",
            COUNTER,
            "Connections that are over, by how they asked for a server.",
        );
        for (kind, count) in Kind::ALL.iter().zip(totals.protocols) {
            family.labelled("protocol", kind.name(), count);
        }
        let mut family = page.family(
            "decisions_total",
            COUNTER,
            "Connections that are over, by what was decided on their destination.",
        );
        for (name, count) in Decision::NAMES.iter().zip(totals.decisions) {
            family.labelled("decision", name, count);
        }
    }

    fn work(&self, page: &mut Page) {
        let totals = &self.totals;
        page.family(
            "relayed_bytes_total",
            COUNTER,
            "Bytes that servers and clients took.",
        )
        .labelled("to", "server", totals.to_server)
        .labelled("to", "client", totals.to_client);
        page.family(
            "spliced_bytes_total",
            COUNTER,
            "Bytes of connections that are over that went through a pipe.",
        )
        .value(totals.spliced);
        page.family(
            "missing_pipes_total",
            COUNTER,
            "Lots of connections that are over that were copied for want of a pipe.",
        )
        .value(totals.no_pipe);
        page.family(
            "accept_pauses_total",
            COUNTER,
            "Times that nobody was accepted for want of file descriptors or memory.",
        )
        .value(totals.pauses);
        page.family("lookups_total", COUNTER, "Names looked up.")
            .value(totals.lookups);
    }

    fn lists(&self, page: &mut Page) {
        let mut family = page.family("list_entries", GAUGE, "Entries in force, by their file.");
        for list in &self.lists {
            let file = list.file.to_string_lossy();
            family.labelled("file", &file, list.entries);
        }
        page.family(
            "list_reloads_total",
            COUNTER,
            "Reloads of the lists. The old ones stay in force if new ones are invalid (failed), or empty or much smaller (refused).",
        )
        .labelled("outcome", "ok", self.reloads.ok)
        .labelled("outcome", "failed", self.reloads.failed)
        .labelled("outcome", "refused", self.reloads.refused);
        let mut family = page.family(
            "list_skipped_lines",
            GAUGE,
            "Lines of the lists in force that are invalid and were skipped, by their file.",
        );
        for list in &self.lists {
            let file = list.file.to_string_lossy();
            let skipped = list.skipped.as_ref().map_or(0, |skipped| skipped.bad);
            family.labelled("file", &file, skipped);
        }
        page.family(
            "list_last_success_time_seconds",
            GAUGE,
            "When the lists in force were read, since 1970.",
        )
        .value(seconds(self.reloads.read_at));
    }
}

/// Of ns.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

#[derive(Debug, Default)]
struct Page {
    text: String,
}

/// A name with its help, its type and its values.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

// Writing to a String cannot fail.
impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let text = &mut self.text;
        let _ = writeln!(text, "# HELP wirebench_proxy_{name} {help}");
        let _ = writeln!(text, "# TYPE wirebench_proxy_{name} {kind}");
        Family { text, name }
    }
}

impl Family<'_> {
    fn value(&mut self, value: impl Display) {
        let _ = writeln!(self.text, "wirebench_proxy_{} {value}", self.name);
    }

    fn labelled(&mut self, label: &str, text: &str, value: impl Display) -> &mut Self {
        let text = escaped(text);
        let _ = writeln!(
            self.text,
            "wirebench_proxy_{}{{{label}=\"{text}\"}} {value}",
            self.name
        );
        self
    }
}

/// Of the three characters that mean something in a label's value.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn snapshot() -> Snapshot {
        Snapshot {
            totals: Totals {
                accepted: 50,
                endings: std::array::from_fn(|n| n as u64 % 3),
                protocols: [1, 2, 3, 4],
                decisions: [5, 6, 7, 8],
                to_server: u64::MAX,
                to_client: 12,
                spliced: 13,
                no_pipe: 14,
                pauses: 15,
                lookups: 16,
            },
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
    fn every_figure_is_there_under_its_name() {
        let page = snapshot().page();
        for line in [
            "connections_accepted_total 50",
            "connections_open 38",
            "connections_ended_total{ending=\"finished\"} 0",
            "connections_ended_total{ending=\"client_reset\"} 1",
            "connections_ended_total{ending=\"server_reset\"} 2",
            "requests_total{protocol=\"json\"} 1",
            "requests_total{protocol=\"forward\"} 4",
            "decisions_total{decision=\"undecided\"} 5",
            "decisions_total{decision=\"blocked\"} 8",
            "relayed_bytes_total{to=\"server\"} 18446744073709551615",
            "relayed_bytes_total{to=\"client\"} 12",
            "spliced_bytes_total 13",
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
    fn without_a_log_nothing_is_said_of_one() {
        let page = Snapshot {
            log: None,
            ..snapshot()
        };
        assert!(!page.page().contains("log_"));
    }

    /// The rules of the format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    #[test]
    fn the_page_keeps_the_rules_of_its_format() {
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
                // Right behind its help, before its values.
                assert_eq!(name, family);
                assert!(types.insert(name, kind).is_none(), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(series.insert(name), "{line}");
                let base = name.split('{').next().unwrap();
                assert_eq!(base, family, "{line}");
                assert!(types.contains_key(base), "{line}");
                let letter = |letter: char| letter.is_ascii_lowercase() || letter == '_';
                assert!(base.chars().all(letter), "{line}");
                let value: f64 = value.parse().unwrap();
                assert!(value.is_finite() && value >= 0.0, "{line}");
            }
        }
        assert_eq!(helped.len(), types.len());
        assert!(series.len() > 30);
    }
}
