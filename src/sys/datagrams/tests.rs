//! Over loopback, with and without GRO at the receiver.

use super::*;
use proptest::prelude::*;
use std::net::IpAddr;

fn addresses() -> Vec<SocketAddr> {
    let all = ["127.0.0.1:0", "[::1]:0"].map(|text| text.parse().unwrap());
    let has = |address: &SocketAddr| UdpSocket::bind(address).is_ok();
    all.into_iter().filter(has).collect()
}

fn one<'a>(
    parts: &'a [&'a [u8]],
    segment: u16,
    tos: u8,
) -> Departure<impl Iterator<Item = &'a [u8]>> {
    Departure {
        parts: parts.iter().copied(),
        segment,
        to: None,
        from: None,
        tos,
    }
}

#[test]
fn run_in_parts_arrives_as_a_run_with_its_tos() {
    for address in addresses() {
        let receiver = listen(address, false, false).unwrap();
        let sender = connect(receiver.local_addr().unwrap()).unwrap();
        let parts: [&[u8]; 3] = [&[1; 200], &[2; 100], &[3; 30]];
        let sent = Departures::new(4).send(
            sender.as_fd(),
            address.is_ipv6(),
            [one(&parts, 100, 0x2e << 2 | 1)].into_iter(),
        );
        assert_eq!(sent.unwrap(), 1);
        let mut arrivals = Arrivals::new(4);
        assert_eq!(arrivals.receive(receiver.as_fd(), 1, 3).unwrap(), 1);
        let arrival = arrivals.get(1).unwrap();
        assert_eq!((arrival.segment, arrival.tos), (100, 0x2e << 2 | 1));
        assert_eq!(arrival.bytes, parts.concat());
        assert_eq!(arrival.source, Some(sender.local_addr().unwrap()));
        assert_eq!((arrival.to, arrival.truncated), (None, false));
    }
}

#[test]
fn datagrams_of_every_length_arrive_whole() {
    for address in addresses() {
        let receiver = listen(address, false, false).unwrap();
        let sender = connect(receiver.local_addr().unwrap()).unwrap();
        let mut arrivals = Arrivals::new(2);
        let mut departures = Departures::new(2);
        for length in [0, 1, 1_472, 65_507] {
            let bytes = vec![7; length];
            let part: [&[u8]; 1] = [&bytes];
            let sent = departures.send(
                sender.as_fd(),
                address.is_ipv6(),
                [one(&part, 0, 0)].into_iter(),
            );
            assert_eq!(sent.unwrap(), 1);
            assert_eq!(arrivals.receive(receiver.as_fd(), 0, 2).unwrap(), 1);
            let arrival = arrivals.get(0).unwrap();
            assert_eq!((arrival.bytes.len(), arrival.segment), (length, length));
            assert!(!arrival.truncated);
        }
    }
}

#[test]
fn connected_socket_reports_how_many_messages_it_dropped() {
    for address in addresses() {
        let server = listen(address, false, false).unwrap();
        let socket = connect(server.local_addr().unwrap()).unwrap();
        crate::sys::socket::set_buffers(&socket, None, Some(1), false).unwrap();
        let to = socket.local_addr().unwrap();
        for _ in 0..100 {
            server.send_to(&[0; 1_000], to).unwrap();
        }
        let mut arrivals = Arrivals::new(100);
        let queued = arrivals.receive(socket.as_fd(), 0, 100).unwrap();
        assert!(arrivals.get(0).unwrap().drops.is_none() && queued < 100);
        server.send_to(b"next", to).unwrap();
        assert_eq!(arrivals.receive(socket.as_fd(), 0, 1).unwrap(), 1);
        let next = arrivals.get(0).unwrap();
        assert_eq!(next.drops, Some(100 - queued as u32));
        assert_eq!(next.bytes, b"next");
    }
}

#[test]
fn reply_comes_from_the_address_that_was_asked() {
    for (any, asked) in [
        ("0.0.0.0:0", "127.0.0.3"),
        ("[::]:0", "127.0.0.3"),
        ("[::]:0", "::1"),
    ] {
        let Ok(listener) = listen(any.parse().unwrap(), false, false) else {
            println!("skipped: this host has no IPv6");
            continue;
        };
        let asked: IpAddr = asked.parse().unwrap();
        let port = listener.local_addr().unwrap().port();
        // A connected client receives only replies of the address that it asked.
        let client = connect(SocketAddr::new(asked, port)).unwrap();
        client.send(b"question").unwrap();
        let mut arrivals = Arrivals::new(1);
        assert_eq!(arrivals.receive(listener.as_fd(), 0, 1).unwrap(), 1);
        let arrival = arrivals.get(0).unwrap();
        assert_eq!(arrival.to.map(|to| to.to_canonical()), Some(asked));
        let reply = Departure {
            parts: [b"answer".as_slice()].into_iter(),
            segment: 0,
            to: arrival.source,
            from: arrival.to,
            tos: 2,
        };
        let sent = Departures::new(1).send(listener.as_fd(), false, [reply].into_iter());
        assert_eq!(sent.unwrap(), 1);
        let mut replies = Arrivals::new(1);
        assert_eq!(replies.receive(client.as_fd(), 0, 1).unwrap(), 1);
        let reply = replies.get(0).unwrap();
        assert_eq!((reply.bytes, reply.tos), (b"answer".as_slice(), 2));
    }
}

proptest! {
    #[test]
    fn malformed_control_messages_are_ignored(
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        name in prop::collection::vec(any::<u8>(), 0..40),
        control in prop::collection::vec(any::<u8>(), 0..160),
    ) {
        let arrival = Arrival::new(&bytes, &name, &control, 0);
        prop_assert!(arrival.segment <= bytes.len());
        prop_assert_eq!(arrival.segment == 0, bytes.is_empty());
    }
}
