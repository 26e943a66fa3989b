//! Addresses of this host, and of clients of a dual-stack listener.

use super::*;
use crate::common::network::{in_own_network, ip};

on_both_engines!(
    an_address_of_this_host_is_private,
    an_ipv4_client_of_a_dual_stack_listener_is_logged_as_such,
);

fn an_address_of_this_host_is_private(engine: Engine) {
    in_own_network(|| addresses_of_this_host(engine));
}

fn addresses_of_this_host(engine: Engine) {
    let fixed = "proxy serve --listen 127.0.0.1:0 --deny-private";
    let mut program = start(fixed.split(' ').chain(engine.options()));
    let address = program.listening().to_string();
    let answer = |server: &str| {
        let done = bench([
            "proxy", "send", "--proxy", &address, "--server", server, "x",
        ]);
        done.stdout + &done.stderr
    };
    let check = |host: &str| {
        let done = bench(["blocklist", "check", "--deny-private", "--", host]);
        (done.code, done.stdout + &done.stderr)
    };
    // Not of this host, and without a route.
    assert!(
        !answer("8.8.4.4:9").contains("blocked"),
        "{}",
        answer("8.8.4.4:9")
    );
    assert_eq!(check("8.8.4.4").0, Some(0));
    for (network, own, other) in [
        ("8.8.4.4/32", "8.8.4.4", "8.8.4.5"),
        // A whole network, by a route.
        ("9.9.9.0/24", "9.9.9.77", "9.9.8.1"),
        ("2600::7/128", "2600::7", "2600::8"),
    ] {
        match network.ends_with("/24") {
            true => ip(&format!("route add local {network} dev lo")),
            false => ip(&format!("address add {network} dev lo nodad")),
        }
        let port = |host: &str| match host.contains(':') {
            true => format!("[{host}]:9"),
            false => format!("{host}:9"),
        };
        until("the address is private", || {
            answer(&port(own)).contains("blocked")
        });
        assert!(!answer(&port(other)).contains("blocked"), "{other}");
        let (code, text) = check(own);
        let expected = format!("{own} blocked by --deny-private ({own}, an address of this host)");
        assert!(code == Some(1) && text.contains(&expected), "{text}");
    }
    ip("address del 8.8.4.4/32 dev lo");
    until("the address is not private", || {
        !answer("8.8.4.4:9").contains("blocked")
    });
    program.signal("TERM");
    program.wait(NOTICED).done();
}

fn an_ipv4_client_of_a_dual_stack_listener_is_logged_as_such(engine: Engine) {
    let files = Files::new(&[]);
    let log = files.arg("log");
    let fixed = ["proxy", "serve", "--listen", "[::]:0", "--log", &log];
    let mut program = start(fixed.into_iter().chain(engine.options()));
    let port = program.listening().port();
    let answer = response_to((Ipv4Addr::LOCALHOST, port).into(), b"nonsense");
    assert!(answer.starts_with(b"{\"error\""));
    program.signal("TERM");
    program.wait(NOTICED).done();
    let text = fs::read_to_string(files.path("log")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
    for key in ["client", "peer"] {
        let address: SocketAddr = line[key].as_str().unwrap().parse().unwrap();
        assert_eq!(address.ip(), Ipv4Addr::LOCALHOST, "{text}");
    }
}
