//! The lookups in progress and their waiters: pure, times are arguments.
//!
//! A name is looked up once, however many connections wait for it. If the limit is reached, a new lookup replaces the
//! oldest one of the client with the most. So a client that asks for many names with silent servers replaces its own
//! lookups before those of others.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Answer;
use crate::destination::Name;

/// How long a failure is cached, in ns.
const FAILURE_MEMORY: u64 = 2_000_000_000;

/// How long addresses are cached at most, in ns, whatever their time to live.
const LONGEST_MEMORY: u64 = 60_000_000_000;

/// Most cached answers.
const REMEMBERED: usize = 4_096;

struct Lookup<W, T> {
    /// The client of the connection that asked first.
    client: Option<IpAddr>,
    begun: u64,
    waiters: Vec<W>,
    /// Dropped to cancel the lookup.
    _task: T,
}

/// The outcome of a question.
pub(super) enum Asked<W> {
    /// [`Lookups::finished`] will return the waiter.
    Waits,
    /// The answer is in the cache.
    Remembered(W, Answer),
    /// As [`Self::Waits`], and another lookup was cancelled, which had these waiters.
    Displaced(Vec<W>, Answer),
}

/// The lookups of a proxy. `W` is a waiter, `T` performs a lookup.
pub(super) struct Lookups<W, T> {
    running: HashMap<Name, Lookup<W, T>>,
    /// Cached answers, and until when each is valid.
    remembered: HashMap<Name, (u64, Answer)>,
    most: usize,
    /// A sequence number, which orders lookups.
    begun: u64,
}

impl<W: PartialEq, T> Lookups<W, T> {
    /// No lookups, of at most `most`.
    pub(super) fn new(most: usize) -> Self {
        Self {
            running: HashMap::new(),
            remembered: HashMap::new(),
            most: most.max(1),
            begun: 0,
        }
    }

    /// `waiter`, a connection of `client`, asks for `name`. `start` starts a lookup.
    pub(super) fn ask(
        &mut self,
        name: Name,
        client: Option<IpAddr>,
        waiter: W,
        now: u64,
        start: impl FnOnce(&Name) -> T,
    ) -> Asked<W> {
        if let Some(lookup) = self.running.get_mut(&name) {
            lookup.waiters.push(waiter);
            return Asked::Waits;
        }
        if let Some((until, answer)) = self.remembered.get(&name)
            && now < *until
        {
            return Asked::Remembered(waiter, answer.clone());
        }
        let displaced = match self.running.len() < self.most {
            true => None,
            false => self.displace(),
        };
        self.begun += 1;
        let lookup = Lookup {
            client,
            begun: self.begun,
            waiters: vec![waiter],
            _task: start(&name),
        };
        self.running.insert(name, lookup);
        match displaced {
            None => Asked::Waits,
            Some(waiters) => {
                let reason = "the name was not looked up: its name servers are slow, and many other names wait for theirs";
                Asked::Displaced(waiters, Err(reason.to_owned()))
            }
        }
    }

    /// `waiter` no longer waits for `name`. A lookup without waiters is cancelled.
    pub(super) fn forget(&mut self, name: &Name, waiter: &W) {
        if let Some(lookup) = self.running.get_mut(name) {
            lookup.waiters.retain(|one| one != waiter);
            if lookup.waiters.is_empty() {
                self.running.remove(name);
            }
        }
    }

    /// A lookup has finished. Its answer, if it is no failure, is valid for `ttl` (in ns). Returns its waiters.
    pub(super) fn finished(&mut self, name: &Name, answer: &Answer, ttl: u64, now: u64) -> Vec<W> {
        let valid = match answer {
            Ok(_) => ttl.min(LONGEST_MEMORY),
            Err(_) => FAILURE_MEMORY,
        };
        if valid > 0 {
            self.remember(name, answer, now.saturating_add(valid), now);
        }
        let lookup = self.running.remove(name);
        lookup.map(|lookup| lookup.waiters).unwrap_or_default()
    }

    fn remember(&mut self, name: &Name, answer: &Answer, until: u64, now: u64) {
        if self.remembered.len() >= REMEMBERED {
            self.remembered.retain(|_, (until, _)| now < *until);
        }
        if self.remembered.len() < REMEMBERED {
            let remembered = (until, answer.clone());
            self.remembered.insert(name.clone(), remembered);
        }
    }

    /// Clears the cache, as the configuration has changed.
    pub(super) fn forget_answers(&mut self) {
        self.remembered.clear();
    }

