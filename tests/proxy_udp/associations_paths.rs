//! SOCKS5 UDP ASSOCIATE of `bench proxy serve`: narrow paths, many associations, options, and clients of other
//! programs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::associate::{
    Association, Proxy, asking, echo, header, received, reply, request, server, socket, unspecified,
};
use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::network::{in_own_network, ip, run, with_firewall};
use crate::common::python::printed;
use crate::common::{NOTICED, PATIENCE, anonymous_kb, start};

on_both_engines!(
    datagrams_beyond_the_path_mtu_arrive_whole,
    denied_sends_are_counted_and_the_association_continues,
    every_datagram_of_a_closed_association_is_counted,
    many_associations_take_little_memory,
    pysocks_exchanges_datagrams,
    client_of_a_proxy_header_is_the_source,
    datagrams_carry_no_proxy_header,
    every_thread_serves_associations,
    reply_has_the_address_of_the_option,
    request_is_refused_where_it_is_turned_off,
);

/// Sends groups of datagrams that the device is too narrow for, to the destination and back.
const NARROW: &str = "
import socket
server, client = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]
for each in (server, client): each.settimeout(20)
server.bind(('127.0.0.1', 9000))
control = socket.create_connection(('127.0.0.1', 9001))
control.sendall(b'\\5\\1\\0\\5\\3\\0\\1' + bytes(6))
reply = control.recv(12, socket.MSG_WAITALL)
client.connect(('127.0.0.1', int.from_bytes(reply[10:])))
header = b'\\0\\0\\0\\1' + bytes([127, 0, 0, 1]) + (9000).to_bytes(2)
for group in range(5):
    for n in range(20): client.send(header + bytes([n]) * 2000)
    for n in range(20):
        data, flow = server.recvfrom(65536)
        assert data == bytes([n]) * 2000
    for n in range(20): server.sendto(bytes([n]) * 3000, flow)
    for n in range(20): assert client.recv(65536) == header + bytes([n]) * 3000
print('all')
";

fn datagrams_beyond_the_path_mtu_arrive_whole(engine: Engine) {
    in_own_network(|| {
        ip("link set lo mtu 1500");
        let args = "proxy serve --listen 127.0.0.1:9001";
        let mut program = start(args.split(' ').chain(engine.options()));
        program.listening();
        let Some(printed) = printed(NARROW) else {
            return;
        };
        assert_eq!(printed, "all\n");
        program.signal("TERM");
        let summary = program.wait(NOTICED).done().stdout;
        let counts = "datagrams 100 (200,000 bytes) to servers, 100 (300,000 bytes) to clients\n";
        assert!(summary.contains(counts), "{summary}");
    });
}

fn denied_sends_are_counted_and_the_association_continues(engine: Engine) {
    with_firewall(|| {
        let (proxy, (server, address)) = (Proxy::start(engine, &[]), server());
        let association = Association::open(proxy.address);
        association.send(address, b"first");
        let (_, from) = server.recv_from(&mut [0; 10]).unwrap();
        let client = association.socket.local_addr().unwrap().port();
        let of_server = address.port();
        run(&format!(
            "nft add rule inet t out udp dport {{ {of_server}, {client} }} drop"
        ))
        .unwrap();
        run("ip route add prohibit 192.0.2.0/24").unwrap();
        let [prohibited, without_route] =
            ["192.0.2.1:9", "198.51.100.1:9"].map(|to| to.parse().unwrap());
        for (to, datagrams) in [(prohibited, 2), (address, 3), (without_route, 4)] {
            for _ in 0..datagrams {
                association.send(to, b"lost");
            }
        }
        proxy.wait_for_drops("unreachable", 6);
        proxy.wait_for_drops("denied", 3);
        server.send_to(b"denied", from).unwrap();
        proxy.wait_for_drops("denied", 4);
        run("nft flush chain inet t out").unwrap();
        association.send(address, b"last");
        let mut bytes = [0; 10];
        assert_eq!(server.recv_from(&mut bytes).unwrap(), (4, from));
        server.send_to(b"answer", from).unwrap();
        assert_eq!(association.answer(address), b"answer");
        drop(association);
        let line = &proxy.lines(1)[0];
        assert_eq!(line["drops"]["denied"], 4, "{line:#}");
        assert_eq!(line["drops"]["unreachable"], 6, "{line:#}");
        assert_eq!(line["datagrams_to_server"], 2, "{line:#}");
        assert_eq!(line["datagrams_to_client"], 1, "{line:#}");
        proxy.stop();
    });
}

