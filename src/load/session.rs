//! Runs a plan: in each round, every path of every scenario is measured once.

use std::io;
use std::sync::atomic::AtomicBool;

use super::error::{ErrorCounts, ErrorKind};
use super::measurement::{self, Measurement, Start};
use super::plan::{Path, Plan, Scenario};
use super::result::{Cpu, Errors, Measured, Requested, Run};
use super::warnings;
use crate::dates;
use crate::stats::latency::Latency;
use crate::sys::clock::WallClock;
use crate::sys::usage::{self, CpuTime};

/// Observes a session.
pub trait Observer {
    /// Ends the session early.
    type Error;

    /// A measurement starts.
    fn started(&mut self, scenario: Scenario, path: Path<'_>, round: usize);

    /// The load generator has warmed up. Returns when the measurement starts, at once by default.
    ///
    /// # Errors
    /// Ends the session without the measurement.
    fn start(&mut self) -> Result<Start, Self::Error> {
        Ok(Start::Now)
    }

    /// Whether a path without an answer is measured in later rounds too.
    fn keeps_failed_paths(&self) -> bool {
        false
    }

    /// A measurement is complete.
    ///
    /// # Errors
    /// Ends the session.
    fn finished(&mut self, measured: Measured) -> Result<(), Self::Error>;

    /// A measurement could not be done.
    fn failed(&mut self, error: io::Error) -> Self::Error;
}

/// Measures everything in `plan`. A path without an answer is not measured in later rounds, unless the observer keeps it. `cancel` ends the current
/// measurement, which is reported as interrupted if it has answers.
///
/// # Errors
/// From the observer; an error of [`measurement::run`] goes through [`Observer::failed`].
pub fn run<O: Observer>(
    plan: &Plan,
    cancel: &AtomicBool,
    observer: &mut O,
) -> Result<(), O::Error> {
    let mut dropped = Vec::new();
    for round in 0..plan.rounds {
        for &scenario in &plan.scenarios {
            let paths = plan.paths(scenario);
            for turn in 0..paths.len() {
                // Each round begins with the next path, so that no path always has the same position and predecessor.
                let number = (round + turn) % paths.len();
                let Some(&path) = paths.get(number) else {
                    continue;
                };
                if dropped.contains(&(scenario, number)) {
                    continue;
                }
                observer.started(scenario, path, round);
                let mut failed = None;
                let start = || {
                    let start = observer.start();
                    start.map_err(|error| failed = Some(error)).ok()
                };
                let measurement = measure(plan, scenario, path, start, cancel);
                if let Some(error) = failed {
                    return Err(error);
                }
                let measurement = measurement.map_err(|error| observer.failed(error))?;
                if measurement.interrupted {
                    if measurement.stats.answered > 0 && !measurement.only_warmup {
                        observer.finished(measured(plan, scenario, path, round, measurement))?;
                    }
                    return Ok(());
                }
                if measurement.stats.answered == 0 && !observer.keeps_failed_paths() {
                    dropped.push((scenario, number));
                }
                observer.finished(measured(plan, scenario, path, round, measurement))?;
            }
        }
    }
    Ok(())
}

fn measure(
    plan: &Plan,
    scenario: Scenario,
    path: Path<'_>,
    start: impl FnOnce() -> Option<Start>,
    cancel: &AtomicBool,
) -> io::Result<Measurement> {
    let proxies = path.proxy().map_or(&[][..], |proxy| &proxy.processes);
    let watch = || {
        vec![
            cost(proxies),
            plan.origin_process.and_then(usage::of_process),
        ]
    };
    let job = plan.job(scenario, path);
    measurement::run(&job, plan.load(scenario), plan.extent, watch, start, cancel)
}

/// CPU time of all processes; `None` where there are none or one has exited.
fn cost(processes: &[u32]) -> Option<CpuTime> {
    let mut sum = CpuTime::default();
    for &process in processes {
        sum += usage::of_process(process)?;
    }
    (!processes.is_empty()).then_some(sum)
}

fn measured(
    plan: &Plan,
    scenario: Scenario,
    path: Path<'_>,
    round: usize,
    measurement: Measurement,
) -> Measured {
    let Measurement { stats, seconds, .. } = &measurement;
    let is_bulk = scenario == Scenario::Bulk;
    let proxy = path.proxy();
    let answered = stats.answered > 0 && !measurement.only_warmup;
    let reason = match (answered, measurement.interrupted) {
        (false, _) => Some("no request was answered correctly".to_owned()),
        (true, true) => Some(format!("interrupted after {seconds:.2} s")),
        (true, false) => None,
    };
    let per_second = |count: u64| (answered && *seconds > 0.0).then(|| count as f64 / seconds);
    let summary = |latency: &Latency| (latency.count() > 0).then(|| latency.summary());
    let mut run = Run {
        scenario: scenario.name().to_owned(),
        path: path.name().to_owned(),
        engine: proxy.and_then(|proxy| proxy.engine.clone()),
        protocol: proxy.map(|proxy| proxy.protocol.name().to_owned()),
        forwarding: proxy.and_then(|proxy| proxy.forwarding.clone()),
        proxy_threads: proxy.and_then(|proxy| proxy.threads),
        setting: proxy.and_then(|proxy| proxy.setting.clone()),
        round,
        complete: reason.is_none(),
        reason,
        interrupted: measurement.interrupted,
        requested: requested(plan, scenario, path),
        requests: stats.answered,
        errors: errors(&stats.errors),
        first_errors: first_errors(&stats.errors),
        bytes: match path {
            Path::Blocked(_) => 0,
            _ => stats.bytes,
        },
        seconds: Some(*seconds),
        requests_per_s: per_second(stats.answered).filter(|_| !is_bulk),
        bytes_per_s: per_second(stats.bytes).filter(|_| !matches!(path, Path::Blocked(_))),
        latency_ns: summary(&stats.latency),
        latency_from_intended_ns: summary(&stats.from_intended),
        lateness_ns: summary(&stats.lateness),
        cpu: cpu(&measurement, is_bulk),
        warnings: Vec::new(),
        udp: None,
        started_at: Some(dates::rfc3339(WallClock::now().at(measurement.began))),
        fleet: None,
    };
    run.warnings = warnings::warnings(&run);
    Measured {
        run,
        latency: measurement.stats.latency,
        latency_from_intended: measurement.stats.from_intended,
        lateness: measurement.stats.lateness,
        start_ns: Some(measurement.began),
    }
}

fn requested(plan: &Plan, scenario: Scenario, path: Path<'_>) -> Requested {
    let is_bulk = scenario == Scenario::Bulk;
    Requested {
        via: path.proxy().and(plan.via.clone()),
        origin: plan.origin_named.clone(),
        signed_in: path.proxy().is_some() && plan.user.is_some(),
        connections: if is_bulk {
            plan.streams
        } else {
            plan.connections
        },
        message: (!is_bulk).then_some(plan.message),
        rate_per_s: plan.rate.filter(|_| !is_bulk),
        bytes: plan.bytes.filter(|_| is_bulk),
        duration_s: plan.extent.duration.as_secs_f64(),
        load_threads: plan.extent.threads,
    }
}

fn cpu(measurement: &Measurement, is_bulk: bool) -> Cpu {
    let sides = |time: Option<CpuTime>| {
        // The kernel estimates the split at each reading, so it may go back by a tick.
        (
            time.map(|time| time.user.max(0.0)),
            time.map(|time| time.system.max(0.0)),
        )
    };
    let mut watched = measurement.watched.iter().copied();
    let proxy = watched.next().flatten();
    let (proxy_user_s, proxy_system_s) = sides(proxy);
    let (origin_user_s, origin_system_s) = sides(watched.next().flatten());
    let (load_user_s, load_system_s) = sides(Some(measurement.load));
    let both = proxy.map(|time| time.user + time.system);
    let per = |parts: f64| both.filter(|_| parts > 0.0).map(|both| both / parts);
    let available = measurement.seconds * measurement.threads as f64;
    let load = measurement.load.user + measurement.load.system;
    Cpu {
        proxy_user_s,
        proxy_system_s,
        proxy_s_per_gb: per(measurement.stats.bytes as f64 / 1e9).filter(|_| is_bulk),
        proxy_s_per_10k: per(measurement.stats.answered as f64 / 1e4).filter(|_| !is_bulk),
        load_user_s,
        load_system_s,
        load_busy: (available > 0.0).then(|| load / available),
        origin_user_s,
        origin_system_s,
    }
}

fn errors(counts: &ErrorCounts) -> Errors {
    let of = |kind| counts.count(kind);
    Errors {
        total: counts.total(),
        connect_refused: of(ErrorKind::ConnectRefused),
        connect_failed: of(ErrorKind::ConnectFailed),
        local: of(ErrorKind::Local),
        refused_by_proxy: of(ErrorKind::RefusedByProxy),
        bad_reply: of(ErrorKind::BadReply),
        not_refused: of(ErrorKind::NotRefused),
        timeout: of(ErrorKind::Timeout),
        reset: of(ErrorKind::Reset),
        closed_early: of(ErrorKind::ClosedEarly),
        corrupt: of(ErrorKind::Corrupt),
        not_closed: of(ErrorKind::NotClosed),
        not_started: of(ErrorKind::NotStarted),
    }
}

fn first_errors(counts: &ErrorCounts) -> Vec<String> {
    let kinds = counts.kinds();
    kinds
        .map(|(kind, _, detail)| match detail {
            "" => kind.name().to_owned(),
            detail => format!("{}: {detail}", kind.name()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_kind_has_a_key() {
        for kind in ErrorKind::ALL {
            let mut counts = ErrorCounts::default();
            counts.add(kind.into());
            let counted: Vec<_> = errors(&counts)
                .kinds()
                .filter(|(_, count)| *count > 0)
                .collect();
            assert_eq!(counted, [(kind.name(), 1)]);
            assert_eq!(errors(&counts).total, 1);
        }
    }
}