    /// Cancels the oldest lookup of the client with the most.
    fn displace(&mut self) -> Option<Vec<W>> {
        let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for lookup in self.running.values() {
            *counts.entry(lookup.client).or_default() += 1;
        }
        let rank = |lookup: &Lookup<W, T>| {
            let count = counts.get(&lookup.client).copied().unwrap_or(0);
            (count, std::cmp::Reverse(lookup.begun))
        };
        let (name, _) = self.running.iter().max_by_key(|(_, lookup)| rank(lookup))?;
        let name = name.clone();
        self.running.remove(&name).map(|lookup| lookup.waiters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::resolver::Resolved;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Names of lookups in progress.
    #[derive(Clone, Default)]
    struct Log(Rc<RefCell<Vec<Name>>>);

    struct Task(Log, Name);

    impl Drop for Task {
        fn drop(&mut self) {
            self.0.0.borrow_mut().retain(|name| *name != self.1);
        }
    }

    impl Log {
        fn start(&self, name: &Name) -> Task {
            self.0.borrow_mut().push(name.clone());
            Task(self.clone(), name.clone())
        }

        fn names(&self) -> Vec<String> {
            let names = self.0.borrow();
            names.iter().map(ToString::to_string).collect()
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn client(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    fn world(most: usize) -> (Lookups<u32, Task>, Log) {
        (Lookups::new(most), Log::default())
    }

    #[test]
    fn a_name_is_looked_up_once_for_all_waiters() {
        let (mut lookups, log) = world(4);
        for waiter in 0..3 {
            let asked = lookups.ask(name("a.test"), client(1), waiter, 0, |name| log.start(name));
            assert!(matches!(asked, Asked::Waits));
        }
        assert_eq!(log.names(), ["a.test"]);
        lookups.forget(&name("a.test"), &1);
        let answer = Ok(Resolved::default());
        assert_eq!(lookups.finished(&name("a.test"), &answer, 0, 0), [0, 2]);
        assert!(log.names().is_empty());
    }

    #[test]
    fn a_lookup_without_waiters_is_cancelled() {
        let (mut lookups, log) = world(4);
        for waiter in 0..2 {
            lookups.ask(name("a.test"), client(1), waiter, 0, |name| log.start(name));
        }
        lookups.forget(&name("a.test"), &0);
        assert_eq!(log.names(), ["a.test"]);
        lookups.forget(&name("a.test"), &1);
        assert!(log.names().is_empty());
        // Neither twice nor of a name without a lookup.
        lookups.forget(&name("a.test"), &1);
        lookups.forget(&name("b.test"), &1);
    }

    #[test]
    fn a_failure_is_cached_for_a_while() {
        let (mut lookups, log) = world(4);
        lookups.ask(name("a.test"), client(1), 0, 0, |name| log.start(name));
        let failure = Err("no".to_owned());
        assert_eq!(lookups.finished(&name("a.test"), &failure, 0, 10), [0]);
        let asked = lookups.ask(
            name("a.test"),
            client(2),
            1,
            10 + FAILURE_MEMORY - 1,
            |name| log.start(name),
        );
        assert!(matches!(asked, Asked::Remembered(1, Err(reason)) if reason == "no"));
        let asked = lookups.ask(name("a.test"), client(2), 1, 10 + FAILURE_MEMORY, |name| {
            log.start(name)
        });
        assert!(matches!(asked, Asked::Waits));
        let success = Ok(Resolved::default());
        assert_eq!(lookups.finished(&name("a.test"), &success, 0, 20), [1]);
    }

    #[test]
    fn addresses_are_cached_as_long_as_they_are_valid() {
        let second = 1_000_000_000;
        for (ttl, valid) in [
            (0, 0),
            (second, second),
            (3_600 * second, LONGEST_MEMORY),
            (u64::MAX, LONGEST_MEMORY),
        ] {
            let (mut lookups, log) = world(4);
            lookups.ask(name("a.test"), client(1), 0, 0, |name| log.start(name));
            lookups.finished(&name("a.test"), &Ok(Resolved::default()), ttl, 10);
            if valid > 0 {
                let last = 10 + valid - 1;
                let asked = lookups.ask(name("a.test"), client(2), 1, last, |name| log.start(name));
                assert!(matches!(asked, Asked::Remembered(1, Ok(_))), "{ttl}");
            }
            let asked = lookups.ask(name("a.test"), client(2), 1, 10 + valid, |name| {
                log.start(name)
            });
            assert!(matches!(asked, Asked::Waits), "{ttl}");
        }
    }

    #[test]
    fn a_new_configuration_clears_the_cache() {
        let (mut lookups, log) = world(4);
        lookups.ask(name("a.test"), client(1), 0, 0, |name| log.start(name));
        lookups.finished(&name("a.test"), &Ok(Resolved::default()), u64::MAX, 0);
        lookups.forget_answers();
        let asked = lookups.ask(name("a.test"), client(1), 0, 0, |name| log.start(name));
        assert!(matches!(asked, Asked::Waits));
    }

    #[test]
    fn the_client_with_the_most_lookups_loses_one() {
        let (mut lookups, log) = world(4);
        lookups.ask(name("live.test"), client(2), 100, 0, |name| log.start(name));
        for number in 0..50 {
            let dead = name(&format!("dead{number}.test"));
            let asked = lookups.ask(dead, client(1), number, 0, |name| log.start(name));
            match asked {
                Asked::Displaced(waiters, Err(_)) => assert_eq!(waiters, [number - 3]),
                _ => assert!(number < 3),
            }
        }
        let left = ["live.test", "dead47.test", "dead48.test", "dead49.test"];
        assert_eq!(log.names(), left);
    }

    #[test]
    fn the_cache_is_bounded() {
        let (mut lookups, log) = world(1);
        for number in 0..2 * REMEMBERED {
            let dead = name(&format!("dead{number}.test"));
            lookups.ask(dead.clone(), client(1), 0, 0, |name| log.start(name));
            lookups.finished(&dead, &Err(String::new()), 0, 0);
        }
        assert_eq!(lookups.remembered.len(), REMEMBERED);
        lookups.finished(&name("late.test"), &Err(String::new()), 0, FAILURE_MEMORY);
        assert_eq!(lookups.remembered.len(), 1);
    }
}
