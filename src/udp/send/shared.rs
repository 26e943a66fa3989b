//! A paced sender in a shared event loop. It neither spins nor needs credit.

use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use crate::sys::cgroup::{CpuQuota, Throttled};
use crate::sys::clock::monotonic_ns;
use crate::sys::mmsg::ReceiveBatch;
use crate::sys::tsc_clock::TscClock;
use crate::udp::engine::mio::{CopySend, MioTx};
use crate::udp::engine::{Submit, Tx};
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::send::refusals::Refusals;
use crate::udp::send::sender::{BatchPolicy, check_path, fill, no_memory, restamp};
use crate::udp::send::socket::SenderSocket;
use crate::udp::send::spin::NoSpin;
use crate::udp::send::stream::{Idle, Stream};
use crate::udp::send::task::{Event, Task};
use crate::udp::shared_loops::{Cost, Member, Next, SharedPlace};
use crate::udp::wire::results::SenderEffective;

/// Pause after which a full send buffer is tried again, in ns. Another thread would wait for the socket.
const FULL_NS: u64 = 1_000_000;

/// Most batches of a late stream in one turn.
const BATCHES: usize = 4;

impl Task {
    /// Sets the socket up, and puts the sender into its place in a loop. Setting up may wait for responses.
    pub(super) fn hand_over(
        self,
        socket: UdpSocket,
        start: Receiver<u64>,
        place: &SharedPlace,
        outcomes: Sender<SenderOutcome>,
    ) {
        let mut end = match self.set_up(socket) {
            Ok(end) => end,
            Err(error) => return self.emit(Event::Failed(error)),
        };
        end.limit_slots();
        let effective = SenderEffective {
            shares_loops: true,
            stamp_note: self.settings.plan.stages.then(|| {
                "senders that share their threads with other streams are not stamped; use fewer --streams"
                    .to_owned()
            }),
            ..end.effective()
        };
        let SenderSocket {
            socket,
            layout,
            policy,
            ..
        } = end;
        let method = CopySend::new(layout.messages);
        let tx = match MioTx::shared(socket, layout, &self.fill(), method) {
            Ok(tx) => tx,
            Err(error) => return self.emit(Event::Ended(Err(error))),
        };
        let ready = Event::Ready(effective.clone());
        let (events, notify) = (self.events.clone(), self.settings.notify.clone());
        let sender = SharedSender::new(self, tx, policy, effective, start, outcomes);
        place.add(Box::new(sender));
        let _ = events.send(ready);
        notify();
    }
}

/// The sender of a stream, without its thread.
pub(super) struct SharedSender<T> {
    task: Task,
    tx: T,
    policy: BatchPolicy,
    /// Takes the start of the schedule, in ns.
    start: Receiver<u64>,
    /// `None` until the start.
    stream: Option<Stream>,
    outcome: SenderOutcome,
    outcomes: Sender<SenderOutcome>,
    quota: CpuQuota,
    throttled: Option<Throttled>,
    refusals: Refusals,
}

impl<T: Tx> SharedSender<T> {
    /// The outcome is sent to `outcomes`.
    pub(super) fn new(
        task: Task,
        tx: T,
        policy: BatchPolicy,
        effective: SenderEffective,
        start: Receiver<u64>,
        outcomes: Sender<SenderOutcome>,
    ) -> Self {
        let quota = CpuQuota::of_this_thread();
        Self {
            throttled: quota.throttled(),
            quota,
            task,
            tx,
            policy,
            start,
            stream: None,
            outcome: SenderOutcome {
                effective,
                ..SenderOutcome::default()
            },
            outcomes,
            refusals: Refusals::new(false),
        }
    }

    /// Whether the schedule has begun, or why not.
    fn begin(&mut self) -> Option<Next> {
        if self.stream.is_some() {
            return None;
        }
        match self.start.try_recv() {
            Ok(start) => {
                self.stream = Some(self.task.stream(start).with_small_histograms());
                None
            }
            Err(TryRecvError::Empty) => Some(Next::At(u64::MAX)),
            // The session ended before the start.
            Err(TryRecvError::Disconnected) => Some(Next::Ended),
        }
    }

    /// Sends a batch. `None` if another batch may be due.
    fn send_batch(&mut self) -> io::Result<Option<Next>> {
        let Self {
            tx,
            policy,
            outcome,
            task,
            ..
        } = self;
        let Some(stream) = &mut self.stream else {
            return Ok(Some(Next::Ended));
        };
        let control = &task.control;
        stream.set_offset(control.offset.load(Ordering::Relaxed));
        if tx.in_flight() > 0 {
            restamp(tx, stream, &mut None);
        }
        let mut clock = TscClock::without_counter();
        let written = fill(tx, stream, *policy, &mut clock, &mut None);
        if written > 0 {
            control.written.store(stream.next(), Ordering::Relaxed);
        }
        let submitted = tx.submit(|datagrams, error| outcome.refused(datagrams, error))?;
        if outcome.too_long > 0 || policy.must_segment {
            check_path(tx, stream, *policy, outcome)?;
        }
        let now = monotonic_ns();
        if tx.in_flight() > 0 && stream.is_over(now) {
            return Ok(Some(Next::Ended));
        }
        if submitted == Submit::NoMemory {
            let accepted = outcome.accepted(tx, stream);
            let at = self.refusals.repeat_at(accepted, now);
            if at.is_none() {
                tx.give_up(&no_memory(), |of, error| outcome.refused(of, error));
            }
            return Ok(at.map(Next::At));
        }
        if tx.in_flight() > 0 {
            return Ok(Some(Next::At(now + FULL_NS)));
        }
        Ok(match stream.idle(now) {
            Idle::Done => Some(Next::Ended),
            Idle::Due(at) => Some(Next::At(at)),
            // A stream that shares a loop needs no credit.
            Idle::No | Idle::Credit => None,
        })
    }
}

impl<T: Tx + Send> Member for SharedSender<T> {
    fn socket(&self) -> Option<RawFd> {
        // Datagrams from the receiver are of no use to a stream without credit.
        None
    }

    fn turn(&mut self, _batch: &mut ReceiveBatch) -> io::Result<Next> {
        if let Some(next) = self.begin() {
            let is_stopped = self.task.control.stop.load(Ordering::Relaxed);
            return Ok(if is_stopped { Next::Ended } else { next });
        }
        for _ in 0..BATCHES {
            if self.task.control.stop.load(Ordering::Relaxed) {
                return Ok(Next::Ended);
            }
            if let Some(next) = self.send_batch()? {
                return Ok(next);
            }
        }
        Ok(Next::Soon)
    }

    fn end(self: Box<Self>, _batch: &mut ReceiveBatch, cost: Cost, error: Option<io::Error>) {
        let mut this = *self;
        let cancelled = this.tx.cancel_pending();
        let ended = error.map_or(Ok(()), Err).and(cancelled);
        let mut outcome = mem::take(&mut this.outcome);
        if let Some(stream) = this.stream {
            outcome.spin = Some(false);
            outcome.why_no_spin = Some(NoSpin::Shared);
            outcome.close(&this.tx, stream);
            outcome.cpu = cost.cpu;
            outcome.preemptions = cost.preemptions;
            let throttled = this.quota.throttled().zip(this.throttled);
            outcome.throttled = throttled.map(|(now, before)| now - before);
        }
        // Without a reader the session is being torn down.
        let _ = this.outcomes.send(outcome);
        this.task.emit(Event::Ended(ended));
    }
}
