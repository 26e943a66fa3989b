//! `bench proxy serve` and its lists: what they block and except, and that previous lists stay active while new ones are
//! doubtful.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{Finished, NOTICED, PATIENCE, Running, bench, start, until};
use tempfile::TempDir;

on_both_engines!(
    a_truncated_list_is_not_activated,
    a_watched_list_that_is_truncated_stays_active,
    a_list_is_read_once_it_is_complete,
    a_list_may_become_empty_if_allowed,
    lists_are_printed_at_the_start,
    a_host_in_a_blocked_network_can_be_excepted,
    plain_names_cover_subdomains_on_request,
    invalid_lines_are_skipped_with_a_warning,
);

mod addresses;
mod pipes;
mod users;

/// A proxy on loopback, an origin server, and a folder for files.
struct Proxy {
    program: Running,
    address: SocketAddr,
    metrics: SocketAddr,
    origin: SocketAddr,
    _origin: Running,
}

impl Proxy {
    #[track_caller]
    fn start(engine: Engine, more: &[&str]) -> Self {
        let mut server = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
        let origin = server.listening();
        let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0"];
        let metrics = ["--metrics", "127.0.0.1:0"];
        let more = engine.options().chain(more.iter().copied());
        let mut program = start(fixed.into_iter().chain(metrics).chain(more));
        let address = program.listening();
        let line = program.line(|line| line.starts_with("metrics on "));
        let url = line.strip_prefix("metrics on http://").unwrap();
        Self {
            program,
            address,
            metrics: url.strip_suffix("/metrics").unwrap().parse().unwrap(),
            origin,
            _origin: server,
        }
    }

    /// Checks whether a connection to the server is blocked.
    #[track_caller]
    fn blocks(&self) -> bool {
        self.blocks_host("127.0.0.1")
    }

