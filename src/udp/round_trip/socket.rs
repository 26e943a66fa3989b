//! The waits of both ends on a connected socket.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, UdpSocket};
use std::time::Duration;

use socket2::SockRef;

/// Longest sleep without a datagram, after which a thread checks whether it is stopped.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How long a kernel that can polls the device queue for a spinning socket, in µs (`SO_BUSY_POLL`, socket(7)).
const BUSY_POLL_US: libc::c_int = 50;

/// Makes [`receive`] sleep until a datagram arrives, at most [`TICK`].
pub(super) fn set_sleeping(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(TICK))
}

/// Makes [`receive`] return at once, and the kernel poll the device's queue where its driver supports it.
pub(super) fn set_spinning(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // More than `net.core.busy_read` needs CAP_NET_ADMIN. Without it the thread spins all the same.
    let _ = crate::sys::socket::set_busy_poll(socket, BUSY_POLL_US);
    Ok(())
}

/// Receives a datagram. `None` if there is none.
pub(super) fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> io::Result<Option<usize>> {
    match socket.recv(bytes) {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Sleeps until the socket is readable, at most `ns` and a tick.
pub(super) fn sleep(socket: &UdpSocket, ns: u64) {
    crate::sys::socket::await_readable(socket, Duration::from_nanos(ns).min(TICK));
}

/// Wakes a thread that sleeps in [`receive`]. The socket receives nothing from now on.
pub(super) fn wake(socket: &UdpSocket) {
    // It fails for an unconnected socket, whose thread wakes at the next tick.
    let _ = SockRef::from(socket).shutdown(Shutdown::Read);
}
