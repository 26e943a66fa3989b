//! Availability of zero-copy sends, tried on loopback.
//!
//! Loopback copies `MSG_ZEROCOPY` sends. The trial shows that the kernel accepts such sends and reports their
//! completion, not that a device sends without a copy.

use std::io;
use std::os::fd::AsFd;

use thiserror::Error;

use crate::engine::{EngineChoice, EngineKind, ZeroCopy};
use crate::sys::error_queue::{self, Entry};
use crate::sys::loopback::{no_effect, pair, retry_for_50_ms};
use crate::sys::mmap::{Mmap, Pages};
use crate::sys::mmsg::SendBatch;
use crate::sys::pipe::Pipe;
use crate::sys::rlimit::UNLIMITED_MEMLOCK;
use crate::sys::zerocopy;
use crate::udp::engine::offload::MAX_PAYLOAD;
use crate::units::grouped;
use crate::uring::setup::retry_while_out_of_memory;
use crate::uring::trial::Trial;

/// The payload of the trial, as long as the longest message of a run: a message longer than the lockable memory is
/// refused permanently.
static PAYLOAD: [u8; MAX_PAYLOAD] = [7; MAX_PAYLOAD];

/// Why zero-copy sends are unavailable, in one sentence with a remedy.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// `SO_ZEROCOPY`.
    #[error(
        "the kernel refuses SO_ZEROCOPY on a UDP socket: {0}; requires Linux 5.0; choose --zerocopy off"
    )]
    Message(io::Error),
    /// `IORING_OP_SENDMSG_ZC` with its usage report.
    #[error("io_uring's SENDMSG_ZC fails: {0}; requires Linux 6.2; choose --zerocopy off")]
    Uring(io::Error),
    /// The pages of a message stay locked until it is sent and exceed `RLIMIT_MEMLOCK`.
    #[error(
        "too little lockable memory for messages of {MAX_PAYLOAD} B: {0}; raise the limit with `{UNLIMITED_MEMLOCK}`, or choose --zerocopy off"
    )]
    Memory(io::Error),
    /// vmsplice(2) or splice(2).
    #[error("splicing pages into a UDP socket fails: {0}; choose --zerocopy off")]
    Splice(io::Error),
}

/// Tries the zero-copy method of `choice`, in under 1 ms. Succeeds if none is requested.
///
/// # Errors
/// [`Unavailable`].
pub fn available(choice: &EngineChoice) -> Result<(), Unavailable> {
    match choice.zerocopy {
        ZeroCopy::Off => Ok(()),
        ZeroCopy::Splice => splice().map(drop).map_err(Unavailable::Splice),
        ZeroCopy::Msg if choice.kind == EngineKind::Uring => match message() {
            // The ring's pages count against the same limit, and the trial on the ring uses a short message.
            Err(error) if is_memory(&error) => Err(Unavailable::Memory(error)),
            _ => on_uring().map_err(classify(Unavailable::Uring)),
        },
        ZeroCopy::Msg => message().map(drop).map_err(classify(Unavailable::Message)),
    }
}

/// Whether a ring accepts a zero-copy send and reports its completion and whether the kernel copied.
fn on_uring() -> io::Result<()> {
    retry_while_out_of_memory(|| Trial::new()?.send_zero_copy()).map(drop)
}

/// Maps an error to `otherwise`, unless lockable memory is short.
fn classify(otherwise: fn(io::Error) -> Unavailable) -> impl Fn(io::Error) -> Unavailable {
    move |error| match is_memory(&error) {
        true => Unavailable::Memory(error),
        false => otherwise(error),
    }
}

pub(crate) fn is_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

/// Sends a message with `MSG_ZEROCOPY` and waits for its completion.
pub(crate) fn message() -> io::Result<String> {
    let (sender, receiver) = pair()?;
    zerocopy::enable(sender.as_fd())?;
    let memory = payload()?;
    SendBatch::new(1).send_zerocopy(sender.as_fd(), pages(&memory))?;
    let mut bytes = vec![0; 2 * MAX_PAYLOAD];
    let length = retry_for_50_ms(|| receiver.recv(&mut bytes))?;
    if bytes.get(..length) != Some(&PAYLOAD) {
        return Err(no_effect("the received data differ from the sent data"));
    }
    let copied = retry_for_50_ms(|| {
        let mut copied = None;
        error_queue::read(sender.as_fd(), |entry| {
            if let Entry::ZeroCopy(done) = entry {
                copied = Some(done.copied);
            }
        })?;
        Ok(copied.ok_or(io::ErrorKind::WouldBlock)?)
    })?;
    Ok(match copied {
        true => "works; copied here, as loopback always does".to_owned(),
        false => "works, without a copy".to_owned(),
    })
}

/// [`PAYLOAD`] in its own pages.
fn payload() -> io::Result<Mmap> {
    let mut memory = Mmap::new(MAX_PAYLOAD)?;
    if let Some(bytes) = memory.part_mut(0, MAX_PAYLOAD) {
        bytes.copy_from_slice(&PAYLOAD);
    }
    Ok(memory)
}

fn pages(memory: &Mmap) -> impl Iterator<Item = Pages<'_>> {
    memory.pages(0, MAX_PAYLOAD).into_iter()
}

/// Splices pages through a pipe that has room for the longest message.
pub(crate) fn splice() -> io::Result<String> {
    let (sender, receiver) = pair()?;
    let (memory, mut pipe) = (payload()?, Pipe::for_message(MAX_PAYLOAD)?);
    for message in pages(&memory) {
        pipe.send_pages(message, sender.as_fd())?;
    }
    let mut bytes = vec![0; 2 * MAX_PAYLOAD];
    let length = retry_for_50_ms(|| receiver.recv(&mut bytes))?;
    match bytes.get(..length) {
        Some(came) if came == PAYLOAD => Ok(format!("{} B arrived whole", grouped(length as u64))),
        _ => Err(no_effect("the received data differ from the spliced data")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copying_is_always_available() {
        available(&EngineChoice::default()).unwrap();
    }

    #[test]
    fn working_methods_are_available() {
        for (zerocopy, outcome) in [(ZeroCopy::Msg, message()), (ZeroCopy::Splice, splice())] {
            let choice = EngineChoice {
                zerocopy,
                ..EngineChoice::default()
            };
            match outcome {
                Ok(_) => available(&choice).unwrap(),
                Err(error) => println!("skipped: no zero-copy {} here: {error}", zerocopy.name()),
            }
        }
    }
}
