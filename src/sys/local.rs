//! Addresses that the kernel delivers to this host, and notifications of changes: rtnetlink(7).
//!
//! These are the entries of the routing table `local` (ip-route(8)): addresses of interfaces, whole networks such as
//! 127.0.0.0/8, and `AnyIP` routes, which the address lists of interfaces lack.

use std::io::{self, Read};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::{SockAddr, Socket};

use super::netlink::{AskError, BUFFER, Message, ask, attributes, messages, open};

/// Size of `struct rtmsg`.
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

/// Requests the table `local` of one family. A missing family or table has no addresses.
fn dump(family: libc::c_int, networks: &mut Vec<(IpAddr, IpAddr)>) -> io::Result<()> {
    let mut table = [0; ROUTE];
    table[0] = family as u8;
    table[4] = libc::RT_TABLE_LOCAL;
    let asked = ask(libc::RTM_GETROUTE, true, &table, |message| {
        networks.extend(network(message));
    });
    match asked {
        Err(AskError::Reply(error))
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
            ) =>
        {
            Ok(())
        }
        asked => Ok(asked?),
    }
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
    let mut all = attributes(message.body.get(ROUTE..)?);
    let (_, address) = all.find(|(kind, _)| *kind == libc::RTA_DST)?;
    ends(address, length)
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
    use super::super::netlink::tests::noise;
    use super::super::netlink::{HEADER, attribute, request};
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
        for bytes in noise() {
            for message in messages(&bytes) {
                let _ = (is_change(&message), network(&message));
            }
        }
    }

    #[test]
    fn route_is_parsed_in_the_kernels_format() {
        let mut route = [0; ROUTE];
        (route[0], route[1], route[7]) = (libc::AF_INET as u8, 8, libc::RTN_LOCAL);
        // RTA_TABLE comes first, then RTA_DST.
        let body = [
            route.to_vec(),
            attribute(15, &[255, 0, 0, 0]),
            attribute(libc::RTA_DST, &[127, 0, 0, 0]),
        ];
        let mut bytes = request(libc::RTM_NEWROUTE, false, &body.concat());
        let read: Vec<_> = messages(&bytes)
            .filter_map(|message| network(&message))
            .collect();
        let ends = ["127.0.0.0", "127.255.255.255"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(read, [ends.into()]);
        bytes[HEADER + 7] = libc::RTN_UNICAST;
        assert_eq!(
            messages(&bytes)
                .filter_map(|message| network(&message))
                .count(),
            0
        );
    }
}
