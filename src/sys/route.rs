//! Addresses of this host, according to the kernel's routes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether datagrams to `address` stay on this host. For its own address, the kernel selects that address as the source
/// (table `local` of ip-route(8)). Nothing is sent.
pub fn is_of_this_host(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    // An unroutable address is not local.
    sent_from(address).is_ok_and(|from| from == address)
}

/// Whether this host has a route to `address`. Nothing is sent.
pub fn is_routed(address: IpAddr) -> bool {
    sent_from(address).is_ok()
}

/// The source address the kernel selects for `address` (connect(2) of a UDP socket).
fn sent_from(address: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    // Any port except 0 works.
    socket.connect(SocketAddr::new(address, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_other_networks_are_not() {
        for (address, here) in [
            ("127.0.0.1", true),
            ("127.255.0.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", true),
            ("::", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_of_this_host(address.parse().unwrap()), here, "{address}");
        }
    }

    #[test]
    fn interface_address_is_local() {
        // The source address of packets to the outside is local, even if they are not routed.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        match socket
            .connect("192.0.2.1:9")
            .and_then(|()| socket.local_addr())
        {
            Ok(own) => assert!(is_of_this_host(own.ip()), "{own}"),
            Err(error) => println!("skipped: this host has no route to the outside: {error}"),
        }
    }
}
