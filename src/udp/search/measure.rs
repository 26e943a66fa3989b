//! From a run to a trial.

use thiserror::Error;

use super::loads::{Offered, Trial};
use crate::udp::result::{Run, late_ns};
use crate::units::{counted, grouped};

/// Smallest share of a load that a sender must offer. The goodput of the rest would be that of another load.
const OFFERED: f64 = 0.99;

/// Datagrams that a late sender may send at once: a queue that cannot hold more of them is the limit of the path.
const BURST: u64 = 10;

/// Why a run is not a trial.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NoTrial {
    /// The run ended early.
    #[error("the run is incomplete: {0}")]
    Incomplete(String),
    /// A side did not report.
    #[error("the losses of the run are unknown")]
    Unknown,
    /// No datagram was sent.
    #[error("the sender sent no datagram")]
    Nothing,
}

/// A run as the trial of a load.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The trial.
    pub trial: Trial,
    /// Datagrams that the sender's kernel accepted.
    pub sent: u64,
    /// Those that did not arrive.
    pub lost: u64,
    /// Accepted datagrams a second, over the sending time.
    pub offered_pps: Option<f64>,
    /// Unique datagrams a second, from the first arrival to the last.
    pub delivered_pps: Option<f64>,
    /// Why the sender did not offer the load, or not on time.
    pub note: Option<String>,
}

/// The trial of `load` for `duration_s` seconds that `run` is. Datagrams that the sender's own kernel refused are not offered, and no
/// loss of the path.
///
/// # Errors
/// [`NoTrial`], if the run shows nothing about the load.
pub fn outcome(run: &Run, load: f64, duration_s: f64) -> Result<Outcome, NoTrial> {
    if !run.complete {
        let why = run.reason.clone();
        return Err(NoTrial::Incomplete(
            why.unwrap_or_else(|| run.ended.clone()),
        ));
    }
    if run.lost.is_unknown || run.received.is_unknown {
        return Err(NoTrial::Unknown);
    }
    let sent = run.sent.packets.saturating_sub(run.lost.not_sent);
    let lost = run.lost.packets.saturating_sub(run.lost.not_sent).min(sent);
    if sent == 0 {
        return Err(NoTrial::Nothing);
    }
    let loss_ratio = lost as f64 / sent as f64;
    let accepted = sent as f64 / run.sent.packets as f64;
    let pacing = run.pacing.as_ref();
    // A pause at the end of a trial lowers only one of the two: the rate between the first and the last datagram, or their number.
    let by_number = run.sent.packets as f64 / duration_s;
    let offered_pps = pacing
        .and_then(|pacing| pacing.achieved_pps)
        .map(|pps| pps.max(by_number) * accepted);
    let short = offered_pps.filter(|pps| *pps < load * OFFERED);
    let late = late_share(run).filter(|share| loss_ratio > 0.0 && loss_ratio <= *share);
    let offered = match (short, late) {
        (Some(achieved), _) => Offered::Short { achieved },
        (None, Some(_)) => Offered::Late,
        (None, None) => Offered::Full,
    };
    Ok(Outcome {
        trial: Trial {
            load,
            duration_s,
            loss_ratio,
            offered,
            is_lost_at_receiver: lost > 0 && run.lost.receiver_socket > lost / 2,
        },
        sent,
        lost,
        offered_pps,
        delivered_pps: delivered(run),
        note: note(run, offered),
    })
}

/// The rate of arrivals. The time of the run begins at the first send, so the shortest latency is left out: the first datagram finds
/// the queues empty. An error of the clock offset is in both times, and cancels out.
fn delivered(run: &Run) -> Option<f64> {
    let shortest = run.latency_ns.and_then(|latency| latency.min).unwrap_or(0);
    let seconds = run.seconds? - shortest as f64 / 1e9;
    let gaps = run.received.unique.saturating_sub(1);
    (gaps > 0 && seconds > 0.0).then(|| gaps as f64 / seconds)
}

/// The share of datagrams that may have been sent in bursts after a pause, as far as the percentiles of their lateness bound it; `None`
/// if at most 1 % were. More losses than that have another cause.
fn late_share(run: &Run) -> Option<f64> {
    let pacing = run.pacing.as_ref()?;
    let gap_ns = (1e9 / pacing.target_pps) as u64;
    let limit = late_ns(run)?.max(gap_ns.saturating_mul(BURST));
    let of = &pacing.lateness_ns;
    let is_late = |ns: Option<u64>| ns.is_some_and(|ns| ns > limit);
    match (is_late(of.p50), is_late(of.p90), is_late(of.p99)) {
        (true, ..) => Some(1.0),
        (_, true, _) => Some(0.5),
        (.., true) => Some(0.1),
        _ => None,
    }
}

