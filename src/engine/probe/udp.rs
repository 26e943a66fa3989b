//! What the kernel does for UDP sockets, tried on loopback.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{Check, State, no_effect, pair, patiently};
use crate::engine::offload;
use crate::sys::clock::{monotonic_ns, realtime_ns};
use crate::sys::mmsg::{ReceiveBatch, SendBatch};
use crate::sys::stamp::{self, Stamps};
use crate::sys::timer::Timer;
use crate::sys::{host, socket};
use crate::units::{grouped, short_ns};

/// The check without which nothing can be measured.
pub const EVENT_LOOP: &str = "epoll, timerfd, sendmmsg";

const AREA: &str = "udp";

/// Does all that concerns UDP.
pub fn checks() -> Vec<Check> {
    vec![
        Check::tried(
            AREA,
            EVENT_LOOP,
            event_loop(),
            "nothing can be measured without it",
        ),
        Check::tried(
            AREA,
            "GSO (UDP_SEGMENT)",
            segments(),
            "each datagram goes through the kernel on its own, which takes several times the CPU time; Linux 4.18 or newer has it",
        ),
        Check::tried(
            AREA,
            "GRO (UDP_GRO)",
            coalesced(),
            "the receiver takes each datagram on its own, which takes several times the CPU time; Linux 5.0 or newer has it",
        ),
        Check::tried(
            AREA,
            "drops beside data (SO_RXQ_OVFL)",
            told_drops(),
            "a lossless receiver that overflows does not learn it from the next datagram, and goes on granting as before",
        ),
        Check::tried(
            AREA,
            "drops at any time (SO_MEMINFO)",
            read_drops(),
            "losses at the receiver's socket cannot be told from those elsewhere; Linux 4.12 or newer has it",
        ),
        stamps("kernel stamps (SO_TIMESTAMPNS)", Stamps::Nanoseconds),
        stamps("kernel stamps (SO_TIMESTAMPING)", Stamps::Software),
        forced_buffers(),
    ]
}

/// One datagram through what the mio engine is made of.
fn event_loop() -> io::Result<String> {
    let (sender, receiver) = pair()?;
    let timer = Timer::new()?;
    let mut poll = Poll::new()?;
    for (fd, token) in [(receiver.as_raw_fd(), 0), (timer.as_fd().as_raw_fd(), 1)] {
        let mut source = SourceFd(&fd);
        poll.registry()
            .register(&mut source, Token(token), Interest::READABLE)?;
    }
    let began = monotonic_ns();
    SendBatch::new(1).send(sender.as_fd(), [b"knock".as_slice()].into_iter())?;
    let mut events = Events::with_capacity(4);
    // A second at most: the timer ends the wait when the datagram does not.
    timer.arm(began + 1_000_000_000)?;
    poll.poll(&mut events, Some(Duration::from_secs(2)))?;
    let came = ReceiveBatch::new(1, 64).receive(receiver.as_fd())?;
    let took = monotonic_ns() - began;
    match came {
        1 => Ok(format!("a datagram in {}", short_ns(took as f64))),
        _ => Err(no_effect("a datagram on loopback did not arrive")),
    }
}

fn segments() -> io::Result<String> {
    let most = offload::most_segments()?;
    Ok(format!("{most} datagrams a send"))
}

/// Sends three datagrams as one message, which arrives as one.
fn coalesced() -> io::Result<String> {
    const SEGMENT: u16 = 100;
    let (sender, receiver) = pair()?;
    socket::set_gro(receiver.as_fd(), true)?;
    socket::set_segment_size(sender.as_fd(), SEGMENT)?;
    SendBatch::new(1).send(sender.as_fd(), [[0; 250].as_slice()].into_iter())?;
    let mut batch = ReceiveBatch::new(4, 65_536);
    let count = patiently(|| batch.receive(receiver.as_fd()))?;
    match batch.messages(count).next() {
        Some(message) if count == 1 && message.segment == usize::from(SEGMENT) => Ok(format!(
            "{} datagrams came as one",
            message.datagrams().count()
        )),
        _ => Err(no_effect("the datagrams came one by one")),
    }
}

/// Datagrams sent at a buffer that holds few of them.
const FLOOD: u64 = 40;

