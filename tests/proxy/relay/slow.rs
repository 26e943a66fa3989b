//! Ends of connections whose peer reads slowly: what the kernel has accepted from the proxy arrives.

use super::*;

on_both_engines!(
    a_slow_reader_gets_all_bytes_despite_the_timeouts,
    a_slow_reader_gets_what_the_other_end_sent_before_its_reset,
    a_reader_that_stops_is_reset_and_the_log_counts_what_it_received,
);

/// Bytes that the send buffer of the proxy takes at once.
const BYTES: usize = 400_000;

/// A client with a small receive buffer.
#[track_caller]
fn small_client(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    socket.connect(&to.into()).unwrap();
    patient(socket.into())
}

/// Reads steadily for much longer than 300 ms, far less in each part of it than would let the proxy send more.
#[track_caller]
fn read_slowly(mut from: &TcpStream) {
    let begin = Instant::now();
    let mut received = 0;
    while received < BYTES {
        match from.read(&mut [0; 8_192]) {
            Ok(bytes @ 1..) => received += bytes,
            end => panic!("{end:?} after {received} bytes"),
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(begin.elapsed() > Duration::from_millis(600));
}

fn a_slow_reader_gets_all_bytes_despite_the_timeouts(engine: Engine) {
    let times = ["--idle-timeout", "300ms", "--half-closed-timeout", "300ms"];
    let proxy = Proxy::start(engine, &times);
    for (server_closes, client_is_slow) in [(true, true), (false, true), (true, false)] {
        let (client, server) = match client_is_slow {
            true => {
                let client = small_client(proxy.address);
                (client, patient(proxy.server.accept().unwrap().0))
            }
            false => {
                SockRef::from(&proxy.server)
                    .set_recv_buffer_size(8_192)
                    .unwrap();
                let (client, server) = proxy.pair();
                (server, client)
            }
        };
        (&server).write_all(&[7; BYTES]).unwrap();
        if server_closes {
            server.shutdown(Shutdown::Write).unwrap();
        }
        read_slowly(&client);
        if server_closes {
            assert_ended(&client);
            drop(client);
            assert_ended(&server);
        } else {
            assert_reset(&client);
        }
    }
    let finished = proxy.stop();
    assert_eq!(count(&finished, " finished"), 2);
    assert_eq!(count(&finished, " idle for too long"), 1);
}

fn a_slow_reader_gets_what_the_other_end_sent_before_its_reset(engine: Engine) {
    let options = ["--half-closed-timeout", "300ms"];
    let proxy = Proxy::start(engine, &options);
    let client = small_client(proxy.address);
    let mut server = patient(proxy.server.accept().unwrap().0);
    // The server closes with unread bytes, which is a reset.
    (&client).write_all(b"unread").unwrap();
    until("the bytes arrive", || {
        server.peek(&mut [0; 6]).unwrap() == 6
    });
    server.write_all(&[7; BYTES]).unwrap();
    // The reset discards what the proxy has not received yet.
    thread::sleep(Duration::from_millis(100));
    drop(server);
    read_slowly(&client);
    assert_reset(&client);
    assert_eq!(count(&proxy.stop(), " reset by the server"), 1);
}

fn a_reader_that_stops_is_reset_and_the_log_counts_what_it_received(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let options = [
        "--half-closed-timeout",
        "300ms",
        "--log",
        log.to_str().unwrap(),
    ];
    let proxy = Proxy::start(engine, &options);
    let mut client = small_client(proxy.address);
    let mut server = proxy.server.accept().unwrap().0;
    server.write_all(&[7; BYTES]).unwrap();
    drop(server);
    client.read_exact(&mut [0; 10_000]).unwrap();
    let line = || fs::read_to_string(&log).unwrap_or_default();
    until("the connection has a line", || line().ends_with('\n'));
    let mut received = 10_000;
    let error = loop {
        match client.read(&mut [0; 8_192]) {
            Ok(bytes) => received += bytes,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(received < BYTES, "the client received all");
    let expected = format!("\"to_client\":{received},");
    assert!(line().contains(&expected), "{received}: {}", line());
    assert!(
        line().contains("\"ended\":\"half_closed_timeout\""),
        "{}",
        line()
    );
}