fn note(run: &Run, offered: Offered) -> Option<String> {
    let throttled = run
        .cpu
        .sender_throttled_periods
        .filter(|periods| *periods > 0);
    let reason = match (
        throttled,
        run.lost.not_sent,
        run.engine_stats.send_enobufs,
        run.engine_stats.send_eagain,
    ) {
        (Some(periods), ..) => format!(
            "the CPU quota of its control group stopped it in {}",
            counted(periods, "period")
        ),
        (_, refused @ 1.., ..) => format!("its kernel refused {}", counted(refused, "datagram")),
        (_, _, full @ 1.., _) => {
            format!("the queue of its device was full {}", counted(full, "time"))
        }
        (_, _, _, full @ 1..) => format!("its send buffer was full {}", counted(full, "time")),
        _ => "its host is too slow or too busy".to_owned(),
    };
    match offered {
        Offered::Full => None,
        Offered::Late => Some(format!(
            "The sender was late and sent in bursts, which may have caused the losses: {reason}."
        )),
        Offered::Short { achieved } => Some(format!(
            "The sender offered only {} packets/s: {reason}.",
            grouped(achieved.round() as u64)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::latency::Latency;
    use crate::udp::result::{Lost, Pacing, Received, Traffic};

    fn run(sent: u64, lost: Lost, achieved: f64, late_ns: u64) -> Run {
        let mut lateness = Latency::new();
        (0..1_000).for_each(|_| lateness.record(late_ns));
        Run {
            complete: true,
            sent: Traffic {
                is_unknown: false,
                packets: sent,
                bytes: sent,
            },
            received: Received {
                unique: sent - lost.packets,
                ..Received::default()
            },
            lost,
            pacing: Some(Pacing {
                target_pps: 1_000.0,
                achieved_pps: Some(achieved),
                lateness_ns: lateness.summary(),
                ..Pacing::default()
            }),
            ..Run::default()
        }
    }

    fn lost(not_sent: u64, receiver_socket: u64, elsewhere: u64) -> Lost {
        Lost {
            packets: not_sent + receiver_socket + elsewhere,
            not_sent,
            receiver_socket,
            elsewhere,
            ..Lost::default()
        }
    }

    #[test]
    fn losses_of_an_offered_load_are_those_of_the_path() {
        let of = |run: &Run| outcome(run, 1_000.0, 1.0).unwrap();
        let found = of(&run(1_000, lost(0, 2, 8), 999.0, 20_000));
        assert_eq!(found.trial.offered, Offered::Full);
        assert_eq!((found.trial.loss_ratio, found.note), (0.01, None));
        assert!(!found.trial.is_lost_at_receiver);
        let found = of(&run(1_000, lost(0, 9, 1), 999.0, 20_000));
        assert!(found.trial.is_lost_at_receiver);
    }

    #[test]
    fn a_refused_datagram_is_not_offered() {
        let found = outcome(&run(1_000, lost(200, 0, 8), 1_000.0, 0), 1_000.0, 1.0).unwrap();
        assert_eq!((found.sent, found.lost), (800, 8));
        assert_eq!(found.trial.loss_ratio, 0.01);
        assert_eq!(found.trial.offered, Offered::Short { achieved: 800.0 });
        assert!(found.note.unwrap().contains("refused 200"));
        let of = |sent, pps| outcome(&run(sent, lost(0, 0, 0), pps, 0), 1_000.0, 1.0).unwrap();
        let short = Offered::Short { achieved: 980.0 };
        assert_eq!(of(980, 979.0).trial.offered, short);
        // A pause at the end.
        for found in [of(1_000, 980.0), of(980, 1_000.0)] {
            assert_eq!(found.trial.offered, Offered::Full);
        }
    }

    #[test]
    fn lateness_explains_no_more_losses_than_late_datagrams() {
        let offered = |elsewhere, late_ns| {
            let run = run(1_000, lost(0, 0, elsewhere), 1_000.0, late_ns);
            outcome(&run, 1_000.0, 1.0).unwrap().trial.offered
        };
        assert_eq!(offered(5, 13_000_000), Offered::Late);
        // Without losses, and late by less than ten gaps of 1 ms.
        assert_eq!(offered(0, 13_000_000), Offered::Full);
        assert_eq!(offered(5, 9_000_000), Offered::Full);
        let mut tail = run(1_000, lost(0, 0, 300), 1_000.0, 0);
        if let Some(pacing) = &mut tail.pacing {
            pacing.lateness_ns.p99 = Some(13_000_000);
        }
        let found = outcome(&tail, 1_000.0, 1.0).unwrap();
        assert_eq!(found.trial.offered, Offered::Full);
    }

    #[test]
    fn a_delivered_rate_is_that_of_the_arrivals() {
        let mut run = run(2_437, lost(0, 0, 0), 2_437.0, 0);
        let of = |run: &Run| outcome(run, 2_437.0, 1.0).unwrap().delivered_pps;
        assert_eq!(of(&run), None);
        // A path of 200 ms whose queue takes 50 ms to drain after the last send.
        let mut latency = Latency::new();
        latency.record(200_000_000);
        run.latency_ns = Some(latency.summary());
        run.seconds = Some(1.25);
        assert_eq!(of(&run).unwrap().round(), 2_320.0);
        run.seconds = Some(0.1);
        assert_eq!(of(&run), None);
    }

    #[test]
    fn an_incomplete_run_is_no_trial() {
        let mut early = run(10, lost(0, 0, 0), 1_000.0, 0);
        early.complete = false;
        early.reason = Some("the server is gone".to_owned());
        let error = outcome(&early, 1_000.0, 1.0).unwrap_err();
        assert!(error.to_string().contains("the server is gone"));
        let mut unknown = run(10, lost(0, 0, 0), 1_000.0, 0);
        unknown.lost.is_unknown = true;
        assert_eq!(outcome(&unknown, 1_000.0, 1.0), Err(NoTrial::Unknown));
    }
}
