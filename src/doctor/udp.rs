//! Socket options and offloads of UDP, tried on loopback.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{Check, State};
use crate::sys::clock::{monotonic_ns, realtime_ns};
use crate::sys::loopback::{no_effect, pair, retry_for_50_ms};
use crate::sys::mmsg::{ReceiveBatch, SendBatch};
use crate::sys::rx_timestamp::{self, RxTimestamps};
use crate::sys::timerfd::TimerFd;
use crate::sys::{machine, socket};
use crate::udp::engine::offload;
use crate::units::{grouped, short_ns};

/// The check required for any measurement.
pub const EVENT_LOOP: &str = "epoll, timerfd, sendmmsg";

const AREA: &str = "udp";

/// Runs all checks of UDP.
pub fn checks() -> Vec<Check> {
    vec![
        required(event_loop()),
        Check::from_trial(
            AREA,
            "GSO (UDP_SEGMENT)",
            segments(),
            "the kernel processes each sent datagram separately, at several times the CPU time; requires Linux 4.18",
        ),
        Check::from_trial(
            AREA,
            "GRO (UDP_GRO)",
            coalesced(),
            "the kernel processes each received datagram separately, at several times the CPU time; requires Linux 5.0",
        ),
        Check::from_trial(
            AREA,
            "drops beside data (SO_RXQ_OVFL)",
            reported_drops(),
            "a lossless receiver does not notice an overflow with the next datagram and does not reduce its credit",
        ),
        Check::from_trial(
            AREA,
            "drops at any time (SO_MEMINFO)",
            queried_drops(),
            "losses at the receive socket cannot be distinguished from losses elsewhere; requires Linux 4.12",
        ),
        stamps("kernel stamps (SO_TIMESTAMPNS)", RxTimestamps::Nanoseconds),
        stamps("kernel stamps (SO_TIMESTAMPING)", RxTimestamps::Software),
        forced_buffers(),
    ]
}

/// The check of the interfaces that every run needs.
fn required(outcome: io::Result<String>) -> Check {
    let check = Check::from_trial(AREA, EVENT_LOOP, outcome, "no measurement is possible");
    match check.state {
        State::Ok => check,
        _ => check.unfit("no measurement is possible"),
    }
}

/// Passes one datagram through the interfaces of the mio engine.
fn event_loop() -> io::Result<String> {
    let (sender, receiver) = pair()?;
    let timer = TimerFd::new()?;
    let mut poll = Poll::new()?;
    for (fd, token) in [(receiver.as_raw_fd(), 0), (timer.as_fd().as_raw_fd(), 1)] {
        let mut source = SourceFd(&fd);
        poll.registry()
            .register(&mut source, Token(token), Interest::READABLE)?;
    }
    let began = monotonic_ns();
    SendBatch::new(1).send(sender.as_fd(), [b"probe".as_slice()].into_iter())?;
    let mut events = Events::with_capacity(4);
    // The timer ends the wait after a second if the datagram does not arrive.
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
    let most = offload::max_segments()?;
    Ok(format!("{most} datagrams per send"))
}

/// Sends three datagrams as one message and expects them coalesced.
fn coalesced() -> io::Result<String> {
    const SEGMENT: u16 = 100;
    let (sender, receiver) = pair()?;
    socket::set_gro(receiver.as_fd(), true)?;
    socket::set_segment_size(sender.as_fd(), SEGMENT)?;
    SendBatch::new(1).send(sender.as_fd(), [[0; 250].as_slice()].into_iter())?;
    let mut batch = ReceiveBatch::new(4, 65_536);
    let count = retry_for_50_ms(|| batch.receive(receiver.as_fd()))?;
    match batch.messages(count).next() {
        Some(message) if count == 1 && message.segment == usize::from(SEGMENT) => Ok(format!(
            "{} datagrams in one message",
            message.datagrams().count()
        )),
        _ => Err(no_effect("the datagrams arrived in separate messages")),
    }
}

/// Datagrams sent to a buffer that holds only a few.
const FLOOD: u64 = 40;

