//! Creation and options of UDP sockets: socket(7), udp(7), ip(7).

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Buffer sizes as the kernel reports them, in bytes. The kernel clamps the requested size and doubles it for its
/// bookkeeping (socket(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// `SO_SNDBUF` as read back.
    pub send: usize,
    /// `SO_RCVBUF` as read back.
    pub receive: usize,
}

/// A non-blocking UDP socket bound to `local`. An IPv6 socket receives no IPv4.
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

/// Binds a socket to an interface (`SO_BINDTODEVICE`, socket(7)).
///
/// # Errors
/// `ENODEV` if the interface does not exist; `EPERM` on kernels before 5.7 without `CAP_NET_RAW`.
pub fn bind_device(socket: &UdpSocket, device: &str) -> io::Result<()> {
    socket2::SockRef::from(socket).bind_device(Some(device.as_bytes()))
}

/// An unconnected TCP socket bound to the address of `local` with any port.
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

/// Requests buffer sizes in bytes (`None` keeps the system's default) and reads both back.
///
/// With `force`, a size above `rmem_max` or `wmem_max` is requested again with the privileged `SO_RCVBUFFORCE` or
/// `SO_SNDBUFFORCE`. Without privilege the clamped size stays.
///
/// # Errors
/// As setsockopt(2) and getsockopt(2). A clamped size is not an error.
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

/// Sleeps until the socket is readable, at most `limit`. May return early.
pub fn await_readable(socket: &UdpSocket, limit: Duration) {
    let mut polled = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // SAFETY: ppoll(2) reads and writes one pollfd, reads the timespec, and changes no signal mask.
    unsafe { libc::ppoll(&raw mut polled, 1, &raw const timeout, std::ptr::null()) };
}

/// Whether a receive would not wait: a datagram or an error is queued.
pub fn is_readable(socket: BorrowedFd<'_>) -> bool {
    poll(socket) != 0
}

/// Whether a datagram is queued.
pub fn has_datagram(socket: BorrowedFd<'_>) -> bool {
    poll(socket) & libc::POLLIN != 0
}

/// Events of poll(2) without waiting: `POLLIN`, and errors.
fn poll(socket: BorrowedFd<'_>) -> libc::c_short {
    let mut polled = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: poll(2) reads and writes one pollfd, and returns at once.
    unsafe { libc::poll(&raw mut polled, 1, 0) };
    polled.revents
}

/// Polls the device's queue for up to `us` in a receive that finds no datagram (socket(7), `SO_BUSY_POLL`).
///
/// # Errors
/// `EPERM` if the value is raised without `CAP_NET_ADMIN`.
pub fn set_busy_poll(socket: &UdpSocket, us: libc::c_int) -> io::Result<()> {
    set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BUSY_POLL, us)
}

/// Splits longer sends into datagrams of `bytes` each, the last shorter (udp(7), `UDP_SEGMENT`). 0 disables splitting.
///
/// # Errors
/// `ENOPROTOOPT` on kernels before 4.18.
pub fn set_segment_size(socket: BorrowedFd<'_>, bytes: u16) -> io::Result<()> {
    set_int(socket, libc::SOL_UDP, libc::UDP_SEGMENT, bytes.into())
}

/// Allows the kernel to deliver several datagrams of one flow as one message (udp(7), `UDP_GRO`).
///
/// # Errors
/// `ENOPROTOOPT` on kernels before 5.0.
pub fn set_gro(socket: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set_int(socket, libc::SOL_UDP, libc::UDP_GRO, on.into())
}

/// Datagrams dropped at this socket since its creation: `SK_MEMINFO_DROPS` of `SO_MEMINFO`, the counter that
/// `SO_RXQ_OVFL` reports, readable at any time.
///
/// With GRO a dropped run of datagrams counts as one or as all of them, depending on the kernel.
///
/// # Errors
/// As getsockopt(2), on kernels before 4.12.
pub fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(memory_info(socket)?[SK_MEMINFO_DROPS])
}

