//! JSON lines during a command: an object a line, with a `type` and the keys of `run.json`.
//!
//! `start` is the first line, `end` or `error` the last. Each run has its `interval` lines, a `run` line without them, and a
//! `warning` line for each of its warnings; `result` has the figures over all runs.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::report::model::{Meta, ProxyRecord, UdpRecord};
use crate::udp::result::Interval;

/// A line.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line<'a> {
    /// The command begins.
    Start(&'a Meta),
    /// An interval of a run has ended.
    Interval {
        /// Number of the run.
        run: usize,
        /// `forward` or `reverse`.
        direction: &'a str,
        /// The compared setting; null without a comparison.
        setting: Option<&'a str>,
        /// The counts.
        #[serde(flatten)]
        row: &'a Interval,
    },
    /// A run has ended.
    Run {
        /// Number of the run.
        run: usize,
        /// The entry of `runs` without `intervals`.
        #[serde(flatten)]
        entry: Value,
    },
    /// A possible effect of the measurement on a run.
    Warning {
        /// Number of the run.
        run: usize,
        /// A sentence.
        message: &'a str,
    },
    /// The record without `runs` and without the keys of `start`.
    Result(Value),
    /// The command succeeded.
    End {
        /// 0.
        exit: i32,
        /// The command's folder; null if nothing was saved.
        saved: Option<String>,
    },
    /// The command failed.
    Error {
        /// The exit code.
        exit: i32,
        /// A sentence.
        message: &'a str,
    },
}

impl Line<'_> {
    /// Run number `run`.
    pub fn run(run: usize, entry: &impl Serialize) -> Self {
        Self::Run {
            run,
            entry: without(entry, &["intervals"]),
        }
    }

    /// The figures over all runs of a `bench udp`.
    pub fn udp_result(record: &UdpRecord) -> Self {
        Self::Result(result(record, &record.meta))
    }

    /// The figures over all runs of a `bench proxy`.
    pub fn proxy_result(record: &ProxyRecord) -> Self {
        Self::Result(result(record, &record.meta))
    }

    /// Writes the line and flushes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        // One write, so that a reader of a pipe gets whole lines.
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush()
    }
}

/// The record without `runs` and without the keys of `meta`.
fn result(record: &impl Serialize, meta: &Meta) -> Value {
    let meta = serde_json::to_value(meta).unwrap_or_default();
    let keys = meta.as_object().into_iter().flat_map(|meta| meta.keys());
    let keys: Vec<&str> = keys.map(String::as_str).chain(["runs"]).collect();
    without(record, &keys)
}

/// The object without some keys.
fn without(of: &impl Serialize, keys: &[&str]) -> Value {
    // Numbers that JSON lacks, like NaN, are null; the records have no other value that cannot be serialized.
    let mut value = serde_json::to_value(of).unwrap_or_default();
    if let Value::Object(map) = &mut value {
        map.retain(|key, _| !keys.contains(&key.as_str()));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn written(line: &Line<'_>) -> Value {
        let mut text = Vec::new();
        line.write(&mut text).unwrap();
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn lines_have_the_keys_of_the_record() {
        let measured = sample::udp::measured();
        let record = sample::udp::record(vec![measured.run.clone()]);
        let saved = serde_json::to_value(&record).unwrap();
        let start = written(&Line::Start(&record.meta));
        assert_eq!(start["type"], "start");
        assert_eq!(start["host"], saved["host"]);
        let run = written(&Line::run(3, &measured.run));
        assert_eq!((&run["type"], &run["run"]), (&"run".into(), &3.into()));
        for (key, value) in saved["runs"][0].as_object().unwrap() {
            if key != "intervals" {
                assert_eq!(run[key], *value, "{key}");
            }
        }
        assert!(run.get("intervals").is_none());
        let result = written(&Line::udp_result(&record));
        let keys: Vec<_> = result.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["comparison", "type"]);
        let row = sample::udp::interval();
        let interval = written(&Line::Interval {
            run: 1,
            direction: "forward",
            setting: None,
            row: &row,
        });
        assert_eq!(interval["type"], "interval");
        assert_eq!(interval["kb_per_s"], row.kb_per_s);
    }

    #[test]
    fn result_of_a_proxy_has_totals_and_overhead() {
        let record = sample::proxy::record();
        let result = written(&Line::proxy_result(&record));
        let keys: Vec<_> = result.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            ["comparison", "interrupted", "overhead", "totals", "type"]
        );
        let totals = result["totals"].as_array().unwrap();
        assert_eq!(totals.len(), record.totals.len());
        assert!(result.get("runs").is_none() && result.get("host").is_none());
    }
}
