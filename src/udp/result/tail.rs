//! The end of a run whose last datagrams are all lost: the path stopped carrying them while the run went on.

use super::run::Run;
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::wire::results::StreamReceived;
use crate::units::grouped;

/// Shortest tail, in seconds. An outage at the end that is shorter is one of the losses of a path.
const SHORTEST_S: f64 = 0.5;

/// Datagrams that would have arrived of the tail, at the loss of the run before it. Random losses have no such tail.
const MISSING: f64 = 20.0;

/// A warning about datagrams that stopped arriving for good before the end of a run whose two sides reported; `None` if some arrived
/// until the end.
pub(super) fn silent_tail(
    run: &Run,
    senders: &[SenderOutcome],
    received: &[StreamReceived],
) -> Option<String> {
    if !run.complete || run.mode == "round-trip" || run.lost.is_unknown {
        return None;
    }
    let stamps = |of: fn(&StreamReceived) -> Option<u64>| received.iter().filter_map(of);
    let arrived = stamps(|of| of.first_received).min()?;
    let until = stamps(|of| of.last_received).max()?;
    let begun = senders.iter().filter_map(|of| of.times.first).min()?;
    let ended = senders.iter().map(|of| of.times.last).max()?;
    // The two clocks are not compared: the first datagrams travel as long as the last.
    let received_s = until.saturating_sub(arrived) as f64 / 1e9;
    let sent_s = ended.saturating_sub(begun) as f64 / 1e9;
    let seen = received
        .iter()
        .fold(0u64, |sum, stream| stream.next.saturating_add(sum));
    let tail = run.sent.packets.saturating_sub(run.lost.not_sent);
    let tail = tail.saturating_sub(seen);
    let share = run.received.unique as f64 / seen.max(1) as f64;
    if sent_s - received_s < SHORTEST_S || (tail as f64) * share < MISSING {
        return None;
    }
    let upto = match run.requested.traffic.sizes {
        Some(_) => "up to ",
        None => "",
    };
    Some(format!(
        "No datagram arrived after {received_s:.1} s of {sent_s:.1} s: the last {} of {upto}{} B are all lost, although the two ends reached each other until the end. The path or a firewall may have begun to drop the run's datagrams, or datagrams of this size without an ICMP error (a black hole); a smaller --chunk tells the two apart.",
        grouped(tail),
        run.effective.datagram,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of 5 s at 1,000 datagrams a second of which `next` arrived, each with a share of `arrived`.
    fn of(next: u64, arrived: f64, with: impl FnOnce(&mut Run)) -> Option<String> {
        let mut run = Run {
            complete: true,
            ..Run::default()
        };
        run.sent.packets = 5_000;
        run.received.unique = (next as f64 * arrived) as u64;
        run.effective.datagram = 8_032;
        with(&mut run);
        let mut sender = SenderOutcome::default();
        sender.times.first = Some(7_000_000_000);
        sender.times.last = 12_000_000_000;
        let received = StreamReceived {
            next,
            first_received: Some(1_000_000),
            last_received: Some(1_000_000 + next * 1_000_000),
            ..StreamReceived::default()
        };
        silent_tail(&run, &[sender], &[received])
    }

    #[test]
    fn datagrams_that_stop_arriving_in_the_middle_are_a_warning() {
        let warning = of(2_000, 1.0, |_| ()).unwrap();
        for words in ["after 2.0 s of 5.0 s", "last 3,000 of 8032 B", "black hole"] {
            assert!(warning.contains(words), "{warning}");
        }
    }

    #[test]
    fn losses_until_the_end_are_none() {
        for (next, arrived) in [(5_000, 0.5), (4_990, 1.0), (4_700, 1.0), (4_000, 0.01)] {
            assert_eq!(of(next, arrived, |_| ()), None, "{next} {arrived}");
        }
        assert_eq!(of(2_000, 1.0, |run| run.complete = false), None);
        assert_eq!(of(2_000, 1.0, |run| run.lost.is_unknown = true), None);
    }
}
