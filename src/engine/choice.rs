//! Which engine does the I/O of a run, and what is asked of it. The same on both sides of a session.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most entries of a submission ring (`IORING_MAX_ENTRIES`).
pub const MOST_RING: u32 = 32_768;

/// What gets datagrams into the kernel and out of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Readiness: epoll, sendmmsg, recvmmsg.
    #[default]
    Mio,
    /// Completions: io_uring.
    Uring,
}

impl Kind {
    /// The name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mio => "mio",
            Self::Uring => "uring",
        }
    }
}

/// How a sender hands over memory without the kernel copying it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroCopy {
    /// It copies.
    #[default]
    Off,
    /// Pages go through a pipe into the socket (vmsplice(2), splice(2)).
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

/// How an io_uring receiver asks for datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UringReceive {
    /// One request goes on filling buffers that the kernel picks.
    #[default]
    Multishot,
    /// A request a message.
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

/// What only io_uring knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UringSettings {
    /// A kernel thread takes submissions, so that submitting costs no system call.
    pub sqpoll: bool,
    /// Entries of the submission ring, 1 to [`MOST_RING`]; the kernel rounds up to a power of two.
    pub ring_size: Option<u32>,
    /// How datagrams are asked for.
    pub receive: UringReceive,
}

/// The engine of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineChoice {
    /// Which.
    pub kind: Kind,
    /// Of the sender.
    pub zerocopy: ZeroCopy,
    /// Heeded by [`Kind::Uring`].
    pub uring: UringSettings,
}

/// Why an engine cannot be asked for that.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChoiceError {
    /// The pipe is the mio engine's.
    #[error(
        "--zerocopy splice works with --engine mio only: on io_uring a splice goes through worker threads, which costs more than the copy; choose --zerocopy msg or off"
    )]
    SpliceOnUring,
    /// Outside 1 to [`MOST_RING`].
    #[error("a ring of {0} entries cannot be had; choose --uring-ring-size 1 to {MOST_RING}")]
    RingSize(u32),
}

impl EngineChoice {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// [`ChoiceError`].
    pub fn validate(&self) -> Result<(), ChoiceError> {
        if (self.kind, self.zerocopy) == (Kind::Uring, ZeroCopy::Splice) {
            return Err(ChoiceError::SpliceOnUring);
        }
        match self.uring.ring_size {
            Some(size) if !(1..=MOST_RING).contains(&size) => Err(ChoiceError::RingSize(size)),
            _ => Ok(()),
        }
    }
}
