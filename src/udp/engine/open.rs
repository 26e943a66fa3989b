//! Opens the engine of an [`EngineChoice`]. The only code of a UDP run that matches on the kind of engine.
//!
//! A new engine needs a folder beside this file, a module in `mod.rs`, an arm in each match below, a variant of
//! [`EngineKind`], and a value of `--engine` in `cli::args`. `doctor` may check its requirements.

use std::io;

use thiserror::Error;

use super::endpoint::{RxEndpoint, TxEndpoint};
use super::mio::{CopySend, MioRx, MioTx, SpliceSend, StampedSend, ZeroCopySend};
use super::uring::{MultishotRx, SingleRx, UringTx};
use super::{Layout, Rx, Tx};
use crate::engine::{EngineChoice, EngineKind, UringReceive, ZeroCopy};
use crate::uring;

/// Code that runs on any sender.
pub trait WithTx {
    /// Runs on an open sender.
    ///
    /// # Errors
    /// Those of the run.
    fn run(self, tx: impl Tx) -> io::Result<()>;
}

/// Code that runs on any receiver.
pub trait WithRx {
    /// Runs on an open receiver.
    fn run(self, rx: impl Rx);
}

/// Why an engine is unavailable.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// io_uring.
    #[error("cannot use --engine uring: {0}")]
    Uring(#[from] uring::Unavailable),
}

/// Whether this host supports the engine, found by trial.
///
/// # Errors
/// [`Unavailable`], with the reason and a remedy.
pub fn available(choice: &EngineChoice) -> Result<(), Unavailable> {
    match choice.kind {
        EngineKind::Mio => Ok(()),
        EngineKind::Uring => Ok(uring::available(&choice.uring)?),
    }
}

/// Opens a sender and runs `code` on it.
///
/// # Errors
/// The engine cannot be set up; those of `code`.
pub fn open_tx(
    choice: &EngineChoice,
    endpoint: TxEndpoint<'_>,
    code: impl WithTx,
) -> io::Result<()> {
    let Layout {
        messages, bytes, ..
    } = endpoint.layout;
    let stamps = endpoint.stamps;
    match (choice.kind, choice.zerocopy, stamps) {
        (EngineKind::Mio, ZeroCopy::Off, None) => {
            code.run(MioTx::new(endpoint, CopySend::new(messages))?)
        }
        (EngineKind::Mio, ZeroCopy::Off, Some(stamps)) => {
            code.run(MioTx::new(endpoint, StampedSend::new(messages, stamps))?)
        }
        (EngineKind::Mio, ZeroCopy::Splice, _) => {
            code.run(MioTx::new(endpoint, SpliceSend::new(bytes, messages)?)?)
        }
        (EngineKind::Mio, ZeroCopy::Msg, _) => {
            let method = ZeroCopySend::new(endpoint.batch, messages);
            code.run(MioTx::new(endpoint, method)?)
        }
        (EngineKind::Uring, ZeroCopy::Off, Some(_)) => {
            code.run(UringTx::<true>::new(endpoint, choice)?)
        }
        (EngineKind::Uring, ..) => code.run(UringTx::<false>::new(endpoint, choice)?),
    }
}

/// Opens a receiver and runs `code` on it.
///
/// # Errors
/// The engine cannot be set up.
pub fn open_rx(
    choice: &EngineChoice,
    endpoint: RxEndpoint<'_>,
    code: impl WithRx,
) -> io::Result<()> {
    let uring = &choice.uring;
    match (choice.kind, uring.receive) {
        (EngineKind::Mio, _) => code.run(MioRx::new(endpoint)?),
        (EngineKind::Uring, UringReceive::Multishot) => {
            code.run(MultishotRx::new(endpoint, uring)?);
        }
        (EngineKind::Uring, UringReceive::Single) => code.run(SingleRx::new(endpoint, uring)?),
    }
    Ok(())
}
