//! What a thread's connections are served with, on either engine.

use std::sync::Arc;

use super::options::{Options, Timeouts};
use super::relay::Forwarding;
use super::resolver::{Inbox, Resolver};
use super::rules::Rules;
use super::shared::Shared;
use super::slab::Key;
use super::tally::Tally;
use super::timers::Timers;
use crate::sys::wake::Wake;

/// That, with the `means` of one engine.
pub(super) struct Shop<M> {
    pub(super) rules: Arc<Rules>,
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
        shared: Arc<Shared>,
        resolver: Resolver,
        options: &Options,
        wake: &Wake,
        means: M,
    ) -> Self {
        Self {
            rules,
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
}
