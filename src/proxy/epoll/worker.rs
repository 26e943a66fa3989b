//! One thread's loop over mio: takes clients, gives each connection its turn, and looks after time.
//!
//! Readiness is edge-triggered, so what is ready is remembered in the connection, and a connection that has had its turn
//! with more to do comes back after the others.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::connection::{Connection, Fate, Shop, of_token};
use super::means::Means;
use crate::proxy::facts::{Ending, Facts};
use crate::proxy::listeners::Listener;
use crate::proxy::log;
use crate::proxy::lot::{self, SLICE};
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

// No connection's: these would be the last place of the last generation.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Events taken at once.
const EVENTS: usize = 1_024;

/// Clients accepted before connections have their turn.
const ACCEPTS: usize = 64;

/// A thread's loop with its listener.
pub(in crate::proxy) struct Worker {
    poll: Poll,
    listener: Option<TcpListener>,
    connections: Slab<Connection>,
    shop: Shop,
    /// Those for whom something has happened: each gets a slice of lots at once.
    fresh: Vec<Key>,
    /// Those who have more to do than that, in turn, slice by slice.
    busy: VecDeque<Key>,
    /// Slices that are left of the turn of the first of these.
    left: usize,
    /// Clients may be waiting.
    accept: bool,
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
    /// Out of file descriptors or memory.
    pub(in crate::proxy) fn new(
        listener: Listener,
        rules: Arc<Rules>,
        resolver: Resolver,
        options: &Options,
        shared: Arc<Shared>,
        wake: &EventFd,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let Listener { socket, local } = listener;
        let mut listener = TcpListener::from_std(socket);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut waker = SourceFd(&wake.as_fd().as_raw_fd());
        poll.registry()
            .register(&mut waker, WAKER, Interest::READABLE)?;
        let means = Means::new(poll.registry().try_clone()?, shared.capacity.pipes);
        let shop = Shop::new(rules, local, shared, resolver, options, wake, means);
        Ok(Self {
            poll,
            listener: Some(listener),
            connections: Slab::new(),
            shop,
            fresh: Vec::new(),
            busy: VecDeque::new(),
            left: 0,
            accept: false,
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
    /// As epoll_wait(2), and as accept(2) where the listener is none.
    pub(in crate::proxy) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut turns = Vec::new();
        loop {
            let wait = self.wait(monotonic_ns());
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = monotonic_ns();
            let mut woken = false;
            for event in &events {
                match event.token() {
                    LISTENER => self.accept = true,
                    WAKER => woken = true,
                    token => {
                        let (key, end) = of_token(token);
                        if let Some(connection) = self.connections.get_mut(key) {
                            connection.ready(end, event);
                            self.queue(key);
                        }
                    }
                }
            }
            std::mem::swap(&mut self.fresh, &mut turns);
            for key in turns.drain(..) {
                self.serve(key, now);
            }
            self.serve_busy(now);
            if woken {
                self.resolved(now);
            }
            self.expire(now);
            self.recover(now);
            if self.accept && self.paused.is_none() {
                self.accept(now)?;
            }
            if self.is_over(now)? {
                return Ok(());
            }
        }
    }

    /// How long to sleep.
    fn wait(&self, now: u64) -> Option<Duration> {
        if !(self.fresh.is_empty() && self.busy.is_empty())
            || (self.accept && self.paused.is_none() && self.crowded.is_none())
        {
            return Some(Duration::ZERO);
        }
        let next = [
            self.shop.timers.next(),
            self.paused,
            self.crowded,
            self.stopping,
        ];
        let next = next.into_iter().flatten().min()?;
        Some(Duration::from_nanos(next.saturating_sub(now)))
    }

    fn queue(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.queued
        {
            connection.queued = true;
            self.fresh.push(key);
        }
    }

    /// Gives a connection a slice.
    fn serve(&mut self, key: Key, now: u64) {
        match self.slice(key, now) {
            // It stays queued.
            Some(Fate::More) => self.busy.push_back(key),
            Some(fate) => self.rest(key, fate, now),
            None => {}
        }
    }

    /// Gives the first of those with more to do another slice, or the next one its first. A turn is long, so that the ends of a
    /// bulk transfer are woken seldom; and between its slices whoever else is ready has one, which takes no longer for it.
    fn serve_busy(&mut self, now: u64) {
        let Some(&key) = self.busy.front() else {
            return;
        };
        if self.left == 0 {
            self.left = lot::turn(self.busy.len()) / SLICE;
        }
        self.left -= 1;
        match self.slice(key, now) {
            Some(Fate::More) if self.left > 0 => {}
            Some(Fate::More) => self.busy.rotate_left(1),
            over => {
                self.left = 0;
                self.busy.pop_front();
                if let Some(fate) = over {
                    self.rest(key, fate, now);
                }
            }
        }
    }

    fn slice(&mut self, key: Key, now: u64) -> Option<Fate> {
        let connection = self.connections.get_mut(key)?;
        Some(connection.serve(key, &mut self.shop, now))
    }

    /// It had its turn, and is among those to have one no more.
    fn rest(&mut self, key: Key, fate: Fate, now: u64) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.queued = false;
        }
        self.meet(key, fate, now);
    }

