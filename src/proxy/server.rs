//! The proxy as a whole: its listeners, one thread for each, and how it stops.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;

use super::associations::counters::AssociationTotals;
use super::associations::handle::Associations;
use super::backend::Backend;
use super::backend::epoll::Epoll;
use super::backend::uring::Uring;
use super::counters::{Counters, Totals};
use super::datagrams::backend::{
    Backend as DatagramBackend, Epoll as DatagramEpoll, Uring as DatagramUring,
};
use super::datagrams::counters::{DatagramCounters, DatagramTotals};
use super::datagrams::limits::FlowLimits;
use super::datagrams::worker::DatagramWorker;
use super::listeners::Listeners;
use super::options::Options;
use super::resolver::Resolver;
use super::rules::Rules;
use super::shared::Shared;
use super::worker::Worker;
use crate::engine::EngineKind;
use crate::sys::endpoint::Endpoint;
use crate::sys::eventfd::EventFd;
use crate::sys::unix::SocketFile;

/// Stops a proxy from another thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
    wakes: Arc<[EventFd]>,
}

impl Stopper {
    /// Stops accepting. [`Server::run`] returns once the last connection is closed or the drain time is over.
    pub fn stop(&self) {
        self.shared.stop();
        self.wakes.iter().for_each(EventFd::wake);
    }
}

/// The state of a running proxy, for other threads.
#[derive(Clone)]
pub struct StatsHandle {
    shared: Arc<Shared>,
    counters: Arc<[Arc<Counters>]>,
    datagrams: Arc<[Arc<DatagramCounters>]>,
    associations: Option<Arc<Associations>>,
}

impl fmt::Debug for StatsHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("StatsHandle").finish_non_exhaustive()
    }
}

impl StatsHandle {
    /// The totals over all threads.
    pub fn totals(&self) -> Totals {
        let each = self.counters.iter().map(|counters| counters.totals());
        each.fold(Totals::default(), Totals::and)
    }

    /// The totals of forwarded datagrams over all threads; `None` if none are forwarded.
    pub fn datagram_totals(&self) -> Option<DatagramTotals> {
        let each = self.datagrams.iter().map(|counters| counters.totals());
        each.reduce(DatagramTotals::and)
    }

    /// The totals of associations of datagrams over all threads; `None` if clients may not open any.
    pub fn association_totals(&self) -> Option<AssociationTotals> {
        self.associations.as_ref().map(|all| all.totals())
    }

    /// Whether the proxy stops, and accepts no more clients.
    pub fn is_draining(&self) -> bool {
        self.shared.is_stopping()
    }
}

/// One thread, ready to run.
struct Thread {
    counters: ThreadCounters,
    run: Box<dyn FnOnce() -> io::Result<()> + Send>,
}

enum ThreadCounters {
    Connections(Arc<Counters>),
    Datagrams(Arc<DatagramCounters>),
}

impl Thread {
    fn new<B: Backend>(worker: Worker<B>) -> Self
    where
        Worker<B>: Send + 'static,
    {
        let worker = Box::new(worker);
        Self {
            counters: ThreadCounters::Connections(worker.counters()),
            run: Box::new(move || worker.run()),
        }
    }

    fn of_datagrams<B: DatagramBackend>(worker: DatagramWorker<B>) -> Self
    where
        DatagramWorker<B>: Send + 'static,
    {
        Self {
            counters: ThreadCounters::Datagrams(worker.counters()),
            run: Box::new(move || worker.run()),
        }
    }
}

/// A proxy that listens.
pub struct Server {
    threads: Vec<Thread>,
    endpoints: Vec<Endpoint>,
    datagram_addresses: Vec<SocketAddr>,
    /// Closed when all threads have ended.
    datagram_sockets: Vec<UdpSocket>,
    /// Socket files, removed when the proxy has stopped.
    files: Arc<Vec<SocketFile>>,
    rules: Arc<Rules>,
    resolver: Resolver,
    stopper: Stopper,
    stats: StatsHandle,
}

/// Fewer associations than these are worth a line where no number was requested.
const FEW_ASSOCIATIONS: usize = 100;

