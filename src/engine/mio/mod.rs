//! The readiness engine: sendmmsg(2), recvmmsg(2) and splice(2) on a mio event loop.
//!
//! mio is edge-triggered: a socket is read until it is empty before the next sleep. It also rounds
//! timeouts up to whole ms, so exact deadlines go through a timerfd. Writability is asked for only
//! while the send buffer is full; a standing interest would cost a wake-up for every datagram sent.
//!
//! [`MioRx`] receives, [`MioTx`] sends; how a sender's slot gets to the socket, and when its memory is free again, is one of
//! [`Copying`], [`Pages`] (splice) and [`Pinned`] (`MSG_ZEROCOPY`).

mod copy;
mod pages;
mod pinned;
mod rx;
mod tx;

pub use copy::Copying;
pub use pages::Pages;
pub use pinned::Pinned;
pub use rx::MioRx;
pub use tx::{Filled, Handover, MioTx};

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::errors::PendingErrors;
use crate::sys::clock::monotonic_ns;
use crate::sys::mmsg::ReceiveBatch;
use crate::sys::zerocopy::Done;

const SOCKET: Token = Token(0);
const TIMER: Token = Token(1);
const WAKE: Token = Token(2);

/// Pending errors that are passed over before a receive gives up until the next time.
const MOST_PENDING: u32 = 100;

/// One batch, or `None` when there is nothing. Pending errors only report what became of an earlier send (ICMP); they are
/// counted and passed over.
fn receive_batch(
    batch: &mut ReceiveBatch,
    socket: &UdpSocket,
    errors: &mut PendingErrors,
    mut done: impl FnMut(Done),
) -> io::Result<Option<usize>> {
    for _ in 0..MOST_PENDING {
        match batch.receive(socket.as_fd()) {
            Ok(count) => return Ok(Some(count)),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(None),
                Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::ENOMEM) => {
                    return Err(error);
                }
                _ => errors.collect(socket.as_fd(), &mut done),
            },
        }
    }
    Ok(None)
}

/// Sleeps until any event or about `deadline` in ns. A signal ends the sleep early, which is fine:
/// every caller looks again.
fn poll(poll: &mut Poll, events: &mut Events, deadline: Option<u64>) -> io::Result<()> {
    let timeout = deadline.map(|at| Duration::from_nanos(at.saturating_sub(monotonic_ns())));
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}
