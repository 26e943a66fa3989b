//! Limits the runs that keep a CPU busy, since more tests run at once than there are CPUs.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// Held CPUs.
static BUSY: Mutex<usize> = Mutex::new(0);
static RELEASED: Condvar = Condvar::new();

/// One of the CPUs, for a run that never waits. Released on drop.
pub(crate) struct Cpu(());

impl Cpu {
    /// Waits until fewer runs than CPUs hold one.
    pub(crate) fn acquire() -> Self {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        let all_busy = |busy: &mut usize| *busy >= cpus;
        let mut busy = RELEASED
            .wait_while(busy, all_busy)
            .unwrap_or_else(PoisonError::into_inner);
        *busy += 1;
        Self(())
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        *BUSY.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RELEASED.notify_one();
    }
}
