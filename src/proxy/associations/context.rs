//! The context of the threads of associations.

use std::sync::Arc;
use std::time::Duration;

use super::destinations::Judge;
use super::own::OwnSockets;
use crate::proxy::access_log;
use crate::proxy::resolver::Resolver;
use crate::proxy::rules::Rules;
use crate::proxy::shared::Shared;

/// What the threads of associations share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) rules: Arc<Rules>,
    pub(super) shared: Arc<Shared>,
    pub(super) resolver: Resolver,
    pub(super) own: Arc<OwnSockets>,
    pub(super) log: Option<access_log::Handle>,
    pub(super) idle: Duration,
    pub(super) any_answers: bool,
}

impl Common {
    pub(super) fn judge(&self, generation: u64) -> Judge<'_> {
        Judge {
            rules: &self.rules,
            generation,
            own: &self.own,
        }
    }
}
