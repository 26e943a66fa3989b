//! All of a plan: round upon round, in which every path of every scenario has its turn.

use std::io;
use std::sync::atomic::AtomicBool;

use super::fault::{Errors as Counted, Fault};
use super::plan::{Path, Plan, Scenario};
use super::result::{Cpu, Errors, Measured, Requested, Run};
use super::slice::{self, Slice};
use super::warnings;
use crate::stats::latency::Latency;
use crate::sys::usage::{self, CpuTime};

/// Who looks on.
pub trait Observer {
    /// What ends the session early.
    type Error;

    /// This is measured next.
    fn begins(&mut self, scenario: Scenario, path: Path<'_>, round: usize);

    /// And this came of it.
    ///
    /// # Errors
    /// Where nothing more need be measured.
    fn over(&mut self, measured: Measured) -> Result<(), Self::Error>;

    /// It could not be measured.
    fn failed(&mut self, error: io::Error) -> Self::Error;
}

/// Measures all there is in `plan`. A path of which nothing is answered in its turn has no further one. With `cancel` the run under
/// way is cut short and is the last; it is told, as interrupted, if it has answers.
///
/// # Errors
/// The observer's, also for what [`slice::run`] fails with.
pub fn run<O: Observer>(
    plan: &Plan,
    cancel: &AtomicBool,
    observer: &mut O,
) -> Result<(), O::Error> {
    let mut given_up = Vec::new();
    for round in 0..plan.rounds {
        for &scenario in &plan.scenarios {
            let paths = plan.paths(scenario);
            for turn in 0..paths.len() {
                // Each round begins with the next path, so that none has a place or a predecessor that always helps it.
                let number = (round + turn) % paths.len();
                let Some(&path) = paths.get(number) else {
                    continue;
                };
                if given_up.contains(&(scenario, number)) {
                    continue;
                }
                observer.begins(scenario, path, round);
                let slice = measure(plan, scenario, path, cancel);
                let slice = slice.map_err(|error| observer.failed(error))?;
                if slice.cut {
                    if slice.tally.answered > 0 && !slice.only_warmup {
                        observer.over(measured(plan, scenario, path, round, slice))?;
                    }
                    return Ok(());
                }
                if slice.tally.answered == 0 {
                    given_up.push((scenario, number));
                }
                observer.over(measured(plan, scenario, path, round, slice))?;
            }
        }
    }
    Ok(())
}

fn measure(
    plan: &Plan,
    scenario: Scenario,
    path: Path<'_>,
    cancel: &AtomicBool,
) -> io::Result<Slice> {
    let proxies = path.proxy().map_or(&[][..], |proxy| &proxy.processes);
    let watch = || {
        vec![
            cost(proxies),
            plan.origin_process.and_then(usage::of_process),
        ]
    };
    let job = plan.job(scenario, path);
    slice::run(&job, plan.load(scenario), plan.extent, watch, cancel)
}

/// Of all these processes; `None` where there are none, or one is gone.
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
    slice: Slice,
) -> Measured {
    let Slice { tally, seconds, .. } = &slice;
    let is_bulk = scenario == Scenario::Bulk;
    let proxy = path.proxy();
    let answered = tally.answered > 0 && !slice.only_warmup;
    let reason = match (answered, slice.cut) {
        (false, _) => Some("nothing was answered rightly".to_owned()),
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
        interrupted: slice.cut,
        requested: requested(plan, scenario, path),
        requests: tally.answered,
        errors: errors(&tally.errors),
        first_errors: first_errors(&tally.errors),
        bytes: match path {
            Path::Blocked(_) => 0,
            _ => tally.bytes,
        },
        seconds: Some(*seconds),
        requests_per_s: per_second(tally.answered).filter(|_| !is_bulk),
        bytes_per_s: per_second(tally.bytes).filter(|_| !matches!(path, Path::Blocked(_))),
        latency_ns: summary(&tally.latency),
        latency_from_intended_ns: summary(&tally.from_intended),
        lateness_ns: summary(&tally.lateness),
        cpu: cpu(plan, &slice, is_bulk),
        warnings: Vec::new(),
    };
    run.warnings = warnings::warnings(&run);
    Measured {
        run,
        latency: slice.tally.latency,
        latency_from_intended: slice.tally.from_intended,
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

fn cpu(plan: &Plan, slice: &Slice, is_bulk: bool) -> Cpu {
    let sides = |time: Option<CpuTime>| {
        // The split is estimated anew each time, and may go back by a tick.
        (
            time.map(|time| time.user.max(0.0)),
            time.map(|time| time.system.max(0.0)),
        )
    };
    let mut watched = slice.watched.iter().copied();
    let proxy = watched.next().flatten();
    let (proxy_user_s, proxy_system_s) = sides(proxy);
    let (origin_user_s, origin_system_s) = sides(watched.next().flatten());
    let (load_user_s, load_system_s) = sides(Some(slice.load));
    let both = proxy.map(|time| time.user + time.system);
    let per = |parts: f64| both.filter(|_| parts > 0.0).map(|both| both / parts);
    let had = slice.seconds * plan.extent.threads as f64;
    let load = slice.load.user + slice.load.system;
    Cpu {
        proxy_user_s,
        proxy_system_s,
        proxy_s_per_gb: per(slice.tally.bytes as f64 / 1e9).filter(|_| is_bulk),
        proxy_s_per_10k: per(slice.tally.answered as f64 / 1e4).filter(|_| !is_bulk),
        load_user_s,
        load_system_s,
        load_busy: (had > 0.0).then(|| load / had),
        origin_user_s,
        origin_system_s,
    }
}

fn errors(counted: &Counted) -> Errors {
    let of = |fault| counted.count(fault);
    Errors {
        total: counted.total(),
        connect_refused: of(Fault::ConnectRefused),
        connect_failed: of(Fault::ConnectFailed),
        local: of(Fault::Local),
        refused_by_proxy: of(Fault::RefusedByProxy),
        bad_reply: of(Fault::BadReply),
        not_refused: of(Fault::NotRefused),
        timeout: of(Fault::Timeout),
        reset: of(Fault::Reset),
        closed_early: of(Fault::ClosedEarly),
        corrupt: of(Fault::Corrupt),
        not_closed: of(Fault::NotClosed),
        not_started: of(Fault::NotStarted),
    }
}

fn first_errors(counted: &Counted) -> Vec<String> {
    let kinds = counted.kinds();
    kinds
        .map(|(fault, _, detail)| match detail {
            "" => fault.name().to_owned(),
            detail => format!("{}: {detail}", fault.name()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_key() {
        for fault in Fault::ALL {
            let mut counted = Counted::default();
            counted.add(fault.into());
            let told: Vec<_> = errors(&counted)
                .kinds()
                .filter(|(_, count)| *count > 0)
                .collect();
            assert_eq!(told, [(fault.name(), 1)]);
            assert_eq!(errors(&counted).total, 1);
        }
    }
}
