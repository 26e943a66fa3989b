//! The proxy as a whole: its listeners, a thread for each, what they count, and how it is stopped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use super::listeners::Listeners;
use super::options::Options;
use super::resolver::Resolver;
use super::rules::Rules;
use super::shared::Shared;
use super::tally::{Tally, Totals};
use super::{epoll, uring};
use crate::engine::EngineKind;
use crate::sys::endpoint::Endpoint;
use crate::sys::eventfd::EventFd;
use crate::sys::unix::SocketFile;

/// Ends a proxy from another thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
    wakes: Arc<[EventFd]>,
}

impl Stopper {
    /// Nobody is accepted any more; [`Server::run`] returns once the last connection is over or the drain has had its time.
    pub fn stop(&self) {
        self.shared.stop();
        self.wakes.iter().for_each(EventFd::wake);
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
    Mio(Box<epoll::worker::Worker>),
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
    places: Vec<Endpoint>,
    /// Removed at the end, whoever else has them.
    files: Arc<Vec<SocketFile>>,
    rules: Arc<Rules>,
    resolver: Resolver,
    stopper: Stopper,
    watch: Watch,
}

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

    /// Serves who comes to these listeners. Their own addresses are added to those that the rules have nobody connected
    /// to.
    ///
    /// # Errors
    /// Out of file descriptors or memory. With io_uring as io_uring_setup(2) too: see
    /// [`crate::uring::available`].
    pub fn new(listeners: Listeners, mut rules: Rules, options: &Options) -> io::Result<Self> {
        // A thread for each listener.
        let options = &Options {
            threads: listeners.all.len(),
            ..options.clone()
        };
        let shared = Arc::new(Shared::new(options)?);
        let places = listeners.places().to_vec();
        let files = listeners.files();
        rules.own.extend(places.iter().filter_map(Endpoint::ip));
        let rules = Arc::new(rules);
        let resolver = Resolver::new(shared.capacity.lookups);
        let (mut workers, mut wakes) = (Vec::new(), Vec::new());
        for listener in listeners.all {
            let wake = EventFd::new()?;
            let (rules, shared) = (Arc::clone(&rules), Arc::clone(&shared));
            let resolver = resolver.clone();
            workers.push(match options.engine {
                EngineKind::Mio => {
                    epoll::worker::Worker::new(listener, rules, resolver, options, shared, &wake)
                        .map(|worker| Worker::Mio(Box::new(worker)))?
                }
                EngineKind::Uring => {
                    uring::worker::Worker::new(listener, rules, resolver, options, shared, &wake)
                        .map(|worker| Worker::Uring(Box::new(worker)))?
                }
            });
            wakes.push(wake);
        }
        let tallies = workers.iter().map(Worker::tally).collect();
        Ok(Self {
            workers,
            places,
            files,
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

    /// A sentence on how many connections the limit of open files has room for, where that is fewer than were `asked`
    /// for; or, where no number was, less than half of the default, which is only a bound.
    pub fn limited(&self, asked: Option<usize>) -> Option<String> {
        let Shared {
            capacity, files, ..
        } = &*self.watch.shared;
        let (most, files) = (capacity.connections, (*files)?);
        let instead = match asked {
            Some(asked) if most < asked => format!(", and not {asked}"),
            None if most < Options::default().connections / 2 => String::new(),
            Some(_) | None => return None,
        };
        Some(format!(
            "at most {most} connections at once{instead}: open files are limited to {files} (raise that with ulimit -n)"
        ))
    }

    /// A handle that tells what it does.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Where it listens.
    pub fn places(&self) -> &[Endpoint] {
        &self.places
    }

    /// The first address that it listens on; none where it listens on paths alone.
    pub fn local(&self) -> Option<SocketAddr> {
        self.places.iter().find_map(Endpoint::ip)
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
            self.files.iter().for_each(SocketFile::remove);
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
