//! How a run ended.

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// As planned.
    Complete,
    /// Somebody here said stop: what was sent is all accounted for.
    Interrupted(String),
    /// The other side ended it, and both sides' figures are here.
    Limited(String),
    /// The other side is gone, and its last figures with it.
    PeerLost(String),
    /// Something here failed.
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
