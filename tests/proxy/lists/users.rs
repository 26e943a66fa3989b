//! The list of users.

use super::*;

on_both_engines!(users_are_reloaded_and_logged,);

/// The reply to a SOCKS5 client that authenticates and closes: 0 if it may continue.
#[track_caller]
pub(super) fn sign_in(to: SocketAddr, user: &str, password: &str) -> u8 {
    let mut client = TcpStream::connect(to).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let word = |word: &str| [&[u8::try_from(word.len()).unwrap()], word.as_bytes()].concat();
    client.write_all(&[5, 1, 2]).unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    let message = [&[1][..], &word(user), &word(password)].concat();
    client.write_all(&message).unwrap();
    let mut answer = [0; 2];
    client.read_exact(&mut answer).unwrap();
    answer[1]
}

fn users_are_reloaded_and_logged(engine: Engine) {
    let files = Files::new(&[("users", "ann:1\nbob:2\n")]);
    let (users, log) = (files.arg("users"), files.arg("log"));
    let proxy = Proxy::start(engine, &["--auth-file", &users, "--log", &log]);
    let may = |user: &str, password: &str| sign_in(proxy.address, user, password) == 0;
    assert!(may("ann", "1") && may("bob", "2") && !may("cat", "3"));
    // A client that has started to authenticate is checked against the current users.
    let mut begun = TcpStream::connect(proxy.address).unwrap();
    begun.set_read_timeout(Some(PATIENCE)).unwrap();
    begun.write_all(&[5, 1, 2]).unwrap();
    begun.read_exact(&mut [0; 2]).unwrap();
    files.write("users", "ann:1\ncat:3\n");
    proxy.program.signal("HUP");
    until("bob is out", || !may("bob", "2"));
    assert!(may("ann", "1") && may("cat", "3"));
    begun.write_all(b"\x01\x03bob\x012").unwrap();
    let mut answer = [0; 2];
    begun.read_exact(&mut answer).unwrap();
    assert_ne!(answer[1], 0);
    // An invalid file leaves the users unchanged.
    for broken in ["", "ann\n"] {
        files.write("users", broken);
        proxy.program.signal("HUP");
    }
    files.write("users", "dan:4\n");
    proxy.program.signal("HUP");
    until("dan is in", || may("dan", "4"));
    let watching = Proxy::start(engine, &["--auth-file", &users, "--watch"]);
    assert_eq!(sign_in(watching.address, "dan", "4"), 0);
    files.write("users", "eve:5\n");
    until("eve is in", || sign_in(watching.address, "eve", "5") == 0);
    assert_ne!(sign_in(watching.address, "dan", "4"), 0);
    watching.stop();
    let to = proxy.origin;
    let basic = "YW5uOjE=";
    let head = format!(
        "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nProxy-Authorization: Basic {basic}\r\n\r\n"
    );
    assert!(response_to(proxy.address, head.as_bytes()).starts_with(b"HTTP/1.1 407 "));
    proxy.stop();
    let text = fs::read_to_string(files.path("log")).unwrap();
    for (user, detail) in [
        ("ann", "the connection ended"),
        ("bob", "the connection ended"),
        ("bob", "unknown user"),
        ("cat", "the connection ended"),
        ("dan", "the connection ended"),
    ] {
        let is = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["user"] == user && line["detail"].as_str().unwrap().starts_with(detail)
        };
        assert!(text.lines().any(is), "no {user} {detail} in:\n{text}");
    }
    let mut connects = text.lines().filter(|line| line.contains("\"connect\""));
    let named = connects
        .next()
        .map(|line| line.contains("\"user\":\"ann\""));
    assert_eq!((named, connects.next()), (Some(true), None), "{text}");
}
