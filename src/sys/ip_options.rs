//! Fields of the IP header of a UDP socket's datagrams, and multicast groups: ip(7), ipv6(7).
//!
//! An IPv6 socket has the options of IPv6 only: its datagrams to IPv4 addresses are not affected.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{InterfaceIndexOrAddress, SockRef};

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

/// Sends datagrams to multicast groups over the network interface with this index.
///
/// # Errors
/// As setsockopt(2).
pub fn send_groups_over(socket: &UdpSocket, interface: u32) -> io::Result<()> {
    if socket.local_addr()?.is_ipv6() {
        return SockRef::from(socket).set_multicast_if_v6(interface);
    }
    let index = libc::c_int::try_from(interface).map_err(io::Error::other)?;
    let any = libc::in_addr { s_addr: 0 };
    let request = libc::ip_mreqn {
        imr_multiaddr: any,
        imr_address: any,
        imr_ifindex: index,
    };
    // SAFETY: `request` is readable for the length of the call.
    unsafe {
        syscall!(setsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_MULTICAST_IF,
            (&raw const request).cast(),
            size_of::<libc::ip_mreqn>() as libc::socklen_t
        ))?;
    }
    Ok(())
}

/// Joins a multicast group on the network interface with this index, until the socket is closed.
///
/// # Errors
/// As setsockopt(2): `ENODEV` if the interface has no multicast, `ENOBUFS` with too many groups.
pub fn join_group(socket: &UdpSocket, group: IpAddr, interface: u32) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match group {
        IpAddr::V4(group) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, interface),
    }
}

/// A socket on an unspecified address receives datagrams to no groups but its own. Linux would add those that other sockets join.
///
/// # Errors
/// As setsockopt(2), of IPv6 on kernels before 4.20.
pub fn exclude_other_groups(socket: &UdpSocket) -> io::Result<()> {
    /// Of linux/in6.h.
    const IPV6_MULTICAST_ALL: libc::c_int = 29;
    let of_v4 = set_int(socket.as_fd(), libc::SOL_IP, libc::IP_MULTICAST_ALL, 0);
    match socket.local_addr()?.is_ipv6() {
        true => set_int(socket.as_fd(), libc::SOL_IPV6, IPV6_MULTICAST_ALL, 0),
        false => of_v4,
    }
}

/// The address of a port in a multicast group. A group of one link or interface needs the index of the interface.
pub fn group_address(group: IpAddr, port: u16, interface: u32) -> SocketAddr {
    match group {
        IpAddr::V6(group) if matches!(group.segments()[0] & 0xf, 1 | 2) => {
            SocketAddrV6::new(group, port, 0, interface).into()
        }
        group => SocketAddr::new(group, port),
    }
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
    fn a_group_has_its_member_and_no_other_socket() {
        let group = "239.77.1.1".parse().unwrap();
        // The index of the loopback interface in every network namespace.
        let interface = 1;
        let bind = |local: &str| {
            let socket = crate::sys::shared_port::listen(local.parse().unwrap()).unwrap();
            let port = socket.local_addr().unwrap().port();
            (socket, port)
        };
        let (other, port) = bind("0.0.0.0:0");
        let (member, _) = bind(&format!("239.77.1.1:{port}"));
        join_group(&member, group, interface).unwrap();
        let (sender, _) = bind("127.0.0.1:0");
        send_groups_over(&sender, interface).unwrap();
        sender
            .connect(group_address(group, port, interface))
            .unwrap();
        sender.send(b"to the group").unwrap();
        let mut bytes = [0; 20];
        assert_eq!(member.recv(&mut bytes).unwrap(), 12);
        assert!(other.recv(&mut bytes).is_err());
        let link = group_address("ff02::77".parse().unwrap(), 9, 3);
        assert_eq!(link, "[ff02::77%3]:9".parse().unwrap());
        let site = group_address("ff15::77".parse().unwrap(), 9, 3);
        assert_eq!(site, "[ff15::77]:9".parse().unwrap());
    }

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
