//! The receivers of a session, at either host: a thread per stream or shared loops, and the intervals of all streams together.

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use crate::sys::cgroup::{CpuQuota, Throttled};
use crate::sys::clock::WallClock;
use crate::sys::eventfd::EventFd;
use crate::sys::machine;
use crate::udp::Notify;
use crate::udp::latencies::Latencies;
use crate::udp::placement;
use crate::udp::plan::{Mode, Plan};
use crate::udp::receive::UNKNOWN;
use crate::udp::receive::accounting::StreamCounts;
use crate::udp::receive::by_size::LatencyBySize;
use crate::udp::receive::intervals::{CompletedInterval, Intervals, Recycled};
use crate::udp::receive::packet_log::{self, PacketLog};
use crate::udp::receive::prepared::PreparedReceivers;
use crate::udp::receive::receiver::{
    Event, IntervalSnapshot, Received, ReceiverConfig, ReceiverControl,
};
use crate::udp::receive::shared::SharedReceiver;
use crate::udp::receive::socket::ReceiverSocket;
use crate::udp::receive::stamps::RxStamps;
use crate::udp::receive::thread::{EventSink, start_thread};
use crate::udp::relay_header::RelayHeader;
use crate::udp::result::IntervalRows;
use crate::udp::shared_loops::{SharedLoops, Wake};
use crate::udp::wire::control::{Finish, ReceiverEffective};
use crate::udp::wire::header::{Header, Kind};

/// Histograms of a stream: one in use by its receiver, one on the way to the session, one on the way back.
const EMPTIES: usize = 3;

/// Settings that all receivers of a session share.
pub struct Settings {
    /// The run.
    pub plan: Plan,
    /// Most records in the packet logs of all streams together.
    pub packet_rows: u64,
    /// Whether this end opens the flows, by probes.
    pub sent_probes: bool,
    /// The server's clock minus this host's, in ns.
    pub offset: Arc<AtomicI64>,
    /// Wakes the loop that calls [`Receivers::poll`].
    pub notify: Notify,
    /// The loops that receive the streams; `None` for a thread per stream.
    pub loops: Option<Arc<SharedLoops>>,
}

/// The receivers of a session.
pub struct Receivers {
    settings: Settings,
    /// Sockets of the streams that are not launched.
    sockets: Vec<Option<ReceiverSocket>>,
    effective: ReceiverEffective,
    handles: Vec<Option<Handle>>,
    sender: Sender<Event>,
    events: Receiver<Event>,
    epoch: Arc<AtomicU64>,
    intervals: Intervals,
    buffer_errors: Option<u64>,
    quota: CpuQuota,
    /// Throttling when the last stream was launched; `None` without a quota.
    throttled: Option<Throttled>,
    wall: WallClock,
    rows: IntervalRows,
    /// Whether launching has ended.
    stopped: bool,
    /// The failure of the first receiver that failed.
    failure: Option<String>,
}

/// A running receiver.
struct Handle {
    control: Arc<ReceiverControl>,
    wake: Wake,
    empties: Sender<Box<Latencies>>,
    /// The receiver's own socket, to connect it to another address.
    socket: Arc<UdpSocket>,
    token: u64,
    /// The header in front of each datagram.
    relay: RelayHeader,
    done: Option<Box<Received>>,
}

/// The result of all receivers.
pub struct ReceiversOutcome {
    /// Each stream.
    pub received: Vec<Received>,
    /// All latencies.
    pub latencies: Latencies,
    /// All interval rows.
    pub intervals: IntervalRows,
    /// Converts stamps to wall time.
    pub wall: WallClock,
    /// The server's clock minus this host's at the end, in ns.
    pub offset: i64,
    /// Increase of this host's `UdpRcvbufErrors` during the run.
    pub buffer_errors: Option<u64>,
    /// Throttling of this process's control group during the run; `None` without a CPU quota.
    pub throttled: Option<Throttled>,
    /// Whether the run is paced.
    pub is_paced: bool,
}

impl Receivers {
    /// None of the receivers is launched yet.
    pub fn new(settings: Settings, prepared: PreparedReceivers) -> Self {
        let (sender, events) = mpsc::channel();
        let streams = prepared.sockets.len();
        Self {
            intervals: Intervals::new(
                settings.plan.interval,
                streams,
                settings.plan.interval_histograms,
            ),
            settings,
            handles: (0..streams).map(|_| None).collect(),
            sockets: prepared.sockets,
            effective: prepared.effective,
            sender,
            events,
            epoch: Arc::new(AtomicU64::new(UNKNOWN)),
            buffer_errors: machine::udp_receive_buffer_errors(),
            quota: CpuQuota::of_this_thread(),
            throttled: None,
            wall: WallClock::now(),
            rows: IntervalRows::default(),
            stopped: false,
            failure: None,
        }
    }

    /// The settings in force.
    pub fn effective(&self) -> &ReceiverEffective {
        &self.effective
    }

    /// Number of streams.
    pub fn streams(&self) -> usize {
        self.handles.len()
    }