/// Overflows a small buffer, and reads the count that comes with the next datagram.
fn told_drops() -> io::Result<String> {
    let (sender, receiver) = pair()?;
    socket::set_overflow_count(receiver.as_fd())?;
    socket::set_buffers(&receiver, None, Some(4_096), false)?;
    let flood = [[0; 1_000]; FLOOD as usize];
    for datagram in &flood {
        sender.send(datagram)?;
    }
    let mut batch = ReceiveBatch::new(flood.len(), 1_000);
    let kept = patiently(|| batch.receive(receiver.as_fd()))? as u64;
    sender.send(b"next")?;
    let count = patiently(|| batch.receive(receiver.as_fd()))?;
    let drops = batch.messages(count).last().and_then(|last| last.drops);
    told(drops, kept)
}

/// Overflows a small buffer, and asks the socket.
fn read_drops() -> io::Result<String> {
    let (sender, receiver) = pair()?;
    socket::set_buffers(&receiver, None, Some(4_096), false)?;
    for _ in 0..FLOOD {
        sender.send(&[0; 1_000])?;
    }
    let drops = socket::drops(receiver.as_fd())?;
    let mut batch = ReceiveBatch::new(FLOOD as usize, 1_000);
    let kept = patiently(|| batch.receive(receiver.as_fd()))? as u64;
    told(Some(drops), kept)
}

fn told(drops: Option<u32>, kept: u64) -> io::Result<String> {
    let lost = FLOOD.saturating_sub(kept);
    match drops.map(u64::from) {
        Some(drops) if lost > 0 && drops == lost => Ok(format!("counted {drops} of {lost}")),
        Some(drops) => Err(no_effect(&format!("counted {drops} of {lost}"))),
        None => Err(no_effect(&format!("counted none of {lost}"))),
    }
}

fn stamps(name: &'static str, stamps: Stamps) -> Check {
    let outcome = || {
        let (sender, receiver) = pair()?;
        stamp::enable(receiver.as_fd(), stamps)?;
        // The kernel begins to stamp a little after the first socket asks for it (net_enable_timestamp).
        let age = patiently(|| {
            sender.send(b"stamp")?;
            let stamp = patiently(|| stamp::receive(receiver.as_fd()))?;
            let stamp = stamp.ok_or(io::ErrorKind::WouldBlock)?;
            Ok(realtime_ns().saturating_sub(stamp))
        })?;
        Ok(format!("stamped {} before read", short_ns(age as f64)))
    };
    let costs = "nothing in today's runs, which stamp datagrams as they are read: how long one waited in the socket stays unknown";
    Check::tried(AREA, name, outcome(), costs)
}

/// Asks for more than `net.core.rmem_max`, as a privileged process may.
fn forced_buffers() -> Check {
    const NAME: &str = "forced buffers (SO_RCVBUFFORCE)";
    let most = host::rmem_max().unwrap_or(0);
    // What is granted is twice what is asked for, so that this is beyond what rmem_max allows. Where rmem_max is as
    // large as it can be, there is nothing to force.
    let beyond = (2 * most + 4_096).min(1 << 30) as usize;
    let granted = pair().and_then(|(_, receiver)| {
        let buffers = socket::set_buffers(&receiver, None, Some(beyond), true)?;
        Ok(buffers.receive)
    });
    match granted {
        Ok(bytes) if bytes >= beyond => {
            let found = format!("granted {} B", grouped(bytes as u64));
            Check::ok(AREA, NAME, found)
        }
        Ok(bytes) => Check::ok(
            AREA,
            NAME,
            format!("not permitted, {} B at most", grouped(bytes as u64)),
        )
        .short(
            State::Limited,
            "--rcvbuf and --sndbuf get no more than net.core.rmem_max and wmem_max allow",
        )
        .lifted_by("sudo setcap cap_net_admin+ep \"$(command -v bench)\""),
        Err(error) => Check::ok(AREA, NAME, error.to_string()).short(
            State::Missing,
            "--rcvbuf and --sndbuf get no more than net.core.rmem_max and wmem_max allow",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_is_not_the_loss_is_a_shortfall() {
        assert_eq!(told(Some(38), 2).unwrap(), "counted 38 of 38");
        for (drops, kept) in [(Some(37), 2), (None, 2), (Some(0), FLOOD)] {
            assert!(told(drops, kept).is_err(), "{drops:?} {kept}");
        }
    }
}
