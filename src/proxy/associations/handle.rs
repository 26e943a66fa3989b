//! Opens associations for the threads of connections, and starts the threads that serve them.
//!
//! A proxy whose clients ask for no association has none of these threads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use socket2::SockRef;

use super::AssociationOptions;
use super::association::set_buffers;
use super::context::Common;
use super::counters::{AssociationCounters, AssociationTotals};
use super::own::OwnSocket;
use super::worker::AssociationWorker;
use crate::engine::EngineKind;
use crate::protocol::{Associate, Outcome};
use crate::proxy::datagrams::backend::{Backend, Epoll, Uring};
use crate::proxy::datagrams::limits::{FlowLimits, FlowPermit};
use crate::proxy::options::Options;
use crate::proxy::record::{CloseReason, ConnectionInfo};
use crate::proxy::resolver::Resolver;
use crate::proxy::rules::Rules;
use crate::proxy::server::Stopper;
use crate::proxy::shared::Shared;
use crate::proxy::slab::Key;
use crate::sys::datagrams;
use crate::sys::eventfd::EventFd;
use crate::sys::route::is_of_this_host;

/// Open associations up to which the sockets of another one get large buffers.
const FEW: u64 = 32;

/// The associations of a proxy.
pub(in crate::proxy) struct Associations {
    engine: EngineKind,
    options: AssociationOptions,
    common: Common,
    limits: Arc<FlowLimits>,
    threads: Vec<Thread>,
    next: AtomicUsize,
    next_id: AtomicU64,
    /// Stops the proxy if a thread fails.
    stopper: OnceLock<Stopper>,
}

#[derive(Default)]
struct Thread {
    counters: Arc<AssociationCounters>,
    running: Mutex<Option<Running>>,
}

struct Running {
    queue: Arc<Queue>,
    thread: JoinHandle<io::Result<()>>,
}

/// What a thread of associations does next.
pub(super) enum Command {
    /// Serve an association with this relay socket.
    Open(Box<Opening>, UdpSocket),
    /// Its connection was closed for this reason.
    Close(u64, CloseReason),
    /// End, as no connections are left.
    Quit,
}

/// The commands for one thread.
pub(super) struct Queue {
    commands: Mutex<Vec<Command>>,
    wake: EventFd,
}

/// An association to serve.
pub(super) struct Opening {
    pub(super) id: u64,
    pub(super) _own: OwnSocket,
    /// The only source of the client's datagrams.
    pub(super) client: IpAddr,
    /// Its port; 0 if that is known with the first datagram.
    pub(super) port: u16,
    pub(super) info: ConnectionInfo,
    /// The connection, which ends with the association.
    pub(super) connection: Key,
    pub(super) ends: Arc<Ends>,
    pub(super) _permit: FlowPermit,
    pub(super) has_large_buffers: bool,
    pub(super) opened: u64,
}

/// The associations that ended before their connection, for the thread of the connections.
pub(in crate::proxy) struct Ends {
    ended: Mutex<Vec<(Key, CloseReason)>>,
    wake: EventFd,
}

/// The association of a connection, which ends when this is closed or dropped.
pub(in crate::proxy) struct Holder {
    id: u64,
    queue: Arc<Queue>,
    is_open: bool,
}

/// A request of a connection.
pub(in crate::proxy) struct Wanted<'a, S> {
    /// The socket of the connection.
    pub(in crate::proxy) connected: &'a S,
    pub(in crate::proxy) request: Associate,
    pub(in crate::proxy) info: &'a ConnectionInfo,
    pub(in crate::proxy) key: Key,
    pub(in crate::proxy) now: u64,
}

/// A thread that panicked left the data consistent.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn put(&self, command: Command) {
        locked(&self.commands).push(command);
        self.wake.wake();
    }

    pub(super) fn take(&self) -> Vec<Command> {
        std::mem::take(&mut *locked(&self.commands))
    }
}

impl Ends {
    pub(in crate::proxy) fn new(wake: EventFd) -> Self {
        let ended = Mutex::default();
        Self { ended, wake }
    }