impl Server {
    /// Listens on `address`, where port 0 lets the kernel choose; as [`Self::new`] from there on.
    ///
    /// # Errors
    /// As bind(2) and listen(2), and those of [`Self::new`].
    pub fn bind(address: SocketAddr, rules: Rules, options: &Options) -> io::Result<Self> {
        let listeners = Listeners::bind(&[Endpoint::Ip(address)], None, options.threads)
            .map_err(|error| error.error)?;
        Self::new(listeners, rules, options)
    }

    /// A proxy with these listeners. Their addresses are added to [`Rules::own`].
    ///
    /// # Errors
    /// Out of file descriptors or memory. With io_uring also as io_uring_setup(2): see
    /// [`crate::uring::setup::available`].
    pub fn new(listeners: Listeners, mut rules: Rules, options: &Options) -> io::Result<Self> {
        // One thread for each listener.
        let options = &Options {
            threads: listeners.all.len() + listeners.datagrams.len(),
            connections: match listeners.all.is_empty() {
                true => 1,
                false => options.connections,
            },
            ..options.clone()
        };
        let shared = Arc::new(Shared::new(options, rules.settings.max_request)?);
        let endpoints = listeners.endpoints().to_vec();
        let files = listeners.files();
        rules.own.extend(endpoints.iter().filter_map(Endpoint::ip));
        let datagram_addresses = listeners.datagram_addresses();
        rules.own_datagrams.extend(&datagram_addresses);
        let rules = Arc::new(rules);
        let resolver = Resolver::new(shared.capacity.lookups);
        let is_listening = !listeners.all.is_empty();
        let associations = (rules.settings.associate && is_listening).then(|| {
            let (common, resolver) = ((Arc::clone(&rules), Arc::clone(&shared)), resolver.clone());
            Arc::new(Associations::new(
                listeners.all.len(),
                common,
                resolver,
                options,
            ))
        });
        let (mut threads, mut wakes) = (Vec::new(), Vec::new());
        for listener in listeners.all {
            let wake = EventFd::new()?;
            let rules = Arc::clone(&rules);
            let shared = (Arc::clone(&shared), associations.clone());
            let resolver = resolver.clone();
            threads.push(match options.engine {
                EngineKind::Mio => {
                    Worker::<Epoll>::new(listener, rules, resolver, options, shared, &wake)
                        .map(Thread::new)?
                }
                EngineKind::Uring => {
                    Worker::<Uring>::new(listener, rules, resolver, options, shared, &wake)
                        .map(Thread::new)?
                }
            });
            wakes.push(wake);
        }
        let mut datagram_sockets = Vec::new();
        if let Some(what) = &options.datagrams {
            let limits = FlowLimits::new(shared.capacity.flows, what.flows_per_client);
            for listener in listeners.datagrams {
                datagram_sockets.push(listener.keep_open()?);
                let wake = EventFd::new()?;
                let common = (Arc::clone(&rules), Arc::clone(&shared));
                let (resolver, limits) = (resolver.clone(), Arc::clone(&limits));
                let what = (what, options);
                threads.push(match options.engine {
                    EngineKind::Mio => DatagramWorker::<DatagramEpoll>::new(
                        listener, common, resolver, limits, what, &wake,
                    )
                    .map(Thread::of_datagrams)?,
                    EngineKind::Uring => DatagramWorker::<DatagramUring>::new(
                        listener, common, resolver, limits, what, &wake,
                    )
                    .map(Thread::of_datagrams)?,
                });
                wakes.push(wake);
            }
        }
        let (mut counters, mut datagrams) = (Vec::new(), Vec::new());
        for thread in &threads {
            match &thread.counters {
                ThreadCounters::Connections(of_one) => counters.push(Arc::clone(of_one)),
                ThreadCounters::Datagrams(of_one) => datagrams.push(Arc::clone(of_one)),
            }
        }
        let stopper = Stopper {
            shared: Arc::clone(&shared),
            wakes: wakes.into(),
        };
        if let Some(associations) = &associations {
            associations.stop_with(stopper.clone());
        }
        Ok(Self {
            threads,
            endpoints,
            datagram_addresses,
            datagram_sockets,
            files,
            rules,
            resolver,
            stopper,
            stats: StatsHandle {
                shared,
                counters: counters.into(),
                datagrams: datagrams.into(),
                associations,
            },
        })
    }

