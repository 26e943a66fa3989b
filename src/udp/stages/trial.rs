//! The cost of stamps, measured: datagrams over loopback with and without them, before the run.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

use crate::sys::clock::thread_cpu_ns;
use crate::sys::error_queue;
use crate::sys::mmsg::{ReceiveBatch, SendBatch};
use crate::sys::rx_timestamp::{self, RxTimestamps};
use crate::sys::socket;
use crate::sys::tx_timestamp;

/// Blocks of datagrams, with and without stamps in turn.
const BLOCKS: usize = 24;

/// Datagrams of a block: as many as a socket with default buffers holds, at the largest size.
const DATAGRAMS: usize = 24;

/// Most bytes of a datagram of the trial.
const MOST_BYTES: usize = 1_500;

/// CPU time of a datagram in ns, the median of the blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Trial {
    /// Sent without stamps.
    pub plain_send_ns: f64,
    /// Sent with stamps, which are read.
    pub stamped_send_ns: f64,
    /// Received without stamps.
    pub plain_receive_ns: f64,
    /// Received with stamps.
    pub stamped_receive_ns: f64,
}

/// Measures datagrams of `bytes` bytes, at most 1,500, a message each.
///
/// # Errors
/// Loopback is unavailable, or this kernel takes no stamps.
pub fn run(bytes: usize) -> io::Result<Trial> {
    let payload = vec![0x5a; bytes.clamp(1, MOST_BYTES)];
    let mut ends = [End::new(false)?, End::new(true)?];
    // Caches and the kernel's switch for receive stamps.
    for end in &mut ends {
        end.block(&payload)?;
    }
    let mut blocks = [Vec::new(), Vec::new()];
    for _ in 0..BLOCKS {
        for (end, blocks) in ends.iter_mut().zip(&mut blocks) {
            blocks.push(end.block(&payload)?);
        }
    }
    let [plain, stamped] = blocks;
    let send = |blocks: &[(f64, f64)]| median(blocks.iter().map(|of| of.0));
    let receive = |blocks: &[(f64, f64)]| median(blocks.iter().map(|of| of.1));
    Ok(Trial {
        plain_send_ns: send(&plain),
        stamped_send_ns: send(&stamped),
        plain_receive_ns: receive(&plain),
        stamped_receive_ns: receive(&stamped),
    })
}

/// A sender and a receiver.
struct End {
    sender: UdpSocket,
    receiver: UdpSocket,
    out: SendBatch,
    batch: ReceiveBatch,
    is_stamped: bool,
}

impl End {
    fn new(is_stamped: bool) -> io::Result<Self> {
        let receiver = socket::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
        let sender = socket::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
        sender.connect(receiver.local_addr()?)?;
        error_queue::enable(&sender)?;
        if is_stamped {
            tx_timestamp::enable(sender.as_fd())?;
            rx_timestamp::enable(receiver.as_fd(), RxTimestamps::Software)?;
        }
        Ok(Self {
            sender,
            receiver,
            out: SendBatch::new(1),
            batch: ReceiveBatch::new(DATAGRAMS, MOST_BYTES),
            is_stamped,
        })
    }

    /// CPU time of a sent and of a received datagram, in ns.
    fn block(&mut self, payload: &[u8]) -> io::Result<(f64, f64)> {
        let began = thread_cpu_ns();
        for _ in 0..DATAGRAMS {
            if self.is_stamped {
                tx_timestamp::send(&self.sender, &mut self.out, payload, None)?;
                error_queue::read(self.sender.as_fd(), |_| ())?;
            } else {
                self.out
                    .send(self.sender.as_fd(), std::iter::once(payload))?;
            }
        }
        let sent = thread_cpu_ns();
        let mut received = 0;
        while let Ok(count) = self.batch.receive(self.receiver.as_fd()) {
            received += count;
            let stamps = self.batch.messages(count).filter_map(|of| of.stamp());
            std::hint::black_box(stamps.count());
        }
        let read = thread_cpu_ns();
        let each = |ns: u64, count: usize| ns as f64 / count.max(1) as f64;
        Ok((
            each(sent.saturating_sub(began), DATAGRAMS),
            each(read.saturating_sub(sent), received),
        ))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_takes_time_with_and_without_stamps() {
        let trial = run(1_032).unwrap();
        let all = [
            trial.plain_send_ns,
            trial.stamped_send_ns,
            trial.plain_receive_ns,
            trial.stamped_receive_ns,
        ];
        assert!(all.iter().all(|ns| *ns > 0.0), "{trial:?}");
        assert!(trial.stamped_send_ns > trial.plain_send_ns, "{trial:?}");
    }
}
