//! The loop of one thread: accepts clients, passes events to connections, and handles deadlines and shutdown.

mod admission;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::access_log;
use super::associations::handle::Associations;
use super::backend::{Accepted, Backend, Event};
use super::connection::{Connection, Status};
use super::context::{Turn, WorkerContext};
use super::counters::Counters;
use super::listeners::Listener;
use super::options::{Options, PAUSE};
use super::record::{CloseReason, ConnectionRecord};
use super::resolver::Resolver;
use super::rules::Rules;
use super::shared::Shared;
use super::slab::{Key, Slab};
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::tcp::{AcceptError, BACKLOG};

/// Most clients accepted between two looks at events.
const ACCEPTS: usize = 64;

/// A thread's loop.
pub(super) struct Worker<B: Backend> {
    connections: Slab<Connection<B>>,
    context: WorkerContext<B>,
    is_listening: bool,
    /// More clients may be waiting than the last pass accepted.
    has_clients: bool,
    /// When to accept again after file descriptors or memory ran out.
    paused: Option<u64>,
    /// Connections that had no complete request when they were accepted, the oldest first. They may have one now, or be gone.
    handshakes: VecDeque<Key>,
    /// Clients over the limit of all connections, the oldest first.
    over_limit: VecDeque<Key>,
    /// Clients over their own limit, the oldest first.
    over_client_limit: VecDeque<Key>,
    /// When the oldest client over the limit may be evicted, if no more clients are accepted before.
    full_until: Option<u64>,
    log: Option<access_log::Handle>,
    drain: Duration,
    /// When to close the remaining connections of a proxy that stops.
    stop_deadline: Option<u64>,
}

impl<B: Backend> Worker<B> {
    /// The loop of a thread that accepts from `listener` and that `wake` wakes.
    ///
    /// # Errors
    /// As [`Backend::new`].
    pub(super) fn new(
        listener: Listener,
        rules: Arc<Rules>,
        resolver: Resolver,
        options: &Options,
        (shared, associations): (Arc<Shared>, Option<Arc<Associations>>),
        wake: &EventFd,
    ) -> io::Result<Self> {
        let endpoint = listener.local.clone();
        let backend = B::new(listener, wake, shared.capacity.pipes)?;
        let mut context =
            WorkerContext::new(rules, endpoint, shared, resolver, options, wake, backend);
        context.associations = associations;
        Ok(Self {
            connections: Slab::new(),
            context,
            is_listening: true,
            has_clients: false,
            paused: None,
            handshakes: VecDeque::new(),
            over_limit: VecDeque::new(),
            over_client_limit: VecDeque::new(),
            full_until: None,
            log: options.log.clone(),
            drain: options.drain,
            stop_deadline: None,
        })
    }

