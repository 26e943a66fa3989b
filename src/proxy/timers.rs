//! Deadlines of many connections, most of which are put off again and again: pure, times are arguments.
//!
//! Putting a deadline off is a store in the connection's own [`Timer`]. Its place in the queue is looked at when it
//! comes up, and only then moved to where it belongs.

use std::collections::BTreeSet;

/// A connection's deadline, in ns of any one clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timer {
    due: Option<u64>,
    /// Its place in the queue, never later than `due`.
    queued: Option<u64>,
}

/// The queue of deadlines of connections info by a `K`.
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

    /// Sets the deadline of `key`, whose timer this is.
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

    /// `key` has no deadline any more. To be called before it goes.
    pub fn clear(&mut self, key: K, timer: &mut Timer) {
        if let Some(queued) = timer.queued.take() {
            self.queue.remove(&(queued, key));
        }
        timer.due = None;
    }

    /// When to look for what is [`Self::up`]; perhaps for nothing.
    pub fn next(&self) -> Option<u64> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// Who is first in the queue and due by `now`. Its timer is to be given to [`Self::is_due`] next.
    pub fn up(&mut self, now: u64) -> Option<K> {
        let &(at, key) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        Some(key)
    }

    /// Whether the deadline of a `key` that was [`Self::up`] has passed. If it was put off, it is queued again.
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
        fn each_comes_up_once_when_it_is_due_and_never_before(acts in prop::collection::vec(act(), 0..200)) {
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