    /// Number of streams that are not launched yet.
    pub fn unlaunched(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    /// The socket of a stream that is not launched yet.
    pub fn socket(&self, stream: usize) -> Option<&UdpSocket> {
        self.sockets.get(stream)?.as_ref().map(|end| &end.socket)
    }

    /// Starts the receiver of a stream whose socket is connected. Does nothing if the receiver runs already.
    ///
    /// # Errors
    /// Out of threads, files or memory.
    pub fn launch(&mut self, stream: usize, token: u64) -> io::Result<()> {
        self.launch_behind(stream, token, RelayHeader::default())
    }

    /// As [`Self::launch`], with the header of a relay in front of each datagram.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub fn launch_behind(
        &mut self,
        stream: usize,
        token: u64,
        relay: RelayHeader,
    ) -> io::Result<()> {
        let Some(end) = self.sockets.get_mut(stream).and_then(Option::take) else {
            return Ok(());
        };
        if self.stopped {
            return Ok(());
        }
        if self.sockets.iter().all(Option::is_none) {
            self.throttled = self.quota.throttled();
        }
        let plan = &self.settings.plan;
        let (empties, receiver_empties) = mpsc::channel();
        for _ in 0..EMPTIES {
            let _ = empties.send(Box::new(empty_latencies(self.settings.loops.is_some())));
        }
        let control = Arc::new(ReceiverControl::new());
        let records = self.settings.packet_rows / self.handles.len().max(1) as u64;
        let paced = matches!(plan.mode, Mode::Paced(_));
        let cpu = placement::of(&self.effective.cpus, stream);
        let config = ReceiverConfig {
            stream,
            token,
            relay: relay.clone(),
            chunk: plan.chunk,
            sizes: plan.pattern(),
            paced,
            sent_probes: self.settings.sent_probes,
            window: end.window,
            capacity: (!paced && !end.shared_cpu).then_some(end.capacity),
            interval: plan.interval,
            epoch: self.epoch.clone(),
            offset: self.settings.offset.clone(),
            packet_log: if plan.packet_rows {
                let buffer = match self.settings.loops {
                    Some(_) => packet_log::SMALL_BUFFER,
                    None => packet_log::BUFFER,
                };
                Some(PacketLog::new(records, buffer)?)
            } else {
                None
            },
            by_size: LatencyBySize::of(plan.traffic.sizes.as_ref()),
            count_marks: plan.traffic.ip.tos().is_some(),
            stamps: RxStamps::of(plan),
            control: control.clone(),
            empties: receiver_empties,
        };
        let sink = EventSink {
            events: self.sender.clone(),
            notify: self.settings.notify.clone(),
        };
        let (socket, wake) = match &self.settings.loops {
            Some(loops) => {
                let socket = Arc::new(end.socket);
                let place = loops.place(cpu)?;
                let receiver = SharedReceiver::new(socket.clone(), end.layout, config, sink);
                place.add(Box::new(receiver));
                (socket, Wake::Shared(place))
            }
            None => {
                let socket = Arc::new(end.socket.try_clone()?);
                let wake = EventFd::new()?;
                start_thread(plan.engine, cpu, end, wake.clone(), config, sink)?;
                (socket, Wake::Thread(wake))
            }
        };
        if let Some(place) = self.handles.get_mut(stream) {
            *place = Some(Handle {
                control,
                wake,
                empties,
                socket,
                token,
                relay,
                done: None,
            });
        }
        Ok(())
    }

    /// Connects the socket of a running receiver to another address of its sender: a NAT on the path may have changed it.
    ///
    /// # Errors
    /// As connect(2).
    pub fn reconnect(&self, stream: usize, peer: SocketAddr) -> io::Result<()> {
        match self.handles.get(stream) {
            Some(Some(handle)) if handle.done.is_none() => handle.socket.connect(peer),
            _ => Ok(()),
        }
    }

    /// Sends a datagram to the sender of every open stream. A NAT on the path may drop a flow without datagrams from this side
    /// (RFC 4787, section 4.3), and the sender detects a changed address by such a datagram.
    pub fn send_keepalives(&self) {
        for handle in self.handles.iter().flatten() {
            if handle.done.is_none() {
                let probe = Header::bare(Kind::Probe, handle.token, 0).encode();
                // A failed keepalive is followed by the next one.
                let _ = handle.socket.send(&handle.relay.wrap(&probe));
            }
        }
    }

    /// Takes the senders' counts: each receiver stops when it has received as many datagrams, or when the stream is quiet.
    ///
    /// # Errors
    /// When the number of streams differs; all receivers are stopped then.
    pub fn finish(&mut self, finish: &Finish) -> Result<(), String> {
        self.end_launching();
        self.intervals
            .set_sent(finish.streams.iter().map(|stream| stream.packets));
        for (handle, sent) in self.handles.iter().zip(&finish.streams) {
            let Some(handle) = handle else { continue };
            // Never the value that stands for an unknown count.
            let packets = sent.packets.saturating_sub(sent.not_sent).min(UNKNOWN - 1);
            handle
                .control
                .quiet
                .store(finish.quiet_ns, Ordering::Relaxed);
            handle.control.sent.store(packets, Ordering::Relaxed);
            handle.wake.wake();
        }
        if finish.streams.len() == self.handles.len() {
            return Ok(());
        }
        self.stop();
        Err(format!(
            "the sender finished {} streams, and the run has {}",
            finish.streams.len(),
            self.handles.len()
        ))
    }

