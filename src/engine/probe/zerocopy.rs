//! Whether memory can be handed to a UDP socket without a copy, tried on loopback.
//!
//! Loopback copies what `MSG_ZEROCOPY` sends, so its check shows that the kernel takes such sends and tells
//! when it is done, not that a device sends them uncopied.

use std::io;
use std::os::fd::AsFd;

use thiserror::Error;

use super::uring::operations;
use super::{Check, MORE_MEMORY, State, no_effect, pair, patiently};
use crate::engine::choice::{EngineChoice, Kind, ZeroCopy};
use crate::engine::offload::MOST_PAYLOAD;
use crate::sys::error_queue::{self, Entry};
use crate::sys::mmsg::SendBatch;
use crate::sys::pipe::Pipe;
use crate::sys::region::{Pages, Region};
use crate::sys::zerocopy;
use crate::units::grouped;

const AREA: &str = "zero-copy";

/// What is sent: as much as the longest message of a run, since the kernel refuses one that is longer than the
/// memory that may be locked, for ever.
static PAYLOAD: [u8; MOST_PAYLOAD] = [7; MOST_PAYLOAD];

/// Why a sender cannot send without a copy. One sentence, with the way out.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// `SO_ZEROCOPY`.
    #[error(
        "the kernel refuses SO_ZEROCOPY on a UDP socket: {0}; Linux 5.0 or newer has it; choose --zerocopy off"
    )]
    Message(io::Error),
    /// `IORING_OP_SENDMSG_ZC`, with its report whether it copied.
    #[error("io_uring's SENDMSG_ZC fails: {0}; Linux 6.2 or newer has it; choose --zerocopy off")]
    Uring(io::Error),
    /// The pages of a message, which stay locked until it is sent, are more than `RLIMIT_MEMLOCK` allows.
    #[error(
        "too little memory may be locked for messages of {MOST_PAYLOAD} B: {0}; raise that with `{MORE_MEMORY}`, or choose --zerocopy off"
    )]
    Memory(io::Error),
    /// vmsplice(2) or splice(2).
    #[error("pages cannot be spliced into a UDP socket: {0}; choose --zerocopy off")]
    Splice(io::Error),
}

/// Whether a sender of this kind can be had; always where nothing is asked for. Tries it, in under 1 ms.
///
/// # Errors
/// [`Unavailable`].
pub fn available(choice: &EngineChoice) -> Result<(), Unavailable> {
    match (choice.zerocopy, choice.kind) {
        (ZeroCopy::Off, _) => Ok(()),
        (ZeroCopy::Msg, Kind::Mio) => message().map(drop).map_err(because(Unavailable::Message)),
        // Its pages are counted alike, and the trial on the ring is a short one.
        (ZeroCopy::Msg, Kind::Uring) => match message() {
            Err(error) if is_memory(&error) => Err(Unavailable::Memory(error)),
            _ => operations::sends_without_copy().map_err(because(Unavailable::Uring)),
        },
        (ZeroCopy::Splice, _) => splice().map(drop).map_err(Unavailable::Splice),
    }
}

/// The reason `otherwise`, unless it is too little memory.
fn because(otherwise: fn(io::Error) -> Unavailable) -> impl Fn(io::Error) -> Unavailable {
    move |error| match is_memory(&error) {
        true => Unavailable::Memory(error),
        false => otherwise(error),
    }
}

fn is_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

/// Does all that concerns sends without a copy and without io_uring.
pub fn checks() -> Vec<Check> {
    let name = "MSG_ZEROCOPY";
    let message = match message() {
        Err(error) if is_memory(&error) => Check::ok(AREA, name, error.to_string())
            .short(
                State::Missing,
                "--zerocopy msg is refused: less memory may be locked than a message has",
            )
            .lifted_by(MORE_MEMORY),
        outcome => Check::tried(
            AREA,
            name,
            outcome,
            "--zerocopy msg is refused; Linux 5.0 or newer has it",
        ),
    };
    let splice = Check::tried(
        AREA,
        "vmsplice, splice to UDP",
        splice(),
        "--zerocopy splice is refused",
    );
    vec![message, splice]
}

/// Sends a message and waits for the kernel to be done with it.
fn message() -> io::Result<String> {
    let (sender, receiver) = pair()?;
    zerocopy::enable(sender.as_fd())?;
    let memory = payload()?;
    SendBatch::new(1).send_pinned(sender.as_fd(), pages(&memory))?;
    let mut bytes = vec![0; 2 * MOST_PAYLOAD];
    let length = patiently(|| receiver.recv(&mut bytes))?;
    if bytes.get(..length) != Some(&PAYLOAD) {
        return Err(no_effect("what arrived is not what was sent"));
    }
    let copied = patiently(|| {
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

/// [`PAYLOAD`] in pages of its own.
fn payload() -> io::Result<Region> {
    let mut memory = Region::new(MOST_PAYLOAD)?;
    if let Some(bytes) = memory.part_mut(0, MOST_PAYLOAD) {
        bytes.copy_from_slice(&PAYLOAD);
    }
    Ok(memory)
}

fn pages(memory: &Region) -> impl Iterator<Item = Pages<'_>> {
    memory.pages(0, MOST_PAYLOAD).into_iter()
}

/// Lends a page to a socket by way of a pipe that has room for the longest message.
fn splice() -> io::Result<String> {
    let (sender, receiver) = pair()?;
    let (memory, mut pipe) = (payload()?, Pipe::for_message(MOST_PAYLOAD)?);
    for message in pages(&memory) {
        pipe.lend(message, sender.as_fd())?;
    }
    let mut bytes = vec![0; 2 * MOST_PAYLOAD];
    let length = patiently(|| receiver.recv(&mut bytes))?;
    match bytes.get(..length) {
        Some(came) if came == PAYLOAD => Ok(format!("{} B arrived whole", grouped(length as u64))),
        _ => Err(no_effect("what arrived is not what was lent")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_missed() {
        available(&EngineChoice::default()).unwrap();
    }

    #[test]
    fn what_works_is_available() {
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
