//! What a run's figures owe to the load generator, the answering server or this host rather than to the path. Pure: a record
//! in, sentences out.
//!
//! Each rule is one function that returns a sentence or nothing; [`warnings`] lists them. A sentence begins with the name of
//! its rule and a colon.

use super::result::{BUSY, Run};

/// Lateness of 1 % of the requests from which on it is told, in ns: as late as a thread may wake by itself.
const LATE: u64 = 1_000_000;

/// The sentences that apply to `run`, most important first.
pub(super) fn warnings(run: &Run) -> Vec<String> {
    [load_busy, origin_busy, exhausted, not_started, late]
        .iter()
        .filter_map(|rule| rule(run))
        .collect()
}

fn load_busy(run: &Run) -> Option<String> {
    let busy = run.cpu.load_busy.filter(|busy| *busy >= BUSY)?;
    Some(format!(
        "load generator busy: its threads worked {:.0} % of the time, so they may be what limited this run; try more --load-threads",
        busy * 100.0
    ))
}

/// The server has one thread.
fn origin_busy(run: &Run) -> Option<String> {
    let worked = run.cpu.origin_user_s? + run.cpu.origin_system_s?;
    let busy = worked / run.seconds.filter(|seconds| *seconds > 0.0)?;
    (busy >= BUSY).then(|| {
        format!(
            "answering server busy: its thread worked {:.0} % of the time, so it may be what limited this run",
            busy * 100.0
        )
    })
}

fn exhausted(run: &Run) -> Option<String> {
    let count = run.errors.local;
    (count > 0).then(|| {
        format!(
            "host exhausted: {count} requests failed for want of ports, files or memory on this host, not by the path; see bench doctor"
        )
    })
}

fn not_started(run: &Run) -> Option<String> {
    let count = run.errors.not_started;
    let rate = run.requested.rate_per_s.filter(|_| count > 0)?;
    Some(format!(
        "schedule not kept: {count} requests of the {rate} a second found no free connection; try more --connections or a lower --rate"
    ))
}

fn late(run: &Run) -> Option<String> {
    let p99 = run.lateness_ns?.p99.filter(|p99| *p99 >= LATE)?;
    Some(format!(
        "late starts: 1 % of the requests started {:.1} ms or more after their time; latency_from_intended_ns includes that",
        p99 as f64 / 1e6
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::result::{Cpu, Errors, Requested};
    use crate::stats::latency::Latency;

    #[test]
    fn a_run_without_doubts_has_none() {
        let mut run = Run {
            seconds: Some(1.0),
            cpu: Cpu {
                load_busy: Some(0.94),
                origin_user_s: Some(0.5),
                origin_system_s: Some(0.4),
                ..Cpu::default()
            },
            requested: Requested {
                rate_per_s: Some(100.0),
                ..Requested::default()
            },
            ..Run::default()
        };
        assert!(warnings(&run).is_empty());
        let mut lateness = Latency::new();
        lateness.record(LATE / 2);
        run.lateness_ns = Some(lateness.summary());
        assert!(warnings(&run).is_empty());
        assert!(warnings(&Run::default()).is_empty(), "unknown is no doubt");
    }

    #[test]
    fn each_rule_has_its_sentence() {
        let mut lateness = Latency::new();
        lateness.record(3 * LATE);
        let run = Run {
            seconds: Some(2.0),
            cpu: Cpu {
                load_busy: Some(0.97),
                origin_user_s: Some(1.0),
                origin_system_s: Some(0.96),
                ..Cpu::default()
            },
            errors: Errors {
                total: 5,
                local: 2,
                not_started: 3,
                ..Errors::default()
            },
            requested: Requested {
                rate_per_s: Some(100.0),
                ..Requested::default()
            },
            lateness_ns: Some(lateness.summary()),
            ..Run::default()
        };
        let told = warnings(&run);
        for (sentence, words) in told.iter().zip([
            "load generator busy: its threads worked 97 %",
            "answering server busy: its thread worked 98 %",
            "host exhausted: 2 requests",
            "schedule not kept: 3 requests of the 100 a second",
            "late starts: 1 % of the requests started 3.0 ms",
        ]) {
            assert!(sentence.starts_with(words), "{sentence}");
        }
        assert_eq!(told.len(), 5);
    }
}
