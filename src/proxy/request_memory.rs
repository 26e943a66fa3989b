//! The memory of requests that are not carried out yet, over all connections.
//!
//! A request in JSON has up to a megabyte by default, before its client has any right: without a limit over all of them, the
//! clients of a few thousand connections could use up the memory of the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The default of [`RequestMemory::most`].
const MOST: usize = 64 << 20;

/// Bytes of a request that are not counted: connections are limited, too.
const FREE: usize = 4 << 10;

/// The memory of all threads.
#[derive(Debug)]
pub(super) struct RequestMemory {
    most: usize,
    taken: AtomicUsize,
}

/// The memory of one request, until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    bytes: usize,
    memory: Arc<RequestMemory>,
}

impl RequestMemory {
    /// Memory for some requests of the largest size, `request` bytes. A buffer that grows has up to twice the bytes.
    pub(super) fn new(request: usize) -> Arc<Self> {
        Arc::new(Self {
            most: MOST.max(request.saturating_mul(4)),
            taken: AtomicUsize::new(0),
        })
    }

    /// Makes `reservation` one of `bytes`, unless there is too little memory. Whether there was enough.
    pub(super) fn reserve(
        self: &Arc<Self>,
        bytes: usize,
        reservation: &mut Option<Reservation>,
    ) -> bool {
        let before = reservation.as_ref().map_or(0, |of| of.bytes);
        if bytes <= FREE || bytes <= before {
            return true;
        }
        let more = bytes - before;
        // Counted first, so that two threads cannot both take the last bytes.
        if self.taken.fetch_add(more, Ordering::Relaxed) > self.most.saturating_sub(more) {
            self.taken.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        match reservation {
            Some(reservation) => reservation.bytes = bytes,
            None => {
                let memory = Arc::clone(self);
                *reservation = Some(Reservation { bytes, memory });
            }
        }
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_share_the_memory_and_give_it_back() {
        let memory = RequestMemory::new(1 << 20);
        let mut all: Vec<Option<Reservation>> = Vec::new();
        loop {
            let mut one = None;
            assert!(memory.reserve(FREE, &mut one) && one.is_none());
            if !(memory.reserve(1 << 20, &mut one) && memory.reserve(2 << 20, &mut one)) {
                break;
            }
            all.push(one);
        }
        assert_eq!(all.len(), MOST / (2 << 20));
        let mut first = all.remove(0);
        assert!(memory.reserve(1 << 20, &mut first));
        assert!(!memory.reserve((2 << 20) + 1, &mut first));
        drop(first);
        let mut other = None;
        assert!(memory.reserve(2 << 20, &mut other));
        drop((all, other));
        assert_eq!(memory.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_largest_request_always_fits() {
        let memory = RequestMemory::new(1_000_000_000);
        assert!(memory.reserve(2_000_000_000, &mut None));
    }
}