    fn resolved(&mut self, now: u64) {
        for (key, answer) in self.shop.inbox.take() {
            if let Some(connection) = self.connections.get_mut(key) {
                let fate = connection.resolved(answer, key, &mut self.shop, now);
                self.meet(key, fate, now);
            }
        }
    }

    fn meet(&mut self, key: Key, fate: Fate, now: u64) {
        match fate {
            Fate::Waits => {}
            Fate::More => self.queue(key),
            Fate::Over(ending) => self.close(key, ending, now),
        }
    }

    fn close(&mut self, key: Key, ending: Ending, now: u64) {
        if let Some(connection) = self.connections.remove(key) {
            if connection.is_extra() {
                self.refused.retain(|refused| *refused != key);
            }
            let facts = connection.close(ending, key, &mut self.shop, now);
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
            for key in std::mem::take(&mut self.shop.starved) {
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
    }

    /// # Errors
    /// As accept(2) where the listener is none.
    fn accept(&mut self, now: u64) -> io::Result<()> {
        for _ in 0..ACCEPTS {
            if self.is_crowded(now) {
                return Ok(());
            }
            let Some(listener) = &self.listener else {
                self.accept = false;
                return Ok(());
            };
            match accept(listener, &self.shop.place) {
                Ok((stream, from)) => self.admit(stream, from, now),
                Err(error) => match AcceptError::of(&error) {
                    AcceptError::ClientGone => {}
                    AcceptError::WouldBlock => {
                        self.accept = false;
                        return Ok(());
                    }
                    AcceptError::Exhausted => {
                        self.pause(now);
                        return Ok(());
                    }
                    AcceptError::NoListener => return Err(error),
                },
            }
            if !self.shop.starved.is_empty() {
                self.pause(now);
                return Ok(());
            }
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
                self.close(oldest, Ending::Busy, now);
                false
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, from: Peer, now: u64) {
        self.shop.tally.accepted();
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
            // Out of memory for its events, or it is gone again.
            Err(error) => {
                let detail = error.to_string();
                self.over(Facts::at_once(from, now, Ending::ClientReset, detail));
            }
        }
    }

    /// Told to stop, it takes those who are waiting already and nobody else. True when all is over.
    ///
    /// # Errors
    /// As accept(2) where the listener is none.
    fn is_over(&mut self, now: u64) -> io::Result<bool> {
        let drain = u64::try_from(self.drain.as_nanos()).unwrap_or(u64::MAX);
        if self.stopping.is_none() && self.shop.shared.is_stopping() {
            self.stopping = Some(now.saturating_add(drain));
            self.accept = true;
            // Clients who go on coming do not make it longer.
            for _ in 0..(BACKLOG as usize).div_ceil(ACCEPTS) {
                if !self.accept || self.paused.is_some() || self.crowded.is_some() {
                    break;
                }
                self.accept(now)?;
            }
            self.listener = None;
        }
        let Some(until) = self.stopping else {
            return Ok(false);
        };
        if now >= until {
            for key in self.connections.keys() {
                self.close(key, Ending::Stopped, now);
            }
        }
        Ok(self.connections.is_empty())
    }
}

fn accept(listener: &TcpListener, place: &Endpoint) -> io::Result<(TcpStream, Peer)> {
    match place {
        Endpoint::Ip(_) => listener
            .accept()
            .map(|(stream, from)| (stream, Peer::Ip(tcp::canonical(from)))),
        Endpoint::Unix(_) => {
            unix::accept(listener).map(|stream| (TcpStream::from_std(stream), Peer::Unix))
        }
    }
}
