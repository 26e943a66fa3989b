//! Sockets and the options of them that wirebench sets or reads back: socket(7), udp(7), ip(7).

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Receive and send buffer sizes as the kernel has them, in bytes. It doubles what is asked for,
/// to have room for its own bookkeeping, and clamps it first (socket(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// `SO_SNDBUF` as read back.
    pub send: usize,
    /// `SO_RCVBUF` as read back.
    pub receive: usize,
}

/// A non-blocking UDP socket bound to `local`. An IPv6 one takes no IPv4 traffic.
///
/// # Errors
/// As socket(2) and bind(2): address in use, not of this host, not permitted.
pub fn bind_udp(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// Binds a socket to a local address.
///
/// # Errors
/// As bind(2).
pub fn bind(socket: &UdpSocket, local: SocketAddr) -> io::Result<()> {
    socket2::SockRef::from(socket).bind(&local.into())
}

/// Keeps a socket to one interface (`SO_BINDTODEVICE`, socket(7)).
///
/// # Errors
/// `ENODEV` where there is no such interface; `EPERM` on kernels before 5.7 without `CAP_NET_RAW`.
pub fn bind_device(socket: &UdpSocket, device: &str) -> io::Result<()> {
    socket2::SockRef::from(socket).bind_device(Some(device.as_bytes()))
}

/// A TCP socket bound to the address of `local` and any port, not connected yet.
///
/// # Errors
/// As socket(2) and bind(2): not of this host.
pub fn bind_tcp(mut local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(local),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    local.set_port(0);
    socket.bind(&local.into())?;
    Ok(socket)
}

/// Asks for buffer sizes in bytes (`None` leaves the system's default) and reads both back.
///
/// What exceeds `rmem_max` or `wmem_max` is asked for once more with the privileged
/// `SO_RCVBUFFORCE` and `SO_SNDBUFFORCE` when `force` is set; without the right to, the clamped size stays.
///
/// # Errors
/// As setsockopt(2) and getsockopt(2); a size that is clamped is not an error.
pub fn set_buffers(
    socket: &UdpSocket,
    send: Option<usize>,
    receive: Option<usize>,
    force: bool,
) -> io::Result<Buffers> {
    let options = socket2::SockRef::from(socket);
    if let Some(bytes) = receive {
        options.set_recv_buffer_size(bytes)?;
        if force && options.recv_buffer_size()? < bytes {
            let _ = set_int(
                socket.as_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                clamp(bytes),
            );
        }
    }
    if let Some(bytes) = send {
        options.set_send_buffer_size(bytes)?;
        if force && options.send_buffer_size()? < bytes {
            let _ = set_int(
                socket.as_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUFFORCE,
                clamp(bytes),
            );
        }
    }
    Ok(Buffers {
        send: options.send_buffer_size()?,
        receive: options.recv_buffer_size()?,
    })
}

fn clamp(bytes: usize) -> libc::c_int {
    libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX)
}

/// From now on a send longer than `bytes` leaves as datagrams of `bytes` each, the last one shorter
/// (udp(7), `UDP_SEGMENT`). 0 switches that off.
///
/// # Errors
/// `ENOPROTOOPT` on kernels before 4.18.
pub fn set_segment_size(socket: BorrowedFd<'_>, bytes: u16) -> io::Result<()> {
    set_int(socket, libc::SOL_UDP, libc::UDP_SEGMENT, bytes.into())
}

/// Lets the kernel hand over several datagrams of one flow as one message (udp(7), `UDP_GRO`).
///
/// # Errors
/// `ENOPROTOOPT` on kernels before 5.0.
pub fn set_gro(socket: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set_int(socket, libc::SOL_UDP, libc::UDP_GRO, on.into())
}

/// How many datagrams the kernel has dropped at this socket since it was made: `SK_MEMINFO_DROPS`
/// of `SO_MEMINFO`, the counter that `SO_RXQ_OVFL` hands out too, readable at any time.
///
/// With GRO on, a dropped run of datagrams counts as one or as all of them, depending on the kernel.
///
/// # Errors
/// As getsockopt(2), on kernels before 4.12.
pub fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(memory_info(socket)?[SK_MEMINFO_DROPS])
}

/// Bytes of send buffer that are free now: `sk_sndbuf` less `sk_wmem_alloc` of `SO_MEMINFO`. Only the socket's own
/// sends make it less.
///
/// # Errors
/// As getsockopt(2), on kernels before 4.12.
pub fn send_room(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let info = memory_info(socket)?;
    Ok(info[SK_MEMINFO_SNDBUF].saturating_sub(info[SK_MEMINFO_WMEM_ALLOC]) as usize)
}

/// What a message of `bytes` takes of the send buffer at most (`skb->truesize`): memory comes in powers of
/// two, and with it two descriptors. Where the pages themselves are sent, each that is touched counts in whole.
pub fn send_charge(bytes: usize, pages: bool) -> usize {
    const PAGE: usize = 4_096;
    let data = if pages {
        (bytes.div_ceil(PAGE) + 1) * PAGE
    } else {
        2 * bytes
    };
    data + 2_048
}

// Places in what `SO_MEMINFO` gives (linux/sock_diag.h).
const SK_MEMINFO_WMEM_ALLOC: usize = 2;
const SK_MEMINFO_SNDBUF: usize = 3;
const SK_MEMINFO_DROPS: usize = 8;
const SK_MEMINFO_VARS: usize = 9;

