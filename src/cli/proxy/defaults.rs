//! Defaults of options that depend on the scenario.

use super::args::{Load, RequestProtocolArg, ScenarioArg};
use crate::load::plan::Scenario;

impl Load {
    /// The requested scenarios. Some protocols leave out some of the default ones.
    pub(super) fn scenarios(&self) -> Vec<Scenario> {
        match &self.scenario {
            Some(list) => list.iter().map(|&one| one.into()).collect(),
            None => Scenario::ALL.to_vec(),
        }
    }

    /// Whether datagrams are measured.
    pub(super) fn is_udp(&self) -> bool {
        let mut scenarios = self.scenario.iter().flat_map(|list| list.iter());
        scenarios.any(|scenario| *scenario == ScenarioArg::Udp)
    }

    /// Protocols of requests, or those of datagrams.
    pub(super) fn protocols(&self) -> Vec<RequestProtocolArg> {
        match (&self.protocol, self.is_udp()) {
            (Some(list), _) => list.iter().copied().collect(),
            (None, false) => vec![RequestProtocolArg::Socks5],
            (None, true) => vec![RequestProtocolArg::Forward],
        }
    }

    /// Bytes of a message.
    pub(super) fn message(&self) -> usize {
        self.message
            .unwrap_or(if self.is_udp() { 1_000 } else { 64 })
    }
}
