//! One path in one round.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::blocked::Blocked;
use crate::engine::EngineChoice;
use crate::load::plan::{Path, Scenario};
use crate::load::result::{Cpu, Datagrams, Errors, Measured, Requested, Run};
use crate::stats::latency::Latency;
use crate::sys::udp_sockets;
use crate::sys::usage::{self, CpuTime};
use crate::udp::client::{self, Cancel, Observer, RunError, Setup, Via};
use crate::udp::plan::MAX_PPS;
use crate::udp::plan::SpinChoice;
use crate::udp::plan::traffic::TrafficOptions;
use crate::udp::plan::{Amount, Df, Direction, Mode, Offload, Plan};
use crate::udp::result;
use crate::udp::search::{Goal, Range, Search, outcome};
use crate::udp::wire::header::HEADER;

/// The goal of a search: coarse, so that it takes seconds.
const GOAL: Goal = Goal {
    loss_ratio: 0.001,
    exceed_ratio: 0.5,
    width: 0.05,
    initial_trial_s: 0.1,
    final_trial_s: 0.2,
    duration_sum_s: 0.6,
};

/// The loads of a search, in datagrams a second.
const RANGE: Range = Range {
    min: 100.0,
    max: MAX_PPS,
};

/// Most time of a search, and that of a search beside short runs: a part that does not depend on them, and so many of them.
const SEARCH: Duration = Duration::from_secs(6);
const SHORTEST: Duration = Duration::from_secs(1);
const RUNS: f64 = 10.0;

/// What all measurements have in common.
pub(super) struct Measurement<'a> {
    /// The receiver's control port.
    pub(super) to: SocketAddr,
    pub(super) requested: Requested,
    pub(super) streams: usize,
    /// Time of the uncounted load at the requested rate before each measurement.
    pub(super) warmup: Duration,
    pub(super) cancel: &'a Cancel,
}

