//! Which addresses are this host's own, by the kernel's routes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether what is sent to `address` stays on this host. Asks the kernel which address it would send from: for an address of
/// its own, that one (the table `local` of ip-route(8)). Nothing is sent.
pub fn is_of_this_host(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    // What cannot be routed is not here.
    sent_from(address).is_ok_and(|from| from == address)
}

/// Whether this host has a route to `address`. Nothing is sent.
pub fn is_routed(address: IpAddr) -> bool {
    sent_from(address).is_ok()
}

/// The address that the kernel would send from to `address` (connect(2) of a UDP socket).
fn sent_from(address: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    // Any port but 0 does.
    socket.connect(SocketAddr::new(address, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_here_and_the_rest_of_the_world_is_not() {
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
    fn an_address_of_an_interface_is_here() {
        // Routed or not, a packet to the outside would be sent from an address of ours.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        match socket
            .connect("192.0.2.1:9")
            .and_then(|()| socket.local_addr())
        {
            Ok(own) => assert!(is_of_this_host(own.ip()), "{own}"),
            Err(error) => println!("skipped: this host has no way out: {error}"),
        }
    }
}
