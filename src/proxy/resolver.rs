//! Looks names up for all threads of a proxy: one separate thread waits for all name servers.
//!
//! ```text
//!   event loop -- ask, forget --> lookups: names and waiters (pure) --> system: hosts, name servers, getaddrinfo(3)
//!        ^                              |
//!        +---- inbox, eventfd ----------+
//! ```
//!
//! A lookup is a few bytes and a UDP socket, and is cancelled when the last client that waits for it is gone. So names with
//! silent servers occupy nothing that other names need. getaddrinfo(3) cannot be cancelled: each silent name would occupy a
//! thread for as long as resolv.conf(5) allows, 10 s by default.

mod lookups;
mod system;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};

use self::lookups::{Asked, Lookups};
use self::system::System;
use super::slab::Key;
use crate::destination::Name;
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;

/// The addresses and aliases of a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// Each address once, in the order of attempts.
    pub addresses: Vec<IpAddr>,
    /// The names of which the requested one is an alias (CNAME), as far as the name servers returned them.
    pub aliases: Vec<Name>,
}

/// The outcome of a lookup, or the reason of its failure in words.
pub type Answer = Result<Resolved, String>;

/// The answers for one thread.
#[derive(Debug)]
pub struct Inbox {
    answers: Mutex<Vec<(Key, Answer)>>,
    wake: EventFd,
}

impl Inbox {
    /// An inbox whose thread `wake` wakes.
    pub fn new(wake: EventFd) -> Self {
        Self {
            answers: Mutex::default(),
            wake,
        }
    }

    fn put(&self, key: Key, answer: Answer) {
        locked(&self.answers).push((key, answer));
        self.wake.wake();
    }

    /// Takes the answers.
    pub fn take(&self) -> Vec<(Key, Answer)> {
        std::mem::take(&mut *locked(&self.answers))
    }
}

/// A thread that panicked left the data consistent.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that waits for an answer.
#[derive(Debug, Clone)]
struct Waiter {
    key: Key,
    to: Arc<Inbox>,
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && Arc::ptr_eq(&self.to, &other.to)
    }
}

enum Command {
    Ask {
        name: Name,
        client: Option<IpAddr>,
        waiter: Waiter,
    },
    Forget {
        name: Name,
        waiter: Waiter,
    },
    Close,
}

/// Looks names up. All threads of a proxy share one.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    /// Most concurrent lookups.
    most: usize,
    /// Commands to the resolver's thread, which starts with the first name; or the reason why it could not start.
    thread: OnceLock<Result<UnboundedSender<Command>, String>>,
}

impl Resolver {
    /// A resolver with at most `most` concurrent lookups.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared {
            most,
            thread: OnceLock::new(),
        }))
    }

    /// Looks `name` up for a connection of `client`. The answer arrives in `to`. All clients without an address count as
    /// one.
    pub fn ask(&self, name: Name, client: Option<IpAddr>, key: Key, to: &Arc<Inbox>) {
        let waiter = Waiter {
            key,
            to: Arc::clone(to),
        };
        let most = self.0.most;
        let thread = self.0.thread.get_or_init(|| {
            start(most, System::new())
                .map_err(|error| format!("the resolver could not be started: {error}"))
        });
        let refused = match thread {
            Ok(thread) => match thread.send(Command::Ask {
                name,
                client,
                waiter,
            }) {
                Ok(()) => return,
                Err(_) => "the resolver is closed".to_owned(),
            },
            Err(reason) => reason.clone(),
        };
        to.put(key, Err(refused));
    }

    /// The connection `key` no longer waits for `name`.
    pub fn forget(&self, name: Name, key: Key, to: &Arc<Inbox>) {
        if let Some(Ok(thread)) = self.0.thread.get() {
            let to = Arc::clone(to);
            // A thread that has ended has no waiters.
            let _ = thread.send(Command::Forget {
                name,
                waiter: Waiter { key, to },
            });
        }
    }

    /// Ends the resolver's thread. Later questions are refused.
    pub fn close(&self) {
        if let Some(Ok(thread)) = self.0.thread.get() {
            let _ = thread.send(Command::Close);
        }
    }
}

/// # Errors
/// As epoll_create1(2) and pthread_create(3).
fn start(most: usize, system: System) -> io::Result<UnboundedSender<Command>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(system::BLOCKING)
        .build()?;
    let (sender, receiver) = unbounded_channel();
    thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || {
            runtime.block_on(serve(receiver, system, most));
            // The shutdown does not wait for calls of getaddrinfo(3).
            runtime.shutdown_background();
        })?;
    Ok(sender)
}

/// A lookup that is cancelled when it is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(mut commands: UnboundedReceiver<Command>, mut system: System, most: usize) {
    let mut lookups: Lookups<Waiter, Task> = Lookups::new(most);
    let mut tasks = JoinSet::new();
    let mut servers = system.servers();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Ask { name, client, waiter }) => {
                    let current = system.servers();
                    if !Arc::ptr_eq(&current, &servers) {
                        servers = current;
                        lookups.forget_answers();
                    }
                    let start = |name: &Name| {
                        let (servers, name) = (Arc::clone(&servers), name.clone());
                        Task(tasks.spawn(async move {
                            let (answer, ttl) = servers.look_up(&name).await;
                            (name, answer, ttl)
                        }))
                    };
                    match lookups.ask(name, client, waiter, monotonic_ns(), start) {
                        Asked::Waits => {}
                        Asked::Remembered(waiter, answer) => waiter.to.put(waiter.key, answer),
                        Asked::Displaced(waiters, answer) => deliver(waiters, &answer),
                    }
                }
                Some(Command::Forget { name, waiter }) => lookups.forget(&name, &waiter),
                Some(Command::Close) | None => return,
            },
            Some(done) = tasks.join_next() => {
                // A cancelled lookup is an error, and has no waiters.
                if let Ok((name, answer, ttl)) = done {
                    let waiters = lookups.finished(&name, &answer, ttl, monotonic_ns());
                    deliver(waiters, &answer);
                }
            }
        }
    }
}

fn deliver(waiters: Vec<Waiter>, answer: &Answer) {
    for waiter in waiters {
        waiter.to.put(waiter.key, answer.clone());
    }
}

#[cfg(test)]
mod tests;
