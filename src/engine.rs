//! Engine selection: the I/O interface of a run and its settings. Both sides of a session use the same selection.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Largest submission ring (`IORING_MAX_ENTRIES`).
pub const MAX_RING_SIZE: u32 = 32_768;

/// The kernel interface for I/O.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Readiness: epoll, sendmmsg, recvmmsg.
    #[default]
    Mio,
    /// Completions: io_uring.
    Uring,
}

impl EngineKind {
    /// The name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mio => "mio",
            Self::Uring => "uring",
        }
    }
}

/// How a sender avoids the kernel's copy of each payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroCopy {
    /// The kernel copies.
    #[default]
    Off,
    /// Pages pass through a pipe into the socket (vmsplice(2), splice(2)).
    Splice,
    /// `MSG_ZEROCOPY`, or `IORING_OP_SENDMSG_ZC`.
    Msg,
}

impl ZeroCopy {
    /// The name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Splice => "splice",
            Self::Msg => "msg",
        }
    }
}

/// How an io_uring receiver requests datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UringReceive {
    /// One request stays armed and fills provided buffers.
    #[default]
    Multishot,
    /// One request per message.
    Single,
}

impl UringReceive {
    /// The name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Multishot => "multishot",
            Self::Single => "single",
        }
    }
}

/// Settings of the io_uring engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UringSettings {
    /// A kernel thread polls the submission queue (`IORING_SETUP_SQPOLL`), so submitting needs no system call.
    pub sqpoll: bool,
    /// Entries of the submission ring, 1 to [`MAX_RING_SIZE`]. The kernel rounds up to a power of two.
    pub ring_size: Option<u32>,
    /// How receivers request datagrams.
    pub receive: UringReceive,
}

/// The engine of a run with its settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineChoice {
    /// The interface.
    pub kind: EngineKind,
    /// Used by senders.
    pub zerocopy: ZeroCopy,
    /// Used by [`EngineKind::Uring`].
    pub uring: UringSettings,
}

/// An invalid engine selection.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChoiceError {
    /// Splicing needs the mio engine.
    #[error(
        "--zerocopy splice works with --engine mio only: io_uring runs a splice on worker threads, which costs more than the copy; choose --zerocopy msg or off"
    )]
    SpliceOnUring,
    /// The ring size is not in 1 to [`MAX_RING_SIZE`].
    #[error("--uring-ring-size {0}: expected 1 to {MAX_RING_SIZE}")]
    RingSize(u32),
}

impl EngineChoice {
    /// Checks the combination of settings.
    ///
    /// # Errors
    /// [`ChoiceError`].
    pub fn validate(&self) -> Result<(), ChoiceError> {
        if self.zerocopy == ZeroCopy::Splice && self.kind != EngineKind::Mio {
            return Err(ChoiceError::SpliceOnUring);
        }
        match self.uring.ring_size {
            Some(size) if !(1..=MAX_RING_SIZE).contains(&size) => Err(ChoiceError::RingSize(size)),
            _ => Ok(()),
        }
    }
}
