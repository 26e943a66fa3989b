//! What a proxy's threads share: how much may be open at once, and whether it is to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::capacity::Capacity;
use super::options::Options;
use crate::sys::{rlimit, tcp};

/// What the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    stop: AtomicBool,
    open: Arc<AtomicUsize>,
    spares: Arc<AtomicUsize>,
    pub(super) capacity: Capacity,
    /// Clients who may be taken unseen, over all threads: each has a listener of its own.
    unseen: usize,
    /// Files that may be open at once; `None` is no limit.
    pub(super) files: Option<u64>,
}

/// One of the connections that may be open at once, or one more server that may be tried. Dropping it makes room.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Permit {
    /// One of `most`, unless all are taken.
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let permit = Self(Arc::clone(taken));
        // Counted first, so that two threads cannot take the last one both.
        (taken.fetch_add(1, Ordering::Relaxed) < most).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Nothing is open yet.
    ///
    /// # Errors
    /// As getrlimit(2).
    pub(super) fn new(options: &Options) -> io::Result<Self> {
        let files = rlimit::open_files()?.soft;
        // Without /proc: the standard streams and a few more.
        let in_use = rlimit::files_in_use().unwrap_or(16);
        Ok(Self {
            stop: AtomicBool::new(false),
            open: Arc::default(),
            spares: Arc::default(),
            capacity: Capacity::new(options, files, in_use),
            unseen: options.threads * tcp::BACKLOG as usize,
            files,
        })
    }

    /// A connection's permit, unless as many are open as may be.
    pub(super) fn connection(&self) -> Option<Permit> {
        Permit::take(&self.open, self.capacity.connections)
    }

    /// A permit for a server that is tried beside another one.
    pub(super) fn spare(&self) -> Option<Permit> {
        Permit::take(&self.spares, self.capacity.spares)
    }

    /// As many connections are open as may be.
    pub(super) fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.capacity.connections
    }

    /// Clients may be taken before anybody looks: there are files for all who may come, and for their servers.
    pub(super) fn has_room(&self) -> bool {
        let clients = self.open.load(Ordering::Relaxed) + self.unseen;
        // Those of the program itself are few.
        let fits = self
            .files
            .is_none_or(|files| 2 * clients as u64 + 64 <= files);
        fits && !self.is_full()
    }

    /// The threads look at this when they are woken.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
