//! `bench proxy serve --forward-udp`: flows are opened, limited and closed.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;
use std::thread;

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::network::{run, with_firewall, with_own_network};
use crate::common::{NOTICED, PATIENCE, anonymous_kb, cpu_ticks, until};
use crate::udp_proxy::{Proxy, SOON, client, echo, received, receives_nothing, send_run, socket};
use wirebench::sys::rlimit;

on_both_engines!(
    every_client_has_its_own_flow_and_answers,
    flows_over_a_limit_are_dropped_and_counted,
    idle_flow_is_closed_and_logged,
    answers_keep_a_flow_open_and_foreign_datagrams_reach_no_client,
    refusals_of_the_server_are_counted_until_it_is_back,
    denied_sends_are_counted_and_the_flow_continues,
    draining_proxy_serves_open_flows_only,
    every_datagram_of_a_proxy_that_stops_is_counted,
    hundreds_of_flows_receive_all_their_answers,
    full_queues_are_counted_while_the_flow_is_open,
    closed_flows_leave_no_files_open,
    out_of_files_no_flow_is_opened_and_open_ones_continue,
    ten_thousand_flows_take_little_memory_and_none_grows,
);

fn every_client_has_its_own_flow_and_answers(engine: Engine) {
    for threads in ["1", "2"] {
        let proxy = Proxy::start(engine, echo(true), &["--threads", threads]);
        let clients: Vec<_> = (0..100).map(|_| client(proxy.address)).collect();
        let mut ports = Vec::new();
        for round in 0u8..3 {
            for (number, client) in (0u8..).zip(&clients) {
                client.send(&[round, number]).unwrap();
            }
            for (number, client) in (0u8..).zip(&clients) {
                let answer = received(client);
                assert_eq!(answer[2..], [round, number]);
                ports.push(answer[..2].to_vec());
            }
        }
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 100);
        proxy.wait_for("udp_flows_open", 100);
        let summary = proxy.stop().stdout;
        assert!(summary.contains("UDP flows   100, "), "{summary}");
    }
}

fn flows_over_a_limit_are_dropped_and_counted(engine: Engine) {
    let limits = ["--max-udp-flows", "3", "--max-udp-flows-per-client", "2"];
    let proxy = Proxy::start(engine, echo(false), &limits);
    let clients: Vec<_> = (0..3).map(|_| client(proxy.address)).collect();
    for client in &clients[..2] {
        client.send(b"in").unwrap();
        assert_eq!(received(client), b"in");
    }
    clients[2].send(b"out").unwrap();
    proxy.wait_for("udp_dropped_datagrams_total{cause=\"over_limit\"}", 1);
    // Another address has its own count, up to the limit of all.
    let other = socket("127.0.0.2:0");
    other.connect(proxy.address).unwrap();
    other.send(b"in").unwrap();
    assert_eq!(received(&other), b"in");
    let late = socket("127.0.0.3:0");
    late.connect(proxy.address).unwrap();
    late.send(b"out").unwrap();
    proxy.wait_for("udp_dropped_datagrams_total{cause=\"over_limit\"}", 2);
    // Open flows are not affected.
    clients[0].send(b"still in").unwrap();
    assert_eq!(received(&clients[0]), b"still in");
    let summary = proxy.stop().stdout;
    assert!(
        summary.contains("; dropped 2 over the limit\n"),
        "{summary}"
    );
}

fn idle_flow_is_closed_and_logged(engine: Engine) {
    let server = echo(true);
    let proxy = Proxy::start(engine, server, &["--udp-idle-timeout", "300ms"]);
    let client = client(proxy.address);
    client.send(b"one").unwrap();
    let first = received(&client);
    let line = &proxy.lines(1)[0];
    let from = client.local_addr().unwrap().to_string();
    for (key, value) in [
        ("client", from.as_str()),
        ("protocol", "udp"),
        ("asked", &server.to_string()),
        ("server", &server.to_string()),
        ("decision", "allowed"),
        ("ended", "idle_timeout"),
    ] {
        assert_eq!(line[key], value, "{key} of {line:#}");
    }
    for (key, value) in [
        ("to_server", 3),
        ("to_client", 5),
        ("datagrams_to_server", 1),
        ("datagrams_to_client", 1),
    ] {
        assert_eq!(line[key], value, "{key} of {line:#}");
    }
    assert!(line["seconds"].as_f64().unwrap() >= 0.3, "{line:#}");
    assert_eq!(line["drops"]["refused"], 0);
    proxy.wait_for("udp_flows_open", 0);
    client.send(b"two").unwrap();
    assert_ne!(received(&client)[..2], first[..2], "the old socket is used");
    proxy.wait_for("udp_flows_ended_total{ending=\"idle_timeout\"}", 2);
    proxy.stop();
}