impl Measurement<'_> {
    /// Measures a path; `None` if the user interrupts it. A path on which no run begins has an incomplete result with the reason.
    ///
    /// # Errors
    /// A sentence, if datagrams are not sent for another reason.
    pub(super) fn of_path(
        &self,
        path: Path<'_>,
        via: Option<&Via>,
        round: usize,
    ) -> Result<Option<Measured>, String> {
        let setup = Setup {
            via: via.cloned(),
            ..Setup::to(self.to)
        };
        let mut measured = None;
        let searched = self.warm_up(&setup).and_then(|()| self.highest(&setup));
        let found = searched.and_then(|highest| {
            let (before, drops) = (cost(path), drops(path));
            let rate = self.requested.rate_per_s.unwrap_or_default();
            let run = self.run(&setup, Mode::Paced(rate), self.requested.duration_s)?;
            let cpu = before.zip(cost(path)).map(|(before, now)| now - before);
            let dropped = self::drops(path)
                .zip(drops)
                .map(|(now, before)| now.saturating_sub(before));
            measured = Some(self.record(path, round, highest, run, (cpu, dropped)));
            Ok(())
        });
        match found {
            Ok(()) => Ok(measured),
            Err(RunError::Cancelled) => Ok(None),
            Err(_) if self.cancel.is_cancelled() => Ok(None),
            Err(error) => Ok(Some(self.without(path, round, error.to_string()))),
        }
    }

    /// Sends to a relay that drops everything.
    pub(super) fn of_blocked(
        &self,
        path: Path<'_>,
        (via, blocked): (Option<&Via>, &Blocked),
        round: usize,
    ) -> Result<Option<Measured>, String> {
        let Some(via) = via else {
            return Ok(None);
        };
        let rate = self.requested.rate_per_s.unwrap_or_default();
        let length = self.requested.message.unwrap_or_default() + HEADER;
        let time = Duration::from_secs_f64(self.requested.duration_s);
        let stop = || self.cancel.is_cancelled();
        let flow = blocked
            .open(via, length)
            .map_err(|error| format!("cannot send through {}: {error}", via.address()))?;
        flow.send(rate, self.warmup, stop);
        let (before, drops_before) = (cost(path), drops(path));
        let sent = flow.send(rate, time, stop);
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        let cpu = before.zip(cost(path)).map(|(before, now)| now - before);
        let dropped = drops(path).zip(drops_before);
        let dropped = dropped.map(|(now, before)| now.saturating_sub(before));
        let lost = sent.sent.saturating_sub(sent.passed);
        let reached = lost.saturating_sub(sent.refused);
        let dropped = dropped.map(|drops| drops.min(reached));
        let handled = reached.saturating_sub(dropped.unwrap_or(0));
        let figures = Datagrams {
            sent: sent.sent,
            lost,
            lost_sender: sent.refused,
            lost_proxy: dropped,
            lost_elsewhere: handled,
            proxy_s_per_million: per(cpu, handled, 1e6),
            ..Datagrams::default()
        };
        let mut measured = self.without(path, round, "no datagram was dropped".to_owned());
        let run = &mut measured.run;
        if handled > 0 {
            (run.complete, run.reason) = (true, None);
            run.first_errors.clear();
        }
        if sent.passed > 0 {
            run.errors = Errors {
                total: sent.passed,
                not_refused: sent.passed,
                ..Errors::default()
            };
            run.first_errors = vec!["not_refused: a datagram arrived".to_owned()];
        }
        run.warnings.extend(blocked.warning());
        run.requests = handled;
        run.seconds = Some(sent.seconds);
        run.requests_per_s = (sent.seconds > 0.0).then(|| handled as f64 / sent.seconds);
        run.cpu = proxy_cpu(cpu, handled);
        run.udp = Some(figures);
        Ok(Some(measured))
    }

    fn warm_up(&self, setup: &Setup) -> Result<(), RunError> {
        if self.warmup.is_zero() {
            return Ok(());
        }
        let rate = self.requested.rate_per_s.unwrap_or_default();
        self.run(setup, Mode::Paced(rate), self.warmup.as_secs_f64())?;
        Ok(())
    }

    /// The highest rate with at most 0.1 % loss; `None` if the search finds none in time.
    fn highest(&self, setup: &Setup) -> Result<Option<f64>, RunError> {
        let began = Instant::now();
        // At the highest load the path forwards about as much as it can.
        let first = self.run(setup, Mode::Blast, GOAL.initial_trial_s)?;
        let forwarded = first.run.packets_per_s.filter(|pps| pps.is_finite());
        let mut search = Search::new(&[GOAL], RANGE, forwarded.unwrap_or(RANGE.min));
        let runs = Duration::from_secs_f64(self.requested.duration_s * RUNS);
        let most = SEARCH.min(SHORTEST + runs);
        while began.elapsed() < most
            && let Some(next) = search.next_trial()
        {
            let measured = self.run(setup, Mode::Paced(next.load), next.duration_s)?;
            match outcome(&measured.run, next.load, next.duration_s) {
                Ok(outcome) => search.add(outcome.trial),
                // A relay that lost the flow, say.
                Err(_) => break,
            }
        }
        let results = search.results();
        let lower = results.first().and_then(|result| result.lower);
        Ok(lower.map(|lower| lower.load))
    }

    fn run(&self, setup: &Setup, mode: Mode, seconds: f64) -> Result<result::Measured, RunError> {
        let plan = Plan {
            amount: Amount::Time(Duration::from_secs_f64(seconds)),
            mode,
            direction: Direction::Forward,
            chunk: self.requested.message.unwrap_or_default(),
            engine: EngineChoice::default(),
            streams: self.streams,
            batch: None,
            offload: Offload::Auto,
            df: Df::Auto,
            spin: SpinChoice::Auto,
            receive_buffer: None,
            send_buffer: None,
            interval: Duration::from_secs(1),
            packet_rows: false,
            interval_histograms: false,
            traffic: TrafficOptions::default(),
            kernel_latency: false,
            stages: false,
        };
        let runs = client::run(&plan, setup, &mut Silent, self.cancel)?;
        match runs.into_iter().next() {
            Some(measured) if measured.run.ended != "interrupted" => Ok(measured),
            _ => Err(RunError::Cancelled),
        }
    }

    /// The result of a path without figures.
    fn without(&self, path: Path<'_>, round: usize, reason: String) -> Measured {
        let proxy = path.proxy();
        let run = Run {
            scenario: Scenario::Udp.name().to_owned(),
            path: path.name().to_owned(),
            engine: proxy.and_then(|proxy| proxy.engine.clone()),
            protocol: proxy.map(|proxy| proxy.protocol.name().to_owned()),
            proxy_threads: proxy.and_then(|proxy| proxy.threads),
            setting: proxy.and_then(|proxy| proxy.setting.clone()),
            round,
            reason: Some(reason.clone()),
            first_errors: vec![reason],
            requested: Requested {
                via: proxy.and(self.requested.via.clone()),
                signed_in: proxy.is_some() && self.requested.signed_in,
                ..self.requested.clone()
            },
            ..Run::default()
        };
        Measured {
            run,
            latency: Latency::new(),
            latency_from_intended: Latency::new(),
            lateness: Latency::new(),
            start_ns: None,
        }
    }

    fn record(
        &self,
        path: Path<'_>,
        round: usize,
        highest: Option<f64>,
        measured: result::Measured,
        (cpu, dropped): (Option<CpuTime>, Option<u64>),
    ) -> Measured {
        let of = measured.run;
        let received = of.received.unique;
        let reason = of.reason.clone().filter(|_| !of.complete);
        let reason = reason.or((received == 0).then(|| "no datagram arrived".to_owned()));
        let sent = of.sent.packets;
        // The proxy's sockets may drop other traffic too.
        let by_proxy = dropped.map(|drops| drops.min(of.lost.elsewhere));
        let chunk = self.requested.message.unwrap_or_default() as f64;
        let mut warnings = of.warnings;
        if highest.is_none() {
            warnings.push("The highest rate is unknown: no load of the search had at most 0.1 % loss, or the search took too long.".to_owned());
        }
        let Measured { run, .. } = self.without(path, round, String::new());
        let run = Run {
            complete: reason.is_none(),
            first_errors: reason.iter().cloned().collect(),
            reason,
            requests: received,
            bytes: of.received.bytes,
            seconds: of.seconds,
            requests_per_s: highest,
            bytes_per_s: highest.map(|pps| pps * chunk),
            latency_ns: of.latency_ns,
            latency_from_intended_ns: of.latency_from_intended_ns,
            lateness_ns: of.pacing.as_ref().map(|pacing| pacing.lateness_ns),
            cpu: Cpu {
                load_user_s: of.cpu.sender_user_s,
                load_system_s: of.cpu.sender_system_s,
                origin_user_s: of.cpu.receiver_user_s,
                origin_system_s: of.cpu.receiver_system_s,
                ..proxy_cpu(cpu, received)
            },
            udp: Some(Datagrams {
                delivered_pps: highest,
                sent,
                lost: of.lost.packets,
                lost_sender: of.lost.not_sent,
                lost_proxy: by_proxy,
                lost_receiver: of.lost.receiver_socket,
                lost_elsewhere: of.lost.elsewhere.saturating_sub(by_proxy.unwrap_or(0)),
                proxy_s_per_million: per(cpu, received, 1e6),
            }),
            warnings,
            ..run
        };
        Measured {
            run,
            latency: measured.latency,
            latency_from_intended: measured.latency_from_intended,
            lateness: Latency::new(),
            start_ns: None,
        }
    }
}

