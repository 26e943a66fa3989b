//! How a run ended.

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// As planned.
    Complete,
    /// The user stopped the run; the datagrams sent are accounted for.
    Interrupted(String),
    /// The peer stopped the run, and the results of both sides are known.
    Limited(String),
    /// The peer is lost, and its result with it; or an echo server answered no request.
    PeerLost(String),
    /// This side failed.
    Failed(String),
}

impl Ended {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Interrupted(_) => "interrupted",
            Self::Limited(_) => "limit",
            Self::PeerLost(_) => "peer_lost",
            Self::Failed(_) => "failed",
        }
    }

    pub(super) fn reason(&self) -> Option<String> {
        match self {
            Self::Complete => None,
            Self::Interrupted(reason)
            | Self::Limited(reason)
            | Self::PeerLost(reason)
            | Self::Failed(reason) => Some(reason.clone()),
        }
    }
}
