//! What a thread's connections are served with, on either engine.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use socket2::SockRef;

use super::options::{Options, Timeouts};
use super::relay::Forwarding;
use super::resolver::{Inbox, Resolver};
use super::rules::Rules;
use super::shared::Shared;
use super::slab::Key;
use super::tally::Tally;
use super::timers::Timers;
use crate::sys::endpoint::Endpoint;
use crate::sys::eventfd::EventFd;
use crate::sys::tcp;

/// That, with the `means` of one engine.
pub(super) struct Shop<M> {
    pub(super) rules: Arc<Rules>,
    /// Where its clients come to.
    pub(super) place: Endpoint,
    pub(super) shared: Arc<Shared>,
    pub(super) resolver: Resolver,
    pub(super) inbox: Arc<Inbox>,
    pub(super) tally: Arc<Tally>,
    pub(super) timers: Timers<Key>,
    pub(super) timeouts: Timeouts,
    pub(super) forwarding: Forwarding,
    pub(super) means: M,
    /// Connections that could not be given a socket for want of file descriptors or memory.
    pub(super) starved: Vec<Key>,
}

impl<M> Shop<M> {
    /// Of a thread that `wake` wakes.
    pub(super) fn new(
        rules: Arc<Rules>,
        place: Endpoint,
        shared: Arc<Shared>,
        resolver: Resolver,
        options: &Options,
        wake: &EventFd,
        means: M,
    ) -> Self {
        Self {
            rules,
            place,
            shared,
            resolver,
            inbox: Arc::new(Inbox::new(wake.clone())),
            tally: Arc::default(),
            timers: Timers::new(),
            timeouts: options.timeouts,
            forwarding: options.forwarding,
            means,
            starved: Vec::new(),
        }
    }

    /// Where a client connected to, which only a header for the server tells; nothing where none is sent.
    ///
    /// # Errors
    /// The client is gone already.
    pub(super) fn local(&self, client: &impl AsFd) -> io::Result<Option<Endpoint>> {
        Ok(match (self.rules.send_header, &self.place) {
            (None, _) => None,
            (Some(_), Endpoint::Ip(_)) => {
                let local = SockRef::from(client).local_addr()?.as_socket();
                local.map(|local| Endpoint::Ip(tcp::canonical(local)))
            }
            (Some(_), path) => Some(path.clone()),
        })
    }
}