fn every_datagram_of_a_closed_association_is_counted(engine: Engine) {
    let (proxy, (server, address)) = (Proxy::start(engine, &[]), server());
    // Without questions the association is closed while most of the answers are in its receive buffer.
    for (place, (questions, answers)) in [(0, 6_000), (2_000, 2_000)].into_iter().enumerate() {
        let association = Association::open(proxy.address);
        association.send(address, b"first");
        let (_, from) = server.recv_from(&mut [0; 10]).unwrap();
        proxy.program.signal("STOP");
        for number in 0..answers {
            server.send_to(b"answer", from).unwrap();
            if number < questions {
                association.send(address, b"question");
            }
        }
        drop(association.control);
        proxy.program.signal("CONT");
        let line = &proxy.lines(place + 1)[place];
        let drops = line["drops"].as_object().unwrap().values();
        let forwarded = ["datagrams_to_server", "datagrams_to_client"].map(|key| &line[key]);
        let counts = forwarded
            .into_iter()
            .chain(drops)
            .map(|count| count.as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), 1 + questions + answers, "{line:#}");
        // The next datagram that the server receives is of the next association.
        server.set_nonblocking(true).unwrap();
        while server.recv_from(&mut [0; 10]).is_ok() {}
        server.set_nonblocking(false).unwrap();
    }
    proxy.stop();
}

fn many_associations_take_little_memory(engine: Engine) {
    const ALL: u64 = 200;
    let (proxy, (server, address)) = (Proxy::start(engine, &[]), server());
    let open = || {
        let association = Association::open(proxy.address);
        association.send(address, b"x");
        let mut bytes = [0; 10];
        let (_, from) = server.recv_from(&mut bytes).unwrap();
        server.send_to(b"y", from).unwrap();
        assert_eq!(association.answer(address), b"y");
        association
    };
    let _first: Vec<_> = (0..20).map(|_| open()).collect();
    let before = anonymous_kb(proxy.program.id());
    let _all: Vec<_> = (0..ALL).map(|_| open()).collect();
    proxy.wait_for("udp_associations_open", ALL + 20);
    let grown = anonymous_kb(proxy.program.id()).saturating_sub(before) * 1_024 / ALL;
    println!("{grown} bytes an association, with its connection");
    assert!(grown < 8_192, "{grown} bytes");
    drop((_first, _all));
    proxy.stop();
}

/// A client of PySocks, the SOCKS library of python.
const PYSOCKS: &str = "
import socks, sys
proxy, port = int(sys.argv[1]), int(sys.argv[2])
client = socks.socksocket(type=socks.socket.SOCK_DGRAM)
client.set_proxy(socks.SOCKS5, '127.0.0.1', proxy)
client.settimeout(20)
for host in ('127.0.0.1', 'localhost'):
    client.sendto(host.encode(), (host, port))
    print(client.recvfrom(100))
client.close()
";

fn pysocks_exchanges_datagrams(engine: Engine) {
    let has = Command::new("python3")
        .args(["-c", "import socks"])
        .output();
    if !has.is_ok_and(|output| output.status.success()) {
        return println!("skipped: python3 with PySocks cannot be had here");
    }
    let (proxy, server) = (Proxy::start(engine, &[]), echo("127.0.0.1:0"));
    let ports = [proxy.address, server].map(|address| address.port().to_string());
    let output = Command::new("python3")
        .args(["-c", PYSOCKS])
        .args(&ports)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let answer = |host| format!("(b'{host}', ('127.0.0.1', {}))\n", server.port());
    assert_eq!(text, answer("127.0.0.1") + &answer("localhost"));
    proxy.stop();
}

