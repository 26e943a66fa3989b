//! Connections that wait for their server and whose client is not polled yet.

use crate::proxy::slab::Key;

/// How long a connection waits for its server before its client is polled, in ns, unless other events come first. A sleep
/// that ends before the kernel's next tick programs the CPU's timer, which is costly in a virtual machine.
const GRACE: u64 = 20_000_000;

/// Connections that wait for their server and whose client is not polled yet. A poll of each client would cost a tenth of a
/// connection's CPU, so a connection whose server is there in the next pass of the loop has none.
#[derive(Debug, Default)]
pub(super) struct WaitingConnections {
    /// Since this pass of the loop.
    new: Vec<Key>,
    /// Since the pass before.
    old: Vec<Key>,
}

impl WaitingConnections {
    /// A connection starts to wait.
    pub(super) fn add(&mut self, key: Key) {
        if self.new.last() != Some(&key) {
            self.new.push(key);
        }
    }

    /// The thread is about to sleep until `deadline`: when it has to wake up for those that wait.
    pub(super) fn before_sleep(&mut self, deadline: u64, now: impl FnOnce() -> u64) -> u64 {
        std::mem::swap(&mut self.old, &mut self.new);
        match self.old.is_empty() {
            true => deadline,
            false => deadline.min(now() + GRACE),
        }
    }

    /// The next one that has waited for a whole pass.
    pub(super) fn next_slow(&mut self) -> Option<Key> {
        self.old.pop()
    }
}
