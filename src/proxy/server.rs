//! The proxy as a whole: its listeners, a thread for each, what they count, and how it is stopped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::connection::Timeouts;
use super::log;
use super::relay::Forwarding;
use super::resolver::Resolver;
use super::rules::Rules;
use super::tally::{Tally, Totals};
use super::{epoll, uring};
use crate::engine::choice::Kind;
use crate::sys::wake::Wake;
use crate::sys::{limit, tcp};

/// What a proxy is to do, apart from its rules.
#[derive(Debug, Clone)]
pub struct Options {
    /// What does the I/O.
    pub engine: Kind,
    /// How bytes are brought from one end to the other.
    pub forwarding: Forwarding,
    /// Threads, each with a listener on the same port.
    pub threads: usize,
    /// Connections at once, over all threads. Clients beyond are told so and hung up on.
    pub connections: usize,
    /// Pipes at once, a thread: as many flows can have bytes in hand by splice(2).
    pub pipes: usize,
    /// How long a connection may wait.
    pub timeouts: Timeouts,
    /// How long connections may go on once the proxy is to stop.
    pub drain: Duration,
    /// Where connections that are over are logged.
    pub log: Option<log::Handle>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: Kind::Mio,
            forwarding: Forwarding::Auto,
            threads: 1,
            connections: 10_000,
            pipes: 64,
            timeouts: Timeouts {
                request: Duration::from_secs(10),
                connect: Duration::from_secs(5),
                idle: Duration::from_secs(300),
                half_closed: Duration::from_secs(30),
            },
            drain: Duration::from_secs(30),
            log: None,
        }
    }
}

impl Options {
    /// Why these do not go together, if they do not.
    ///
    /// With io_uring all is copied: a splice goes through worker threads there, which costs more than the copy.
    pub fn refused(&self) -> Option<&'static str> {
        match (self.engine, self.forwarding) {
            (Kind::Uring, Forwarding::Splice) => Some(
                "--forwarding splice works with --engine mio only: on io_uring a splice goes through worker threads, which costs more than the copy; choose --forwarding copy or auto",
            ),
            _ => None,
        }
    }
}

/// What the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    stop: AtomicBool,
    open: Arc<AtomicUsize>,
    most: usize,
    /// Clients who may be taken unseen, over all threads: each has a listener of its own.
    unseen: usize,
    /// Files that may be open at once.
    files: u64,
}

/// One of the connections allowed at once. Dropping it makes room.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// A place, unless all are taken.
    pub(super) fn place(&self) -> Option<Place> {
        let place = Place(self.open.clone());
        // Counted first, so that two threads cannot take the last one both.
        if self.open.fetch_add(1, Ordering::Relaxed) < self.most {
            Some(place)
        } else {
            None
        }
    }

    /// There are files for all who may come before anybody looks, and for their servers.
    pub(super) fn has_files(&self) -> bool {
        let clients = self.open.load(Ordering::Relaxed) + self.unseen;
        // Those of the program itself are few.
        2 * clients as u64 + 64 <= self.files
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Ends a proxy from another thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
    wakes: Arc<[Wake]>,
}

impl Stopper {
    /// Nobody is accepted any more; [`Server::run`] returns once the last connection is over or the drain has had its time.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wakes.iter().for_each(Wake::wake);
    }
}

/// What a proxy is doing, for other threads.
#[derive(Debug, Clone)]
pub struct Watch {
    shared: Arc<Shared>,
    tallies: Arc<[Arc<Tally>]>,
}

impl Watch {
    /// What all its threads have counted so far.
    pub fn totals(&self) -> Totals {
        let each = self.tallies.iter().map(|tally| tally.totals());
        each.fold(Totals::default(), Totals::and)
    }

    /// It was told to stop, and takes nobody any more.
    pub fn is_draining(&self) -> bool {
        self.shared.is_stopping()
    }
}

/// A thread's loop, over either engine.
enum Worker {
    Mio(Box<epoll::Worker>),
    Uring(Box<uring::worker::Worker>),
}

