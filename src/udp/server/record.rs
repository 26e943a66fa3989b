//! The server's own record of a session: the result of its receivers, and the sender's counts if the client has sent them.

use crate::dates;
use crate::udp::plan::Plan;
use crate::udp::receive::result_upload::ResultUpload;
use crate::udp::result::{self, Clock, Effective, Ended, Measured, RunInputs};
use crate::udp::shared_loops;
use crate::udp::wire::control::{Finish, Welcome};

/// A ping this long after the first datagram, in ns, shows that the client has an estimate of the clock offset: a client without one
/// ends its clock exchanges before it sends data.
const PING_DURING_RUN_NS: u64 = 10_000_000;

/// The record of the streams that the client sent. `last_ping` is when a ping of the clock exchanges last arrived, in ns.
pub(super) fn received(
    plan: &Plan,
    welcome: &Welcome,
    ended: Ended,
    finish: Option<Finish>,
    last_ping: Option<u64>,
    upload: ResultUpload,
) -> Measured {
    let first = upload.received.iter();
    let first_received = first.filter_map(|stream| stream.first_received).min();
    let clock = clock(
        welcome.same_clock,
        finish.is_some(),
        first_received,
        last_ping,
    );
    // Without the client's counts, the highest sequence numbers are lower bounds.
    let senders_lost = finish.is_none();
    let sent = match finish {
        Some(finish) => finish.streams,
        None => result::sent_at_least(plan, &upload.received),
    };
    let receiver = welcome.receiver.clone().unwrap_or_default();
    let first = upload.received.iter();
    result::assemble(RunInputs {
        plan,
        direction: "forward",
        requested: result::requested(plan),
        effective: Effective {
            gro: receiver.gro,
            rcvbuf: receiver.receive_buffer,
            receiver_cpus: receiver.cpus,
            window: receiver.window,
            receiver_note: shared_loops::receiver_note(receiver.shares_loops),
            clock,
            ..result::effective(plan)
        },
        ended,
        sent,
        senders_lost,
        senders: Vec::new(),
        first_sent: first.filter_map(|stream| stream.first_sent).min(),
        first_sent_at: None,
        received: upload.received,
        last_received_at: upload.done.last_received_wall.map(dates::rfc3339),
        done: Some(upload.done),
        client_ip: Some(welcome.client_ip.clone()),
        latencies: upload.latencies,
        intervals: upload.intervals,
        hosts: None,
        stages: None,
        stamp_note: None,
        end: None,
    })
}

/// The relation of the client's clock to the server's, as far as the server can determine it. The client's stamps are in the
/// server's clock if the client has an estimate of the offset, but the estimate itself stays with the client.
fn clock(
    same_clock: bool,
    finished: bool,
    first_received: Option<u64>,
    last_ping: Option<u64>,
) -> Clock {
    if same_clock {
        return Clock {
            source: "same".to_owned(),
            ..Clock::default()
        };
    }
    let is_estimated = first_received
        .zip(last_ping)
        .is_some_and(|(first, ping)| ping.saturating_sub(first) >= PING_DURING_RUN_NS);
    let (source, note) = match (is_estimated, finished) {
        (true, true) => ("estimated", None),
        (true, false) => (
            "estimated",
            Some(
                "the client was lost before it reported its estimate of the clock offset, so the error of the latency is unknown",
            ),
        ),
        (false, _) => (
            "none",
            Some(
                "no clock exchange arrived during the run, so the offset between the two hosts' clocks is unknown",
            ),
        ),
    };
    Clock {
        source: source.to_owned(),
        note: note.map(str::to_owned),
        ..Clock::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_estimated_only_if_pings_arrive_during_the_run() {
        let of = |last_ping| clock(false, false, Some(1_000_000_000), last_ping);
        for last_ping in [None, Some(900_000_000), Some(1_005_000_000)] {
            let clock = of(last_ping);
            assert_eq!(clock.source, "none");
            assert!(
                clock
                    .note
                    .is_some_and(|note| note.contains("no clock exchange"))
            );
        }
        let lost = of(Some(1_100_000_000));
        assert_eq!((lost.source.as_str(), lost.error_ns), ("estimated", None));
        assert!(lost.note.is_some_and(|note| note.contains("lost")));
        let finished = clock(false, true, Some(1_000_000_000), Some(1_100_000_000));
        assert_eq!(
            (finished.source.as_str(), finished.note),
            ("estimated", None)
        );
        assert_eq!(clock(false, true, None, Some(5)).source, "none");
        assert_eq!(clock(true, false, None, None).source, "same");
    }
}