    /// Stops all receivers.
    pub fn stop(&mut self) {
        self.end_launching();
        for handle in self.handles.iter().flatten() {
            handle.control.stop.store(true, Ordering::Relaxed);
            handle.wake.wake();
        }
    }

    /// Ends launching. Streams that were not launched received nothing.
    fn end_launching(&mut self) {
        if mem::replace(&mut self.stopped, true) {
            return;
        }
        for (stream, handle) in self.handles.iter().enumerate() {
            if handle.is_none() {
                self.intervals.add(IntervalSnapshot {
                    stream,
                    index: 0,
                    counts: StreamCounts::default(),
                    latencies: Box::new(Latencies::small()),
                    ce: None,
                    last: true,
                });
            }
        }
    }

    /// When a datagram of the session last arrived, in ns of this host's clock; `None` if no receiver is launched.
    pub fn last_arrival(&self) -> Option<u64> {
        let handles = self.handles.iter().flatten();
        handles
            .map(|handle| handle.control.last_arrival.load(Ordering::Relaxed))
            .max()
    }

    /// Datagrams received in the intervals that have ended.
    pub fn datagrams(&self) -> u64 {
        self.rows
            .total
            .unique
            .saturating_add(self.rows.total.duplicates)
    }

    /// Processes the receivers' events, and returns the rows of the intervals that have ended.
    pub fn poll(&mut self) -> Vec<CompletedInterval> {
        while let Ok(event) = self.events.try_recv() {
            self.on_event(event);
        }
        self.completed_rows()
    }

    /// The failure of a receiver, if one failed.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Interval(snapshot) => {
                if let Some(recycled) = self.intervals.add(snapshot) {
                    self.recycle(recycled);
                }
            }
            Event::Done(received) => {
                if let Some(error) = &received.error {
                    self.failure
                        .get_or_insert_with(|| format!("a receiver failed: {error}"));
                    self.stop();
                }
                if let Some(Some(handle)) = self.handles.get_mut(received.stream) {
                    handle.done = Some(received);
                }
            }
        }
    }

    fn recycle(&self, (stream, latencies): Recycled) {
        if let Some(Some(handle)) = self.handles.get(stream) {
            // A receiver that has ended needs no histogram.
            let _ = handle.empties.send(latencies);
        }
    }

    /// The rows of the intervals that every stream has ended.
    fn completed_rows(&mut self) -> Vec<CompletedInterval> {
        let mut rows = Vec::new();
        while let Some((completed, recycled)) =
            self.intervals.next_row(self.epoch.load(Ordering::Relaxed))
        {
            self.recycle(recycled);
            if let Some(completed) = completed {
                self.rows.push(completed.row.clone());
                rows.push(completed);
            }
        }
        rows
    }

    /// Whether every receiver has ended. A stream that was not launched counts as ended once launching has ended.
    pub fn is_done(&self) -> bool {
        self.handles.iter().all(|handle| match handle {
            Some(handle) => handle.done.is_some(),
            None => self.stopped,
        })
    }

    /// Stops all receivers, waits until they have ended, and returns the last rows.
    pub fn stop_and_wait(&mut self) -> Vec<CompletedInterval> {
        self.stop();
        while !self.is_done() {
            match self.events.recv() {
                Ok(event) => self.on_event(event),
                Err(_) => break,
            }
        }
        self.completed_rows()
    }

    /// The result, once every receiver has ended.
    pub fn into_outcome(mut self) -> ReceiversOutcome {
        let buffer_errors = machine::udp_receive_buffer_errors().zip(self.buffer_errors);
        let throttled = self.quota.throttled().zip(self.throttled);
        let nothing = Intervals::new(self.settings.plan.interval, 0, false);
        let handles = self.handles.iter_mut().enumerate();
        ReceiversOutcome {
            received: handles
                .map(|(stream, handle)| {
                    match handle.as_mut().and_then(|handle| handle.done.take()) {
                        Some(done) => *done,
                        None => Received::none(stream),
                    }
                })
                .collect(),
            latencies: mem::replace(&mut self.intervals, nothing).into_latencies(),
            intervals: mem::take(&mut self.rows),
            wall: self.wall,
            offset: self.settings.offset.load(Ordering::Relaxed),
            buffer_errors: buffer_errors.map(|(now, before)| now.saturating_sub(before)),
            throttled: throttled.map(|(now, before)| now - before),
            is_paced: matches!(self.settings.plan.mode, Mode::Paced(_)),
        }
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Empty histograms of a stream, which grow if there are many streams.
fn empty_latencies(are_many: bool) -> Latencies {
    match are_many {
        true => Latencies::small(),
        false => Latencies::default(),
    }
}
