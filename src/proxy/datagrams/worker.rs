//! The loop of one thread that forwards datagrams, over one [`Backend`].

use std::collections::HashMap;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::DatagramOptions;
use super::backend::{Backend, Received};
use super::counters::DatagramCounters;
use super::limits::FlowLimits;
use super::listeners::DatagramListener;
use super::pace::{PAUSE, Pace};
use super::record::{DropCause, Drops, FlowRecord};
use super::sends::Sends;
use super::sockets::{End, Socket, SocketId, Sockets};
use super::table::{Ends, Flow, FlowTable};
use super::target::Target;
use crate::protocol::proxy_header::encode_v2_datagram;
use crate::proxy::access_log;
use crate::proxy::options::Options;
use crate::proxy::record::{CloseReason, Decision};
use crate::proxy::resolver::{Inbox, Resolver};
use crate::proxy::rules::{HeaderVersion, Rules};
use crate::proxy::shared::Shared;
use crate::proxy::slab::Key;
use crate::sys::clock::{monotonic_ns, realtime_ns};
use crate::sys::datagrams;
use crate::sys::eventfd::EventFd;
use crate::sys::{socket, tcp, timer_slack};

/// Requested bytes of the buffers of a flow's socket, which the kernel limits (`net.core.rmem_max`).
const FLOW_BUFFER: usize = 1 << 20;

/// While the proxy stops, a flow ends after so many ns without datagrams.
const DRAIN_IDLE: u64 = 1_000_000_000;

/// The interval in ns of reading how many datagrams the kernel dropped at the listener.
const DROPS_INTERVAL: u64 = 100_000_000;

/// The messages of a batch, and the sends to servers and to clients.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) received: Vec<Received>,
    pub(super) sends: [Sends; 2],
}

/// The sockets of a thread.
pub(super) struct FlowSockets {
    listener: Socket,
    pub(super) flows: FlowTable<Socket>,
}

impl Sockets for FlowSockets {
    fn get(&self, id: SocketId) -> Option<&Socket> {
        match id.end {
            End::Client => Some(&self.listener),
            _ => self.flows.get(id.key).map(|flow| &flow.socket),
        }
    }

    fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket> {
        match id.end {
            End::Client => Some(&mut self.listener),
            _ => self.flows.get_mut(id.key).map(|flow| &mut flow.socket),
        }
    }
}

/// A thread's loop.
pub(in crate::proxy) struct DatagramWorker<B: Backend> {
    pub(super) backend: B,
    local: SocketAddr,
    rules: Arc<Rules>,
    shared: Arc<Shared>,
    resolver: Resolver,
    inbox: Arc<Inbox>,
    asked: Arc<str>,
    target: Target,
    /// The [generation](crate::blocklist::reload::Policies::generation) of the policy that all flows obey.
    generation: u64,
    pub(super) sockets: FlowSockets,
    /// Clients are received from.
    is_open: bool,
    limits: Arc<FlowLimits>,
    pub(super) batch: Batch,
    pub(super) pace: Pace,
    pub(super) counters: Arc<DatagramCounters>,
    listener_drops: ListenerDrops,
    log: Option<access_log::Handle>,
    idle: u64,
    drain: u64,
    /// When to close the remaining flows of a proxy that stops.
    stop_deadline: Option<u64>,
}

