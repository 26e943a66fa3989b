//! Which names are looked up, and who waits for each: pure, times are arguments.
//!
//! A name is looked up once, however many wait for it. Where there are as many lookups as there may be, a new one takes
//! the place of the oldest one of the client with the most: a client that asks for many names whose servers are silent
//! displaces its own lookups before those of others.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Answer;
use crate::destination::Name;

/// How long a failure is remembered, in ns.
const FAILURE_MEMORY: u64 = 2_000_000_000;

/// The longest time that addresses are remembered, in ns, whatever their time to live.
const LONGEST_MEMORY: u64 = 60_000_000_000;

/// Answers that are remembered at once.
const REMEMBERED: usize = 4_096;

struct Lookup<W, T> {
    /// Whose connection asked first.
    client: Option<IpAddr>,
    begun: u64,
    waiters: Vec<W>,
    /// What is dropped to give the lookup up.
    _task: T,
}

/// What follows from a question.
pub(super) enum Asked<W> {
    /// The answer comes by [`Lookups::finished`].
    Waits,
    /// The answer of a lookup before is valid still.
    Remembered(W, Answer),
    /// As [`Self::Waits`]; another lookup was given up for it, and these waited for that one.
    Displaced(Vec<W>, Answer),
}

/// The lookups of a proxy: `W` waits for one, a `T` carries it out.
pub(super) struct Lookups<W, T> {
    running: HashMap<Name, Lookup<W, T>>,
    /// Answers, and until when each is valid.
    remembered: HashMap<Name, (u64, Answer)>,
    most: usize,
    /// Numbers the lookups, so that two of one moment are in order.
    begun: u64,
}

impl<W: PartialEq, T> Lookups<W, T> {
    /// No lookups, of at most `most` at once.
    pub(super) fn new(most: usize) -> Self {
        Self {
            running: HashMap::new(),
            remembered: HashMap::new(),
            most: most.max(1),
            begun: 0,
        }
    }

    /// `waiter`, of a connection of `client`, asks for `name`; `start` begins a lookup.
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

    /// `waiter` does not wait for `name` any more. The last one takes the lookup along.
    pub(super) fn forget(&mut self, name: &Name, waiter: &W) {
        if let Some(lookup) = self.running.get_mut(name) {
            lookup.waiters.retain(|one| one != waiter);
            if lookup.waiters.is_empty() {
                self.running.remove(name);
            }
        }
    }

    /// A lookup has an answer, which is valid for `ttl` (in ns) if it is no failure. These waited for it.
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

    /// Forgets all answers, as they are of a configuration that has changed.
    pub(super) fn forget_answers(&mut self) {
        self.remembered.clear();
    }

    /// Gives up the oldest lookup of the client that has the most.
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

    /// Names of lookups that go on.
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
    fn a_name_is_looked_up_once_for_all_who_ask() {
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
    fn the_last_one_to_leave_takes_the_lookup_along() {
        let (mut lookups, log) = world(4);
        for waiter in 0..2 {
            lookups.ask(name("a.test"), client(1), waiter, 0, |name| log.start(name));
        }
        lookups.forget(&name("a.test"), &0);
        assert_eq!(log.names(), ["a.test"]);
        lookups.forget(&name("a.test"), &1);
        assert!(log.names().is_empty());
        // Neither twice nor of a name that nobody asked for.
        lookups.forget(&name("a.test"), &1);
        lookups.forget(&name("b.test"), &1);
    }

    #[test]
    fn a_failure_is_remembered_for_a_while() {
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
    fn addresses_are_remembered_as_long_as_they_are_valid() {
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
    fn answers_are_forgotten_with_the_configuration_that_they_are_of() {
        let (mut lookups, log) = world(4);
        lookups.ask(name("a.test"), client(1), 0, 0, |name| log.start(name));
        lookups.finished(&name("a.test"), &Ok(Resolved::default()), u64::MAX, 0);
        lookups.forget_answers();
        let asked = lookups.ask(name("a.test"), client(1), 0, 0, |name| log.start(name));
        assert!(matches!(asked, Asked::Waits));
    }

    #[test]
    fn whoever_asks_for_most_gives_way_first() {
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
    fn answers_that_are_remembered_are_bounded() {
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
