//! State that the threads of a proxy share: how many connections are open, and whether the proxy stops.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::capacity::Capacity;
use super::limits::ConnectionLimits;
use super::options::Options;
use super::request_memory::RequestMemory;
use crate::sys::{rlimit, tcp};

/// State that the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    stop: AtomicBool,
    pub(super) connections: Arc<ConnectionLimits>,
    pub(super) request_memory: Arc<RequestMemory>,
    attempts: Arc<AtomicUsize>,
    pub(super) capacity: Capacity,
    /// Clients that multishot accepting may add before the limit is checked again, over all threads: a whole backlog each.
    unchecked: usize,
    /// Most open files; `None` if there is no limit.
    pub(super) files: Option<u64>,
}

/// Permission for one parallel connection attempt, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Permit {
    /// One of `most` permits, unless all are taken.
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let permit = Self(Arc::clone(taken));
        // Counted first, so that two threads cannot both take the last one.
        (taken.fetch_add(1, Ordering::Relaxed) < most).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// The state of a proxy without connections, whose requests have up to `max_request` bytes.
    ///
    /// # Errors
    /// As getrlimit(2).
    pub(super) fn new(options: &Options, max_request: usize) -> io::Result<Self> {
        let files = rlimit::open_files()?.soft;
        // Without /proc: the standard streams and a few more.
        let in_use = rlimit::files_in_use().unwrap_or(16);
        let capacity = Capacity::new(options, files, in_use);
        Ok(Self {
            stop: AtomicBool::new(false),
            connections: ConnectionLimits::new(
                capacity.connections,
                options.connections_per_client,
            ),
            request_memory: RequestMemory::new(max_request),
            attempts: Arc::default(),
            capacity,
            unchecked: options.threads * tcp::BACKLOG as usize,
            files,
        })
    }

    /// A permit for a parallel connection attempt.
    pub(super) fn attempt(&self) -> Option<Permit> {
        Permit::take(&self.attempts, self.capacity.attempts)
    }

    /// Whether the limit of connections is reached.
    pub(super) fn is_full(&self) -> bool {
        self.connections.open() >= self.capacity.connections
    }

    /// Whether multishot accepting is safe: there are files for all clients that it may add and for their servers.
    pub(super) fn has_room(&self) -> bool {
        let clients = self.connections.open() + self.unchecked;
        // The rest of the program has few files.
        let fits = self
            .files
            .is_none_or(|files| 2 * clients as u64 + 64 <= files);
        fits && !self.is_full()
    }

    /// Stops the proxy. The threads notice when they are woken.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