    /// The rules of the proxy.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules)
    }

    /// A warning if the limit of open files permits fewer connections than `requested`; or, if no number was requested,
    /// fewer than half of the default, which is only a bound.
    pub fn limited(&self, requested: Option<usize>) -> Option<String> {
        if self.endpoints.is_empty() {
            return None;
        }
        let Shared {
            capacity, files, ..
        } = &*self.stats.shared;
        let (most, files) = (capacity.connections, (*files)?);
        let instead = match requested {
            Some(requested) if most < requested => format!(", and not {requested}"),
            None if most < Options::default().connections / 2 => String::new(),
            Some(_) | None => return None,
        };
        Some(format!(
            "at most {most} connections at once{instead}: open files are limited to {files} (raise that with ulimit -n)"
        ))
    }

    /// A warning if the limit of open files permits fewer flows of datagrams than `requested`.
    pub fn flows_limited(&self, requested: usize) -> Option<String> {
        let Shared {
            capacity, files, ..
        } = &*self.stats.shared;
        let (most, files) = (capacity.flows, (*files)?);
        (most < requested).then(|| {
            format!(
                "at most {most} UDP flows at once, and not {requested}: open files are limited to {files} (raise that with ulimit -n)"
            )
        })
    }

    /// As [`Self::limited`], for SOCKS5 UDP associations.
    pub fn associations_limited(&self, requested: Option<usize>) -> Option<String> {
        if self.endpoints.is_empty() || !self.rules.settings.associate {
            return None;
        }
        let Shared {
            capacity, files, ..
        } = &*self.stats.shared;
        let (most, files) = (capacity.associations, (*files)?);
        let instead = match requested {
            Some(requested) if most < requested => format!(", and not {requested}"),
            None if most < FEW_ASSOCIATIONS => String::new(),
            Some(_) | None => return None,
        };
        Some(format!(
            "at most {most} UDP associations at once{instead}: open files are limited to {files} (raise that with ulimit -n)"
        ))
    }

    /// A handle to the state of the proxy.
    pub fn stats(&self) -> StatsHandle {
        self.stats.clone()
    }

    /// The endpoints on which it listens.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The addresses on which it receives datagrams.
    pub fn datagram_addresses(&self) -> &[SocketAddr] {
        &self.datagram_addresses
    }

    /// The first address on which it listens; `None` if it listens on paths only.
    pub fn local(&self) -> Option<SocketAddr> {
        self.endpoints.iter().find_map(Endpoint::ip)
    }

    /// A handle that stops the proxy.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until the proxy is stopped. Returns the totals.
    ///
    /// # Errors
    /// As epoll_wait(2) or io_uring_enter(2), and pthread_create(3). Failures of clients and servers are no errors.
    pub fn run(self) -> io::Result<Totals> {
        let stopper = self.stopper;
        thread::scope(|scope| {
            let mut running = Vec::new();
            let mut outcome = Ok(());
            for (number, thread) in self.threads.into_iter().enumerate() {
                let stopper = &stopper;
                let spawned = thread::Builder::new()
                    .name(format!("proxy-{number}"))
                    .spawn_scoped(scope, move || {
                        // A thread that fails or panics stops the others.
                        let _stop = StopOnDrop(stopper);
                        (thread.run)()
                    });
                match spawned {
                    Ok(thread) => running.push(thread),
                    Err(error) => {
                        stopper.stop();
                        outcome = Err(error);
                    }
                }
            }
            for thread in running {
                let ended = thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
                outcome = outcome.and(ended);
            }
            if let Some(associations) = &self.stats.associations {
                outcome = outcome.and(associations.finish());
            }
            drop(self.datagram_sockets);
            self.files.iter().for_each(SocketFile::remove);
            self.resolver.close();
            outcome.map(|()| self.stats.totals())
        })
    }
}

/// Stops the proxy when it is dropped.
struct StopOnDrop<'a>(&'a Stopper);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
