//! Fields of the IP header of a UDP socket's datagrams: ip(7), ipv6(7).
//!
//! An IPv6 socket has the options of IPv6 only: its datagrams to IPv4 addresses are not affected.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use super::socket::set_int;

/// Sets the TOS byte of IPv4 or the traffic class of IPv6 in sent datagrams: 6 bits of DSCP and 2 of ECN.
///
/// # Errors
/// As setsockopt(2).
pub fn set_tos(socket: &UdpSocket, tos: u8) -> io::Result<()> {
    let options = [
        (libc::SOL_IP, libc::IP_TOS),
        (libc::SOL_IPV6, libc::IPV6_TCLASS),
    ];
    set(socket, options, tos.into())
}

/// Sets the TTL of IPv4 or the hop limit of IPv6 in sent datagrams, to unicast and multicast addresses.
///
/// # Errors
/// As setsockopt(2). IPv4 refuses 0.
pub fn set_hop_limit(socket: &UdpSocket, hops: u8) -> io::Result<()> {
    let unicast = [
        (libc::SOL_IP, libc::IP_TTL),
        (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS),
    ];
    let multicast = [
        (libc::SOL_IP, libc::IP_MULTICAST_TTL),
        (libc::SOL_IPV6, libc::IPV6_MULTICAST_HOPS),
    ];
    set(socket, unicast, hops.into())?;
    set(socket, multicast, hops.into())
}

/// Requests the TOS byte or the traffic class of each received message.
///
/// Messages that GRO coalesces have one value: the kernel does not join packets whose values differ (`inet_gro_receive`,
/// `ipv6_gro_receive`).
///
/// # Errors
/// As setsockopt(2).
pub fn receive_tos(socket: &UdpSocket) -> io::Result<()> {
    let options = [
        (libc::SOL_IP, libc::IP_RECVTOS),
        (libc::SOL_IPV6, libc::IPV6_RECVTCLASS),
    ];
    set(socket, options, 1)
}

/// Sets an option of the socket's family: of IPv4 the first, of IPv6 the second.
fn set(
    socket: &UdpSocket,
    [v4, v6]: [(libc::c_int, libc::c_int); 2],
    value: libc::c_int,
) -> io::Result<()> {
    let (level, name) = match socket.local_addr()?.is_ipv6() {
        true => v6,
        false => v4,
    };
    set_int(socket.as_fd(), level, name, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmsg::ReceiveBatch;
    use crate::sys::socket;

    #[test]
    fn a_received_message_has_the_tos_byte_of_its_sender() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let bind = || socket::bind_udp(local.parse().unwrap()).unwrap();
            let (receiver, sender) = (bind(), bind());
            sender.connect(receiver.local_addr().unwrap()).unwrap();
            set_hop_limit(&sender, 7).unwrap();
            let mut batch = ReceiveBatch::new(4, 100);
            sender.send(b"without").unwrap();
            receive_tos(&receiver).unwrap();
            // Room for every control message at once.
            socket::set_gro(receiver.as_fd(), true).unwrap();
            socket::set_overflow_count(receiver.as_fd()).unwrap();
            for tos in [0xba, 3] {
                set_tos(&sender, tos).unwrap();
                sender.send(b"with").unwrap();
            }
            assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 3);
            let seen: Vec<_> = batch.messages(3).map(|message| message.tos).collect();
            assert_eq!(seen, [Some(0), Some(0xba), Some(3)], "{local}");
        }
    }
}
