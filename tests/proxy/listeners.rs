//! `bench proxy serve`: several `--listen`, sockets by path, and sockets that the parent process has opened (LISTEN_FDS).

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{NOTICED, PATIENCE, Running, start, until};
use serde_json::Value;
use tempfile::TempDir;

on_both_engines!(
    every_endpoint_is_served_by_every_thread,
    a_socket_by_path_has_its_mode_and_is_removed_with_the_proxy,
    clients_by_path_are_logged_and_named_in_headers_as_such,
    a_path_carries_bulk_data_and_load,
    passed_sockets_are_served,
    a_passed_descriptor_that_is_no_socket_is_named,
);

fn origin() -> (Running, SocketAddr) {
    let mut program = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
    let address = program.listening();
    (program, address)
}

#[track_caller]
fn serve(engine: Engine, options: &[&str]) -> Running {
    let fixed = ["proxy", "serve"].into_iter().chain(engine.options());
    start(fixed.chain(options.iter().copied()))
}

/// The next endpoint that it prints.
#[track_caller]
fn place(program: &mut Running) -> String {
    let line = program.line(|line| line.starts_with("listening on "));
    line["listening on ".len()..].to_owned()
}

fn envelope(to: SocketAddr) -> Vec<u8> {
    let (ip, port) = (to.ip(), to.port());
    format!(r#"{{"server_ip": "{ip}", "server_port": {port}, "message": "ping"}}"#).into()
}

/// The whole response of a proxy at this endpoint.
#[track_caller]
fn answer(place: &str, sent: &[u8]) -> Vec<u8> {
    fn talk<S: Read + Write>(mut stream: S, sent: &[u8], end: impl Fn(&S)) -> Vec<u8> {
        stream.write_all(sent).unwrap();
        end(&stream);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }
    match place.strip_prefix("unix:") {
        Some(path) => {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            talk(stream, sent, |stream| {
                stream.shutdown(Shutdown::Write).unwrap()
            })
        }
        None => {
            let stream = TcpStream::connect(place).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            talk(stream, sent, |stream| {
                stream.shutdown(Shutdown::Write).unwrap()
            })
        }
    }
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn place(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }
}

fn every_endpoint_is_served_by_every_thread(engine: Engine) {
    let (_origin, to) = origin();
    let folder = Folder::new();
    let (first, second) = (folder.place("a"), folder.place("b"));
    for threads in ["1", "3"] {
        let mut program = serve(
            engine,
            &[
                "--listen",
                "127.0.0.1:0",
                "--listen",
                &first,
                "--listen",
                "127.0.0.1:0",
                "--listen",
                &second,
                "--threads",
                threads,
            ],
        );
        let places: Vec<String> = (0..4).map(|_| place(&mut program)).collect();
        assert_eq!([&places[1], &places[3]], [&first, &second]);
        assert_ne!(places[0], places[2]);
        // More clients than threads.
        thread::scope(|scope| {
            for place in places.iter().cycle().take(24) {
                scope.spawn(move || assert_eq!(answer(place, &envelope(to)), b"RESPONSE || ping"));
            }
        });
        // Its own endpoints are no servers for its clients.
        for place in [&places[0], &places[2]] {
            let refused = answer(&first, &envelope(place.parse().unwrap()));
            assert!(
                refused.starts_with(b"{\"error\": \"blocked\""),
                "{refused:?}"
            );
        }
        program.signal("TERM");
        let finished = program.wait(NOTICED).done();
        assert!(
            finished
                .stdout
                .contains("connections 26, 24 finished, 2 blocked"),
            "{}",
            finished.stdout
        );
        assert!(!folder.path("a").exists() && !folder.path("b").exists());
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn a_socket_by_path_has_its_mode_and_is_removed_with_the_proxy(engine: Engine) {
    let folder = Folder::new();
    let (name, socket) = (folder.place("s"), folder.path("s"));
    let options = ["--listen", &*name, "--listen-mode", "620"];
    let mut first = serve(engine, &options);
    assert_eq!(place(&mut first), name);
    assert_eq!(mode(&socket), 0o620);
    serve(engine, &options)
        .wait(PATIENCE)
        .failed(3, &[&name, "another path"]);
    first.signal("KILL");
    drop(first);
    assert!(socket.exists());
    // The kernel removes a ring after its process, and the listener with it.
    until("connections are refused", || {
        UnixStream::connect(&socket).is_err()
    });
    // So it is replaced.
    let mut second = serve(engine, &options);
    assert_eq!(place(&mut second), name);
    // An open connection delays the end; the second signal ends the proxy, and removes its socket.
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(b"{").unwrap();
    second.signal("TERM");
    until("it ends", || {
        second.signal("TERM");
        let status =
            fs::read_to_string(format!("/proc/{}/status", second.id())).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    });
    assert_eq!(second.wait(NOTICED).code, Some(130));
    assert!(!socket.exists());
    for (options, words) in [
        (&["--listen", &*name, "--listen-mode", "999"][..], "octal"),
        (&["--listen", "unix:"], "1 to 107 bytes"),
        (&["--listen", "somewhere"], "unix:PATH"),
        (&[], "--listen ADDR:PORT"),
    ] {
        serve(engine, options).wait(PATIENCE).failed(2, &[words]);
    }
}

fn clients_by_path_are_logged_and_named_in_headers_as_such(engine: Engine) {
    let folder = Folder::new();
    let name = folder.place("s");
    for (version, expected) in [("v1", None), ("v2", Some(folder.path("s")))] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap().to_string();
        let log = folder.path(version);
        let mut program = serve(
            engine,
            &[
                "--listen",
                &name,
                "--forward",
                &to,
                "--send-proxy",
                version,
                "--log",
                log.to_str().unwrap(),
            ],
        );
        place(&mut program);
        let served = thread::spawn(move || {
            let (mut served, _) = server.accept().unwrap();
            served.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut received = Vec::new();
            served.read_to_end(&mut received).unwrap();
            received
        });
        answer(&name, b"hi");
        let received = served.join().unwrap();
        match expected {
            None => assert_eq!(received, b"PROXY UNKNOWN\r\nhi"),
            Some(path) => {
                let mut ends = [0; 216];
                let path = path.to_str().unwrap().as_bytes();
                ends[108..108 + path.len()].copy_from_slice(path);
                let header = [b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8", &ends[..], b"hi"].concat();
                assert!(received == header, "{received:?}");
            }
        }
        program.signal("TERM");
        program.wait(NOTICED).done();
        let line: Value =
            serde_json::from_str(fs::read_to_string(&log).unwrap().trim_end()).unwrap();
        assert_eq!(
            (&line["client"], &line["peer"]),
            (&"unix".into(), &"unix".into()),
            "{line:#}"
        );
        assert_eq!(line["ended"], "finished");
    }
    // The client is the source that a header names, and the sender itself if it names none.
    let (_origin, to) = origin();
    let log = folder.path("log");
    let mut program = serve(
        engine,
        &[
            "--listen",
            &name,
            "--forward",
            &to.to_string(),
            "--accept-proxy",
            "--log",
            log.to_str().unwrap(),
        ],
    );
    place(&mut program);
    for header in [
        "PROXY TCP4 203.0.113.9 203.0.113.1 1234 443\r\n",
        "PROXY UNKNOWN\r\n",
    ] {
        answer(&name, format!("{header}hi").as_bytes());
    }
    program.signal("TERM");
    program.wait(NOTICED).done();
    let lines = fs::read_to_string(&log).unwrap();
    let clients: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["client"].to_string())
        .collect();
    assert_eq!(clients, ["\"203.0.113.9:1234\"", "\"unix\""]);
}

fn a_path_carries_bulk_data_and_load(engine: Engine) {
    let (_origin, to) = origin();
    let folder = Folder::new();
    let name = folder.place("s");
    for forwarding in ["copy", "splice"] {
        let mut program = serve(
            engine,
            &["--listen", &name, "--quiet", "--forwarding", forwarding],
        );
        place(&mut program);
        let line = format!(
            "proxy load --origin {to} --via {name} --no-direct --json - --no-save --connections 4 --streams 2 --repeat 1 \
             --duration 100ms --warmup 10ms --protocol socks5"
        );
        let finished = start(line.split_whitespace()).wait(PATIENCE).done();
        let record: Value = serde_json::from_str(&finished.stdout).unwrap();
        for run in record["runs"].as_array().unwrap() {
            assert_eq!(run["errors"]["total"], 0, "{run:#}");
            assert!(run["requests"].as_u64().unwrap() > 0, "{run:#}");
        }
        let (to, place) = (
            to.to_string(),
            ["proxy", "send", "--proxy", &name, "--server"],
        );
        let send = place.into_iter().chain([&*to, "ping"]);
        assert_eq!(
            start(send).wait(PATIENCE).done().stdout.trim_end(),
            "RESPONSE || ping"
        );
        program.signal("TERM");
        program.wait(NOTICED).done();
    }
}

/// Starts the proxy as systemd does: descriptors from 3 on, and variables with their names and this process. python3 opens
/// them.
fn activated(engine: Engine, script: &str, options: &[&str]) -> Option<Running> {
    let bench = env!("CARGO_BIN_EXE_bench");
    let wanted = Command::new("python3").arg("--version").output();
    if wanted.is_err() {
        println!("skipped: python3 is not installed");
        return None;
    }
    let script = format!(
        "
import os, socket, sys
def pass_on(*sockets, names, count=None):
    # Out of the way first: a descriptor may be where another is to be.
    high = [os.dup(s.fileno()) for s in sockets]
    high = [os.dup2(fd, 100 + at) for at, fd in enumerate(high)]
    for at, fd in enumerate(high):
        os.dup2(fd, 3 + at, inheritable=True)
    os.environ.update(LISTEN_FDS=str(count or len(sockets)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)
    os.closerange(3 + len(sockets), 200)
    os.execv({bench:?}, [{bench:?}, *sys.argv[1:]])
def tcp():
    s = socket.socket()
    s.bind(('127.0.0.1', 0))
    s.listen()
    return s
{script}
"
    );
    let mut command = Command::new("python3");
    command.args(["-c", &script, "proxy", "serve"]);
    command.args(engine.options()).args(options);
    Some(Running::new(command))
}

fn passed_sockets_are_served(engine: Engine) {
    let (_origin, to) = origin();
    let folder = Folder::new();
    let socket = folder.path("passed");
    let script = format!(
        "
u = socket.socket(socket.AF_UNIX)
u.bind({socket:?})
u.listen()
pass_on(tcp(), u, names='web:admin')
"
    );
    for (threads, more) in [("1", false), ("2", true)] {
        let mut options = vec!["--threads", threads];
        if more {
            options.extend(["--listen", "127.0.0.1:0"]);
        }
        let Some(mut program) = activated(engine, &script, &options) else {
            return;
        };
        let places: Vec<String> = (0..2 + usize::from(more))
            .map(|_| place(&mut program))
            .collect();
        assert!(places.contains(&folder.place("passed")), "{places:?}");
        for place in &places {
            for _ in 0..4 {
                assert_eq!(answer(place, &envelope(to)), b"RESPONSE || ping", "{place}");
            }
        }
        program.signal("TERM");
        program.wait(NOTICED).done();
        // The proxy does not own it, so it remains.
        assert!(socket.exists());
        fs::remove_file(&socket).unwrap();
    }
}

fn a_passed_descriptor_that_is_no_socket_is_named(engine: Engine) {
    for (script, words) in [
        (
            "pass_on(tcp(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM), names='')",
            "file descriptor 4",
        ),
        ("pass_on(tcp(), names='', count=2)", "file descriptor 4"),
        (
            "pass_on(tcp(), names='', count='many')",
            "LISTEN_FDS is \"many\"",
        ),
    ] {
        let Some(program) = activated(engine, script, &[]) else {
            return;
        };
        program.wait(PATIENCE).failed(3, &[words]);
    }
    // Variables for another process are ignored.
    let script =
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID='1'); os.execv(sys.argv[1], sys.argv[1:])";
    let bench = env!("CARGO_BIN_EXE_bench");
    let mut command = Command::new("python3");
    command.args([
        "-c",
        &format!("import os, sys\n{script}"),
        bench,
        "proxy",
        "serve",
    ]);
    command.args(engine.options());
    Running::new(command)
        .wait(PATIENCE)
        .failed(2, &["--listen"]);
}