fn answers_keep_a_flow_open_and_foreign_datagrams_reach_no_client(engine: Engine) {
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(
        engine,
        server.local_addr().unwrap(),
        &["--udp-idle-timeout", "1s"],
    );
    let client = client(proxy.address);
    client.send(b"subscribe").unwrap();
    let mut bytes = [0; 20];
    let (_, flow) = server.recv_from(&mut bytes).unwrap();
    for _ in 0..6 {
        thread::sleep(SOON);
        server.send_to(b"news", flow).unwrap();
        assert_eq!(received(&client), b"news");
    }
    let other = socket("127.0.0.1:0");
    other.send_to(b"forged", flow).unwrap();
    assert!(receives_nothing(&client));
    assert_eq!(proxy.value("udp_flows_opened_total"), 1);
    proxy.stop();
}

fn refusals_of_the_server_are_counted_until_it_is_back(engine: Engine) {
    let server = socket("127.0.0.1:0");
    let address = server.local_addr().unwrap();
    drop(server);
    let proxy = Proxy::start(engine, address, &[]);
    let client = client(proxy.address);
    client.send(b"lost").unwrap();
    proxy.wait_for("udp_dropped_datagrams_total{cause=\"refused\"}", 1);
    let server = socket(&address.to_string());
    client.send(b"found").unwrap();
    assert_eq!(received(&server), b"found");
    assert_eq!(proxy.value("udp_flows_opened_total"), 1);
    let summary = proxy.stop().stdout;
    assert!(summary.contains("; dropped 1 refused\n"), "{summary}");
}

fn denied_sends_are_counted_and_the_flow_continues(engine: Engine) {
    with_firewall(|| {
        let server = socket("127.0.0.1:0");
        let proxy = Proxy::start(engine, server.local_addr().unwrap(), &[]);
        let client = client(proxy.address);
        client.send(b"first").unwrap();
        let (_, flow) = server.recv_from(&mut [0; 10]).unwrap();
        let ports = [&server, &client].map(|socket| socket.local_addr().unwrap().port());
        let [of_server, of_client] = ports;
        run(&format!(
            "nft add rule inet t out udp dport {{ {of_server}, {of_client} }} drop"
        ))
        .unwrap();
        for _ in 0..3 {
            client.send(b"denied").unwrap();
        }
        send_run(&client, &[1; 2_500], 1_000, None);
        proxy.wait_for("udp_dropped_datagrams_total{cause=\"denied\"}", 6);
        server.send_to(b"denied", flow).unwrap();
        proxy.wait_for("udp_dropped_datagrams_total{cause=\"denied\"}", 7);
        run("nft flush chain inet t out").unwrap();
        client.send(b"last").unwrap();
        let mut bytes = [0; 10];
        assert_eq!(server.recv_from(&mut bytes).unwrap(), (4, flow));
        server.send_to(b"answer", flow).unwrap();
        assert_eq!(received(&client), b"answer");
        proxy.program.signal("TERM");
        let line = &proxy.lines(1)[0];
        assert_eq!(line["drops"]["denied"], 7, "{line:#}");
        assert_eq!(line["datagrams_to_server"], 2, "{line:#}");
        assert_eq!(line["datagrams_to_client"], 1, "{line:#}");
        let summary = proxy.program.wait(NOTICED).done().stdout;
        assert!(
            summary.contains("; dropped 7 denied by this host\n"),
            "{summary}"
        );
    });
}

