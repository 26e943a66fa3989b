//! Whether datagrams of full size reach the other end, found out before the run.
//!
//! A router that drops what is too long for the next link is to report it (RFC 1191, RFC 8201), and the kernel then fragments or refuses. Where that
//! report is filtered, long datagrams vanish while short ones arrive: a black hole (RFC 2923). So the sender asks questions of
//! both sizes, and compares what is answered.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::header::{HEADER, Header, Kind};
use crate::sys::socket;

/// Time between two pairs of questions at first; later half of a round trip.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest time between two pairs.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Short questions that are answered before long ones are taken for lost: with 30 % loss each way, one in a thousand paths is misjudged.
const ENOUGH: u32 = 10;

/// How long to ask where nothing at all is answered, on top of some round trips.
const LIMIT: Duration = Duration::from_secs(3);

/// What became of full-size datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// They arrive.
    Fits,
    /// The kernel refuses them: the path MTU, in bytes of IP packet, is smaller.
    TooLong {
        /// As the kernel knows it.
        mtu: usize,
    },
    /// They vanish, while short ones arrive.
    BlackHole,
    /// Nothing was answered, so nothing is known.
    Unknown,
}

/// Asks the receiver at the other end of a connected socket, with questions of `datagram` bytes and of a header alone. `round_trip` is
/// how long an answer took before.
///
/// # Errors
/// As poll(2): only what makes the socket useless.
pub fn explore(
    socket: &UdpSocket,
    token: u64,
    datagram: usize,
    round_trip: Duration,
    stop: &AtomicBool,
) -> io::Result<Path> {
    socket.set_nonblocking(false)?;
    let limit = LIMIT + 4 * round_trip;
    let found = ask(socket, token, datagram.max(HEADER), limit, stop);
    socket.set_read_timeout(None)?;
    socket.set_nonblocking(true)?;
    found
}

fn ask(
    socket: &UdpSocket,
    token: u64,
    datagram: usize,
    limit: Duration,
    stop: &AtomicBool,
) -> io::Result<Path> {
    let began = Instant::now();
    let mut long = vec![0; datagram];
    let mut asked = Vec::new();
    let mut judge = Judge::default();
    let mut pause = PAUSE;
    while began.elapsed() < limit && !stop.load(Ordering::Relaxed) {
        let number = asked.len() as u64;
        asked.push(Instant::now());
        let header = |sequence| Header::bare(Kind::Ping, token, sequence).encode();
        if let Some(front) = long.first_chunk_mut() {
            *front = header(2 * number + 1);
        }
        if let Err(error) = socket.send(&long)
            && error.raw_os_error() == Some(libc::EMSGSIZE)
        {
            judge.refused += 1;
        }
        // A pending error of the socket is reported once instead of sending; the next question is sent.
        let _ = socket.send(&header(2 * number));
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut bytes = [0; 2 * HEADER];
            match socket.recv(&mut bytes) {
                Ok(length) => {
                    let Ok(header) = Header::decode(bytes.get(..length).unwrap_or_default()) else {
                        continue;
                    };
                    if (header.kind, header.token) != (Kind::Pong, token) {
                        continue;
                    }
                    if let Some(path) = judge.answered(header.sequence) {
                        return Ok(path);
                    }
                    let pair = usize::try_from(header.sequence / 2).unwrap_or(usize::MAX);
                    if let Some(asked) = asked.get(pair) {
                        pause = (asked.elapsed() / 2).clamp(PAUSE, LONGEST_PAUSE);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => return Err(error),
                // What became of an earlier question, as ICMP reports it.
                Err(_) => {}
            }
        }
        if judge.refused >= 3 {
            let mtu = socket::path_mtu(socket)?;
            return Ok(Path::TooLong { mtu });
        }
    }
    Ok(Path::Unknown)
}

/// What the answers so far come to.
#[derive(Debug, Default)]
struct Judge {
    /// Short questions answered.
    short: u32,
    /// Long questions that the kernel refused to send.
    refused: u32,
}

impl Judge {
    /// Takes an answer in: that to question `number`, of which the odd ones are long.
    fn answered(&mut self, number: u64) -> Option<Path> {
        if number % 2 == 1 {
            return Some(Path::Fits);
        }
        self.short += 1;
        (self.short >= ENOUGH && self.refused == 0).then_some(Path::BlackHole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::thread;

    /// A peer that answers questions of at most `longest` bytes until one of a single byte comes.
    fn peer(longest: usize) -> (UdpSocket, SocketAddr, thread::JoinHandle<()>) {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = far.local_addr().unwrap();
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        near.connect(address).unwrap();
        let answers = thread::spawn(move || {
            let mut bytes = [0; 2_048];
            while let Ok((length, from)) = far.recv_from(&mut bytes) {
                if length == 1 {
                    return;
                }
                let header = Header::decode(&bytes[..length]).unwrap();
                if length <= longest {
                    let pong = Header::bare(Kind::Pong, header.token, header.sequence).encode();
                    far.send_to(&pong, from).unwrap();
                }
            }
        });
        (near, address, answers)
    }

    #[test]
    fn what_arrives_fits_and_what_alone_is_missing_has_vanished() {
        for (longest, expected) in [(2_000, Path::Fits), (1_000, Path::BlackHole)] {
            let (socket, _, answers) = peer(longest);
            let stop = AtomicBool::new(false);
            assert_eq!(
                explore(&socket, 7, 1_432, Duration::ZERO, &stop).unwrap(),
                expected
            );
            socket.send(&[0]).unwrap();
            answers.join().unwrap();
        }
    }

    #[test]
    fn who_is_stopped_knows_nothing() {
        let (socket, _, answers) = peer(0);
        let stop = AtomicBool::new(true);
        assert_eq!(
            explore(&socket, 7, 100, Duration::ZERO, &stop).unwrap(),
            Path::Unknown
        );
        socket.send(&[0]).unwrap();
        answers.join().unwrap();
    }
}