    pub(super) fn put(&self, connection: Key, reason: CloseReason) {
        locked(&self.ended).push((connection, reason));
        self.wake.wake();
    }

    pub(in crate::proxy) fn take(&self) -> Vec<(Key, CloseReason)> {
        std::mem::take(&mut *locked(&self.ended))
    }
}

impl Holder {
    pub(in crate::proxy) fn close(mut self, reason: CloseReason) {
        self.end(reason);
    }

    fn end(&mut self, reason: CloseReason) {
        if std::mem::replace(&mut self.is_open, false) {
            self.queue.put(Command::Close(self.id, reason));
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.end(CloseReason::Stopped);
    }
}

impl Associations {
    /// No associations, of at most `threads` threads.
    pub(in crate::proxy) fn new(
        threads: usize,
        (rules, shared): (Arc<Rules>, Arc<Shared>),
        resolver: Resolver,
        options: &Options,
    ) -> Self {
        let most = shared.capacity.associations;
        Self {
            engine: options.engine,
            options: options.associations,
            limits: FlowLimits::new(most, options.associations.per_client),
            common: Common {
                rules,
                shared,
                resolver,
                own: Arc::default(),
                log: options.log.clone(),
                idle: options.timeouts.idle,
                any_answers: options.associations.any_answers,
            },
            threads: (0..threads.max(1)).map(|_| Thread::default()).collect(),
            next: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
            stopper: OnceLock::new(),
        }
    }

    /// The proxy is stopped by `stopper` if a thread fails.
    pub(in crate::proxy) fn stop_with(&self, stopper: Stopper) {
        // Called once.
        let _ = self.stopper.set(stopper);
    }

    /// The totals over all threads.
    pub(in crate::proxy) fn totals(&self) -> AssociationTotals {
        let each = self.threads.iter().map(|thread| thread.counters.totals());
        each.fold(AssociationTotals::default(), AssociationTotals::and)
    }

    /// Opens an association. Returns the address to which its client sends.
    ///
    /// # Errors
    /// The outcome for the client.
    pub(in crate::proxy) fn open<S: AsFd>(
        &self,
        wanted: &Wanted<'_, S>,
        ends: &Arc<Ends>,
    ) -> Result<(Holder, SocketAddr), Outcome> {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len().max(1);
        let Some(thread) = self.threads.get(place) else {
            return Err(Outcome::Busy);
        };
        let opened = self.open_on(thread, wanted, ends);
        if opened.is_err() {
            thread.counters.refused();
        }
        opened
    }

    fn open_on<S: AsFd>(
        &self,
        thread: &Thread,
        wanted: &Wanted<'_, S>,
        ends: &Arc<Ends>,
    ) -> Result<(Holder, SocketAddr), Outcome> {
        let failed =
            |error: io::Error| Outcome::General(format!("no association can be opened: {error}"));
        let local = SockRef::from(wanted.connected).local_addr();
        let local = local.map_err(failed)?.as_socket();
        let (Some(local), Some(client)) = (local, wanted.info.client.ip()) else {
            let detail = "an association needs a client with an IP address";
            return Err(Outcome::General(detail.to_owned()));
        };
        let client = client.ip().to_canonical();
        let permit = self.limits.take(client).ok_or(Outcome::Busy)?;
        let queue = self.start(thread).map_err(failed)?;
        let relay = self.bind(unmapped(local), client).map_err(failed)?;
        let bound = relay.local_addr().map_err(failed)?;
        let has_large_buffers = self.totals().open() < FEW;
        set_buffers(&relay, has_large_buffers);
        let own = self.common.own.add(bound);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let Associate { ip, port } = wanted.request;
        // Counted before the reply, and no longer when its place is free.
        thread.counters.opened();
        let opening = Box::new(Opening {
            id,
            _own: own,
            client,
            // A client that names another address is behind a translator of addresses, and so of ports.
            port: if ip.is_none_or(|ip| ip == client) {
                port
            } else {
                0
            },
            info: wanted.info.clone(),
            connection: wanted.key,
            ends: Arc::clone(ends),
            _permit: permit,
            has_large_buffers,
            opened: wanted.now,
        });
        queue.put(Command::Open(opening, relay));
        let is_open = true;
        let reported = self.reported(client).unwrap_or(bound.ip());
        let holder = Holder { id, queue, is_open };
        Ok((holder, SocketAddr::new(reported, bound.port())))
    }

