//! Resources that all connections of one worker thread share, and the arguments of one call into a connection.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use socket2::SockRef;

use super::associations::handle::{Associations, Ends};
use super::backend::Backend;
use super::counters::Counters;
use super::forwarding::{Clocks, Learner, Traffic};
use super::options::{Options, Timeouts};
use super::relay::{Forwarding, Via};
use super::resolver::{Inbox, Resolver};
use super::rules::Rules;
use super::shared::Shared;
use super::slab::Key;
use super::timers::Timers;
use crate::sys::clock::{monotonic_ns, thread_cpu_ns};
use crate::sys::endpoint::Endpoint;
use crate::sys::eventfd::EventFd;
use crate::sys::tcp;

/// Resources of one worker thread.
pub(super) struct WorkerContext<B> {
    pub(super) rules: Arc<Rules>,
    /// The endpoint on which this thread listens.
    endpoint: Endpoint,
    pub(super) shared: Arc<Shared>,
    pub(super) resolver: Resolver,
    pub(super) inbox: Arc<Inbox>,
    /// `None` if clients may not open any.
    pub(super) associations: Option<Arc<Associations>>,
    /// Associations of this thread's connections that ended first.
    pub(super) association_ends: Arc<Ends>,
    pub(super) counters: Arc<Counters>,
    pub(super) timers: Timers<Key>,
    pub(super) timeouts: Timeouts,
    pub(super) forwarding: Forwarding,
    /// `None` unless the method of bulk transfers is learnt.
    learner: Option<Learner>,
    pub(super) traffic: Traffic,
    /// [`super::pipes::PipePool::refusals`] that are handled.
    refusals: u64,
    pub(super) backend: B,
    /// Connections whose server socket could not be created for lack of file descriptors or memory.
    pub(super) waiting_for_fd: Vec<Key>,
}

/// One call into a connection: its key, the resources of its thread and the time.
pub(super) struct Turn<'a, B> {
    pub(super) key: Key,
    pub(super) context: &'a mut WorkerContext<B>,
    /// In ns of [`crate::sys::clock::monotonic_ns`].
    pub(super) now: u64,
}

impl<B: Backend> WorkerContext<B> {
    /// The resources of a thread that listens on `endpoint` and that `wake` wakes.
    pub(super) fn new(
        rules: Arc<Rules>,
        endpoint: Endpoint,
        shared: Arc<Shared>,
        resolver: Resolver,
        options: &Options,
        wake: &EventFd,
        backend: B,
    ) -> Self {
        let learner = match options.forwarding {
            Forwarding::Auto => Some(Learner::default()),
            _ => None,
        };
        let counters = Arc::new(Counters::default());
        counters.chose(options.forwarding, learner.as_ref());
        Self {
            rules,
            endpoint,
            shared,
            resolver,
            inbox: Arc::new(Inbox::new(wake.clone())),
            associations: None,
            association_ends: Arc::new(Ends::new(wake.clone())),
            counters,
            timers: Timers::new(),
            timeouts: options.timeouts,
            forwarding: options.forwarding,
            learner,
            traffic: Traffic::default(),
            refusals: 0,
            backend,
            waiting_for_fd: Vec::new(),
        }
    }

    /// How [`Forwarding::Auto`] forwards bulk now.
    pub(super) fn bulk_method(&self) -> Via {
        self.learner.as_ref().map_or(Via::Copy, Learner::method)
    }

    /// Learns from what was forwarded; called after each pass of the loop.
    pub(super) fn learn(&mut self) {
        let Some(learner) = &mut self.learner else {
            return;
        };
        let refusals = self.backend.pipes().refusals();
        let is_changed = if self.refusals == refusals {
            learner.advance(self.traffic, || Clocks {
                cpu: thread_cpu_ns(),
                time: monotonic_ns(),
            })
        } else {
            self.refusals = refusals;
            learner.unavailable(self.traffic);
            true
        };
        if is_changed {
            self.counters.chose(self.forwarding, Some(learner));
        }
    }

    /// The address to which a client connected, or `None` if no PROXY header that contains it is sent.
    ///
    /// # Errors
    /// As getsockname(2): the client has disconnected.
    pub(super) fn local(&self, client: &impl AsFd) -> io::Result<Option<Endpoint>> {
        Ok(match (self.rules.send_header, &self.endpoint) {
            (None, _) => None,
            (Some(_), Endpoint::Ip(_)) => {
                let local = SockRef::from(client).local_addr()?.as_socket();
                local.map(|local| Endpoint::Ip(tcp::canonical(local)))
            }
            (Some(_), path) => Some(path.clone()),
        })
    }
}
