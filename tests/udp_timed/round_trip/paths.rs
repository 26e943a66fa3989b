//! Round trips over a path with delay and losses, and their end by the server.

use super::*;

on_both_engines!(
    several_requests_are_in_flight_on_a_long_path,
    losses_of_either_way_are_counted_exactly,
    losses_in_the_sockets_of_a_stopped_server_are_attributed_to_them,
    a_client_whose_address_changes_is_answered_again,
    a_limit_of_the_server_ends_a_run_with_the_exchanges_so_far,
);

fn several_requests_are_in_flight_on_a_long_path(engine: Engine) {
    let server = Serve::start(&[]);
    let path = Delay::new(server.address, 10 * MS, 15 * MS);
    let options = format!("--to {} --packets 60 --pps 200", path.address);
    let run = round_trips(engine, &options);
    assert_round_trips(&run, "open");
    assert_eq!(number(&run, "received.unique"), 60);
    assert!(number(&run, "latency_ns.min") >= 25_000_000);
    assert!(number(&run, "round_trip.server_time_ns.p50") < 10_000_000);
    // In a closed loop this takes 60 round trips.
    assert!(run["seconds"].as_f64().unwrap() < 60.0 * 0.025);
}

fn losses_of_either_way_are_counted_exactly(engine: Engine) {
    let server = Serve::start(&[]);
    let path = Delay::with(server.address, MS, MS, |datagram| {
        let is_dropped = Header::decode(datagram.bytes).is_ok_and(|header| {
            let digit = header.sequence % 10;
            match datagram.way {
                Way::There => header.kind == Kind::Ping && digit == 3,
                Way::Back => header.kind == Kind::Pong && [6, 9].contains(&digit),
            }
        });
        if is_dropped { vec![] } else { vec![MS] }
    });
    let options = format!("--to {} --packets 100 --pps 500", path.address);
    let run = round_trips(engine, &options);
    assert_round_trips(&run, "open");
    assert_eq!(number(&run, "lost.packets"), 30);
    assert_eq!(number(&run, "round_trip.requests_received"), 90);
}

fn losses_in_the_sockets_of_a_stopped_server_are_attributed_to_them(engine: Engine) {
    let server = Serve::start(&[]);
    let options = "--round-trip --duration 60s --interval 50ms --pps 500 --rcvbuf 4k";
    let (mut client, results) = server.client(&format!("{options} {}", engine.0));
    client.first_row();
    server.program.signal("STOP");
    let drops = || drops_at(server.address.port());
    until("drops of the stopped server", || drops() >= 20);
    let seen = drops();
    server.program.signal("CONT");
    client.signal("INT");
    let finished = client.wait(crate::common::PATIENCE);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let run = results.run();
    assert_round_trips(&run, "open");
    let at_sockets = number(&run, "lost.receiver_socket");
    assert!(at_sockets >= seen, "{at_sockets} of {seen}: {run:#}");
    let warnings = run["warnings"].to_string();
    assert!(warnings.contains("lost at the socket of"), "{warnings}");
}

/// Drops of the IPv4 sockets at a local port, the last column of /proc/net/udp.
fn drops_at(port: u16) -> u64 {
    let port = format!(":{port:04X}");
    let sockets = fs::read_to_string("/proc/net/udp").unwrap();
    let drops = sockets.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_here = fields.next()?.ends_with(&port);
        is_here.then(|| fields.last().unwrap().parse::<u64>().unwrap())
    });
    drops.sum()
}

fn a_client_whose_address_changes_is_answered_again(engine: Engine) {
    let server = Serve::start(&[]);
    let path = Delay::new(server.address, MS, MS);
    let results = Results::new();
    let (to, out) = (path.address.to_string(), results.arg());
    let fixed = ["udp", "--round-trip", "--to", &to, "--out", &out];
    let options = "--pps 200 --duration 2s --interval 100ms";
    let options = options.split_whitespace().chain(engine.options());
    let mut client = start(fixed.into_iter().chain(options));
    client.first_row();
    path.rebind();
    let finished = client.wait(crate::common::PATIENCE);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let run = results.run();
    assert_round_trips(&run, "open");
    let rows = run["intervals"].as_array().unwrap();
    assert!(
        rows.iter()
            .rev()
            .take(3)
            .any(|row| row["packets"].as_u64() > Some(0))
    );
    assert!(number(&run, "received.unique") > 200, "{run:#}");
}

fn a_limit_of_the_server_ends_a_run_with_the_exchanges_so_far(engine: Engine) {
    let server = Serve::start(&["--max-duration", "1s"]);
    let options = format!("--round-trip --packets 1000000000 {}", engine.0);
    let (client, results) = server.client(&options);
    let finished = client.wait(NOTICED);
    finished.failed(3, &["the server's limit is 1 s per session"]);
    let run = results.run();
    assert_eq!(run["ended"], "limit");
    assert_round_trips(&run, "closed");
    assert!(number(&run, "round_trip.requests_received") > 0);
}
