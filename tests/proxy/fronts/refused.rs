//! Requests that are refused, whatever their protocol.

use super::*;

on_both_engines!(
    refusals_arrive_however_many_bytes_follow_the_request,
    an_incomplete_request_is_refused,
    a_request_that_is_too_large_is_refused,
    a_client_over_the_limit_is_refused_in_its_own_protocol_until_another_leaves,
    a_disabled_protocol_is_refused_in_its_own_terms,
);

fn refusals_arrive_however_many_bytes_follow_the_request(engine: Engine) {
    let blocked = list("127.0.0.9\n");
    let proxy = Proxy::start(engine, &["--blocklist", path(&blocked)]);
    let more = vec![b'x'; 300_000];
    let requests = [
        connect_to("127.0.0.9:80"),
        socks5("127.0.0.9:80".parse().unwrap()),
    ];
    for request in requests {
        let mut client = proxy.client();
        client.write_all(&request).unwrap();
        // The proxy may close while the client still sends.
        let _ = client.write_all(&more);
        let _ = client.shutdown(Shutdown::Write);
        let answer = rest(client);
        assert!(answer.starts_with(b"HTTP/1.1 403 ") || answer.starts_with(&[5, 0, 5, 2]));
    }
    proxy.stop().done();
}

fn an_incomplete_request_is_refused(engine: Engine) {
    let proxy = Proxy::start(engine, &["--request-timeout", "200ms"]);
    let begin = Instant::now();
    assert!(
        proxy
            .response_to(b"{\"server_ip\"", usize::MAX)
            .starts_with(b"{\"error\": \"timeout\"")
    );
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert!(
        proxy
            .response_to(b"CONNECT ", usize::MAX)
            .starts_with(b"HTTP/1.1 408 ")
    );
    // A byte now and then does not postpone the timeout.
    let mut client = proxy.client();
    let begin = Instant::now();
    while client.write_all(b" ").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
        assert!(begin.elapsed() < PATIENCE, "it may talk for ever");
    }
    let finished = proxy.stop().done();
    assert!(
        finished.stdout.contains("3 without a request in time"),
        "{}",
        finished.stdout
    );
}

fn a_request_that_is_too_large_is_refused(engine: Engine) {
    let proxy = Proxy::start(engine, &["--max-request", "1k"]);
    let request = envelope("127.0.0.1", 9, &"x".repeat(1_000));
    assert!(
        proxy
            .response_to(&request, 100)
            .starts_with(b"{\"error\": \"too_large\"")
    );
    let request = [&b"CONNECT a:1 HTTP/1.1\r\nX: "[..], &[b'x'; 100_000]].concat();
    let mut client = proxy.client();
    let _ = client.write_all(&request);
    let mut status = [0; 13];
    client.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 431 ");
    proxy.stop().done();
}

fn a_client_over_the_limit_is_refused_in_its_own_protocol_until_another_leaves(engine: Engine) {
    let proxy = Proxy::start(engine, &["--max-connections", "1"]);
    let mut first = proxy.client();
    first.write_all(&socks5(proxy.origin)).unwrap();
    first.read_exact(&mut [0; 12]).unwrap();
    let busy = proxy.response_to(&envelope("127.0.0.1", 9, ""), 1);
    assert!(busy.starts_with(b"{\"error\": \"busy\""), "{busy:?}");
    let busy = proxy.response_to(&connect_to("127.0.0.1:9"), usize::MAX);
    assert!(busy.starts_with(b"HTTP/1.1 503 "), "{busy:?}");
    assert_eq!(
        proxy.response_to(&socks5(proxy.origin), 1)[..4],
        [5, 0, 5, 1]
    );
    drop(first);
    let SocketAddr::V4(origin) = proxy.origin else {
        panic!()
    };
    let deadline = Instant::now() + PATIENCE;
    while proxy.response_to(&envelope(origin.ip(), origin.port(), "x"), 1_000) != b"RESPONSE || x" {
        assert!(Instant::now() < deadline, "no room");
    }
    proxy.stop().done();
}

fn a_disabled_protocol_is_refused_in_its_own_terms(engine: Engine) {
    let proxy = Proxy::start(engine, &["--protocol", "socks5"]);
    let refused = proxy.response_to(&envelope("127.0.0.1", 9, ""), 1);
    assert_eq!(refused[..2], [5, 0xff], "{refused:?}");
    let mut client = proxy.client();
    client.write_all(&socks5(proxy.origin)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(client)[..4], [5, 0, 5, 0]);
    proxy.stop().done();
    let proxy = Proxy::start(engine, &["--protocol", "json,connect"]);
    assert_eq!(proxy.response_to(&socks5(proxy.origin), 1)[..1], [5]);
    proxy.stop().done();
}
