//! One thread's loop over io_uring: takes clients, tells each connection what is done, and looks after time.
//!
//! All that connections ask for in a turn goes with one call, which also waits for what comes next. A connection that is over
//! stays until nothing of it is under way: its place is not taken before.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fd;

use super::connection::{Connection, Fate, Shop};
use super::means::{ACCEPT, Act, Means};
use crate::proxy::facts::{Ending, Facts};
use crate::proxy::listeners::Listener;
use crate::proxy::log;
use crate::proxy::options::{Options, PAUSE};
use crate::proxy::resolver::Resolver;
use crate::proxy::rules::Rules;
use crate::proxy::shared::Shared;
use crate::proxy::slab::{Key, Slab};
use crate::proxy::tally::Tally;
use crate::sys::clock::monotonic_ns;
use crate::sys::endpoint::{Endpoint, Peer};
use crate::sys::eventfd::EventFd;
use crate::sys::tcp::{self, AcceptError, BACKLOG};
use crate::sys::unix;
use crate::uring::ring::Completion;

/// Completions taken before time is looked after.
const EVENTS: usize = 1_024;

/// A thread's loop with its listener.
pub(in crate::proxy) struct Worker {
    listener: Option<TcpListener>,
    connections: Slab<Connection>,
    shop: Shop,
    /// A request to take clients is under way.
    accepting: bool,
    /// Nobody is accepted until then.
    paused: Option<u64>,
    /// Connections over the limit that are told so, from the first.
    refused: VecDeque<Key>,
    /// As many are told so as may be at once; then the oldest gives way at the latest.
    crowded: Option<u64>,
    log: Option<log::Handle>,
    drain: Duration,
    /// Those that are not over by then are cut off.
    stopping: Option<u64>,
}

impl Worker {
    /// With a listener that is bound.
    ///
    /// # Errors
    /// As io_uring_setup(2): not allowed, a kernel before 6.1; out of file descriptors or memory.
    pub(in crate::proxy) fn new(
        listener: Listener,
        rules: Arc<Rules>,
        resolver: Resolver,
        options: &Options,
        shared: Arc<Shared>,
        wake: &EventFd,
    ) -> io::Result<Self> {
        // A request that goes on would end where nobody waits.
        let Listener {
            socket: listener,
            local,
        } = listener;
        listener.set_nonblocking(false)?;
        let means = Means::new(wake, shared.capacity.pipes)?;
        let shop = Shop::new(rules, local, shared, resolver, options, wake, means);
        Ok(Self {
            listener: Some(listener),
            connections: Slab::new(),
            shop,
            accepting: false,
            paused: None,
            refused: VecDeque::new(),
            crowded: None,
            log: options.log.clone(),
            drain: options.drain,
            stopping: None,
        })
    }

