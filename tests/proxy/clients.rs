//! Third-party clients with `bench proxy serve`: curl, and if installed ncat, proxychains and python's socks module.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::common::{NOTICED, Running, start};
use tempfile::NamedTempFile;

const BODY: &str = "what was asked for\n";

/// A web server that answers every request with [`BODY`], until the test ends.
fn web() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines
                    .next()
                    .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
                {}
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    BODY.len()
                );
                let _ = (&stream).write_all((head + BODY).as_bytes());
            });
        }
    });
    address
}

fn proxy(more: &[&str]) -> (Running, SocketAddr) {
    let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0"];
    let mut program = start(fixed.iter().chain(more));
    let address = program.listening();
    (program, address)
}

fn origin() -> (Running, SocketAddr) {
    let mut program = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
    let address = program.listening();
    (program, address)
}

/// The output of a program for `input`; `None` if it is not installed.
fn run(program: &str, args: &[&str], input: &str) -> Option<Output> {
    let child = Command::new(program)
        .args(args)
        .env_remove("http_proxy")
        .env_remove("all_proxy")
        .env("no_proxy", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: {program} is not installed");
        return None;
    };
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(child.wait_with_output().unwrap())
}

fn text_of(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn list(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn curl_works_with_every_protocol_and_shows_refusals() {
    let port = web().port();
    let list = list("127.0.0.9\n*.blocked.example\n");
    let (program, address) = proxy(&["--blocklist", list.path().to_str().unwrap()]);
    let ways: [(&[&str], i32, &str); 3] = [
        (&["--socks5"], 97, "(2)"),
        (&["--socks5-hostname"], 97, "(2)"),
        (&["--proxytunnel", "--proxy"], 56, "403"),
    ];
    for (way, code, words) in ways {
        let curl = |host: &str| {
            let (proxy, url) = (address.to_string(), format!("http://{host}:{port}/"));
            let args = [&["-sS", "-m", "15"], way, &[&*proxy, &*url]].concat();
            run("curl", &args, "")
        };
        for host in ["127.0.0.1", "localhost"] {
            let Some(output) = curl(host) else { return };
            assert_eq!(text_of(&output), BODY, "{way:?} {host}");
        }
        let output = curl("127.0.0.9").unwrap();
        assert_eq!(output.status.code(), Some(code), "{way:?}");
        assert!(
            text_of(&output).contains(words),
            "{way:?}: {}",
            text_of(&output)
        );
    }
    // The proxy resolves the name, and refuses it before the lookup.
    let (proxy, url) = (address.to_string(), "http://www.blocked.example/");
    let args = ["-sS", "-m", "15", "--socks5-hostname", &proxy, url];
    let output = run("curl", &args, "").unwrap();
    assert!(text_of(&output).contains("(2)"), "{}", text_of(&output));
    program.signal("TERM");
    let finished = program.wait(NOTICED).done();
    assert!(
        finished.stdout.contains("6 finished, 4 blocked"),
        "{}",
        finished.stdout
    );
}

#[test]
fn curl_authenticates() {
    let port = web().port();
    let users = list("ann:secret\n");
    let (_program, address) = proxy(&["--auth-file", users.path().to_str().unwrap()]);
    let url = format!("http://127.0.0.1:{port}/");
    for (user, through) in [("ann:secret", true), ("ann:wrong", false)] {
        for scheme in ["socks5h", "http"] {
            let proxy = format!("{scheme}://{user}@{address}");
            let args = ["-sS", "-m", "15", "--proxytunnel", "--proxy", &proxy, &url];
            let Some(output) = run("curl", &args, "") else {
                return;
            };
            assert_eq!(
                text_of(&output) == BODY,
                through,
                "{proxy}: {}",
                text_of(&output)
            );
        }
    }
}

#[test]
fn curl_shows_why_a_plain_request_and_socks4_are_refused() {
    let (_program, address) = proxy(&[]);
    let (http, socks4) = (format!("http://{address}"), format!("socks4://{address}"));
    let url = "http://127.0.0.1:9/";
    let Some(output) = run("curl", &["-sS", "-m", "15", "--proxy", &http, url], "") else {
        return;
    };
    assert!(output.status.success(), "{}", text_of(&output));
    assert!(
        text_of(&output).contains("--proxytunnel"),
        "{}",
        text_of(&output)
    );
    // A HEAD request: if there were a body, curl would report excess data.
    let output = run("curl", &["-sSI", "-m", "15", &http], "").unwrap();
    assert!(
        text_of(&output).starts_with("HTTP/1.1 405 "),
        "{}",
        text_of(&output)
    );
    for scheme in [&socks4, &socks4.replace("socks4", "socks4a")] {
        let output = run("curl", &["-sS", "-m", "15", "--proxy", scheme, url], "").unwrap();
        assert!(
            text_of(&output).contains("rejected"),
            "{}",
            text_of(&output)
        );
    }
    let https = format!("https://{address}/");
    let output = run("curl", &["-sSk", "-m", "15", &https], "").unwrap();
    assert_eq!(output.status.code(), Some(35), "{}", text_of(&output));
}

#[test]
fn the_http_client_of_python_opens_a_tunnel() {
    let script = "
import http.client, sys
c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=15)
c.set_tunnel('127.0.0.1', int(sys.argv[2]), {'Content-Length': '0', 'Proxy-Connection': 'keep-alive'})
c.request('GET', '/')
print(c.getresponse().read().decode(), end='')
";
    let (_program, address) = proxy(&[]);
    let ports = [address.port().to_string(), web().port().to_string()];
    if let Some(output) = run("python3", &["-c", script, &ports[0], &ports[1]], "") {
        assert_eq!(text_of(&output), BODY);
    }
}

#[test]
fn curl_sends_a_proxy_header_that_is_accepted() {
    let web = web().to_string();
    let (_program, address) = proxy(&["--forward", &web, "--accept-proxy"]);
    let url = format!("http://{address}/");
    let with = ["-sS", "-m", "15", "--haproxy-protocol", &url];
    let Some(output) = run("curl", &with, "") else {
        return;
    };
    assert_eq!(text_of(&output), BODY);
    let output = run("curl", &["-sS", "-m", "15", &url], "").unwrap();
    assert!(!output.status.success(), "a client without a header");
}

#[test]
fn ncat_works_with_socks5_and_connect() {
    let (_origin, to) = origin();
    let (_program, address) = proxy(&[]);
    let (address, port) = (address.to_string(), to.port().to_string());
    for kind in ["socks5", "http"] {
        let args = [
            "--proxy",
            &address,
            "--proxy-type",
            kind,
            "127.0.0.1",
            &port,
        ];
        let Some(output) = run("ncat", &args, "ping\n") else {
            return;
        };
        assert_eq!(text_of(&output), "RESPONSE || ping\n", "{kind}");
    }
    // And the envelope, typed by hand.
    let envelope = format!(
        "{{\"server_ip\": \"127.0.0.1\", \"server_port\": {port}, \"message\": \"ping\"}}\n"
    );
    let (host, port) = address.split_once(':').unwrap();
    let output = run("ncat", &[host, port], &envelope).unwrap();
    assert_eq!(text_of(&output), "RESPONSE || ping");
}

#[test]
fn proxychains_redirects_a_program() {
    let port = web().port();
    let (_program, address) = proxy(&[]);
    let url = format!("http://127.0.0.1:{port}/");
    for kind in ["socks5", "http"] {
        let config = list(&format!(
            "strict_chain\n[ProxyList]\n{kind} 127.0.0.1 {}\n",
            address.port()
        ));
        let config = config.path().to_str().unwrap();
        let args = ["-q", "-f", config, "curl", "-sS", "-m", "15", &url];
        let Some(output) = run("proxychains4", &args, "") else {
            return;
        };
        assert_eq!(text_of(&output), BODY, "{kind}");
    }
}

#[test]
fn the_socks_module_of_python_works() {
    let script = "
import sys
try:
    import socks
except ImportError:
    sys.exit(77)
for kind in socks.SOCKS5, socks.HTTP:
    for host in '127.0.0.1', 'localhost':
        s = socks.socksocket()
        s.settimeout(15)
        s.set_proxy(kind, '127.0.0.1', int(sys.argv[1]))
        s.connect((host, int(sys.argv[2])))
        s.sendall(b'ping')
        print(s.recv(100).decode())
";
    let (_origin, to) = origin();
    let (_program, address) = proxy(&[]);
    let ports = [address.port().to_string(), to.port().to_string()];
    let system = ["/usr/bin/python3", "python3"];
    for python in system {
        let Some(output) = run(python, &["-c", script, &ports[0], &ports[1]], "") else {
            continue;
        };
        if output.status.code() == Some(77) {
            println!("skipped: {python} has no module socks");
            continue;
        }
        assert_eq!(text_of(&output), "RESPONSE || ping\n".repeat(4));
        return;
    }
}
