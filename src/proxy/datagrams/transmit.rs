//! Sends the runs of a batch, and what follows an error of the kernel.

use std::io::{self, ErrorKind};
use std::iter;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::record::{DropCause, Outcome};
use super::runs::{Path, Piece, Run, join};
use super::sends::{Contents, Payloads, departure};
use crate::sys::datagrams::{Departure, Departures, await_room};

/// The longest wait for room in a send buffer, once in each pass of the loop. Other flows wait meanwhile.
const WAIT: Duration = Duration::from_millis(1);

/// Most errors in a row that are taken for ICMP errors of earlier datagrams.
const STALE_ERRORS: u32 = 4;

/// Sends runs.
pub(in crate::proxy) struct Transmitter {
    departures: Departures,
    may_wait: bool,
}

/// What follows an error.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    /// Send again.
    Retry,
    /// An earlier datagram was refused by its destination. Send again.
    Refused,
    /// Send the datagrams of the run one by one.
    Split,
    /// Give up the run.
    Drop(DropCause),
}

impl Transmitter {
    /// Sends up to `most` runs by one call.
    pub(in crate::proxy) fn new(most: usize) -> Self {
        Self {
            departures: Departures::new(most),
            may_wait: true,
        }
    }

    /// A pass of the loop starts.
    pub(in crate::proxy) fn start_pass(&mut self) {
        self.may_wait = true;
    }

