//! `bench proxy origin`: what it prints and answers, and that no client keeps it from doing so.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Finished, NOTICED, PATIENCE, Running, start};
use socket2::SockRef;

const PREFIX: &str = "RESPONSE || ";

struct Origin {
    program: Running,
    address: SocketAddr,
}

impl Origin {
    #[track_caller]
    fn start(more: &[&str]) -> Self {
        let fixed = ["proxy", "origin", "--listen", "127.0.0.1:0"];
        Self::of(start(fixed.iter().chain(more)))
    }

    #[track_caller]
    fn of(mut program: Running) -> Self {
        let address = program.listening();
        Self { program, address }
    }

    #[track_caller]
    fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a message, ends its side, and returns the whole response.
    #[track_caller]
    fn ask(&self, sent: &[u8]) -> Vec<u8> {
        let mut stream = self.client();
        stream.write_all(sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    /// A new client is answered.
    #[track_caller]
    fn assert_serves(&self) {
        assert_eq!(self.ask(b"still there?"), b"RESPONSE || still there?");
    }

    #[track_caller]
    fn stop(self) -> Finished {
        self.program.signal("TERM");
        self.program.wait(NOTICED).done()
    }

    /// Resident memory, in bytes.
    #[track_caller]
    fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib << 10
    }
}

#[test]
fn a_message_is_printed_on_one_line_without_control_characters() {
    let mut origin = Origin::start(&[]);
    for (sent, shown) in [
        (&b"ping"[..], "ping"),
        ("grüß 😀".as_bytes(), "grüß 😀"),
        (b"a\r\nb\tc", r"a\r\nb\tc"),
        (
            b"\x1b]0;title\x07\x00\x7f",
            r"\u{1b}]0;title\u{7}\u{0}\u{7f}",
        ),
        ("\u{9b}2J".as_bytes(), r"\u{9b}2J"),
        (b"\xff\xfe!", "\u{fffd}\u{fffd}!"),
        (b"cut \xf0\x9f", "cut "),
    ] {
        assert_eq!(origin.ask(sent), [PREFIX.as_bytes(), sent].concat());
        origin
            .program
            .line(|line| line.ends_with(&format!(": {shown}")));
    }
    // The last message has a character that is incomplete.
    origin.program.line(|line| line.ends_with(": \u{fffd}"));
}

#[test]
fn a_line_has_the_client_and_is_printed_when_the_message_arrives() {
    let mut origin = Origin::start(&[]);
    let mut client = origin.client();
    let from = client.local_addr().unwrap();
    for text in ["one", "two"] {
        client.write_all(text.as_bytes()).unwrap();
        origin
            .program
            .line(|line| line == format!("{from}: {text}"));
    }
}

#[test]
fn the_prefix_is_sent_once_however_the_message_is_split() {
    let origin = Origin::start(&[]);
    let mut client = origin.client();
    client.set_nodelay(true).unwrap();
    let mut received = vec![0; PREFIX.len()];
    for (number, byte) in "späße".bytes().enumerate() {
        client.write_all(&[byte]).unwrap();
        if number == 0 {
            client.read_exact(&mut received).unwrap();
            assert_eq!(received, PREFIX.as_bytes());
        }
        let mut back = [0];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, [byte]);
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let text: String = origin.stop().stdout.lines().skip(1).map(sent).collect();
    assert_eq!(text, "späße");
}

/// The message that a line shows.
#[track_caller]
fn sent(line: &str) -> &str {
    line.split_once(": ").unwrap().1
}

#[test]
fn a_client_that_sends_nothing_is_answered_with_the_prefix() {
    let origin = Origin::start(&[]);
    assert_eq!(origin.ask(b""), PREFIX.as_bytes());
    // As a port scanner would.
    for _ in 0..20 {
        drop(origin.client());
    }
    origin.assert_serves();
    let finished = origin.stop();
    assert_eq!(finished.stdout.lines().count(), 2, "{}", finished.stdout);
}

#[test]
fn a_huge_message_is_echoed_and_printed_completely() {
    let text = "späße 😀 ".repeat(300_000);
    let origin = Origin::start(&[]);
    let mut client = origin.client();
    let mut sender = client.try_clone().unwrap();
    let mut answer = String::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            sender.write_all(text.as_bytes()).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        client.read_to_string(&mut answer).unwrap();
    });
    assert!(answer.strip_prefix(PREFIX) == Some(&text));
    // In pieces, none of which ends within a character.
    let shown: String = origin.stop().stdout.lines().skip(1).map(sent).collect();
    assert!(shown == text);
}

