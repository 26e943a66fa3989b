//! Limits of connections and of files, and the end of the proxy.

use super::*;

on_both_engines!(
    a_client_over_the_limit_is_closed_until_there_is_room,
    out_of_files_clients_wait_without_spinning,
    a_stopping_proxy_refuses_new_clients_and_finishes_open_connections,
    connections_are_cut_off_after_the_drain_time,
    a_second_signal_ends_it_at_once,
);

splicing!(
    a_client_over_the_limit_is_closed_until_there_is_room,
    out_of_files_clients_wait_without_spinning,
    a_stopping_proxy_refuses_new_clients_and_finishes_open_connections,
    connections_are_cut_off_after_the_drain_time,
);

fn a_client_over_the_limit_is_closed_until_there_is_room(engine: Engine) {
    let proxy = Proxy::start(engine, &["--max-connections", "2"]);
    let (first, second) = (proxy.pair(), proxy.pair());
    for _ in 0..3 {
        // The client sent no request, so there is no reply in its protocol.
        assert_reset(&connect(proxy.address));
    }
    assert_passes(&first.0, &first.1, 10);
    assert_passes(&second.0, &second.1, 10);
    drop(first);
    proxy.server.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let (client, server) = loop {
        let client = connect(proxy.address);
        // It is reset if there was no room yet; if there was, the proxy connects to a server.
        client
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let error = (&client).read(&mut [0]).unwrap_err();
        if error.kind() != ErrorKind::ConnectionReset
            && let Ok((server, _)) = proxy.server.accept()
        {
            server.set_nonblocking(false).unwrap();
            break (client, patient(server));
        }
        assert!(Instant::now() < deadline, "no room");
    };
    assert_passes(&client, &server, 10);
    drop((client, server, second));
    assert!(count(&proxy.stop(), " too many") >= 3);
}

/// Sets the limit of open files of a running process. Returns the previous one, or `None` if that is not permitted.
fn limit_files(process: u32, soft: u64) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    let before = line.split_whitespace().nth(3)?.parse().ok()?;
    let limit = format!("--nofile={soft}:");
    let process = process.to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &process, &limit])
        .status();
    status
        .is_ok_and(|status| status.success())
        .then_some(before)
}

/// The next file descriptor of a process.
fn next_file(process: u32) -> u64 {
    let taken = |number: &u64| fs::symlink_metadata(format!("/proc/{process}/fd/{number}")).is_ok();
    (0..).find(|number| !taken(number)).unwrap()
}

fn out_of_files_clients_wait_without_spinning(engine: Engine) {
    const MANY: usize = 60;
    let (_origin, to) = origin(&["--quiet"]);
    let (program, address) = proxy(engine, to, &["--threads", "1"]);
    // Files can run out whatever the limit was at the start: the system has one too (ENFILE).
    let Some(before) = limit_files(program.id(), next_file(program.id())) else {
        return println!("skipped: prlimit(1) cannot set the limit of another process here");
    };
    let begin = Instant::now();
    let clients: Vec<TcpStream> = (0..MANY).map(|_| connect(address)).collect();
    let ticks = cpu_ticks(program.id());
    // The test is that clients wait for this long.
    thread::sleep(Duration::from_millis(400));
    let used = cpu_ticks(program.id()) - ticks;
    assert!(
        used <= 10,
        "{used} hundredths of a second in 0.4 s of waiting"
    );
    limit_files(program.id(), before).unwrap();
    for (number, client) in clients.into_iter().enumerate() {
        let text = format!("number {number}");
        assert_eq!(ask(client, &text), format!("RESPONSE || {text}"));
    }
    let took = begin.elapsed();
    program.signal("TERM");
    let finished = program.wait(NOTICED).done();
    assert_eq!(count(&finished, " finished"), MANY as u64);
    let pauses = count(&finished, " pauses for want of files");
    let most = 2 * MANY as u64 + took.as_millis() as u64 / 50;
    assert!((2..=most).contains(&pauses), "{pauses} in {took:?}");
}

fn a_stopping_proxy_refuses_new_clients_and_finishes_open_connections(engine: Engine) {
    let proxy = Proxy::start(engine, &["--threads", "2"]);
    let (client, server) = proxy.pair();
    proxy.program.signal("TERM");
    assert_listens_no_more(proxy.address);
    assert_passes(&client, &server, 100_000);
    assert_passes(&server, &client, 100_000);
    drop(client);
    assert_ended(&server);
    drop(server);
    // The clients of the checks whether it listens.
    drop(proxy.server);
    let finished = proxy.program.wait(NOTICED).done();
    assert!(count(&finished, " finished") >= 1);
}

/// Waits until connections are refused.
#[track_caller]
fn assert_listens_no_more(address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
    }
}

fn connections_are_cut_off_after_the_drain_time(engine: Engine) {
    let proxy = Proxy::start(engine, &["--drain-timeout", "200ms"]);
    let (client, server) = proxy.pair();
    proxy.program.signal("TERM");
    assert_reset(&client);
    assert_reset(&server);
    let finished = proxy.program.wait(NOTICED).done();
    assert_eq!(count(&finished, " cut off"), 1);
}

fn a_second_signal_ends_it_at_once(engine: Engine) {
    let proxy = Proxy::start(engine, &["--drain-timeout", "1h"]);
    let (_client, _server) = proxy.pair();
    proxy.program.signal("TERM");
    assert_listens_no_more(proxy.address);
    proxy.program.signal("TERM");
    assert_eq!(proxy.program.wait(NOTICED).code, Some(130));
}
