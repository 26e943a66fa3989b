//! Addresses that the kernel delivers to this host, and notifications of changes: rtnetlink(7).
//!
//! These are the entries of the routing table `local` (ip-route(8)): addresses of interfaces, whole networks such as
//! 127.0.0.0/8, and `AnyIP` routes, which the address lists of interfaces lack.

use std::io::{self, Read};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Larger than any message of a dump (`netlink_dump` in the kernel limits messages to 32 KiB).
const BUFFER: usize = 64 << 10;

/// Longest wait for the kernel, which replies at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sizes of `struct nlmsghdr` and `struct rtmsg`.
const HEADER: usize = 16;
const ROUTE: usize = 12;

/// The networks whose addresses the kernel delivers to this host, each as first and last address.
///
/// # Errors
/// As socket(2), where AF_NETLINK may be forbidden, send(2) and recv(2); errors in the kernel's reply.
pub fn networks() -> io::Result<Vec<(IpAddr, IpAddr)>> {
    let mut networks = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        dump(family, &mut networks)?;
    }
    Ok(networks)
}

/// Notifies when [`networks`] may have changed.
#[derive(Debug)]
pub struct Changes(Socket);

impl Changes {
    /// Subscribes to changes from now on.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub fn new() -> io::Result<Self> {
        let groups = libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_ROUTE
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV6_IFADDR;
        let socket = open()?;
        socket.bind(&address(groups as u32)?)?;
        Ok(Self(socket))
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// As recv(2).
    pub fn wait(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match (&self.0).read(&mut buffer) {
                Ok(bytes) => {
                    let received = buffer.get(..bytes).unwrap_or_default();
                    if messages(received).any(|message| is_change(&message)) {
                        return Ok(());
                    }
                }
                // Notifications were lost. One may have been of this type.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn open() -> io::Result<Socket> {
    Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(libc::NETLINK_ROUTE)),
    )
}

/// A socket subscribed to these groups, with a port number from the kernel.
fn address(groups: u32) -> io::Result<SockAddr> {
    // SAFETY: all-zero is a valid `sockaddr_nl`, which contains only integers.
    let mut own: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    own.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    own.nl_groups = groups;
    // SAFETY: the storage is writable and larger than any address, and the length is that of the written address.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_nl>().write(own);
            *length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

/// Requests the table `local` of one family.
fn dump(family: libc::c_int, networks: &mut Vec<(IpAddr, IpAddr)>) -> io::Result<()> {
    let mut socket = open()?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Without strict checking the kernel sends all tables, which are millions of routes on a router.
    let on: libc::c_int = 1;
    // SAFETY: `on` is readable for the given length during the call.
    unsafe {
        syscall!(setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_GET_STRICT_CHK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        ))?
    };
    socket.send(&request(family))?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let bytes = match socket.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        for message in messages(buffer.get(..bytes).unwrap_or_default()) {
            match libc::c_int::from(message.kind) {
                libc::NLMSG_DONE | libc::NLMSG_ERROR => return dump_end(&message),
                _ => networks.extend(network(&message)),
            }
        }
    }
}

/// Handles the end of a dump. A missing family or table has no addresses.
fn dump_end(message: &Message) -> io::Result<()> {
    let number = message
        .body
        .first_chunk()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    match -number {
        0 | libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Builds `RTM_GETROUTE` for a table of a family.
fn request(family: libc::c_int) -> [u8; HEADER + ROUTE] {
    let mut bytes = [0; HEADER + ROUTE];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let fields = [
        (0, &((HEADER + ROUTE) as u32).to_ne_bytes()[..]),
        (4, &libc::RTM_GETROUTE.to_ne_bytes()[..]),
        (6, &flags.to_ne_bytes()[..]),
        (HEADER, &[family as u8][..]),
        (HEADER + 4, &[libc::RT_TABLE_LOCAL][..]),
    ];
    for (at, value) in fields {
        if let Some(place) = bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
    bytes
}

/// A message and its header.
struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

/// The messages of a datagram, up to the first truncated one.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = u32::from_ne_bytes(*length) as usize;
        let kind = u16::from_ne_bytes(*rest.first_chunk()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, body })
    })
}

fn is_change(message: &Message) -> bool {
    match message.kind {
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => is_local(message.body),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => true,
        _ => false,
    }
}

