//! Deadlines of many connections, most of which are postponed again and again: pure, times are arguments.
//!
//! Postponing a deadline is a store in the connection's own [`Timer`]. Its entry in the queue moves only when it reaches
//! the front.

use std::collections::BTreeSet;

/// The deadline of a connection, in ns of any one clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timer {
    due: Option<u64>,
    /// The time of the entry in the queue, never later than `due`.
    queued: Option<u64>,
}

/// The queue of deadlines of connections with keys `K`.
#[derive(Debug)]
pub struct Timers<K> {
    queue: BTreeSet<(u64, K)>,
}

impl<K: Ord + Copy> Timers<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            queue: BTreeSet::new(),
        }
    }

    /// Sets the deadline of `key`, to which `timer` belongs.
    pub fn set(&mut self, key: K, timer: &mut Timer, due: u64) {
        timer.due = Some(due);
        if let Some(queued) = timer.queued {
            if queued <= due {
                return;
            }
            self.queue.remove(&(queued, key));
        }
        self.queue.insert((due, key));
        timer.queued = Some(due);
    }

    /// Removes the deadline of `key`, to be called before the connection is removed.
    pub fn clear(&mut self, key: K, timer: &mut Timer) {
        if let Some(queued) = timer.queued.take() {
            self.queue.remove(&(queued, key));
        }
        timer.due = None;
    }

    /// When to call [`Self::up`], perhaps in vain.
    pub fn next(&self) -> Option<u64> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// Takes the first connection whose entry is due at `now`. [`Self::is_due`] is to be called for it.
    pub fn up(&mut self, now: u64) -> Option<K> {
        let &(at, key) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        Some(key)
    }

    /// Whether the deadline of a connection that [`Self::up`] gave has passed. A postponed deadline is queued again.
    pub fn is_due(&mut self, key: K, timer: &mut Timer, now: u64) -> bool {
        timer.queued = None;
        match timer.due {
            Some(due) if due > now => {
                self.set(key, timer, due);
                false
            }
            Some(_) => true,
            None => false,
        }
    }
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Act {
        Set(usize, u64),
        Clear(usize),
        Pass(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0usize..8, 0u64..100).prop_map(|(key, after)| Act::Set(key, after)),
            1 => (0usize..8).prop_map(Act::Clear),
            2 => (0u64..60).prop_map(Act::Pass),
        ]
    }

    proptest! {
        #[test]
        fn each_deadline_comes_up_once_and_never_early(acts in prop::collection::vec(act(), 0..200)) {
            let mut timers = Timers::new();
            let mut each = [Timer::default(); 8];
            let mut due: [Option<u64>; 8] = [None; 8];
            let mut now = 0;
            for act in acts {
                match act {
                    Act::Set(key, after) => {
                        timers.set(key, &mut each[key], now + after);
                        due[key] = Some(now + after);
                    }
                    Act::Clear(key) => {
                        timers.clear(key, &mut each[key]);
                        due[key] = None;
                    }
                    Act::Pass(time) => now += time,
                }
                if let Some(first) = due.iter().flatten().min() {
                    prop_assert!(timers.next().unwrap() <= *first);
                }
                while let Some(key) = timers.up(now) {
                    if timers.is_due(key, &mut each[key], now) {
                        prop_assert!(due[key].take().unwrap() <= now);
                        timers.clear(key, &mut each[key]);
                    }
                }
                prop_assert!(due.iter().flatten().all(|&due| due > now));
                prop_assert!(timers.queue.len() <= 8);
            }
        }
    }
}