impl Worker {
    fn tally(&self) -> Arc<Tally> {
        match self {
            Self::Mio(worker) => worker.tally(),
            Self::Uring(worker) => worker.tally(),
        }
    }

    fn run(self) -> io::Result<()> {
        match self {
            Self::Mio(worker) => worker.run(),
            Self::Uring(worker) => worker.run(),
        }
    }
}

/// A proxy that listens.
pub struct Server {
    workers: Vec<Worker>,
    local: SocketAddr,
    rules: Arc<Rules>,
    resolver: Resolver,
    stopper: Stopper,
    watch: Watch,
}

impl Server {
    /// Listens on `address`, where port 0 lets the kernel choose. Its own address is added to those that the rules
    /// have nobody connected to.
    ///
    /// # Errors
    /// As bind(2) and listen(2): in use, not of this host, not permitted; out of file descriptors or memory. With io_uring as
    /// io_uring_setup(2) too: see [`crate::engine::probe::uring::available`].
    pub fn bind(address: SocketAddr, mut rules: Rules, options: &Options) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            open: Arc::default(),
            most: options.connections,
            unseen: options.threads * tcp::BACKLOG as usize,
            files: limit::open_files()?.soft.unwrap_or(u64::MAX),
        });
        let listeners = listeners(address, options.threads)?;
        let local = match listeners.first() {
            Some(listener) => listener.local_addr()?,
            None => address,
        };
        rules.own.push(local);
        let rules = Arc::new(rules);
        let resolver = Resolver::default();
        let (mut workers, mut wakes) = (Vec::new(), Vec::new());
        for listener in listeners {
            let wake = Wake::new()?;
            let (rules, shared) = (Arc::clone(&rules), Arc::clone(&shared));
            let resolver = resolver.clone();
            workers.push(match options.engine {
                Kind::Mio => epoll::Worker::new(listener, rules, resolver, options, shared, &wake)
                    .map(|worker| Worker::Mio(Box::new(worker)))?,
                Kind::Uring => {
                    uring::worker::Worker::new(listener, rules, resolver, options, shared, &wake)
                        .map(|worker| Worker::Uring(Box::new(worker)))?
                }
            });
            wakes.push(wake);
        }
        let tallies = workers.iter().map(Worker::tally).collect();
        Ok(Self {
            workers,
            local,
            rules,
            resolver,
            stopper: Stopper {
                shared: Arc::clone(&shared),
                wakes: wakes.into(),
            },
            watch: Watch { shared, tallies },
        })
    }

    /// The rules it goes by.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules)
    }

    /// A handle that tells what it does.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// A handle that ends it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until it is stopped, and tells what became of all connections.
    ///
    /// # Errors
    /// As epoll_wait(2) or io_uring_enter(2), or a thread could not be had. Whatever a client or server does is no error.
    pub fn run(self) -> io::Result<Totals> {
        let stopper = self.stopper;
        thread::scope(|scope| {
            let mut threads = Vec::new();
            let mut outcome = Ok(());
            for (number, worker) in self.workers.into_iter().enumerate() {
                let stopper = &stopper;
                let thread = thread::Builder::new()
                    .name(format!("proxy-{number}"))
                    .spawn_scoped(scope, move || {
                        // One ends only when all do: also where it fails or panics.
                        let _last = StopsAll(stopper);
                        worker.run()
                    });
                match thread {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        stopper.stop();
                        outcome = Err(error);
                    }
                }
            }
            for thread in threads {
                let ended = thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
                outcome = outcome.and(ended);
            }
            self.resolver.close();
            outcome.map(|()| self.watch.totals())
        })
    }
}

/// Stops the proxy when it is dropped.
struct StopsAll<'a>(&'a Stopper);

impl Drop for StopsAll<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A listener a thread, all on one port.
fn listeners(mut address: SocketAddr, threads: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // Alone it is found out where somebody listens already; shared, the port would be shared with another proxy of
    // ours too, in silence.
    let alone = tcp::listen(address, false)?;
    if threads <= 1 {
        return Ok(vec![alone]);
    }
    address = alone.local_addr()?;
    drop(alone);
    (0..threads).map(|_| tcp::listen(address, true)).collect()
}
