//! The readiness engine: sendmmsg(2), recvmmsg(2) and splice(2) with a mio event loop.
//!
//! mio is edge-triggered, so a socket is read until it is empty before the next wait. mio rounds timeouts up to whole
//! ms, so exact deadlines use a timerfd. Interest in writability is registered only while the send buffer is full;
//! permanent interest would cause a wake-up per datagram.
//!
//! [`MioRx`] receives and [`MioTx`] sends; a [`SharedSocket`] receives on an event loop with other sockets. A [`SendMethod`] passes
//! slots to the socket and frees them: [`CopySend`], [`StampedSend`] (kernel timestamps), [`SpliceSend`] or [`ZeroCopySend`]
//! (`MSG_ZEROCOPY`).

mod copy;
mod rx;
mod shared;
mod splice;
mod stamped;
mod tx;
mod waits;
mod zerocopy;

pub use copy::CopySend;
pub use rx::MioRx;
pub use shared::{SharedSocket, shared_batch};
pub use splice::SpliceSend;
pub use stamped::StampedSend;
pub use tx::{Filled, MioTx, SendMethod};
pub use zerocopy::ZeroCopySend;

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

/// Most pending errors skipped in one receive.
const MOST_PENDING: u32 = 100;

/// Receives one batch; `None` if no message is queued. Pending errors concern earlier sends (ICMP), so they are counted
/// and the receive is retried.
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

/// Waits for an event or until roughly `deadline` in ns. A signal ends the wait early, which callers tolerate.
fn poll(poll: &mut Poll, events: &mut Events, deadline: Option<u64>) -> io::Result<()> {
    let timeout = deadline.map(|at| Duration::from_nanos(at.saturating_sub(monotonic_ns())));
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}
