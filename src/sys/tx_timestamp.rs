//! Kernel timestamps of sent datagrams, read from the error queue (Documentation/networking/timestamping.rst).
//!
//! A message with a [`TxControl`] is stamped twice: before it enters the qdisc, and when the driver takes it. Each stamp
//! has the key of its message. Since Linux 6.13 the program chooses the key; before, the kernel counts stamped messages
//! from 0, and may count a message whose send fails.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use super::mmsg::SendBatch;
use super::socket;
use super::tx_control::TxControl;

/// A timestamp of a sent message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxStamp {
    /// The key of the message.
    pub key: u32,
    /// Where the kernel took it.
    pub stage: TxStage,
    /// Wall time in ns.
    pub realtime_ns: u64,
}

/// Where the kernel stamps a sent message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxStage {
    /// Before the qdisc (`SOF_TIMESTAMPING_TX_SCHED`).
    Scheduled,
    /// In the driver (`SOF_TIMESTAMPING_TX_SOFTWARE`).
    Sent,
}

/// Who numbers stamped messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// The program (Linux 6.13).
    Chosen,
    /// The kernel, which counts them.
    Counted,
}

/// Lets `socket` report stamps of messages that have a [`TxControl`]. Restarts the kernel's count.
///
/// # Errors
/// As setsockopt(2).
pub fn enable(socket: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::SOF_TIMESTAMPING_SOFTWARE
        | libc::SOF_TIMESTAMPING_OPT_ID
        | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    let set = |value| {
        socket::set_int(
            socket,
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            value as libc::c_int,
        )
    };
    // The count restarts when the option is set again.
    set(0)?;
    set(flags)
}

/// Who numbers stamped messages on this kernel, found by trial.
///
/// # Errors
/// This kernel takes no timestamps of sent messages, or loopback is unavailable.
pub fn keys() -> io::Result<Keys> {
    let receiver = socket::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
    let sender = socket::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
    sender.connect(receiver.local_addr()?)?;
    enable(sender.as_fd())?;
    let send = |key| send(&sender, &mut SendBatch::new(1), b"key", key);
    match send(Some(1)) {
        Ok(()) => Ok(Keys::Chosen),
        Err(_) => send(None).map(|()| Keys::Counted),
    }
}

/// Sends one stamped message.
///
/// # Errors
/// As sendmmsg(2).
pub fn send(
    socket: &UdpSocket,
    batch: &mut SendBatch,
    bytes: &[u8],
    key: Option<u32>,
) -> io::Result<()> {
    let message = (bytes, Some(TxControl::new(key)));
    batch
        .send_stamped(socket.as_fd(), [message].into_iter())
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::realtime_ns;
    use crate::sys::error_queue::{self, Entry};

    #[test]
    fn a_sent_message_has_two_stamps_with_its_key() {
        let Ok(keys) = keys() else {
            println!("skipped: no timestamps of sent messages here");
            return;
        };
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let receiver = socket::bind_udp(local.parse().unwrap()).unwrap();
            let sender = socket::bind_udp(local.parse().unwrap()).unwrap();
            sender.connect(receiver.local_addr().unwrap()).unwrap();
            error_queue::enable(&sender).unwrap();
            enable(sender.as_fd()).unwrap();
            for key in [None, Some(u32::MAX)] {
                if key.is_some() && keys == Keys::Counted {
                    continue;
                }
                enable(sender.as_fd()).unwrap();
                let before = realtime_ns();
                send(&sender, &mut SendBatch::new(1), b"stamped", key).unwrap();
                let after = realtime_ns();
                let mut stamps = Vec::new();
                error_queue::read(sender.as_fd(), |entry| stamps.push(entry)).unwrap();
                let [Entry::Stamp(first), Entry::Stamp(second)] = stamps[..] else {
                    panic!("{stamps:?}");
                };
                assert_eq!(
                    (first.stage, second.stage),
                    (TxStage::Scheduled, TxStage::Sent)
                );
                let expected = key.unwrap_or(0);
                assert_eq!((first.key, second.key), (expected, expected));
                let times = [before, first.realtime_ns, second.realtime_ns, after];
                assert!(times.is_sorted(), "{times:?}");
            }
        }
    }

    #[test]
    fn only_messages_with_control_data_are_stamped() {
        let receiver = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        error_queue::enable(&sender).unwrap();
        if enable(sender.as_fd()).is_err() {
            println!("skipped: no timestamps of sent messages here");
            return;
        }
        let stamped = Some(TxControl::new(None));
        let messages = [stamped, None, stamped].map(|control| (&b"one"[..], control));
        let sent = SendBatch::new(4).send_stamped(sender.as_fd(), messages.into_iter());
        assert_eq!(sent.unwrap(), 3);
        let mut keys = Vec::new();
        error_queue::read(sender.as_fd(), |entry| {
            if let Entry::Stamp(stamp) = entry {
                keys.push(stamp.key);
            }
        })
        .unwrap();
        assert_eq!(keys, [0, 0, 1, 1]);
    }
}
