//! Names to addresses, off the event loops: getaddrinfo(3) blocks, so threads of its own wait for it.
//!
//! Threads are started when all others are busy, and bounded; what waits longer than its client does is thrown away unasked.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::slab::Key;
use crate::host::Name;
use crate::sys::clock::monotonic_ns;
use crate::sys::wake::Wake;

/// Lookups at once. Each may take as long as resolv.conf(5) says, 10 s by default where nobody answers.
const THREADS: usize = 32;

/// Questions that may wait for one of them. Clients that hang up leave theirs behind until it comes to their turn.
const QUEUE: usize = 10_000;

/// Where one thread's answers arrive.
#[derive(Debug)]
pub struct Inbox {
    answers: Mutex<Vec<Answer>>,
    wake: Wake,
}

/// Whose name it was, and the addresses it has.
pub type Answer = (Key, io::Result<Vec<IpAddr>>);

impl Inbox {
    /// Its thread is woken by this.
    pub fn new(wake: Wake) -> Self {
        Self {
            answers: Mutex::default(),
            wake,
        }
    }

    fn put(&self, key: Key, answer: io::Result<Vec<IpAddr>>) {
        locked(&self.answers).push((key, answer));
        self.wake.wake();
    }

    /// The answers that came since.
    pub fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut *locked(&self.answers))
    }
}

struct Question {
    name: Name,
    key: Key,
    /// Nobody waits for the answer after this, in ns of [`monotonic_ns`].
    until: u64,
    to: Arc<Inbox>,
}

#[derive(Default)]
struct Desk {
    queue: VecDeque<Question>,
    threads: usize,
    idle: usize,
    closed: bool,
}

/// Looks names up. All threads of a proxy share one.
#[derive(Clone, Default)]
pub struct Resolver(Arc<Shared>);

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    more: Condvar,
}

impl Resolver {
    /// Looks `name` up for `key`; the answer comes by `to`, unless that takes longer than `until`.
    pub fn ask(&self, name: Name, key: Key, until: u64, to: &Arc<Inbox>) {
        let mut desk = locked(&self.0.desk);
        if desk.queue.len() >= QUEUE {
            drop(desk);
            return to.put(
                key,
                Err(io::Error::other("too many names wait to be looked up")),
            );
        }
        desk.queue.push_back(Question {
            name,
            key,
            until,
            to: Arc::clone(to),
        });
        if desk.idle < desk.queue.len() && desk.threads < THREADS {
            let shared = Arc::clone(&self.0);
            let started = thread::Builder::new()
                .name("lookup".to_owned())
                .spawn(move || shared.work());
            // Without a thread the question waits for another one, or for its client's patience to end.
            desk.threads += usize::from(started.is_ok());
        }
        drop(desk);
        self.0.more.notify_one();
    }

    /// Nobody will ask any more: threads end as soon as they are free.
    pub fn close(&self) {
        let mut desk = locked(&self.0.desk);
        desk.closed = true;
        desk.queue.clear();
        drop(desk);
        self.0.more.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        while let Some(question) = self.next() {
            if question.until < monotonic_ns() {
                continue;
            }
            question.to.put(question.key, addresses(&question.name));
        }
    }

    fn next(&self) -> Option<Question> {
        let mut desk = locked(&self.desk);
        loop {
            if desk.closed {
                return None;
            }
            if let Some(question) = desk.queue.pop_front() {
                return Some(question);
            }
            desk.idle += 1;
            desk = self.more.wait(desk).unwrap_or_else(PoisonError::into_inner);
            desk.idle -= 1;
        }
    }
}

/// A thread that panicked left nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each address once, in the order of RFC 6724.
fn addresses(name: &Name) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for address in (name.as_str(), 0).to_socket_addrs()? {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::super::slab::Slab;
    use super::*;
    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use std::net::Ipv4Addr;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    #[test]
    fn many_names_are_looked_up_and_each_answer_goes_where_it_belongs() {
        let mut poll = Poll::new().unwrap();
        let wake = Wake::new().unwrap();
        let mut source = SourceFd(&wake.as_fd().as_raw_fd());
        poll.registry()
            .register(&mut source, Token(0), Interest::READABLE)
            .unwrap();
        let inbox = Arc::new(Inbox::new(wake));
        let resolver = Resolver::default();
        let mut slab = Slab::new();
        let name = "localhost".parse::<Name>().unwrap();
        let mut keys: Vec<Key> = (0..100)
            .map(|_| {
                let key = slab.insert(Ok::<_, ()>).unwrap();
                resolver.ask(name.clone(), key, u64::MAX, &inbox);
                key
            })
            .collect();
        let mut events = Events::with_capacity(1);
        let mut answered = Vec::new();
        while answered.len() < keys.len() {
            poll.poll(&mut events, Some(Duration::from_secs(20)))
                .unwrap();
            assert!(!events.is_empty(), "no answer");
            for (key, answer) in inbox.take() {
                assert!(answer.unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
                answered.push(key);
            }
        }
        keys.sort();
        answered.sort();
        assert_eq!(answered, keys);
        assert!(locked(&resolver.0.desk).threads <= THREADS);
        resolver.close();
    }
}
