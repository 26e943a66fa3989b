//! What a proxy's threads share: how many connections there may be, and whether it is to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::options::Options;
use crate::sys::{limit, tcp};

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
    /// Nobody is there yet.
    ///
    /// # Errors
    /// As getrlimit(2).
    pub(super) fn new(options: &Options) -> io::Result<Self> {
        Ok(Self {
            stop: AtomicBool::new(false),
            open: Arc::default(),
            most: options.connections,
            unseen: options.threads * tcp::BACKLOG as usize,
            files: limit::open_files()?.soft.unwrap_or(u64::MAX),
        })
    }

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

    /// The threads look at this when they are woken.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// For want of file descriptors or memory: it may go well later.
pub(super) fn is_starved(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}