    /// Sends runs in order on their socket, and passes the outcome of each to `each`. `error` is that of an earlier attempt to send the
    /// first run.
    pub(in crate::proxy) fn send(
        &mut self,
        mut error: Option<io::Error>,
        socket: BorrowedFd<'_>,
        payloads: &impl Payloads,
        (contents, mut runs): (Contents<'_>, &[Run]),
        each: &mut impl FnMut(&Run, Outcome),
    ) {
        let mut errors = 0;
        while let Some(first) = runs.first() {
            let messages = runs.iter().map(|run| departure(run, contents, payloads));
            let sent = match error.take() {
                Some(error) => Err(error),
                None => self.departures.send(socket, first.path.is_v6, messages),
            };
            let done = match sent {
                Ok(count) => {
                    let (sent, _) = runs.split_at_checked(count).unwrap_or((runs, &[]));
                    for run in sent {
                        each(run, Outcome::sent(run.datagrams, run.bytes));
                    }
                    // One that is neither sent nor an error would be sent forever.
                    count.max(1)
                }
                Err(error) => {
                    errors += 1;
                    match self.reaction(&error, errors, first.datagrams > 1, socket) {
                        Reaction::Retry => continue,
                        Reaction::Refused => {
                            each(first, Outcome::dropped(DropCause::Refused, 1));
                            continue;
                        }
                        Reaction::Split => {
                            let outcome = self.send_split(socket, payloads, (contents, first));
                            each(first, outcome);
                        }
                        Reaction::Drop(cause) => {
                            each(first, Outcome::dropped(cause, first.datagrams));
                        }
                    }
                    1
                }
            };
            errors = 0;
            runs = runs.get(done..).unwrap_or_default();
        }
    }

    /// Sends the datagrams of a run one by one.
    fn send_split(
        &mut self,
        socket: BorrowedFd<'_>,
        payloads: &impl Payloads,
        (contents, run): (Contents<'_>, &Run),
    ) -> Outcome {
        let pieces = contents.pieces.get(run.pieces.clone()).unwrap_or_default();
        let single: Vec<Piece> = pieces.iter().copied().flat_map(Piece::each).collect();
        let path = Path {
            longest_segment: 0,
            ..run.path
        };
        let mut runs = Vec::with_capacity(single.len());
        join(&single, |_| path, &mut runs);
        let mut outcome = Outcome {
            was_split: true,
            ..Outcome::default()
        };
        let contents = Contents {
            pieces: &single,
            ..contents
        };
        self.send(None, socket, payloads, (contents, &runs), &mut |_, part| {
            outcome = outcome.and(part);
        });
        outcome
    }

    /// Sends the two parts of a datagram to `to`, or on a connected socket.
    pub(in crate::proxy) fn send_one(
        &mut self,
        socket: BorrowedFd<'_>,
        is_v6: bool,
        to: Option<SocketAddr>,
        [preamble, datagram]: [&[u8]; 2],
        tos: u8,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut errors = 0;
        loop {
            let message = Departure {
                parts: [preamble, datagram].into_iter(),
                segment: 0,
                to,
                from: None,
                tos,
            };
            let sent = self.departures.send(socket, is_v6, iter::once(message));
            let Err(error) = sent else {
                return outcome.and(Outcome::sent(1, preamble.len() + datagram.len()));
            };
            errors += 1;
            match self.reaction(&error, errors, false, socket) {
                Reaction::Refused => outcome.drops.add(DropCause::Refused, 1),
                Reaction::Drop(cause) => return outcome.and(Outcome::dropped(cause, 1)),
                Reaction::Retry | Reaction::Split => {}
            }
        }
    }

    /// What follows the error number `errors` in a row of a run, which may be split.
    fn reaction(
        &mut self,
        error: &io::Error,
        errors: u32,
        is_run: bool,
        socket: BorrowedFd<'_>,
    ) -> Reaction {
        // An ICMP error of an earlier datagram is reported once, by the next call.
        let is_stale = errors <= STALE_ERRORS;
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::Interrupted, _) => Reaction::Retry,
            (ErrorKind::WouldBlock, _) if self.may_wait => {
                self.may_wait = false;
                await_room(socket, WAIT);
                Reaction::Retry
            }
            (ErrorKind::WouldBlock, _) | (_, Some(libc::ENOBUFS | libc::ENOMEM)) => {
                Reaction::Drop(DropCause::NoBuffer)
            }
            (ErrorKind::ConnectionRefused, _) if is_stale => Reaction::Refused,
            // The path MTU is too short for the datagrams of a run, or the device computes no checksums.
            (_, Some(libc::EMSGSIZE | libc::EINVAL | libc::EIO | libc::EOPNOTSUPP)) if is_run => {
                Reaction::Split
            }
            (_, Some(libc::EMSGSIZE)) => Reaction::Drop(DropCause::TooBig),
            // EACCES is an ICMPv6 error too.
            (ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable, _)
            | (_, Some(libc::EACCES))
                if errors == 1 =>
            {
                Reaction::Retry
            }
            (_, errno) => Reaction::Drop(DropCause::of_errno(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::datagrams::sends::Headers;
    use crate::proxy::slab::Key;
    use crate::sys::datagrams::{Arrivals, connect, listen};
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn errors_have_their_reactions() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut transmitter = Transmitter::new(1);
        let mut of = |errno, errors, is_run| {
            let error = io::Error::from_raw_os_error(errno);
            transmitter.reaction(&error, errors, is_run, socket.as_fd())
        };
        let drops = Reaction::Drop;
        for (errno, errors, is_run, reaction) in [
            (libc::EINTR, 100, false, Reaction::Retry),
            (libc::EAGAIN, 1, true, Reaction::Retry),
            // It has waited in this pass.
            (libc::EAGAIN, 2, true, drops(DropCause::NoBuffer)),
            (libc::ENOBUFS, 1, true, drops(DropCause::NoBuffer)),
            (libc::ECONNREFUSED, 1, true, Reaction::Refused),
            (libc::ECONNREFUSED, 5, true, drops(DropCause::Refused)),
            (libc::EINVAL, 1, true, Reaction::Split),
            (libc::EMSGSIZE, 1, true, Reaction::Split),
            (libc::EIO, 1, true, Reaction::Split),
            (libc::EMSGSIZE, 1, false, drops(DropCause::TooBig)),
            (libc::EINVAL, 1, false, drops(DropCause::Unreachable)),
            (libc::ENETUNREACH, 1, true, Reaction::Retry),
            (libc::ENETUNREACH, 2, true, drops(DropCause::Unreachable)),
            (libc::EPERM, 1, true, drops(DropCause::Denied)),
            (libc::EACCES, 1, true, Reaction::Retry),
            (libc::EACCES, 2, false, drops(DropCause::Unreachable)),
        ] {
            assert_eq!(of(errno, errors, is_run), reaction, "{errno} {errors}");
        }
    }

    #[test]
    fn run_of_datagrams_beyond_the_mtu_is_sent_one_by_one() {
        let any = "127.0.0.1:0".parse().unwrap();
        let [source, listener, server] = [(); 3].map(|()| listen(any, false, false).unwrap());
        source.connect(listener.local_addr().unwrap()).unwrap();
        let socket = connect(server.local_addr().unwrap()).unwrap();
        // Two messages that the planner would not join: their run is no run for the kernel, as no segment has 65,000 bytes
        // within the MTU of loopback less headers.
        let mut arrivals = Arrivals::new(2);
        for byte in [1u8, 2] {
            source.send(&vec![byte; 60_000]).unwrap();
        }
        assert_eq!(arrivals.receive(listener.as_fd(), 0, 2).unwrap(), 2);
        let pieces = [0, 1].map(|slot| Piece {
            key: Key::from_number(0),
            slot,
            start: 0,
            end: 60_000,
            segment: 60_000,
            tos: 0,
        });
        let mut runs = Vec::new();
        join(&pieces[..1], |_| Path::default(), &mut runs);
        runs[0].pieces = 0..2;
        runs[0].datagrams = 2;
        runs[0].bytes = 120_000;
        let mut total = Outcome::default();
        let headers = Headers::default();
        let contents = Contents {
            pieces: &pieces,
            headers: &headers,
        };
        Transmitter::new(4).send(
            None,
            socket.as_fd(),
            &arrivals,
            (contents, &runs),
            &mut |_, outcome| total = total.and(outcome),
        );
        assert!(total.was_split);
        assert_eq!(total.sent.datagrams, 2);
        let mut received = Arrivals::new(3);
        assert_eq!(received.receive(server.as_fd(), 0, 3).unwrap(), 2);
        assert!([0, 1].map(|slot| received.bytes(slot).len()) == [60_000; 2]);
    }
}
