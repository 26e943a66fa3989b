use super::*;
use crate::udp::engine::Path;
use crate::udp::engine::stats::SendStats;
use crate::udp::plan::Quota;

/// An engine that is always short of memory, and stops the sender at the third submit.
struct NoMemory<'a> {
    slot: [u8; 64],
    queued: u64,
    tries: u32,
    control: &'a SenderControl,
}

impl Tx for NoMemory<'_> {
    fn next_slot(&mut self) -> Option<&mut [u8]> {
        (self.queued == 0).then_some(&mut self.slot)
    }

    fn queue(&mut self, _length: usize, datagrams: u64) {
        self.queued = datagrams;
    }

    fn submit(&mut self, _refused: impl FnMut(u64, &io::Error)) -> io::Result<Submit> {
        self.tries += 1;
        if self.tries == 3 {
            self.control.stop.store(true, Ordering::Relaxed);
        }
        Ok(Submit::NoMemory)
    }

    fn queued_messages(&mut self, mut each: impl FnMut(&mut [u8])) {
        each(&mut self.slot[..40]);
    }

    fn give_up(&mut self, _error: &io::Error, _refused: impl FnMut(u64, &io::Error)) {}

    fn send_control(&mut self, _datagram: &[u8]) {}

    fn segments(&self) -> usize {
        1
    }

    fn path(&self) -> Path {
        Path {
            mtu: None,
            headers: 28,
        }
    }

    fn in_flight(&self) -> u64 {
        self.queued
    }

    fn poll_control(&mut self, _each: impl FnMut(&[u8])) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, until: Until) -> io::Result<()> {
        assert!(matches!(until, Until::Exactly(_)));
        Ok(())
    }

    fn stats(&self) -> SendStats {
        SendStats::default()
    }
}

#[test]
fn a_sender_without_progress_can_be_stopped_and_has_sent_nothing() {
    let control = Arc::new(SenderControl::default());
    let mut tx = NoMemory {
        slot: [0; 64],
        queued: 0,
        tries: 0,
        control: &control,
    };
    let quota = Quota {
        packets: Some(10),
        last_chunk: 8,
        time: None,
    };
    let stream = Stream::new(1, 8, quota, None, false, 0);
    let policy = BatchPolicy {
        segments: 1,
        batch: 1,
        window: None,
        must_segment: false,
        spin: false,
        spin_choice: SpinChoice::Off,
        streams: 1,
        shared_cpu: false,
        credit_timeout_ns: u64::MAX,
    };
    let (outcome, ended) = run(&mut tx, (stream, 0), policy, &control, None);
    ended.unwrap();
    assert_eq!((outcome.packets, outcome.bytes, tx.tries), (0, 0, 3));
}

/// An engine that sends everything, and grants one more datagram each time that the sender reads its credit.
struct OneByOne {
    slot: [u8; 64],
    queued: u64,
    sent: u64,
}

impl Tx for OneByOne {
    fn next_slot(&mut self) -> Option<&mut [u8]> {
        (self.queued == 0).then_some(&mut self.slot)
    }

    fn queue(&mut self, _length: usize, datagrams: u64) {
        self.queued = datagrams;
    }

    fn submit(&mut self, _refused: impl FnMut(u64, &io::Error)) -> io::Result<Submit> {
        self.sent += std::mem::take(&mut self.queued);
        Ok(Submit::Ready)
    }

    fn queued_messages(&mut self, _each: impl FnMut(&mut [u8])) {}

    fn give_up(&mut self, _error: &io::Error, _refused: impl FnMut(u64, &io::Error)) {}

    fn send_control(&mut self, _datagram: &[u8]) {}

    fn in_flight(&self) -> u64 {
        0
    }

    fn poll_control(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        each(&Header::bare(Kind::Credit, 1, self.sent + 1).encode());
        Ok(())
    }

    fn wait(&mut self, _until: Until) -> io::Result<()> {
        Ok(())
    }

    fn stats(&self) -> SendStats {
        SendStats::default()
    }

    fn segments(&self) -> usize {
        1
    }

    fn path(&self) -> Path {
        Path {
            mtu: None,
            headers: 28,
        }
    }
}

#[test]
fn a_sender_with_credit_for_one_datagram_reads_credit_again() {
    let mut tx = OneByOne {
        slot: [0; 64],
        queued: 0,
        sent: 0,
    };
    let quota = Quota {
        packets: Some(5),
        last_chunk: 8,
        time: None,
    };
    let stream = Stream::new(1, 8, quota, None, true, 0);
    let policy = BatchPolicy {
        segments: 1,
        batch: 1,
        window: Some(1),
        must_segment: false,
        spin: false,
        spin_choice: SpinChoice::Off,
        streams: 1,
        shared_cpu: false,
        credit_timeout_ns: 1_000_000_000,
    };
    let (outcome, ended) = run(&mut tx, (stream, 0), policy, &Arc::default(), None);
    ended.unwrap();
    assert_eq!(outcome.packets, 5);
}
