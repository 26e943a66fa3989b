//! Warnings about effects of the load generator, the origin server or this host on a run's figures. Pure: a record in,
//! sentences out.
//!
//! Each rule is a function that returns a sentence or nothing; [`warnings`] lists the rules. A sentence begins with the name of
//! its rule and a colon.

use super::advice::{self, os_error};
use super::result::{BUSY, Run};

/// Lateness of 1 % of the requests that is worth a warning, in ns. Threads may wake this late by themselves.
const LATE: u64 = 1_000_000;

/// The warnings of `run`, most important first.
pub(super) fn warnings(run: &Run) -> Vec<String> {
    [load_busy, origin_busy, exhausted, not_started, late]
        .iter()
        .filter_map(|rule| rule(run))
        .collect()
}

fn load_busy(run: &Run) -> Option<String> {
    let busy = run.cpu.load_busy.filter(|busy| *busy >= BUSY)?;
    Some(format!(
        "load generator busy: its threads worked {:.0} % of the time, so they may have limited this run; try more --load-threads",
        busy * 100.0
    ))
}

/// The origin server has one thread.
fn origin_busy(run: &Run) -> Option<String> {
    let worked = run.cpu.origin_user_s? + run.cpu.origin_system_s?;
    let busy = worked / run.seconds.filter(|seconds| *seconds > 0.0)?;
    (busy >= BUSY).then(|| {
        format!(
            "origin server busy: its thread worked {:.0} % of the time, so it may have limited this run",
            busy * 100.0
        )
    })
}

/// Errors of this host.
fn exhausted(run: &Run) -> Option<String> {
    let count = run.errors.local;
    let first = run.first_errors.iter();
    let detail = first
        .filter_map(|error| error.strip_prefix("local: "))
        .next();
    let errno = detail.and_then(os_error);
    let advice = errno.and_then(advice::local).unwrap_or("see bench doctor");
    let (rule, lack) = match errno {
        Some(libc::EPERM | libc::EACCES) => ("host refused", "as this host refused them"),
        Some(libc::EMFILE | libc::ENFILE) => ("host exhausted", "for lack of files on this host"),
        Some(libc::EADDRNOTAVAIL) => ("host exhausted", "for lack of ports on this host"),
        _ => (
            "host exhausted",
            "for lack of ports, files or memory on this host",
        ),
    };
    (count > 0).then(|| {
        format!("{rule}: {count} requests failed {lack}, not because of the path; {advice}")
    })
}

fn not_started(run: &Run) -> Option<String> {
    let count = run.errors.not_started;
    let rate = run.requested.rate_per_s.filter(|_| count > 0)?;
    Some(format!(
        "schedule not kept: {count} requests of the {rate} a second found no idle connection; try more --connections or a lower --rate"
    ))
}

fn late(run: &Run) -> Option<String> {
    let p99 = run.lateness_ns?.p99.filter(|p99| *p99 >= LATE)?;
    Some(format!(
        "late starts: 1 % of the requests started {:.1} ms or more after their time; latencies count from that time (latency_from_intended_ns)",
        p99 as f64 / 1e6
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::result::{Cpu, Errors, Requested};
    use crate::stats::latency::Latency;

    #[test]
    fn run_without_problems_has_no_warning() {
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
        assert!(
            warnings(&Run::default()).is_empty(),
            "unknown figures give no warning"
        );
    }

    #[test]
    fn each_rule_has_a_sentence() {
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
            first_errors: vec!["local: Too many open files (os error 24)".to_owned()],
            lateness_ns: Some(lateness.summary()),
            ..Run::default()
        };
        let found = warnings(&run);
        for (sentence, words) in found.iter().zip([
            "load generator busy: its threads worked 97 %",
            "origin server busy: its thread worked 98 %",
            "host exhausted: 2 requests failed for lack of files on this host, not because of the path; raise the limit",
            "schedule not kept: 3 requests of the 100 a second",
            "late starts: 1 % of the requests started 3.0 ms",
        ]) {
            assert!(sentence.starts_with(words), "{sentence}");
        }
        assert_eq!(found.len(), 5);
    }
}