/// CPU time of the proxy's processes; `None` where there are none or one has ended.
fn cost(path: Path<'_>) -> Option<CpuTime> {
    let processes = &path.proxy()?.processes;
    let mut sum = CpuTime::default();
    for &process in processes {
        sum += usage::of_process(process)?;
    }
    (!processes.is_empty()).then_some(sum)
}

/// Datagrams dropped at the sockets of the proxy's processes so far.
fn drops(path: Path<'_>) -> Option<u64> {
    let processes = &path.proxy()?.processes;
    let all: Vec<u32> = processes
        .iter()
        .flat_map(|&process| usage::family(process))
        .collect();
    (!all.is_empty())
        .then(|| udp_sockets::drops(&all))
        .flatten()
}

fn proxy_cpu(cpu: Option<CpuTime>, datagrams: u64) -> Cpu {
    Cpu {
        proxy_user_s: cpu.map(|time| time.user.max(0.0)),
        proxy_system_s: cpu.map(|time| time.system.max(0.0)),
        proxy_s_per_10k: per(cpu, datagrams, 1e4),
        ..Cpu::default()
    }
}

/// CPU seconds per so many datagrams.
fn per(cpu: Option<CpuTime>, datagrams: u64, many: f64) -> Option<f64> {
    let cpu = cpu.filter(|_| datagrams > 0)?;
    Some((cpu.user + cpu.system) / datagrams as f64 * many)
}

/// Does nothing with what it observes.
struct Silent;

impl Observer for Silent {}