fn draining_proxy_serves_open_flows_only(engine: Engine) {
    let proxy = Proxy::start(engine, echo(false), &["--drain-timeout", "3s"]);
    let open = client(proxy.address);
    open.send(b"before").unwrap();
    assert_eq!(received(&open), b"before");
    proxy.program.signal("TERM");
    proxy.wait_for("draining", 1);
    // The thread may have to wake up first, and may take a datagram for one that arrived before.
    until("no more flows are opened", || {
        open.send(b"still").unwrap();
        client(proxy.address).send(b"late").unwrap();
        proxy.dropped("stopping") > 0
    });
    let mut answers = 0;
    open.set_read_timeout(Some(SOON)).unwrap();
    until("the flow is cut off", || {
        let answer = open.send(b"during").and_then(|_| open.recv(&mut [0; 100]));
        answers += u32::from(answer.is_ok());
        answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(answers > 10, "{answers}");
    until("the flow is logged", || {
        let lines = proxy.lines(1);
        let mut stopped = lines.iter().filter(|line| line["ended"] == "stopped");
        stopped.any(|line| line["datagrams_to_server"].as_u64().unwrap() > 10)
    });
    let summary = proxy.program.wait(NOTICED).done().stdout;
    assert!(
        summary.contains("1 cut off\n") || summary.contains("1 cut off,"),
        "{summary}"
    );
    assert!(summary.contains(" too late"), "{summary}");
}

fn every_datagram_of_a_proxy_that_stops_is_counted(engine: Engine) {
    const COUNT: u64 = 2_000;
    let server = socket("127.0.0.1:0");
    let at_once = ["--drain-timeout", "0s", "--threads", "1"];
    let proxy = Proxy::start(engine, server.local_addr().unwrap(), &at_once);
    let client = client(proxy.address);
    client.send(b"first").unwrap();
    let (_, flow) = server.recv_from(&mut [0; 10]).unwrap();
    proxy.program.signal("STOP");
    for _ in 0..COUNT {
        client.send(b"question").unwrap();
        server.send_to(b"answer", flow).unwrap();
    }
    proxy.program.signal("TERM");
    proxy.program.signal("CONT");
    let line = &proxy.lines(1)[0];
    let summary = proxy.program.wait(NOTICED).done().stdout;
    let forwarded =
        ["datagrams_to_server", "datagrams_to_client"].map(|key| line[key].as_u64().unwrap());
    let (_, drops) = summary.split_once("; dropped ").unwrap_or_default();
    let drops = drops.lines().next().unwrap_or_default().split(", ");
    let counts =
        drops.filter_map(|drop| drop.split(' ').next()?.replace(',', "").parse::<u64>().ok());
    let sum = forwarded.into_iter().chain(counts).sum::<u64>();
    assert_eq!(sum, 1 + 2 * COUNT, "{summary}{line:#}");
}

fn ten_thousand_flows_take_little_memory_and_none_grows(engine: Engine) {
    with_own_network(|| ten_thousand_flows(engine));
}

fn ten_thousand_flows(engine: Engine) {
    let files = rlimit::open_files().unwrap().hard.unwrap_or(u64::MAX);
    let flows = usize::try_from(files / 2).unwrap_or(usize::MAX).min(10_000);
    let server = socket("127.0.0.1:0");
    let limit = flows.to_string();
    let proxy = Proxy::start(
        engine,
        server.local_addr().unwrap(),
        &["--max-udp-flows", &limit],
    );
    let first = client(proxy.address);
    first.send(b"warm").unwrap();
    received(&server);
    let before = anonymous_kb(proxy.program.id());
    for number in 1..flows {
        // Each has its own port, or an address of its own: the port of a closed socket may be used again.
        let local = format!("127.{}.{}.1:0", 1 + number / 250, number % 250);
        let one = socket(&local);
        one.send_to(b"one", proxy.address).unwrap();
        received(&server);
    }
    proxy.wait_for("udp_flows_open", flows as u64);
    let grown = anonymous_kb(proxy.program.id()) - before;
    assert!(grown * 1_024 < 2_048 * flows as u64, "{grown} KB");
    println!("{} bytes a flow", grown * 1_024 / flows as u64);
    // Beyond the limit nothing grows, whatever arrives.
    let before = anonymous_kb(proxy.program.id());
    let garbage = vec![0xa5; 65_507];
    for number in 0..20_000usize {
        let one = socket(&format!("127.200.{}.{}:0", number / 250, 1 + number % 250));
        let length = number * 7 % 1_500 + usize::from(number % 500 == 0) * 60_000;
        one.send_to(&garbage[..length], proxy.address).unwrap();
    }
    until("all are dropped", || {
        proxy.dropped("over_limit") + proxy.dropped("queue_full") >= 20_000
    });
    let grown = anonymous_kb(proxy.program.id()).saturating_sub(before);
    // The pages of the batch's buffers that were not used before.
    assert!(grown < 6_000, "{grown} KB");
    first.send(b"still").unwrap();
    assert_eq!(received(&server), b"still");
    proxy.program.signal("TERM");
    let finished = proxy.program.wait(PATIENCE);
    assert_eq!(finished.code, Some(0));
}

fn hundreds_of_flows_receive_all_their_answers(engine: Engine) {
    const FLOWS: usize = 400;
    const ANSWERS: u8 = 8;
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(engine, server.local_addr().unwrap(), &[]);
    let clients: Vec<_> = (0..FLOWS).map(|_| client(proxy.address)).collect();
    let flows: Vec<_> = clients
        .iter()
        .map(|client| {
            client.send(b"open").unwrap();
            server.recv_from(&mut [0; 10]).unwrap().1
        })
        .collect();
    // All answers arrive together: far more than there are buffers.
    proxy.program.signal("STOP");
    for number in 0..ANSWERS {
        for flow in &flows {
            server.send_to(&[number; 20], flow).unwrap();
        }
    }
    proxy.program.signal("CONT");
    for client in &clients {
        for number in 0..ANSWERS {
            assert_eq!(received(client), [number; 20]);
        }
    }
    let all = FLOWS as u64 * u64::from(ANSWERS);
    proxy.wait_for("udp_datagrams_total{to=\"client\"}", all);
    proxy.stop();
}

fn full_queues_are_counted_while_the_flow_is_open(engine: Engine) {
    // More than a listener has room for.
    const MANY: u64 = 20_000;
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(engine, server.local_addr().unwrap(), &[]);
    let client = client(proxy.address);
    client.send(b"open").unwrap();
    let (_, flow) = server.recv_from(&mut [0; 10]).unwrap();
    proxy.program.signal("STOP");
    for _ in 0..MANY / 4 {
        server.send_to(&[0; 1_000], flow).unwrap();
    }
    proxy.program.signal("CONT");
    until("what the flow's socket dropped is counted", || {
        server.send_to(b"more", flow).unwrap();
        proxy.dropped("queue_full") > 0
    });
    let of_flow = proxy.dropped("queue_full");
    let forwarded = || proxy.value("udp_datagrams_total{to=\"server\"}") - 1;
    proxy.program.signal("STOP");
    for _ in 0..MANY {
        client.send(&[0; 1_000]).unwrap();
    }
    proxy.program.signal("CONT");
    until("what the listener dropped is counted", || {
        forwarded() + proxy.dropped("queue_full") == of_flow + MANY
    });
    assert!(forwarded() < MANY);
    assert_eq!(proxy.value("udp_flows_open"), 1);
    proxy.stop();
}

fn open_files(process: u32) -> usize {
    let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    files.count()
}

fn closed_flows_leave_no_files_open(engine: Engine) {
    let server = socket("127.0.0.1:0");
    let idle = ["--udp-idle-timeout", "300ms"];
    let proxy = Proxy::start(engine, server.local_addr().unwrap(), &idle);
    // That of the metrics stays open for a while.
    proxy.wait_for("udp_flows_open", 0);
    let process = proxy.program.id();
    let before = open_files(process);
    for _ in 0..3 {
        for _ in 0..100 {
            client(proxy.address).send(b"one").unwrap();
            received(&server);
        }
        assert!(open_files(process) > before);
        proxy.wait_for("udp_flows_open", 0);
    }
    until("all files are closed", || open_files(process) <= before);
    proxy.stop();
}

fn out_of_files_no_flow_is_opened_and_open_ones_continue(engine: Engine) {
    let proxy = Proxy::start(engine, echo(false), &[]);
    let open = client(proxy.address);
    open.send(b"open").unwrap();
    assert_eq!(received(&open), b"open");
    let process = proxy.program.id();
    let limit = |files: usize| {
        let limit = format!("--nofile={files}:20000");
        let status = Command::new("prlimit")
            .args(["--pid", &process.to_string(), &limit])
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !limit(open_files(process)) {
        println!("skipped: no prlimit(1) here");
        return;
    }
    // A connection to the metrics may need a file, too.
    let clients: Vec<_> = (0..20).map(|_| client(proxy.address)).collect();
    for client in &clients {
        client.send(b"late").unwrap();
    }
    let ticks = cpu_ticks(process);
    thread::sleep(SOON);
    assert!(cpu_ticks(process) - ticks < 20, "it spins");
    open.send(b"still open").unwrap();
    assert_eq!(received(&open), b"still open");
    assert!(limit(1_000));
    assert!(proxy.dropped("over_limit") > 10);
    clients[19].send(b"again").unwrap();
    assert_eq!(received(&clients[19]), b"again");
    proxy.stop();
}
