//! Addresses of this host, and of clients of a dual-stack listener.

use super::*;

on_both_engines!(
    an_address_of_this_host_is_private,
    an_ipv4_client_of_a_dual_stack_listener_is_logged_as_such,
);

/// A program in a separate network with loopback; `None` if that is not permitted.
fn apart(args: &[&str]) -> Option<Running> {
    let trial = Command::new("unshare")
        .args(["--net", "ip", "link", "set", "lo", "up"])
        .status();
    if !trial.is_ok_and(|status| status.success()) {
        println!("skipped: no network namespace can be had here");
        return None;
    }
    let mut command = Command::new("unshare");
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    command.args(["--net", "sh", "-c", script, env!("CARGO_BIN_EXE_bench")]);
    command.args(args);
    Some(Running::new(command))
}

/// Runs a command in the network of another program.
#[track_caller]
fn beside(program: &Running, command: &[&str]) -> (Option<i32>, String) {
    let process = program.id().to_string();
    let output = Command::new("nsenter")
        .args(["--net", "--target", &process, "--"])
        .args(command)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn an_address_of_this_host_is_private(engine: Engine) {
    let fixed = [
        "proxy",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--deny-private",
    ];
    let args: Vec<_> = fixed.into_iter().chain(engine.options()).collect();
    let Some(mut program) = apart(&args) else {
        return;
    };
    let address = program.listening().to_string();
    let bench = env!("CARGO_BIN_EXE_bench");
    let answer = |server: &str| {
        let send = [
            bench, "proxy", "send", "--proxy", &address, "--server", server, "x",
        ];
        beside(&program, &send).1
    };
    let check = |host: &str| {
        let check = [bench, "blocklist", "check", "--deny-private", "--", host];
        beside(&program, &check)
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
        let add = match network.ends_with("/24") {
            true => ["ip", "route", "add", "local", network, "dev", "lo"],
            false => ["ip", "address", "add", network, "dev", "lo", "nodad"],
        };
        assert_eq!(beside(&program, &add).0, Some(0), "{network}");
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
    let delete = ["ip", "address", "del", "8.8.4.4/32", "dev", "lo"];
    assert_eq!(beside(&program, &delete).0, Some(0));
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