#[test]
fn a_client_that_never_reads_delays_no_other_and_costs_one_buffer() {
    const GREEDY: usize = 8;
    let origin = Origin::start(&["--quiet"]);
    origin.assert_serves();
    let before = origin.memory();
    let chunk = vec![b'x'; 1 << 20];
    let mut greedy: Vec<TcpStream> = (0..GREEDY).map(|_| origin.client()).collect();
    for client in &mut greedy {
        client
            .set_write_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let mut sent = 0;
        let held_up = loop {
            match client.write(&chunk) {
                Ok(bytes) => sent += bytes,
                Err(error) => break error,
            }
            assert!(sent < 1 << 30, "writes are never blocked");
        };
        assert_eq!(held_up.kind(), ErrorKind::WouldBlock);
    }
    origin.assert_serves();
    let grown = origin.memory().saturating_sub(before);
    assert!(grown < GREEDY * (256 << 10), "{grown} bytes");
    // Also clients that close with unread bytes, which is a reset.
    drop(greedy);
    origin.assert_serves();
    origin.stop();
}

#[test]
fn resets_in_any_phase_are_tolerated() {
    let origin = Origin::start(&["--quiet"]);
    for round in 0..60 {
        let mut client = origin.client();
        if round % 3 > 0 {
            client.write_all(&[b'x'; 100_000]).unwrap();
        }
        if round % 3 > 1 {
            client.read_exact(&mut [0; 50]).unwrap();
        }
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
    }
    origin.assert_serves();
    origin.stop();
}

#[test]
fn an_answer_of_a_given_length_ends_with_its_connection_in_whatever_pieces_it_arrives() {
    let origin = Origin::start(&["--quiet"]);
    let message = [b'm'; 64];
    // A command of the load generator: answer 64 bytes, then close.
    let sent = [b"\0wbloadO".as_slice(), &64u64.to_be_bytes(), &message].concat();
    for cut in [1, 8, 15, 16, 17, 40, 79, 80] {
        let mut client = origin.client();
        let (first, second) = sent.split_at(cut);
        client.write_all(first).unwrap();
        let answered = cut.saturating_sub(16);
        if cut >= 16 {
            // The first piece is answered, so that it was read alone.
            client
                .read_exact(&mut vec![0; PREFIX.len() + answered])
                .unwrap();
        }
        client.write_all(second).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        let before = if cut >= 16 { answered } else { 0 };
        let prefix = if cut >= 16 { 0 } else { PREFIX.len() };
        assert_eq!(rest.len(), prefix + message.len() - before, "{cut}");
    }
    origin.stop();
}

#[test]
fn many_clients_are_all_served() {
    const MANY: usize = 500;
    let origin = Origin::start(&["--quiet"]);
    let mut clients: Vec<TcpStream> = (0..MANY).map(|_| origin.client()).collect();
    origin.assert_serves();
    for (number, client) in clients.iter_mut().enumerate() {
        write!(client, "number {number}").unwrap();
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("{PREFIX}number {number}"));
    }
    origin.stop();
}

#[test]
fn out_of_files_new_clients_wait_until_one_leaves() {
    let mut command = Command::new("sh");
    let line = format!(
        "ulimit -n 20 && exec {} proxy origin --quiet --listen 127.0.0.1:0",
        env!("CARGO_BIN_EXE_bench")
    );
    command.args(["-c", &line]);
    let origin = Origin::of(Running::new(command));
    let mut idle: Vec<TcpStream> = (0..40).map(|_| origin.client()).collect();
    let mut late = origin.client();
    late.write_all(b"hello").unwrap();
    late.set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let waits = late.read(&mut [0]).unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::WouldBlock);
    idle.clear();
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = [0; 17];
    late.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"RESPONSE || hello");
    origin.assert_serves();
    origin.stop();
}

#[test]
fn it_answers_after_its_output_was_closed() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["proxy", "origin", "--listen", "127.0.0.1:0"]);
    let origin = Origin::of(Running::read_for(command, 1));
    let deadline = Instant::now() + PATIENCE;
    for _ in 0..50 {
        origin.assert_serves();
        assert!(Instant::now() < deadline);
    }
    origin.stop();
}