fn reply_has_the_address_of_the_option(engine: Engine) {
    // An address of this host is used, another one is only named.
    for (named, of_this_host) in [("127.0.0.9", true), ("192.0.2.7", false)] {
        let proxy = Proxy::start(engine, &["--udp-address", named]);
        let mut control = asking(proxy.address, unspecified());
        let (code, relay) = reply(&mut control);
        assert_eq!((code, relay.ip()), (0, named.parse().unwrap()));
        let reachable = match of_this_host {
            true => relay,
            false => SocketAddr::new(proxy.address.ip(), relay.port()),
        };
        let client = socket("127.0.0.1:0".parse().unwrap());
        client.connect(reachable).unwrap();
        let server = echo("127.0.0.1:0");
        client
            .send(&[header(server), b"x".to_vec()].concat())
            .unwrap();
        assert!(received(&client).ends_with(b"x"));
        proxy.stop();
    }
}

fn request_is_refused_where_it_is_turned_off(engine: Engine) {
    let proxy = Proxy::start(engine, &["--no-udp-associate"]);
    assert_eq!(reply(&mut asking(proxy.address, unspecified())).0, 7);
    let line = &proxy.lines(1)[0];
    assert_eq!(
        line["detail"],
        "command 3 is not supported, only 1 (CONNECT)"
    );
    proxy.stop();
    // A client without an IP address has no datagrams.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listen = format!("unix:{}", path.display());
    let fixed = ["proxy", "serve", "--listen", &listen];
    let mut program = crate::common::start(fixed.into_iter().chain(engine.options()));
    program.line(|line| line.starts_with("listening on "));
    let mut control = std::os::unix::net::UnixStream::connect(&path).unwrap();
    control.write_all(&request(3, unspecified())).unwrap();
    let mut bytes = [0; 12];
    control.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..4], [5, 0, 5, 1]);
    program.signal("TERM");
    program.wait(NOTICED).done();
}

fn client_of_a_proxy_header_is_the_source(engine: Engine) {
    let (proxy, server) = (
        Proxy::start(engine, &["--accept-proxy"]),
        echo("127.0.0.1:0"),
    );
    let mut control = TcpStream::connect(proxy.address).unwrap();
    control.set_read_timeout(Some(PATIENCE)).unwrap();
    let header_line = b"PROXY TCP4 127.0.0.5 127.0.0.1 4000 1080\r\n";
    let bytes = [&header_line[..], &request(3, unspecified())].concat();
    control.write_all(&bytes).unwrap();
    let (code, relay) = reply(&mut control);
    assert_eq!(code, 0);
    let datagram = [header(server), b"x".to_vec()].concat();
    // The peer is not the client.
    let front = socket("127.0.0.1:0".parse().unwrap());
    front.send_to(&datagram, relay).unwrap();
    proxy.wait_for_drops("wrong_source", 1);
    let client = socket("127.0.0.5:0".parse().unwrap());
    client.send_to(&datagram, relay).unwrap();
    assert!(received(&client).ends_with(b"x"));
    drop(control);
    let line = &proxy.lines(1)[0];
    assert_eq!(line["client"], "127.0.0.5:4000");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    proxy.stop();
}

fn datagrams_carry_no_proxy_header(engine: Engine) {
    let proxy = Proxy::start(engine, &["--send-proxy", "v2"]);
    let (server, address) = server();
    let association = Association::open(proxy.address);
    for payload in [&b"first"[..], b"second"] {
        association.send(address, payload);
        assert_eq!(received(&server), payload);
    }
    drop(association);
    let stdout = proxy.stop().stdout;
    let line = "datagrams of SOCKS5 UDP associations carry no PROXY header (--send-proxy)\n";
    assert!(stdout.contains(line), "{stdout}");
}

fn every_thread_serves_associations(engine: Engine) {
    let (proxy, server) = (
        Proxy::start(engine, &["--threads", "2"]),
        echo("127.0.0.1:0"),
    );
    let all: Vec<_> = (0..10).map(|_| Association::open(proxy.address)).collect();
    for round in 0u8..3 {
        for (number, association) in (0u8..).zip(&all) {
            association.send(server, &[round, number]);
        }
        for (number, association) in (0u8..).zip(&all) {
            assert_eq!(association.answer(server), [round, number]);
        }
    }
    proxy.wait_for("udp_association_datagrams_total{to=\"client\"}", 30);
    drop(all);
    proxy.wait_for("udp_associations_open", 0);
    assert_eq!(proxy.lines(10).len(), 10);
    proxy.stop();
}