/// What the kernel has dropped at the listener.
#[derive(Debug, Default)]
struct ListenerDrops {
    /// Its counter of 32 bits when it was last read.
    last: u32,
    all: u64,
    /// When to read the counter next.
    due: u64,
    /// Datagrams were received since, so more may have been dropped.
    is_stale: bool,
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<B: Backend> DatagramWorker<B> {
    /// The loop of a thread that receives from `listener` and that `wake` wakes.
    ///
    /// # Errors
    /// As epoll_create1(2) and epoll_ctl(2), or io_uring_setup(2).
    pub(in crate::proxy) fn new(
        listener: DatagramListener,
        (rules, shared): (Arc<Rules>, Arc<Shared>),
        resolver: Resolver,
        limits: Arc<FlowLimits>,
        (what, options): (&DatagramOptions, &Options),
        wake: &EventFd,
    ) -> io::Result<Self> {
        let DatagramListener { socket, local } = listener;
        let idle = nanoseconds(what.idle);
        Ok(Self {
            backend: B::new(wake)?,
            local,
            generation: rules.policies.generation(),
            rules,
            shared,
            resolver,
            inbox: Arc::new(Inbox::new(wake.clone())),
            asked: what.to.to_string().into(),
            target: Target::new(what.to.clone()),
            sockets: FlowSockets {
                listener: socket.into(),
                flows: FlowTable::new(idle),
            },
            is_open: false,
            limits,
            batch: Batch::default(),
            pace: Pace::default(),
            counters: Arc::default(),
            listener_drops: ListenerDrops::default(),
            log: options.log.clone(),
            idle,
            drain: nanoseconds(options.drain),
            stop_deadline: None,
        })
    }

    /// The counters of the thread.
    pub(in crate::proxy) fn counters(&self) -> Arc<DatagramCounters> {
        Arc::clone(&self.counters)
    }

    /// Forwards until the proxy stops and the last flow is closed, or the drain time is over.
    ///
    /// # Errors
    /// As epoll_wait(2) and recvmmsg(2), or io_uring_enter(2), apart from errors of single flows.
    pub(in crate::proxy) fn run(mut self) -> io::Result<()> {
        // A pause is shorter than the slack.
        timer_slack::tighten()?;
        self.backend.start()?;
        let mut now = monotonic_ns();
        self.look_up(now);
        self.receive_clients()?;
        while !self.is_finished(now)? {
            let drops = &self.listener_drops;
            let deadlines = [
                self.sockets.flows.next_deadline(),
                self.stop_deadline,
                drops.is_stale.then_some(drops.due),
            ];
            let deadline = deadlines.into_iter().flatten().min();
            now = self.pass(deadline.unwrap_or(u64::MAX))?;
        }
        self.count_listener_drops(u64::MAX);
        let left = self
            .backend
            .close(SocketId::LISTENER, self.sockets.listener);
        self.counters
            .count_drops(DropCause::Stopping, left.datagrams);
        Ok(())
    }

    /// One pass of the loop, which waits for datagrams until `deadline`. Returns the time after the wait.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn pass(&mut self, deadline: u64) -> io::Result<u64> {
        let woken = self.backend.wait(deadline, &mut self.sockets)?;
        let mut now = monotonic_ns();
        if self.pace.collects(now) {
            self.backend.collect(PAUSE)?;
            now = monotonic_ns();
        }
        if woken {
            self.take_answers()?;
        }
        self.obey_policy(now);
        self.listener_drops.is_stale |= self.forward(now)?;
        while let Some((key, flow)) = self.sockets.flows.expired(now) {
            self.close(key, flow, CloseReason::IdleTimeout, now);
        }
        self.count_listener_drops(now);
        Ok(now)
    }

    /// Datagrams of clients are received once the server is known. Until then they wait in the receive buffer.
    ///
    /// # Errors
    /// As [`Backend::open`].
    fn receive_clients(&mut self) -> io::Result<()> {
        if self.target.is_known() && !mem::replace(&mut self.is_open, true) {
            let listener = &self.sockets.listener;
            self.backend.open(SocketId::LISTENER, listener)?;
        }
        Ok(())
    }

    /// # Errors
    /// As [`Self::receive_clients`].
    fn take_answers(&mut self) -> io::Result<()> {
        for (_, answer) in self.inbox.take() {
            self.target.on_answer(answer);
            self.receive_clients()?;
        }
        Ok(())
    }

    fn look_up(&mut self, now: u64) {
        if let Some(name) = self.target.next_lookup(now) {
            let key = Key::from_number(0);
            self.resolver.ask(name, None, key, &self.inbox);
        }
    }

    /// Closes the flows whose server a changed policy blocks.
    fn obey_policy(&mut self, now: u64) {
        let generation = self.rules.policies.generation();
        if mem::replace(&mut self.generation, generation) == generation {
            return;
        }
        let mut decisions: HashMap<SocketAddr, Decision> = HashMap::new();
        for key in self.sockets.flows.keys() {
            let Some(flow) = self.sockets.flows.get_mut(key) else {
                continue;
            };
            let decision = decisions
                .entry(flow.server)
                .or_insert_with(|| self.target.decide(flow.server, &self.rules));
            flow.decision = decision.clone();
            if let Decision::Blocked(_) = decision
                && let Some(flow) = self.sockets.flows.remove(key)
            {
                self.close(key, flow, CloseReason::Blocked, now);
            }
        }
    }

    /// The flow with these ends, which is opened if there is none.
    ///
    /// # Errors
    /// Why no flow is opened.
    pub(super) fn flow_of(&mut self, ends: Ends, now: u64) -> Result<Key, DropCause> {
        match self.sockets.flows.find(&ends) {
            Some(key) => Ok(key),
            None => self.open_flow(ends, now),
        }
    }

