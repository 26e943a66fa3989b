//! Ends of connections: a close, a reset and a timeout of either end reach the other as they are.

use super::*;

on_both_engines!(
    a_reset_and_an_end_after_messages_reach_the_other,
    either_end_may_close_its_side_and_still_receive,
    a_refused_server_resets_the_client,
    a_reset_of_either_end_reaches_the_other,
    the_last_bytes_of_a_server_that_closes_early_arrive,
    idle_connections_are_cut_off_and_active_ones_are_not,
    half_closed_connections_have_a_shorter_timeout,
    a_silent_server_times_out,
);

splicing!(
    the_last_bytes_of_a_server_that_closes_early_arrive,
    idle_connections_are_cut_off_and_active_ones_are_not,
    half_closed_connections_have_a_shorter_timeout,
);

fn a_reset_and_an_end_after_messages_reach_the_other(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    for client_breaks in [true, false] {
        let (client, server) = proxy.conversing_pair();
        let (breaks, stays) = if client_breaks {
            (client, server)
        } else {
            (server, client)
        };
        SockRef::from(&breaks)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(breaks);
        assert_reset(&stays);
    }
    // The end of a client that has conversed is passed on after its last message, and the answer to it arrives.
    let (mut client, mut server) = proxy.conversing_pair();
    client.write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).unwrap();
    server.write_all(&[7; 100_000]).unwrap();
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!((text.as_str(), answer.len()), ("last", 100_000));
    let finished = proxy.stop();
    assert_eq!(count(&finished, " reset by the client"), 1);
    assert_eq!(count(&finished, " reset by the server"), 1);
}

fn either_end_may_close_its_side_and_still_receive(engine: Engine) {
    for forwarding in FORWARDINGS {
        let proxy = Proxy::start(engine, &["--forwarding", forwarding]);
        for client_first in [true, false] {
            let (client, server) = proxy.pair();
            let (first, second) = if client_first {
                (&client, &server)
            } else {
                (&server, &client)
            };
            assert_passes(first, second, 10);
            first.shutdown(Shutdown::Write).unwrap();
            assert_ended(second);
            assert_passes(second, first, 100_000);
            second.shutdown(Shutdown::Write).unwrap();
            assert_ended(first);
        }
        assert_eq!(count(&proxy.stop(), " finished"), 2);
    }
}

fn a_refused_server_resets_the_client(engine: Engine) {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (program, address) = proxy(engine, closed, &[]);
    for _ in 0..3 {
        assert_reset(&connect(address));
    }
    program.signal("TERM");
    let finished = program.wait(NOTICED).done();
    assert_eq!(count(&finished, " without a server"), 3);
}

fn a_reset_of_either_end_reaches_the_other(engine: Engine) {
    for forwarding in FORWARDINGS {
        let proxy = Proxy::start(engine, &["--forwarding", forwarding]);
        for client_breaks in [true, false] {
            let (client, server) = proxy.pair();
            assert_passes(&client, &server, 10);
            let (breaks, stays) = if client_breaks {
                (client, server)
            } else {
                (server, client)
            };
            SockRef::from(&breaks)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(breaks);
            assert_reset(&stays);
        }
        let finished = proxy.stop();
        assert_eq!(count(&finished, " reset by the client"), 1);
        assert_eq!(count(&finished, " reset by the server"), 1);
    }
}

fn the_last_bytes_of_a_server_that_closes_early_arrive(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let (mut client, mut server) = proxy.pair();
    assert_passes(&client, &server, 10);
    server.write_all(b"enough").unwrap();
    drop(server);
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"enough");
    // The server is gone, so writes fail sooner or later.
    let deadline = Instant::now() + PATIENCE;
    while client.write_all(&[0; 10_000]).is_ok() {
        assert!(
            Instant::now() < deadline,
            "the bytes are lost without an error"
        );
    }
}

fn idle_connections_are_cut_off_and_active_ones_are_not(engine: Engine) {
    let limit = Duration::from_secs(1);
    let proxy = Proxy::start(engine, &["--idle-timeout", "1s"]);
    let (client, server) = proxy.pair();
    let begin = Instant::now();
    let mut last = begin;
    while begin.elapsed() < limit * 3 / 2 {
        last = Instant::now();
        assert_passes(&client, &server, 10);
    }
    assert_reset(&client);
    assert_reset(&server);
    assert!(last.elapsed() >= limit - Duration::from_millis(10));
    assert_eq!(count(&proxy.stop(), " idle for too long"), 1);
}

fn half_closed_connections_have_a_shorter_timeout(engine: Engine) {
    let proxy = Proxy::start(
        engine,
        &["--idle-timeout", "1h", "--half-closed-timeout", "300ms"],
    );
    let (client, server) = proxy.pair();
    assert_passes(&client, &server, 10);
    let begin = Instant::now();
    client.shutdown(Shutdown::Write).unwrap();
    assert_ended(&server);
    assert_reset(&client);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_eq!(count(&proxy.stop(), " half-closed for too long"), 1);
}

fn a_silent_server_times_out(engine: Engine) {
    // A listener that does not accept: once its backlog of one or two is full, the kernel ignores further SYNs.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    silent.bind(&any.into()).unwrap();
    silent.listen(0).unwrap();
    let to = silent.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&to, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    let (program, address) = proxy(engine, to, &["--connect-timeout", "300ms"]);
    let begin = Instant::now();
    assert_reset(&connect(address));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    program.signal("TERM");
    let finished = program.wait(NOTICED).done();
    assert_eq!(count(&finished, " without a server in time"), 1);
}
