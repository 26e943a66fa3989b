//! Lists that are reloaded, allow lists and dry runs.

use super::*;

on_both_engines!(
    lists_are_reloaded_and_an_invalid_one_leaves_the_previous_active,
    a_watched_list_is_reloaded_when_it_changes,
    allow_lists_restrict_destinations_and_private_networks_can_be_denied,
    a_dry_run_blocks_nothing,
);

fn lists_are_reloaded_and_an_invalid_one_leaves_the_previous_active(engine: Engine) {
    let list = list("127.0.0.1\n");
    let proxy = Proxy::start(engine, &["--blocklist", path(&list)]);
    let port = proxy.origin.port();
    let answer = |proxy: &Proxy| proxy.response_to(&envelope("127.0.0.1", port, "x"), usize::MAX);
    assert!(answer(&proxy).starts_with(b"{\"error\": \"blocked\""));

    fs::write(list.path(), "127.0.0.2\n").unwrap();
    proxy.program.signal("HUP");
    until(|| answer(&proxy) == b"RESPONSE || x");
    // An open connection is not affected.
    let mut kept = proxy.client();
    kept.write_all(&socks5(proxy.origin)).unwrap();
    kept.read_exact(&mut [0; 12]).unwrap();

    fs::write(list.path(), "127.0.0.2\nnonsense here\n").unwrap();
    proxy.program.signal("HUP");
    fs::write(list.path(), "127.0.0.1\n").unwrap();
    proxy.program.signal("HUP");
    until(|| answer(&proxy) != b"RESPONSE || x");
    kept.write_all(b"still").unwrap();
    let mut received = [0; 17];
    kept.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"RESPONSE || still");
    drop(kept);

    proxy.program.signal("TERM");
    let finished = proxy.program.wait(NOTICED);
    assert_eq!(finished.code, Some(0));
    assert!(finished.stderr.contains("reloaded "), "{}", finished.stderr);
}

#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never came");
    }
}

fn a_watched_list_is_reloaded_when_it_changes(engine: Engine) {
    let list = list("127.0.0.1\n");
    let proxy = Proxy::start(engine, &["--blocklist", path(&list), "--watch"]);
    let request = envelope("127.0.0.1", proxy.origin.port(), "x");
    assert!(
        proxy
            .response_to(&request, usize::MAX)
            .starts_with(b"{\"error\": \"blocked\"")
    );
    fs::write(list.path(), "127.0.0.2\n").unwrap();
    until(|| proxy.response_to(&request, usize::MAX) == b"RESPONSE || x");
    assert_eq!(proxy.stop().code, Some(0));
}

fn allow_lists_restrict_destinations_and_private_networks_can_be_denied(engine: Engine) {
    let allow = list("127.0.0.1\n");
    let proxy = Proxy::start(engine, &["--allow", path(&allow)]);
    let port = proxy.origin.port();
    let answer =
        |proxy: &Proxy, host: &str| proxy.response_to(&envelope(host, port, "x"), usize::MAX);
    assert_eq!(answer(&proxy, "127.0.0.1"), b"RESPONSE || x");
    assert_eq!(answer(&proxy, "::ffff:127.0.0.1"), b"RESPONSE || x");
    assert!(answer(&proxy, "127.0.0.2").starts_with(b"{\"error\": \"blocked\""));
    proxy.stop().done();
    let proxy = Proxy::start(engine, &["--deny-private"]);
    for host in [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "fd00::1",
    ] {
        let answer = answer(&proxy, host);
        assert!(
            answer.starts_with(b"{\"error\": \"blocked\""),
            "{host}: {answer:?}"
        );
    }
    proxy.stop().done();
}

fn a_dry_run_blocks_nothing(engine: Engine) {
    let list = list("127.0.0.1\n");
    let proxy = Proxy::start(engine, &["--blocklist", path(&list), "--dry-run"]);
    let request = envelope("127.0.0.1", proxy.origin.port(), "x");
    assert_eq!(proxy.response_to(&request, usize::MAX), b"RESPONSE || x");
    proxy.stop().done();
}