    /// # Errors
    /// Why no flow is opened.
    fn open_flow(&mut self, ends: Ends, now: u64) -> Result<Key, DropCause> {
        if self.stop_deadline.is_some() {
            return Err(DropCause::Stopping);
        }
        self.look_up(now);
        let servers = self.target.servers(&self.rules, now)?;
        let permit = self
            .limits
            .take(ends.client.ip())
            .ok_or(DropCause::OverLimit)?;
        let mut connected = Err(DropCause::Unreachable);
        for (server, decision) in servers {
            match datagrams::connect(*server) {
                Ok(socket) => {
                    connected = Ok((socket, *server, decision.clone()));
                    break;
                }
                Err(error) if is_exhausted(&error) => return Err(DropCause::OverLimit),
                // The next address may have a route.
                Err(error) => connected = Err(DropCause::of_errno(error.raw_os_error())),
            }
        }
        let (socket, server, decision) = connected?;
        // A smaller buffer only drops earlier. Flows are many, so the limit of the system applies.
        let _ = socket::set_buffers(&socket, Some(FLOW_BUFFER), Some(FLOW_BUFFER), false);
        let preamble = (self.rules.send_header == Some(HeaderVersion::V2)).then(|| {
            let local = ends.local.unwrap_or(self.local.ip());
            let local = tcp::canonical(SocketAddr::new(local, self.local.port()));
            encode_v2_datagram(tcp::canonical(ends.client), local).into()
        });
        let opened = self.sockets.flows.open(now, |key| {
            let socket = Socket::from(socket);
            self.backend.open(SocketId::of_flow(key), &socket)?;
            let mut flow = Flow::new(ends, socket, (server, decision), permit, now);
            flow.preamble = preamble;
            flow.opened_at = realtime_ns();
            Ok::<_, io::Error>(flow)
        });
        let key = opened.map_err(|_| DropCause::OverLimit)?;
        self.counters.opened();
        Ok(key)
    }

    pub(super) fn count_drops(&self, cause: DropCause, datagrams: usize) {
        let mut drops = Drops::default();
        drops.add(cause, datagrams as u64);
        self.counters.dropped(&drops);
    }

    /// Reads the kernel's counter, if the last time was a while ago.
    fn count_listener_drops(&mut self, now: u64) {
        let drops = &mut self.listener_drops;
        if now < drops.due {
            return;
        }
        drops.due = now.saturating_add(DROPS_INTERVAL);
        drops.is_stale = false;
        if let Ok(count) = socket::drops(self.sockets.listener.as_fd()) {
            let more = count.wrapping_sub(drops.last);
            drops.last = count;
            drops.all = drops.all.saturating_add(more.into());
            self.counters.set_listener_drops(drops.all);
        }
    }

    /// Records a flow that was removed from the table, and closes its socket.
    fn close(&mut self, key: Key, flow: Flow<Socket>, reason: CloseReason, now: u64) {
        let left = self.backend.close(SocketId::of_flow(key), flow.socket);
        let drops = left.drops(flow.queue_drops);
        self.counters.dropped(&drops);
        let record = FlowRecord {
            client: tcp::canonical(flow.ends.client),
            asked: Arc::clone(&self.asked),
            server: flow.server,
            decision: flow.decision,
            opened_at: flow.opened_at,
            opened: flow.opened,
            closed: now,
            to_server: flow.to_server,
            to_client: flow.to_client,
            drops: flow.drops.and(drops),
            reason,
        };
        self.counters.ended(&record);
        if let Some(log) = &self.log {
            log.record_flow(record);
        }
    }

    /// Once the proxy stops, forwards the datagrams that have arrived, opens no more flows, and closes those that are idle.
    /// Whether all flows are closed.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn is_finished(&mut self, now: u64) -> io::Result<bool> {
        if self.stop_deadline.is_none() && self.shared.is_stopping() {
            // The event of a datagram that arrived just now may not have been taken yet. Clients that continue to send do
            // not prolong this.
            self.receive_clients()?;
            let listener = SocketId::LISTENER;
            self.backend.receive_again(listener, &mut self.sockets);
            self.pass(0)?;
            self.stop_deadline = Some(now.saturating_add(self.drain));
            self.sockets.flows.set_idle(self.idle.min(DRAIN_IDLE));
        }
        let Some(deadline) = self.stop_deadline else {
            return Ok(false);
        };
        if now >= deadline {
            for key in self.sockets.flows.keys() {
                if let Some(flow) = self.sockets.flows.remove(key) {
                    self.close(key, flow, CloseReason::Stopped, now);
                }
            }
        }
        Ok(self.sockets.flows.is_empty())
    }
}

/// Whether no file descriptor, port or memory is free.
fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [
        libc::EMFILE,
        libc::ENFILE,
        libc::EAGAIN,
        libc::ENOBUFS,
        libc::ENOMEM,
    ];
    let errno = error.raw_os_error();
    errno.is_some_and(|errno| exhausted.contains(&errno))
}