/// Overflows a small buffer and reads the drop count delivered with the next datagram.
fn reported_drops() -> io::Result<String> {
    let (sender, receiver) = pair()?;
    socket::set_overflow_count(receiver.as_fd())?;
    socket::set_buffers(&receiver, None, Some(4_096), false)?;
    let flood = [[0; 1_000]; FLOOD as usize];
    for datagram in &flood {
        sender.send(datagram)?;
    }
    let mut batch = ReceiveBatch::new(flood.len(), 1_000);
    let kept = retry_for_50_ms(|| batch.receive(receiver.as_fd()))? as u64;
    sender.send(b"next")?;
    let count = retry_for_50_ms(|| batch.receive(receiver.as_fd()))?;
    let drops = batch.messages(count).last().and_then(|last| last.drops);
    compare_drops(drops, kept)
}

/// Overflows a small buffer and queries the drop count of the socket.
fn queried_drops() -> io::Result<String> {
    let (sender, receiver) = pair()?;
    socket::set_buffers(&receiver, None, Some(4_096), false)?;
    for _ in 0..FLOOD {
        sender.send(&[0; 1_000])?;
    }
    let drops = socket::drops(receiver.as_fd())?;
    let mut batch = ReceiveBatch::new(FLOOD as usize, 1_000);
    let kept = retry_for_50_ms(|| batch.receive(receiver.as_fd()))? as u64;
    compare_drops(Some(drops), kept)
}

fn compare_drops(drops: Option<u32>, kept: u64) -> io::Result<String> {
    let lost = FLOOD.saturating_sub(kept);
    match drops.map(u64::from) {
        Some(drops) if lost > 0 && drops == lost => Ok(format!("counted {drops} of {lost}")),
        Some(drops) => Err(no_effect(&format!("counted {drops} of {lost}"))),
        None => Err(no_effect(&format!("counted none of {lost}"))),
    }
}

fn stamps(name: &'static str, stamps: RxTimestamps) -> Check {
    let outcome = || {
        let (sender, receiver) = pair()?;
        rx_timestamp::enable(receiver.as_fd(), stamps)?;
        // The kernel starts to take timestamps with a delay after the first socket requests them
        // (net_enable_timestamp).
        let age = retry_for_50_ms(|| {
            sender.send(b"probe")?;
            let stamp = retry_for_50_ms(|| rx_timestamp::receive(receiver.as_fd()))?;
            let stamp = stamp.ok_or(io::ErrorKind::WouldBlock)?;
            Ok(realtime_ns().saturating_sub(stamp))
        })?;
        Ok(format!(
            "received {} after its timestamp",
            short_ns(age as f64)
        ))
    };
    let costs = "none for current runs, which take timestamps on reading; the time a datagram spent in the socket stays unknown";
    Check::from_trial(AREA, name, outcome(), costs)
}

/// Requests more than `net.core.rmem_max`, as a privileged process may.
fn forced_buffers() -> Check {
    const NAME: &str = "forced buffers (SO_RCVBUFFORCE)";
    let most = machine::rmem_max().unwrap_or(0);
    // The kernel grants twice the requested size, so this exceeds rmem_max, unless rmem_max already has its maximum.
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
            format!("not permitted, at most {} B", grouped(bytes as u64)),
        )
        .shortfall(
            State::Limited,
            "--rcvbuf and --sndbuf are limited to net.core.rmem_max and wmem_max",
        )
        .remedy("sudo setcap cap_net_admin+ep \"$(command -v bench)\""),
        Err(error) => Check::ok(AREA, NAME, error.to_string()).shortfall(
            State::Missing,
            "--rcvbuf and --sndbuf are limited to net.core.rmem_max and wmem_max",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_count_that_differs_from_the_loss_fails() {
        assert_eq!(compare_drops(Some(38), 2).unwrap(), "counted 38 of 38");
        for (drops, kept) in [(Some(37), 2), (None, 2), (Some(0), FLOOD)] {
            assert!(compare_drops(drops, kept).is_err(), "{drops:?} {kept}");
        }
    }
}