/// Whether a route leads to this host. `rtm_type` is the eighth byte of a `struct rtmsg`.
fn is_local(route: &[u8]) -> bool {
    matches!(route.get(7), Some(&(libc::RTN_LOCAL | libc::RTN_ANYCAST)))
}

/// First and last address of a route to this host.
fn network(message: &Message) -> Option<(IpAddr, IpAddr)> {
    if message.kind != libc::RTM_NEWROUTE || !is_local(message.body) {
        return None;
    }
    let [_family, length] = *message.body.first_chunk()?;
    let mut attributes = message.body.get(ROUTE..)?;
    while let Some((size, rest)) = attributes.split_first_chunk() {
        let size = usize::from(u16::from_ne_bytes(*size));
        if u16::from_ne_bytes(*rest.first_chunk()?) == libc::RTA_DST {
            return ends(attributes.get(4..size)?, length);
        }
        attributes = attributes.get(size.max(4).next_multiple_of(4)..)?;
    }
    None
}

fn ends(address: &[u8], length: u8) -> Option<(IpAddr, IpAddr)> {
    if let Ok(octets) = <[u8; 4]>::try_from(address) {
        let first = u32::from_be_bytes(octets);
        let rest = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        return Some((
            Ipv4Addr::from(first).into(),
            Ipv4Addr::from(first | rest).into(),
        ));
    }
    let first = u128::from_be_bytes(<[u8; 16]>::try_from(address).ok()?);
    let rest = u128::MAX.checked_shr(length.into()).unwrap_or(0);
    Some((
        Ipv6Addr::from(first).into(),
        Ipv6Addr::from(first | rest).into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::route::is_of_this_host;
    use super::*;

    #[test]
    fn addresses_of_this_host_are_in_the_table_and_others_are_not() {
        let networks = networks().unwrap();
        let has = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            networks.iter().any(|(first, last)| {
                address.is_ipv4() == first.is_ipv4() && (*first..=*last).contains(&address)
            })
        };
        for address in ["127.0.0.1", "127.255.0.9"] {
            assert_eq!(has(address), is_of_this_host(address.parse().unwrap()));
        }
        for address in ["192.0.2.1", "2001:db8::1", "255.255.255.255"] {
            assert!(!has(address), "{address}");
        }
        for (first, last) in &networks {
            // Link-local addresses need a scope.
            let has_scope = matches!(first, IpAddr::V6(first) if first.is_unicast_link_local());
            assert!(
                first <= last && (has_scope || is_of_this_host(*first)),
                "{first} {last}"
            );
        }
    }

    #[test]
    fn waiting_for_a_change_ends_with_a_change() {
        assert!(Changes::new().is_ok());
    }

    #[test]
    fn arbitrary_bytes_are_parsed_without_panic() {
        let mut state = 1u64;
        for length in 0..400 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    // Small numbers make valid lengths likely.
                    (state >> 40) as u8 & 31
                })
                .collect();
            for message in messages(&bytes) {
                let _ = (is_change(&message), network(&message));
            }
        }
    }

    #[test]
    fn route_is_parsed_in_the_kernels_format() {
        let mut bytes = request(libc::AF_INET).to_vec();
        let put = |bytes: &mut Vec<u8>, at: usize, value: &[u8]| {
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        put(&mut bytes, 4, &libc::RTM_NEWROUTE.to_ne_bytes());
        put(&mut bytes, HEADER + 1, &[8]);
        put(&mut bytes, HEADER + 7, &[libc::RTN_LOCAL]);
        // RTA_TABLE comes first, then RTA_DST.
        for (kind, value) in [(15u16, [255, 0, 0, 0]), (libc::RTA_DST, [127, 0, 0, 0])] {
            bytes.extend(8u16.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
        }
        let length = u32::try_from(bytes.len()).unwrap();
        put(&mut bytes, 0, &length.to_ne_bytes());
        let read: Vec<_> = messages(&bytes)
            .filter_map(|message| network(&message))
            .collect();
        let ends = ["127.0.0.0", "127.255.255.255"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(read, [ends.into()]);
        put(&mut bytes, HEADER + 7, &[libc::RTN_UNICAST]);
        assert_eq!(
            messages(&bytes)
                .filter_map(|message| network(&message))
                .count(),
            0
        );
    }
}