    /// The address of the options, if `client` can send to it.
    fn reported(&self, client: IpAddr) -> Option<IpAddr> {
        let address = self.options.address;
        address.filter(|ip| ip.is_ipv4() == client.is_ipv4())
    }

    /// A relay socket for `client`: on the address in replies if that is one of this host, or else on that of the connection.
    fn bind(&self, mut local: SocketAddr, client: IpAddr) -> io::Result<UdpSocket> {
        let reported = self.reported(client);
        if let Some(ip) = reported.filter(|ip| is_of_this_host(*ip)) {
            local = SocketAddr::new(ip, 0);
        } else if local.is_ipv4() != client.is_ipv4() {
            // The client of a PROXY header of another family than the connection.
            local = match client {
                IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
        }
        local.set_port(0);
        datagrams::bind(local)
    }

    /// Starts a thread, unless it runs.
    ///
    /// # Errors
    /// As eventfd(2), epoll_create1(2) or io_uring_setup(2), and pthread_create(3).
    fn start(&self, thread: &Thread) -> io::Result<Arc<Queue>> {
        let mut running = locked(&thread.running);
        if let Some(running) = &*running {
            return Ok(Arc::clone(&running.queue));
        }
        let wake = EventFd::new()?;
        let queue = Arc::new(Queue {
            commands: Mutex::default(),
            wake: wake.clone(),
        });
        let thread = match self.engine {
            EngineKind::Mio => self.spawn::<Epoll>(thread, &queue, &wake)?,
            EngineKind::Uring => self.spawn::<Uring>(thread, &queue, &wake)?,
        };
        *running = Some(Running {
            queue: Arc::clone(&queue),
            thread,
        });
        Ok(queue)
    }

    /// # Errors
    /// As [`Self::start`].
    fn spawn<B: Backend>(
        &self,
        thread: &Thread,
        queue: &Arc<Queue>,
        wake: &EventFd,
    ) -> io::Result<JoinHandle<io::Result<()>>>
    where
        AssociationWorker<B>: Send + 'static,
    {
        let (queue, counters) = (Arc::clone(queue), Arc::clone(&thread.counters));
        let worker = AssociationWorker::<B>::new(&self.common, queue, counters, wake)?;
        let stopper = StopOnFailure(self.stopper.get().cloned());
        let run = move || {
            let ended = worker.run();
            if ended.is_ok() {
                stopper.defuse();
            }
            ended
        };
        thread::Builder::new()
            .name("associations".to_owned())
            .spawn(run)
    }

    /// The proxy stops: associations without datagrams end soon.
    pub(in crate::proxy) fn drain(&self) {
        for thread in &self.threads {
            if let Some(running) = &*locked(&thread.running) {
                running.queue.wake.wake();
            }
        }
    }

    /// Ends the threads, as all connections are closed.
    ///
    /// # Errors
    /// As epoll_wait(2) or io_uring_enter(2).
    pub(in crate::proxy) fn finish(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for thread in &self.threads {
            let running = locked(&thread.running).take();
            if let Some(Running { queue, thread }) = running {
                queue.put(Command::Quit);
                let ended = thread.join();
                let ended = ended.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
                outcome = outcome.and(ended);
            }
        }
        outcome
    }
}

/// Stops the proxy when it is dropped: a thread of associations failed or panicked.
struct StopOnFailure(Option<Stopper>);

impl StopOnFailure {
    fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnFailure {
    fn drop(&mut self) {
        if let Some(stopper) = &self.0 {
            stopper.stop();
        }
    }
}

/// The IPv4 address of an IPv4-mapped one. The scope of an IPv6 address stays.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}
