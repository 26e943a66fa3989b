//! Pipes in the place of files that are read again.

use std::process::Command;

use super::*;

on_both_engines!(a_pipe_in_place_of_a_file_delays_no_reload,);

fn a_pipe_in_place_of_a_file_delays_no_reload(engine: Engine) {
    const NAMES: [&str; 3] = ["list", "users", "log"];
    let content = [("list", "127.0.0.9\n"), ("users", "ann:1\n"), ("log", "")];
    let files = Files::new(&content);
    let [list, users, log] = NAMES.map(|name| files.arg(name));
    let options = ["--blocklist", &list, "--auth-file", &users, "--log", &log];
    let proxy = Proxy::start(engine, &options);
    for name in NAMES {
        fs::remove_file(files.path(name)).unwrap();
        let made = Command::new("mkfifo").arg(files.path(name)).status();
        assert!(made.unwrap().success());
    }
    proxy.reload_once_more("failed", 1);
    // The second reload begins after the users of the first one were read.
    proxy.reload_once_more("failed", 2);
    for name in NAMES {
        fs::remove_file(files.path(name)).unwrap();
    }
    files.write("list", "127.0.0.1\n");
    files.write("users", "bob:2\n");
    proxy.reload_once_more("ok", 1);
    until("the log is opened again", || files.path("log").exists());
    until("the users are read", || {
        users::sign_in(proxy.address, "bob", "2") == 0
    });
    let errors = proxy.stop().stderr;
    for name in ["list", "users"] {
        let line = format!("{name}: it is a pipe, which cannot be read again");
        assert!(errors.contains(&line), "{errors}");
    }
}

#[test]
fn a_log_that_is_a_pipe_without_a_reader_is_an_error() {
    let files = Files::new(&[]);
    let made = Command::new("mkfifo").arg(files.path("log")).status();
    assert!(made.unwrap().success());
    let log = files.arg("log");
    let finished = bench(["proxy", "serve", "--listen", "127.0.0.1:0", "--log", &log]);
    finished.failed(3, &["log", "it is a pipe that no program reads"]);
}
