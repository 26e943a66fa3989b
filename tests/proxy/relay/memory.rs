//! Memory of the proxy while connections are idle or an end does not read.

use super::*;
use wirebench::sys::rlimit;

on_both_engines!(
    messages_to_an_end_that_does_not_read_cost_no_memory,
    an_end_that_does_not_read_blocks_the_other_and_costs_no_memory,
    idle_connections_cost_little_memory,
);

splicing!(idle_connections_cost_little_memory,);

fn messages_to_an_end_that_does_not_read_cost_no_memory(engine: Engine) {
    let noise = noise();
    let proxy = Proxy::start(engine, &[]);
    let before = memory(&proxy.program);
    let pairs: Vec<_> = (0..20)
        .map(|_| {
            let (client, server) = proxy.conversing_pair();
            client.set_nonblocking(true).unwrap();
            let mut sent = 0;
            // Until the buffers of the kernel on the way are full, a message at a time.
            let full = loop {
                let end = noise.len().min(sent % noise.len() + 1_000);
                match (&client).write(&noise[sent % noise.len()..end]) {
                    Ok(bytes) => sent += bytes,
                    Err(error) => break error,
                }
            };
            assert_eq!(full.kind(), ErrorKind::WouldBlock);
            client.shutdown(Shutdown::Write).unwrap();
            (client, server, sent)
        })
        .collect();
    let grown = memory(&proxy.program).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    // Another connection is not held up.
    proxy.conversing_pair();
    for (_client, server, sent) in pairs {
        receive(server, &noise, sent);
    }
}

/// Resident memory of a process apart from its program file, in bytes.
#[track_caller]
fn memory(program: &Running) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

fn an_end_that_does_not_read_blocks_the_other_and_costs_no_memory(engine: Engine) {
    let noise = noise();
    for forwarding in FORWARDINGS {
        let proxy = Proxy::start(engine, &["--forwarding", forwarding]);
        let before = memory(&proxy.program);
        let (mut client, server) = proxy.pair();
        // Writes are blocked for a while: all the kernel's buffers on the way are full.
        client
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut sent = 0;
        let held_up = loop {
            match client.write(&noise[sent % noise.len()..]) {
                Ok(bytes) => sent += bytes,
                Err(error) => break error,
            }
            assert!(sent < 1 << 30, "writes are never blocked");
        };
        assert_eq!(held_up.kind(), ErrorKind::WouldBlock);
        let grown = memory(&proxy.program).saturating_sub(before);
        assert!(grown < 1 << 20, "{forwarding}: {grown} bytes for {sent}");
        client.shutdown(Shutdown::Write).unwrap();
        receive(server, &noise, sent);
    }
}

fn idle_connections_cost_little_memory(engine: Engine) {
    // Two files of this process for each pair, four of the proxy with pipes, and other tests need files too.
    let files = rlimit::raise_open_files().unwrap() / 8;
    let many = usize::try_from(files).unwrap_or(usize::MAX).min(400);
    let proxy = Proxy::start(engine, &[]);
    let used = |pair: &(TcpStream, TcpStream)| {
        assert_passes(&pair.0, &pair.1, 10_000);
        assert_passes(&pair.1, &pair.0, 10_000);
    };
    used(&proxy.pair());
    let before = memory(&proxy.program);
    let pairs: Vec<_> = (0..many).map(|_| proxy.pair()).collect();
    pairs.iter().for_each(used);
    let grown = memory(&proxy.program).saturating_sub(before);
    assert!(grown < many * 4_096, "{grown} bytes for {many}");
}
