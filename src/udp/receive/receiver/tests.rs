//! Tests of the receiver with an engine that has no datagrams.

use super::*;
use std::net::SocketAddr;
use std::sync::mpsc;

use crate::sys::cmsg::Message;

/// An engine without datagrams that stops the receiver at the fifth sleep.
struct Silent {
    control: Arc<ReceiverControl>,
    sleeps: u32,
    is_behind: bool,
}

impl Rx for Silent {
    fn receive(&mut self, _each: impl FnMut(Message<'_>)) -> io::Result<usize> {
        Ok(0)
    }

    fn send_control(&mut self, _datagram: &[u8], _to: SocketAddr) {}

    fn wait(&mut self, deadline: u64) -> io::Result<()> {
        // It was in the future a moment ago.
        assert!(deadline + EMPTY_NS > monotonic_ns());
        self.sleeps += 1;
        if self.sleeps == 5 {
            self.control.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn drops(&self) -> u64 {
        0
    }

    fn stats(&self) -> ReceiveStats {
        ReceiveStats::default()
    }
}

#[test]
fn a_receiver_without_an_empty_histogram_sleeps_when_an_interval_is_over() {
    let control = Arc::new(ReceiverControl::new());
    let rx = Silent {
        control: control.clone(),
        sleeps: 0,
        is_behind: false,
    };
    let (_keeper, empties) = mpsc::channel();
    let (sender, events) = mpsc::channel();
    // The first interval has been over for 10 s.
    let epoch = monotonic_ns().saturating_sub(10_000_000_000);
    run(rx, config(control, epoch, empties), &sender, || ());
    let snapshots = events.iter().take(2).collect::<Vec<_>>();
    assert!(matches!(
        snapshots[..],
        [
            Event::Interval(IntervalSnapshot { last: true, .. }),
            Event::Done(_)
        ]
    ));
}

#[test]
fn datagrams_in_the_socket_prolong_the_wait_for_stragglers() {
    let turn = |arrived_before: u64, is_behind: bool| {
        let control = Arc::new(ReceiverControl::new());
        control.sent.store(1, Ordering::Relaxed);
        let now = monotonic_ns();
        let arrived = now.saturating_sub(arrived_before);
        control.last_arrival.store(arrived, Ordering::Relaxed);
        let mut rx = Silent {
            control: control.clone(),
            sleeps: 0,
            is_behind,
        };
        let (_keeper, empties) = mpsc::channel();
        let mut receiver = StreamReceiver::new(config(control, now, empties));
        let turn = receiver.turn(&mut rx, |_| ()).unwrap();
        // The deadline of a prolonged wait is in the future.
        assert!(turn == Turn::Ended || receiver.quiet_at() > now);
        turn
    };
    assert_eq!(turn(2 * MIN_QUIET_NS, false), Turn::Ended);
    assert_eq!(turn(2 * MIN_QUIET_NS, true), Turn::Empty);
    assert_eq!(turn(MAX_QUIET_NS, true), Turn::Ended);
}

fn config(
    control: Arc<ReceiverControl>,
    epoch: u64,
    empties: Receiver<Box<Latencies>>,
) -> ReceiverConfig {
    ReceiverConfig {
        stream: 0,
        token: 1,
        relay: RelayHeader::default(),
        chunk: 8,
        sizes: None,
        paced: false,
        sent_probes: false,
        window: None,
        capacity: None,
        interval: Duration::from_millis(10),
        epoch: Arc::new(AtomicU64::new(epoch)),
        offset: Arc::default(),
        packet_log: None,
        by_size: None,
        count_marks: false,
        stamps: None,
        control,
        empties,
    }
}