    /// What it counts.
    pub(in crate::proxy) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.shop.tally)
    }

    /// Serves until it is told to stop and the last connection is over, or has had its time.
    ///
    /// # Errors
    /// As io_uring_enter(2), and as listen(2) where the listener is none.
    pub(in crate::proxy) fn run(mut self) -> io::Result<()> {
        self.shop.means.uring.ring.enable()?;
        loop {
            self.accept();
            self.shop.means.uring.ring.arm_wake()?;
            self.shop.means.wait(self.deadline())?;
            let now = monotonic_ns();
            for _ in 0..EVENTS {
                let Some(completion) = self.shop.means.uring.ring.next() else {
                    break;
                };
                self.done(completion, now)?;
            }
            if self.shop.means.uring.ring.was_woken() {
                self.resolved(now);
            }
            self.refill(now);
            self.expire(now);
            self.recover(now);
            if self.is_over(now)? {
                return Ok(());
            }
        }
    }

    /// When to stop sleeping, whatever happens.
    fn deadline(&self) -> u64 {
        let next = [
            self.shop.timers.next(),
            self.paused,
            self.crowded,
            self.stopping,
        ];
        next.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    fn done(&mut self, completion: Completion, now: u64) -> io::Result<()> {
        if completion.user_data == ACCEPT {
            return self.accepted(completion, now);
        }
        if let Some((key, act)) = Act::whose(completion.user_data)
            && let Some(connection) = self.connections.get_mut(key)
        {
            let fate = connection.done(act, completion, key, &mut self.shop, now);
            self.meet(key, fate, now);
            self.reap(key, now);
        }
        Ok(())
    }

    fn resolved(&mut self, now: u64) {
        for (key, answer) in self.shop.inbox.take() {
            if let Some(connection) = self.connections.get_mut(key) {
                let fate = connection.resolved(answer, key, &mut self.shop, now);
                self.meet(key, fate, now);
            }
        }
    }

    /// Those who found no buffer ask again, and whose turn it is. Whoever still waits for a server is watched.
    fn refill(&mut self, now: u64) {
        while let Some(key) = self.shop.means.waits.slow() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.is_slow(key, &mut self.shop.means);
            }
        }
        for key in mem::take(&mut self.shop.means.dry) {
            self.go_on(key, now);
        }
        while let Some(key) = self.shop.means.turns.next() {
            self.go_on(key, now);
        }
    }

    fn go_on(&mut self, key: Key, now: u64) {
        if let Some(connection) = self.connections.get_mut(key) {
            let fate = connection.refill(key, &mut self.shop, now);
            self.meet(key, fate, now);
        }
    }

    fn meet(&mut self, key: Key, fate: Fate, now: u64) {
        match fate {
            Fate::Waits => {}
            Fate::Over(ending) => self.close(key, ending, now),
        }
    }

    fn close(&mut self, key: Key, ending: Ending, now: u64) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.is_over()
        {
            connection.end(ending, key, &mut self.shop);
            self.reap(key, now);
        }
    }

    /// Lets one go that is over, once nothing of it is under way.
    fn reap(&mut self, key: Key, now: u64) {
        let gone = |connection: &mut Connection| connection.is_over() && !connection.is_busy();
        if !self.connections.get_mut(key).is_some_and(gone) {
            return;
        }
        if let Some(connection) = self.connections.remove(key) {
            if connection.is_extra() {
                self.refused.retain(|refused| *refused != key);
            }
            let facts = connection.close(&mut self.shop, now);
            self.over(facts);
            // There are file descriptors again.
            self.paused = self.paused.map(|until| until.min(now));
        }
    }

    fn over(&mut self, facts: Facts) {
        self.shop.tally.over(&facts);
        if let Some(log) = &self.log {
            log.record(facts);
        }
    }

    fn expire(&mut self, now: u64) {
        while let Some(key) = self.shop.timers.up(now) {
            if let Some(connection) = self.connections.get_mut(key)
                && connection.is_due(key, &mut self.shop.timers, now)
            {
                let fate = connection.expired(key, &mut self.shop, now);
                self.meet(key, fate, now);
            }
        }
    }

    /// After a pause, serves those first who were accepted and could not be given a server's socket.
    fn recover(&mut self, now: u64) {
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            for key in mem::take(&mut self.shop.starved) {
                if let Some(connection) = self.connections.get_mut(key) {
                    let fate = connection.reconnect(key, &mut self.shop, now);
                    self.meet(key, fate, now);
                }
            }
        }
        if self.paused.is_none() && !self.shop.starved.is_empty() {
            self.pause(now);
        }
    }

    fn pause(&mut self, now: u64) {
        self.paused = Some(now + PAUSE);
        self.shop.means.pipes.shrink();
        self.shop.tally.paused();
        self.accept_no_more();
    }

    /// Has clients taken, where that has ended and may go on.
    ///
    /// By a request that goes on, unless it could take all files: then by one a client, as each needs another file for its
    /// server.
    fn accept(&mut self) {
        self.crowded = None;
        let may = !self.accepting && self.paused.is_none() && self.stopping.is_none();
        if !may || self.is_crowded(monotonic_ns()) {
            return;
        }
        if let Some(listener) = &self.listener {
            let listener = Fd(listener.as_raw_fd());
            let accept = match self.shop.shared.has_room() {
                true => opcode::AcceptMulti::new(listener)
                    .flags(libc::SOCK_CLOEXEC)
                    .build(),
                false => opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut())
                    .flags(libc::SOCK_CLOEXEC)
                    .build(),
            };
            self.accepting = true;
            // SAFETY: it points to nothing.
            unsafe { self.shop.means.ask(&accept.user_data(ACCEPT)) };
        }
    }

    fn accept_no_more(&mut self) {
        if self.accepting {
            self.shop.means.cancel(ACCEPT);
        }
    }

    fn accepted(&mut self, completion: Completion, now: u64) -> io::Result<()> {
        self.accepting = completion.more();
        if self.accepting && !self.shop.shared.has_room() {
            self.shop.means.cancel(ACCEPT);
        }
        let Some(errno) = completion.errno() else {
            // SAFETY: a new descriptor (accept(2)) that nobody else owns.
            let client = unsafe { OwnedFd::from_raw_fd(completion.result) };
            self.admit(client.into(), now);
            return Ok(());
        };
        let error = io::Error::from_raw_os_error(errno);
        match AcceptError::of(&error) {
            AcceptError::Exhausted => self.pause(now),
            AcceptError::NoListener => return Err(error),
            // Or nobody is to be taken any more.
            AcceptError::ClientGone | AcceptError::WouldBlock => {}
        }
        Ok(())
    }

    /// As many clients are told that the proxy is busy as may be at once. Of those the oldest gives way, at once or soon.
    fn is_crowded(&mut self, now: u64) -> bool {
        self.crowded = None;
        let capacity = self.shop.shared.capacity;
        if self.refused.len() < capacity.refusals || !self.shop.shared.is_full() {
            return false;
        }
        let Some(&oldest) = self.refused.front() else {
            return false;
        };
        match self.connections.get_mut(oldest).map(|it| it.gives_way(now)) {
            Some(Err(until)) => {
                self.crowded = Some(until);
                true
            }
            Some(Ok(())) | None => {
                // Its socket is closed once nothing of it is under way.
                self.refused.pop_front();
                self.close(oldest, Ending::Busy, now);
                false
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, now: u64) {
        self.shop.tally.accepted();
        // A request that goes on accepting has no place for each one's address.
        let from = match self.shop.place {
            Endpoint::Ip(_) => tcp::peer(&stream).map(|from| Peer::Ip(tcp::canonical(from))),
            Endpoint::Unix(_) => Ok(Peer::Unix),
        };
        let Ok(from) = from else {
            return self.shop.tally.ended(Ending::ClientReset);
        };
        let place = self.shop.shared.connection();
        let extra = place.is_none();
        let mut first = Fate::Waits;
        let admitted = self.connections.insert(|key| {
            let (connection, fate) =
                Connection::new(stream, from, place, key, &mut self.shop, now)?;
            first = fate;
            Ok::<_, io::Error>(connection)
        });
        match admitted {
            Ok(key) => {
                if extra {
                    self.refused.push_back(key);
                }
                self.meet(key, first, now);
            }
            // It is gone again.
            Err(error) => {
                let detail = error.to_string();
                self.over(Facts::at_once(from, now, Ending::ClientReset, detail));
            }
        }
    }

    /// Told to stop, it takes those who are waiting already and nobody else. True when all is over.
    fn is_over(&mut self, now: u64) -> io::Result<bool> {
        let drain = u64::try_from(self.drain.as_nanos()).unwrap_or(u64::MAX);
        if self.stopping.is_none() && self.shop.shared.is_stopping() {
            self.stopping = Some(now.saturating_add(drain));
            self.accept_no_more();
        }
        let Some(until) = self.stopping else {
            return Ok(false);
        };
        if !self.accepting
            && let Some(listener) = self.listener.take()
        {
            listener.set_nonblocking(true)?;
            let is_path = self.shop.place.ip().is_none();
            // Clients who go on coming do not make it longer.
            for _ in 0..BACKLOG {
                if self.paused.is_some() || self.is_crowded(now) {
                    break;
                }
                let accepted = match is_path {
                    true => unix::accept(&listener),
                    false => listener.accept().map(|(stream, _)| stream),
                };
                match accepted {
                    Ok(stream) => self.admit(stream, now),
                    Err(error) => match AcceptError::of(&error) {
                        AcceptError::ClientGone => {}
                        AcceptError::NoListener => return Err(error),
                        AcceptError::WouldBlock | AcceptError::Exhausted => break,
                    },
                }
            }
        }
        if now >= until {
            for key in self.connections.keys() {
                self.close(key, Ending::Stopped, now);
            }
        }
        Ok(self.connections.is_empty() && self.listener.is_none())
    }
}

impl Drop for Worker {
    /// What requests point to goes after the kernel is done with it.
    fn drop(&mut self) {
        if !self.shop.means.uring.ring.close() {
            mem::forget(mem::take(&mut self.connections));
        }
    }
}