/// Free bytes of the send buffer: `sk_sndbuf` minus `sk_wmem_alloc` of `SO_MEMINFO`. Only sends of this socket reduce
/// it.
///
/// # Errors
/// As getsockopt(2), on kernels before 4.12.
pub fn send_room(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let info = memory_info(socket)?;
    Ok(info[SK_MEMINFO_SNDBUF].saturating_sub(info[SK_MEMINFO_WMEM_ALLOC]) as usize)
}

/// Most bytes that a message of `bytes` charges to the send buffer (`skb->truesize`): memory is allocated in powers of
/// two, plus two descriptors. If pages are sent, each touched page counts in full.
pub fn send_charge(bytes: usize, pages: bool) -> usize {
    const PAGE: usize = 4_096;
    let data = if pages {
        (bytes.div_ceil(PAGE) + 1) * PAGE
    } else {
        2 * bytes
    };
    data + 2_048
}

// Indices of `SO_MEMINFO` (linux/sock_diag.h).
const SK_MEMINFO_WMEM_ALLOC: usize = 2;
const SK_MEMINFO_SNDBUF: usize = 3;
const SK_MEMINFO_DROPS: usize = 8;
const SK_MEMINFO_VARS: usize = 9;

fn memory_info(socket: BorrowedFd<'_>) -> io::Result<[u32; SK_MEMINFO_VARS]> {
    let mut info = [0u32; SK_MEMINFO_VARS];
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` has `length` writable bytes, and the kernel writes no more.
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

/// Requests `SO_RXQ_OVFL`: each received message carries the drop count of the socket.
///
/// # Errors
/// As setsockopt(2).
pub fn set_overflow_count(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
}

/// The path MTU known to a connected socket, in bytes of IP packet (ip(7) `IP_MTU`, ipv6(7) `IPV6_MTU`).
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

/// Bytes of the IP and UDP headers of a connected socket's datagrams: 28 for IPv4, 48 for IPv6, without options and
/// extension headers.
pub fn headers(socket: &UdpSocket) -> usize {
    let peer = socket.peer_addr().or_else(|_| socket.local_addr());
    match peer.map(|peer| peer.ip().to_canonical()) {
        Ok(IpAddr::V6(_)) => 40 + 8,
        _ => 20 + 8,
    }
}

/// Fragmentation policy (ip(7) `IP_MTU_DISCOVER`, ipv6(7) `IPV6_MTU_DISCOVER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathMtuDiscovery {
    /// Never: DF is set, and a datagram longer than the path MTU is refused with `EMSGSIZE`.
    Do,
    /// On this host if the datagram exceeds the known path MTU. DF is set on datagrams that fit.
    Want,
    /// On this host and, for IPv4, at every router.
    Dont,
}

/// Sets the policy for both address families, so that it also applies to IPv4 on an IPv6 socket.
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
        // Only effective if the socket also accepts IPv4.
        true => set_int(fd, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, v6),
        false => of_v4,
    }
}

/// Allows fragmentation of a connected socket's datagrams with more than `payload` bytes: at any router for IPv4, on
/// this host for IPv6, whose routers do not fragment (RFC 8200, section 5).
///
/// # Errors
/// As setsockopt(2).
pub fn fragment_at(socket: &UdpSocket, payload: usize) -> io::Result<()> {
    /// The minimum MTU of IPv6.
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
    fn buffers_are_reported_as_the_kernel_grants_them() {
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
    fn overflow_of_a_small_buffer_is_counted_as_drops() {
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
    fn both_families_accept_every_policy() {
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
    fn path_mtu_of_loopback_is_the_mtu_of_the_device() {
        let (a, b) = (loopback(), loopback());
        assert!(path_mtu(&a).is_err());
        a.connect(b.local_addr().unwrap()).unwrap();
        assert!(path_mtu(&a).unwrap() >= 1_280);
    }
}
