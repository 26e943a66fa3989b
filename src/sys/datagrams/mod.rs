//! Runs of datagrams with their addresses and TOS: the sockets and batches of a forwarder (udp(7), ip(7), ipv6(7)).
//!
//! A run is datagrams of one sender and one size, of which the last may be shorter. The kernel receives it as one message
//! (`UDP_GRO`) and sends it as one (`UDP_SEGMENT`). Unlike [`super::mmsg`], each message has its own destination, source,
//! segment size and TOS.

mod receive;
mod send;

pub use receive::{Arrival, Arrivals};
pub use send::{Departure, Departures};
pub(crate) use send::{Queued, QueuedDepartures};

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::socket::{set_gro, set_int, set_overflow_count};

/// Most bytes of UDP payload of one message: 65,535 minus the UDP header. Over IPv4, 20 less.
pub const MAX_MESSAGE: usize = 65_527;

/// Most bytes of UDP payload of one message over IPv4, segmented or not.
pub const MAX_RUN_BYTES: usize = 65_507;

/// Most datagrams of a run that every kernel with `UDP_SEGMENT` sends (`UDP_MAX_SEGMENTS`; 128 from Linux 6.9 on).
pub const MAX_RUN: usize = 64;

/// A socket on `local` for the datagrams of all clients. It reports the TOS of each, and with an unspecified address also
/// the address to which each was sent. With `shared` several sockets have the port, and the kernel selects one by the
/// client's address (`SO_REUSEPORT`). With `only_v6` an IPv6 socket leaves IPv4 to others.
///
/// # Errors
/// As socket(2), setsockopt(2) and bind(2).
pub fn listen(local: SocketAddr, shared: bool, only_v6: bool) -> io::Result<UdpSocket> {
    let socket = new_socket(local)?;
    socket.set_reuse_port(shared)?;
    if local.is_ipv6() && only_v6 {
        socket.set_only_v6(true)?;
    }
    report(socket.as_fd(), local, local.ip().is_unspecified())?;
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// A socket that exchanges datagrams with `server` only, apart from datagrams of any source that it queued before it was connected. The
/// kernel selects its port. Messages have the number of dropped ones, if there are any.
///
/// # Errors
/// As socket(2), setsockopt(2) and connect(2): no route; `EAGAIN` if no port is free.
pub fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(server)?;
    report(socket.as_fd(), server, false)?;
    set_overflow_count(socket.as_fd())?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

/// A socket on `local` that sends to any address of its family and receives from any. The kernel selects the port if it is 0.
///
/// # Errors
/// As socket(2), setsockopt(2) and bind(2).
pub fn bind(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(local)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    report(socket.as_fd(), local, false)?;
    socket.bind(&local.into())?;
    Ok(socket.into())
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))
}

fn report(socket: BorrowedFd<'_>, address: SocketAddr, destination: bool) -> io::Result<()> {
    // Without GRO (before Linux 5.0) each message is a datagram.
    let _ = set_gro(socket, true);
    // An IPv6 socket that also receives IPv4 needs the options of both families.
    set_int(socket, libc::SOL_IP, libc::IP_RECVTOS, 1)?;
    if address.is_ipv6() {
        set_int(socket, libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        if destination {
            set_int(socket, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        }
    } else if destination {
        set_int(socket, libc::SOL_IP, libc::IP_PKTINFO, 1)?;
    }
    Ok(())
}

/// Waits at most `limit` for room in the send buffer. May return early.
pub fn await_room(socket: BorrowedFd<'_>, limit: Duration) {
    use std::os::fd::AsRawFd;
    let mut polled = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    let limit = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: poll(2) reads and writes one pollfd.
    unsafe { libc::poll(&raw mut polled, 1, limit) };
}

#[cfg(test)]
mod tests;