    /// The counters of the thread.
    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.context.counters)
    }

    /// Serves until the proxy stops and the last connection is closed, or the drain time is over.
    ///
    /// # Errors
    /// As [`Backend::wait`], and as accept(2) if the socket is no listener.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.context.backend.start()?;
        let mut events = Vec::new();
        let mut now = monotonic_ns();
        while !self.is_finished(now)? {
            self.accept(now)?;
            let deadline = self.next_deadline();
            self.context.backend.wait(deadline, &mut events)?;
            now = monotonic_ns();
            for event in events.drain(..) {
                self.on_event(event, now)?;
            }
            self.run_turns(now);
            self.context.learn();
            self.run_timers(now);
            self.end_pause(now);
        }
        Ok(())
    }

    /// When to wake up even without events, in ns.
    fn next_deadline(&self) -> u64 {
        if self.has_clients {
            return 0;
        }
        let deadlines = [
            self.context.timers.next(),
            self.paused,
            self.full_until,
            self.stop_deadline,
        ];
        deadlines.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    fn on_event(&mut self, event: Event<B>, now: u64) -> io::Result<()> {
        match event {
            Event::Progress(key, progress) => {
                self.with(key, now, |connection, turn| {
                    connection.on_event(progress, turn)
                });
                self.remove_closed(key, now);
            }
            Event::Accepted(accepted) => {
                // Multishot accepting could use up the file descriptors that servers need.
                if !self.context.shared.has_room() {
                    self.context.backend.cancel_accept();
                }
                self.on_accepted(accepted, now)?;
            }
            Event::Woken => {
                for (key, answer) in self.context.inbox.take() {
                    self.with(key, now, |connection, turn| {
                        connection.on_resolved(answer, turn)
                    });
                }
                for (key, reason) in self.context.association_ends.take() {
                    self.close(key, reason, now);
                }
            }
        }
        Ok(())
    }

    /// Calls into a connection and applies the status that it returns.
    fn with(
        &mut self,
        key: Key,
        now: u64,
        call: impl FnOnce(&mut Connection<B>, &mut Turn<'_, B>) -> Status,
    ) {
        if let Some(connection) = self.connections.get_mut(key) {
            let context = &mut self.context;
            let status = call(connection, &mut Turn { key, context, now });
            self.apply(key, status, now);
        }
    }

    fn apply(&mut self, key: Key, status: Status, now: u64) {
        match status {
            Status::Waiting => {}
            Status::Ready => {
                if let Some(connection) = self.connections.get_mut(key)
                    && !mem::replace(&mut connection.is_scheduled, true)
                {
                    self.context.backend.schedule(key);
                }
            }
            Status::Close(reason) => self.close(key, reason, now),
        }
    }

    /// Gives turns to connections that can continue without an event.
    fn run_turns(&mut self, now: u64) {
        while let Some(key) = self.context.backend.next_turn() {
            let context = &mut self.context;
            let mut turn = Turn { key, context, now };
            let status = match self.connections.get_mut(key) {
                Some(connection) => {
                    let status = connection.resume(&mut turn);
                    connection.is_scheduled = status == Status::Ready;
                    status
                }
                None => Status::Waiting,
            };
            self.context.backend.end_turn(status == Status::Ready);
            if let Status::Close(reason) = status {
                self.close(key, reason, now);
            }
        }
    }

    fn run_timers(&mut self, now: u64) {
        while let Some(key) = self.context.timers.up(now) {
            if let Some(connection) = self.connections.get_mut(key)
                && connection.is_due(key, &mut self.context.timers, now)
            {
                self.with(key, now, Connection::on_timeout);
            }
        }
    }

    fn close(&mut self, key: Key, reason: CloseReason, now: u64) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.is_closed()
        {
            let context = &mut self.context;
            connection.close(reason, &mut Turn { key, context, now });
            self.remove_closed(key, now);
        }
    }

    /// Removes a connection that is closed, once none of its operations is in flight.
    fn remove_closed(&mut self, key: Key, now: u64) {
        let connection = self.connections.get_mut(key);
        if !connection.is_some_and(|connection| connection.is_removable()) {
            return;
        }
        if let Some(connection) = self.connections.remove(key) {
            if connection.is_over_limit() {
                self.over_limit.retain(|other| *other != key);
                self.over_client_limit.retain(|other| *other != key);
            }
            let context = &mut self.context;
            let record = connection.into_record(&mut Turn { key, context, now });
            self.record(record);
            // File descriptors are available again.
            self.paused = self.paused.map(|until| until.min(now));
        }
    }

    fn record(&mut self, record: ConnectionRecord) {
        self.context.counters.closed(&record);
        if let Some(log) = &self.log
            && !record.info.is_association
        {
            log.record(record);
        }
    }

    /// Stops accepting for lack of file descriptors or memory.
    fn pause(&mut self, now: u64) {
        self.paused = Some(now + PAUSE);
        self.context.backend.pipes().shrink();
        self.context.backend.cancel_accept();
        self.context.counters.paused();
    }

    /// After a pause, serves connections that wait for a server's socket before new clients.
    fn end_pause(&mut self, now: u64) {
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            for key in mem::take(&mut self.context.waiting_for_fd) {
                self.with(key, now, Connection::reconnect);
            }
        }
        if self.paused.is_none() && !self.context.waiting_for_fd.is_empty() {
            self.pause(now);
        }
    }

    /// Accepts clients, or starts to.
    ///
    /// # Errors
    /// As accept(2) if the socket is no listener.
    fn accept(&mut self, now: u64) -> io::Result<()> {
        self.full_until = None;
        self.has_clients = self.is_listening && self.stop_deadline.is_none() && {
            self.accept_some(ACCEPTS, now)?
        };
        Ok(())
    }

    /// Accepts up to `most` clients. Whether more may be waiting.
    ///
    /// # Errors
    /// As accept(2) if the socket is no listener.
    fn accept_some(&mut self, most: usize, now: u64) -> io::Result<bool> {
        for _ in 0..most {
            if self.paused.is_some() || self.is_full(now) {
                return Ok(false);
            }
            let multishot = self.context.shared.has_room();
            match self.context.backend.accept(multishot) {
                Some(accepted) => self.on_accepted(accepted, now)?,
                None => return Ok(false),
            }
            if !self.context.waiting_for_fd.is_empty() {
                self.pause(now);
            }
        }
        Ok(true)
    }

    /// # Errors
    /// As accept(2) if the socket is no listener.
    fn on_accepted(
        &mut self,
        accepted: io::Result<Accepted<B::Stream>>,
        now: u64,
    ) -> io::Result<()> {
        match accepted {
            Ok(accepted) => self.admit(accepted, now),
            Err(error) => match AcceptError::of(&error) {
                // Or accepting was cancelled.
                AcceptError::ClientGone | AcceptError::WouldBlock => {}
                AcceptError::Exhausted => self.pause(now),
                AcceptError::NoListener => return Err(error),
            },
        }
        Ok(())
    }

    /// Once the proxy stops, accepts the clients in the backlog and no others. Whether all connections are closed.
    ///
    /// # Errors
    /// As accept(2) if the socket is no listener.
    fn is_finished(&mut self, now: u64) -> io::Result<bool> {
        if self.stop_deadline.is_none() && self.context.shared.is_stopping() {
            let drain = u64::try_from(self.drain.as_nanos()).unwrap_or(u64::MAX);
            self.stop_deadline = Some(now.saturating_add(drain));
            self.context.backend.cancel_accept();
            if let Some(associations) = &self.context.associations {
                associations.drain();
            }
        }
        let Some(deadline) = self.stop_deadline else {
            return Ok(false);
        };
        if self.is_listening && !self.context.backend.is_accepting() {
            self.is_listening = false;
            self.context.backend.accept_backlog_only()?;
            // Clients that continue to connect do not prolong this.
            self.accept_some(BACKLOG as usize, now)?;
            self.context.backend.close_listener();
        }
        if now >= deadline {
            for key in self.connections.keys() {
                self.close(key, CloseReason::Stopped, now);
            }
        }
        Ok(self.connections.is_empty() && !self.is_listening)
    }
}

impl<B: Backend> Drop for Worker<B> {
    /// Memory of connections that the kernel may still use is not freed.
    fn drop(&mut self) {
        if !self.context.backend.close() {
            mem::forget(mem::take(&mut self.connections));
        }
    }
}