fn memory_info(socket: BorrowedFd<'_>) -> io::Result<[u32; SK_MEMINFO_VARS]> {
    let mut info = [0u32; SK_MEMINFO_VARS];
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` has `length` writable bytes, and the kernel writes no more than that.
    unsafe {
        syscall!(getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut length
        ))?;
    }
    Ok(info)
}

/// Asks for `SO_RXQ_OVFL`: each message received carries the socket's count of drops so far.
///
/// # Errors
/// As setsockopt(2).
pub fn set_overflow_count(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
}

/// The path MTU a connected socket knows of, in bytes of IP packet (ip(7) `IP_MTU`, ipv6(7) `IPV6_MTU`).
///
/// # Errors
/// `ENOTCONN` if the socket is not connected.
pub fn path_mtu(socket: &UdpSocket) -> io::Result<usize> {
    let (level, name) = if socket.local_addr()?.is_ipv6() {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU)
    };
    let mut mtu: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `mtu` has `length` writable bytes.
    unsafe {
        syscall!(getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut mtu).cast(),
            &raw mut length
        ))?;
    }
    Ok(usize::try_from(mtu).unwrap_or(0))
}

/// Bytes that IP and UDP add to a datagram of a connected socket: 28 over IPv4, 48 over IPv6. Options and extension headers
/// are not counted.
pub fn headers(socket: &UdpSocket) -> usize {
    let peer = socket.peer_addr().or_else(|_| socket.local_addr());
    match peer.map(|peer| peer.ip().to_canonical()) {
        Ok(IpAddr::V6(_)) => 40 + 8,
        _ => 20 + 8,
    }
}

/// Whether datagrams may be fragmented on their way (ip(7) `IP_MTU_DISCOVER`, ipv6(7) `IPV6_MTU_DISCOVER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathMtuDiscovery {
    /// Nowhere: the DF bit is set, and a datagram longer than the path MTU is refused with `EMSGSIZE`.
    Do,
    /// Here where the path MTU is known to be smaller, else nowhere: the DF bit is set on what fits.
    Want,
    /// Here and at every router (IPv4); here only (IPv6).
    Dont,
}

/// Sets the policy for both address families, so that it holds for IPv4 on an IPv6 socket too.
///
/// # Errors
/// As setsockopt(2).
pub fn set_path_mtu_discovery(socket: &UdpSocket, policy: PathMtuDiscovery) -> io::Result<()> {
    let (v4, v6) = match policy {
        PathMtuDiscovery::Do => (libc::IP_PMTUDISC_DO, libc::IPV6_PMTUDISC_DO),
        PathMtuDiscovery::Want => (libc::IP_PMTUDISC_WANT, libc::IPV6_PMTUDISC_WANT),
        PathMtuDiscovery::Dont => (libc::IP_PMTUDISC_DONT, libc::IPV6_PMTUDISC_DONT),
    };
    let fd = socket.as_fd();
    let of_v4 = set_int(fd, libc::SOL_IP, libc::IP_MTU_DISCOVER, v4);
    match socket.local_addr()?.is_ipv6() {
        // Of use only where the socket takes IPv4 too.
        true => set_int(fd, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, v6),
        false => of_v4,
    }
}

/// Lets a connected socket's datagrams be fragmented where they carry more than `payload` bytes: at any router for IPv4, by
/// this host for IPv6, whose routers do not (RFC 8200, section 5).
///
/// # Errors
/// As setsockopt(2).
pub fn fragment_at(socket: &UdpSocket, payload: usize) -> io::Result<()> {
    /// What every IPv6 link carries.
    const LEAST: usize = 1_280;
    set_path_mtu_discovery(socket, PathMtuDiscovery::Dont)?;
    if !socket.local_addr()?.is_ipv6() {
        return Ok(());
    }
    let mtu = (payload + headers(socket)).max(LEAST);
    set_int(
        socket.as_fd(),
        libc::SOL_IPV6,
        libc::IPV6_MTU,
        libc::c_int::try_from(mtu).unwrap_or(libc::c_int::MAX),
    )
}

pub(super) fn set_int(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: `value` is a readable int for the length of the call.
    unsafe {
        syscall!(setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> UdpSocket {
        bind_udp("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    #[test]
    fn buffers_are_read_back_as_the_kernel_has_them() {
        let socket = loopback();
        let buffers = set_buffers(&socket, Some(20_000), Some(30_000), false).unwrap();
        assert_eq!(
            buffers,
            Buffers {
                send: 40_000,
                receive: 60_000
            }
        );
    }

    #[test]
    fn what_overflows_a_small_buffer_is_counted_as_dropped() {
        let receiver = loopback();
        set_buffers(&receiver, None, Some(4_096), false).unwrap();
        let sender = loopback();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        for _ in 0..100 {
            sender.send(&[0; 1000]).unwrap();
        }
        let mut kept = 0;
        while receiver.recv(&mut [0; 1000]).is_ok() {
            kept += 1;
        }
        assert_eq!(drops(receiver.as_fd()).unwrap(), 100 - kept);
        assert!(kept < 100);
    }

    #[test]
    fn every_policy_is_taken_by_both_families() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let socket = bind_udp(local.parse().unwrap()).unwrap();
            socket.connect(socket.local_addr().unwrap()).unwrap();
            assert_eq!(
                headers(&socket),
                if local.starts_with('[') { 48 } else { 28 }
            );
            for policy in [
                PathMtuDiscovery::Do,
                PathMtuDiscovery::Want,
                PathMtuDiscovery::Dont,
            ] {
                set_path_mtu_discovery(&socket, policy).unwrap();
            }
        }
    }

    #[test]
    fn the_path_mtu_of_loopback_is_that_of_the_device() {
        let (a, b) = (loopback(), loopback());
        assert!(path_mtu(&a).is_err());
        a.connect(b.local_addr().unwrap()).unwrap();
        assert!(path_mtu(&a).unwrap() >= 1_280);
    }
}