    #[track_caller]
    fn blocks_host(&self, host: &str) -> bool {
        let port = self.origin.port();
        let request =
            format!(r#"{{"server_ip": "{host}", "server_port": {port}, "message": "x"}}"#);
        let answer = response_to(self.address, request.as_bytes());
        if answer == b"RESPONSE || x" {
            return false;
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("{\"error\": \"blocked\""), "{answer}");
        true
    }

    #[track_caller]
    fn wait_for(&self, series: &str, value: u64) {
        let line = format!("wirebench_proxy_{series} {value}");
        until(&line, || {
            let page = response_to(self.metrics, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
            String::from_utf8_lossy(&page).lines().any(|is| is == line)
        });
    }

    #[track_caller]
    fn reloads(&self, outcome: &str, times: u64) {
        self.wait_for(
            &format!("list_reloads_total{{outcome=\"{outcome}\"}}"),
            times,
        );
    }

    /// A reload is counted before it is reported, so one more means that the last is complete.
    #[track_caller]
    fn reload_once_more(&self, outcome: &str, times: u64) {
        self.program.signal("HUP");
        self.reloads(outcome, times);
    }

    #[track_caller]
    fn stop(self) -> Finished {
        self.program.signal("TERM");
        let finished = self.program.wait(NOTICED);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished
    }
}

#[track_caller]
fn response_to(to: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect(to).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(sent).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    answer
}

/// A folder with files.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let own = Self(tempfile::tempdir().unwrap());
        for (name, content) in files {
            own.write(name, content);
        }
        own
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn arg(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }
}

fn loopback(entries: u32) -> String {
    let addresses = (1..=entries).map(|low| Ipv4Addr::from_bits(0x7f00_0000 + low));
    addresses.map(|address| format!("{address}\n")).collect()
}

fn a_truncated_list_is_not_activated(engine: Engine) {
    let files = Files::new(&[("list", &loopback(100))]);
    let proxy = Proxy::start(engine, &["--blocklist", &files.arg("list")]);
    let list = format!("list_entries{{file=\"{}\"}}", files.arg("list"));
    assert!(proxy.blocks());
    let read_again = |outcome, times| {
        proxy.program.signal("HUP");
        proxy.reloads(outcome, times);
        assert!(proxy.blocks());
    };
    // As an incomplete download leaves it.
    for (content, times) in [("", 1), ("# nothing yet\n", 2), (&loopback(49), 3)] {
        files.write("list", content);
        read_again("refused", times);
    }
    let broken = [
        "<html>\n<body>\n404 Not Found\n",
        "\u{0}\u{0}",
        "127.0.0.9\n127.0.0\n",
    ];
    for (content, times) in broken.into_iter().zip(1..) {
        files.write("list", content);
        read_again("failed", times);
    }
    fs::remove_file(files.path("list")).unwrap();
    read_again("failed", 4);
    proxy.wait_for(&list, 100);
    files.write("list", "127.0.0.9\n".repeat(60).as_str());
    proxy.program.signal("HUP");
    proxy.reloads("ok", 1);
    assert!(!proxy.blocks());
    proxy.wait_for(&list, 60);
    proxy.reload_once_more("ok", 2);
    let finished = proxy.stop();
    for words in [
        "list: an empty list, it has no entries; --allow-empty accepts it",
        "list: 49 of 100 entries are left",
        "list: it looks like a web page",
        "list: it looks like binary data",
        "list:2: \"127.0.0\"",
        "No such file",
        "the previous lists stay active",
        "reloaded ",
        "list: 60 entries (lines)",
    ] {
        assert!(
            finished.stderr.contains(words),
            "no {words} in:\n{}",
            finished.stderr
        );
    }
}

fn a_watched_list_that_is_truncated_stays_active(engine: Engine) {
    let files = Files::new(&[("list", "127.0.0.1\n")]);
    let proxy = Proxy::start(engine, &["--blocklist", &files.arg("list"), "--watch"]);
    assert!(proxy.blocks());
    files.write("list", "");
    proxy.reloads("refused", 1);
    assert!(proxy.blocks());
    // Renamed into place, as careful programs do.
    files.write("new", "127.0.0.9\n");
    fs::rename(files.path("new"), files.path("list")).unwrap();
    proxy.reloads("ok", 1);
    assert!(!proxy.blocks());
    proxy.stop();
}

fn a_list_is_read_once_it_is_complete(engine: Engine) {
    let files = Files::new(&[("list", "127.0.0.1\n")]);
    let proxy = Proxy::start(engine, &["--blocklist", &files.arg("list"), "--watch"]);
    // Written in pieces until the watch has looked several times. Reading one of them would be another reload.
    let mut file = fs::File::create(files.path("list")).unwrap();
    let begun = std::time::Instant::now();
    while begun.elapsed().as_millis() < 2_500 {
        file.write_all(b"127.0.0.2\n").unwrap();
        assert!(proxy.blocks());
    }
    drop(file);
    until("the whole list is read", || !proxy.blocks());
    proxy.reloads("ok", 1);
    proxy.reloads("refused", 0);
    proxy.reloads("failed", 0);
    proxy.stop();
}

fn a_list_may_become_empty_if_allowed(engine: Engine) {
    let files = Files::new(&[("list", &loopback(9)), ("none", "# to be filled\n")]);
    let (list, none) = (files.arg("list"), files.arg("none"));
    let proxy = Proxy::start(
        engine,
        &["--blocklist", &list, "--blocklist", &none, "--allow-empty"],
    );
    assert!(proxy.blocks());
    files.write("list", "");
    proxy.program.signal("HUP");
    until("nothing is blocked", || !proxy.blocks());
    proxy.reload_once_more("ok", 2);
    let finished = proxy.stop();
    let (at_start, later) = ("none: an empty list, it has no entries", "reloaded ");
    assert!(
        finished.stderr.contains(at_start) && finished.stderr.contains(later),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stderr.contains("list: an empty list"),
        "{}",
        finished.stderr
    );
}

#[test]
fn an_empty_list_is_an_error_at_the_start() {
    let files = Files::new(&[("none", "# nothing\n"), ("words", "password\nletmein\n")]);
    let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0"];
    for option in [
        "--blocklist",
        "--blocklist-subdomains",
        "--allow",
        "--except",
    ] {
        let none = files.arg("none");
        let finished = bench(fixed.iter().copied().chain([option, &none]));
        finished.failed(3, &["none: an empty list", "--allow-empty"]);
    }
    let words = files.arg("words");
    let finished = bench(fixed.iter().copied().chain(["--blocklist", &words]));
    finished.failed(3, &["words: none of its 2 names has a dot"]);
}

fn lists_are_printed_at_the_start(engine: Engine) {
    let files = Files::new(&[
        ("lines", "192.0.2.1\n192.0.2.2\n"),
        ("hosts", "0.0.0.0 ads.example\n"),
        ("adblock", "||a.example^\n||b.example^\n@@||c.a.example^\n"),
        ("except", "*.good.example\n"),
    ]);
    let [lines, hosts, adblock, except] =
        ["lines", "hosts", "adblock", "except"].map(|name| files.arg(name));
    let options = [
        "--blocklist",
        &lines,
        "--blocklist-subdomains",
        &hosts,
        "--blocklist",
        &adblock,
        "--except",
        &except,
    ];
    let mut named: Vec<String> = Vec::new();
    for quiet in [&[][..], &["--quiet"]] {
        let proxy = Proxy::start(engine, &[&options[..], quiet].concat());
        let stdout = proxy.stop().done().stdout;
        named = stdout
            .lines()
            .filter(|line| line.contains("entr"))
            .map(str::to_owned)
            .collect();
        if quiet.is_empty() {
            let expected = [
                format!("{lines}: 2 entries (lines)"),
                format!("{adblock}: 2 entries (adblock)"),
                format!("{hosts}: 1 entry (hosts)"),
                format!("{except}: 1 entry (lines)"),
            ];
            assert_eq!(named, expected);
        }
    }
    assert!(named.is_empty(), "{named:?}");
}

fn a_host_in_a_blocked_network_can_be_excepted(engine: Engine) {
    let files = Files::new(&[
        ("inner", "127.0.0.1\n"),
        ("list", "127.0.0.0/8\nlocalhost\n"),
    ]);
    let (inner, list) = (files.arg("inner"), files.arg("list"));
    for options in [
        &["--deny-private", "--except", &inner][..],
        &["--deny-private", "--blocklist", &list, "--except", &inner],
    ] {
        let proxy = Proxy::start(engine, options);
        for (host, blocked) in [
            ("127.0.0.1", false),
            ("::ffff:127.0.0.1", false),
            ("127.0.0.2", true),
            ("64:ff9b::127.0.0.1", true),
            ("10.0.0.1", true),
        ] {
            assert_eq!(proxy.blocks_host(host), blocked, "{host} {options:?}");
        }
        assert_eq!(
            proxy.blocks_host("localhost"),
            options.len() > 3,
            "{options:?}"
        );
        proxy.stop().done();
    }
    let dry = [
        "blocklist",
        "check",
        &list,
        "--deny-private",
        "--except",
        &inner,
        "--",
    ];
    let finished = bench(dry.into_iter().chain(["127.0.0.1:80", "127.0.0.2"]));
    let expected = format!(
        "127.0.0.1:80 allowed, excepted by {inner}:1 (127.0.0.1)\n127.0.0.2 blocked by {list}:1 (127.0.0.0/8)\n"
    );
    assert_eq!((finished.code, finished.stdout), (Some(1), expected));
}

fn plain_names_cover_subdomains_on_request(engine: Engine) {
    let files = Files::new(&[("list", "ads.example\nlocalhost\n.tracker.example\n")]);
    let list = files.arg("list");
    for (option, below) in [("--blocklist", false), ("--blocklist-subdomains", true)] {
        let proxy = Proxy::start(engine, &[option, &list]);
        for (host, blocked) in [
            ("ads.example", true),
            ("tracker.example", true),
            ("a.tracker.example", true),
            ("localhost", true),
            ("127.0.0.1", false),
        ] {
            assert_eq!(proxy.blocks_host(host), blocked, "{host} {option}");
        }
        // Names that are not blocked would be looked up.
        let args = match below {
            true => vec!["blocklist", "check", option, &list, "--", "www.ads.example"],
            false => vec!["blocklist", "check", &list, "--", "www.ads.example"],
        };
        assert_eq!(bench(args).code, Some(i32::from(below)));
        if below {
            assert!(proxy.blocks_host("www.ads.example"));
        }
        proxy.stop().done();
    }
}

fn invalid_lines_are_skipped_with_a_warning(engine: Engine) {
    let list = loopback(199) + "half a li\n";
    let files = Files::new(&[("list", &list)]);
    let path = files.arg("list");
    let fixed = [
        "proxy",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--blocklist",
        &path,
    ];
    bench(fixed).failed(3, &["list:200: \"half a li\" has ' ' in it"]);
    let proxy = Proxy::start(engine, &["--blocklist", &path, "--skip-bad-lines"]);
    assert!(proxy.blocks());
    proxy.wait_for(&format!("list_skipped_lines{{file=\"{path}\"}}"), 1);
    files.write("list", &list.replace("half", "half a li\nhalf"));
    proxy.program.signal("HUP");
    proxy.reloads("ok", 1);
    files.write(
        "list",
        &list.replace("half", "half a li\nhalf a li\nhalf a li\nhalf"),
    );
    proxy.program.signal("HUP");
    proxy.reloads("failed", 1);
    proxy.wait_for(&format!("list_skipped_lines{{file=\"{path}\"}}"), 2);
    assert!(proxy.blocks());
    proxy.reload_once_more("failed", 2);
    let finished = proxy.stop();
    for words in [
        "list: skipped 1 of 200 lines, the first is line 200: \"half a li\" has ' ' in it",
        "list: skipped 2 of 201 lines",
        "list: 4 of 203 lines are not valid, and --skip-bad-lines skips at most 1 %; the first is line 200: ",
    ] {
        assert!(
            finished.stderr.contains(words),
            "no {words} in:\n{}",
            finished.stderr
        );
    }
}
