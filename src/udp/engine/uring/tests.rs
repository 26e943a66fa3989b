//! Teardown in the middle of a run: afterwards the kernel consumes no datagram and writes to no memory.

use std::cell::Cell;
use std::net::UdpSocket;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use super::*;
use crate::engine::{EngineChoice, EngineKind, UringSettings, ZeroCopy};
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::socket;
use crate::udp::engine::endpoint::{RxEndpoint, TxEndpoint};
use crate::udp::engine::{Layout, Rx, Submit, Tx, Until};

const LAYOUT: Layout = Layout {
    messages: 4,
    bytes: 256,
    datagram: 256,
    fragments: false,
};

/// Fill value of memory that the kernel must not write.
const CANARY: u8 = 0xa5;

fn pair() -> (UdpSocket, UdpSocket) {
    let receiver = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    receiver.connect(sender.local_addr().unwrap()).unwrap();
    (sender, receiver)
}

fn rx_endpoint(socket: UdpSocket, wake: &EventFd) -> RxEndpoint<'_> {
    RxEndpoint {
        socket,
        layout: LAYOUT,
        wake,
    }
}

fn tx_endpoint<'a>(
    socket: UdpSocket,
    layout: Layout,
    fill: &'a [u8],
    wake: &'a EventFd,
) -> TxEndpoint<'a> {
    TxEndpoint {
        socket,
        layout,
        batch: layout.messages,
        fill,
        stamps: None,
        wake,
    }
}

/// The engine; `None` if this kernel lacks it.
fn unless_unavailable<T>(engine: std::io::Result<T>) -> Option<T> {
    match engine {
        Ok(engine) => Some(engine),
        Err(error) => {
            println!("skipped: io_uring is unavailable: {error}");
            None
        }
    }
}

/// Asserts that datagrams sent now stay in the socket.
#[track_caller]
fn assert_not_consumed(sender: &UdpSocket, receiver: &UdpSocket) {
    for number in 0..100u8 {
        sender.send(&[number; 100]).unwrap();
    }
    let mut bytes = [0; 256];
    for number in 0..100u8 {
        assert_eq!(receiver.recv(&mut bytes).unwrap(), 100);
        assert_eq!(bytes[..100], [number; 100]);
    }
}

fn run_halfway<R: Rx>(rx: &mut R, sender: &UdpSocket) {
    // Now some datagrams are read, some are in the socket or in buffers, a control send is in flight, and requests are
    // armed.
    for _ in 0..20 {
        sender.send(&[1; 100]).unwrap();
    }
    rx.wait(monotonic_ns() + 1_000_000_000).unwrap();
    assert!(
        rx.receive(|message| assert_eq!(message.bytes, [1; 100]))
            .unwrap()
            > 0
    );
    rx.send_control(b"reply", sender.local_addr().unwrap());
}

#[test]
fn dropped_multishot_receiver_consumes_nothing_and_writes_no_buffer() {
    let (sender, receiver) = pair();
    let (wake, settings) = (EventFd::new().unwrap(), UringSettings::default());
    let ours = receiver.try_clone().unwrap();
    let Some(mut rx) =
        unless_unavailable(MultishotRx::new(rx_endpoint(receiver, &wake), &settings))
    else {
        return;
    };
    run_halfway(&mut rx, &sender);
    rx.close(CANARY);
    while ours.recv(&mut [0; 256]).is_ok() {}
    assert_not_consumed(&sender, &ours);
    wake.wake();
    assert!(rx.is_all(CANARY));
    drop(rx);
    assert_not_consumed(&sender, &ours);
}

#[test]
fn dropped_single_receiver_consumes_nothing() {
    let (sender, receiver) = pair();
    let (wake, settings) = (EventFd::new().unwrap(), UringSettings::default());
    let ours = receiver.try_clone().unwrap();
    let Some(mut rx) = unless_unavailable(SingleRx::new(rx_endpoint(receiver, &wake), &settings))
    else {
        return;
    };
    run_halfway(&mut rx, &sender);
    rx.wait(monotonic_ns()).unwrap();
    drop(rx);
    while ours.recv(&mut [0; 256]).is_ok() {}
    assert_not_consumed(&sender, &ours);
}

/// A datagram socket with a full send buffer, since its peer does not read.
fn slow_pair() -> (UdpSocket, UnixDatagram) {
    let (sender, receiver) = UnixDatagram::pair().unwrap();
    sender.set_nonblocking(true).unwrap();
    receiver.set_nonblocking(true).unwrap();
    // SAFETY: ownership of the descriptor is transferred, and no later call depends on the type of the socket.
    #[allow(unsafe_code)]
    let sender = unsafe {
        use std::os::fd::IntoRawFd;
        UdpSocket::from(OwnedFd::from_raw_fd(sender.into_raw_fd()))
    };
    (sender, receiver)
}

/// Sends until the engine refuses, and counts queued datagrams.
fn fill(tx: &mut UringTx<false>, queued: &Cell<u64>) -> Submit {
    for _ in 0..1_000 {
        while let Some(slot) = tx.next_slot() {
            slot[0] = slot[0].wrapping_add(1);
            tx.queue(100, 1);
            queued.set(queued.get() + 1);
        }
        let submit = tx.submit(|_, error| panic!("{error}")).unwrap();
        if submit != Submit::Ready {
            return submit;
        }
    }
    Submit::Ready
}

#[test]
fn sends_waiting_for_room_are_cancelled_on_drop() {
    let (sender, receiver) = slow_pair();
    let wake = EventFd::new().unwrap();
    let choice = EngineChoice {
        kind: EngineKind::Uring,
        zerocopy: ZeroCopy::Off,
        uring: UringSettings::default(),
    };
    let Some(mut tx) = unless_unavailable(UringTx::<false>::new(
        tx_endpoint(sender, LAYOUT, b"x", &wake),
        &choice,
    )) else {
        return;
    };
    assert_eq!(fill(&mut tx, &Cell::new(0)), Submit::WouldBlock);
    assert!(tx.in_flight() > 0);
    let sent = tx.stats().messages;
    drop(tx);
    let mut bytes = [0; 256];
    let mut received = 0;
    while receiver.recv(&mut bytes).is_ok() {
        received += 1;
    }
    assert_eq!(received, sent);
}

#[test]
fn sent_count_of_a_blocked_sender_matches_arrivals() {
    let (sender, receiver) = slow_pair();
    let wake = EventFd::new().unwrap();
    let choice = EngineChoice {
        kind: EngineKind::Uring,
        ..EngineChoice::default()
    };
    let Some(mut tx) = unless_unavailable(UringTx::<false>::new(
        tx_endpoint(sender, LAYOUT, b"x", &wake),
        &choice,
    )) else {
        return;
    };
    let queued = Cell::new(0);
    assert_eq!(fill(&mut tx, &queued), Submit::WouldBlock);
    let mut bytes = [0; 256];
    let mut received = 0;
    // Makes room for one waiting send. Its completion is available but not reaped.
    receiver.recv(&mut bytes).unwrap();
    received += 1;
    tx.wait(Until::WritableOr(monotonic_ns() + 1_000_000_000))
        .unwrap();
    tx.cancel_pending().unwrap();
    let sent = queued.get() - tx.in_flight();
    drop(tx);
    while receiver.recv(&mut bytes).is_ok() {
        received += 1;
    }
    assert_eq!(received, sent);
}

#[test]
fn sends_that_waited_for_room_stay_in_order() {
    let (sender, receiver) = slow_pair();
    let wake = EventFd::new().unwrap();
    let choice = EngineChoice {
        kind: EngineKind::Uring,
        ..EngineChoice::default()
    };
    let layout = Layout {
        messages: 1,
        ..LAYOUT
    };
    let Some(mut tx) = unless_unavailable(UringTx::<false>::new(
        tx_endpoint(sender, layout, &[0], &wake),
        &choice,
    )) else {
        return;
    };
    let (mut sent, mut got) = (0u32, 0u32);
    let mut bytes = [0; 256];
    while got < 1_000 {
        while let Some(slot) = tx.next_slot()
            && sent < 1_000
        {
            slot[..4].copy_from_slice(&sent.to_ne_bytes());
            tx.queue(100, 1);
            sent += 1;
            if tx.submit(|_, error| panic!("{error}")).unwrap() == Submit::WouldBlock {
                break;
            }
        }
        while receiver.recv(&mut bytes).is_ok() {
            assert_eq!(bytes[..4], got.to_ne_bytes());
            got += 1;
        }
        tx.wait(Until::WritableOr(monotonic_ns())).unwrap();
        tx.submit(|_, error| panic!("{error}")).unwrap();
    }
    assert_eq!((tx.in_flight(), tx.stats().errors), (0, 0));
}

#[test]
fn ring_of_one_entry_transfers_all_datagrams() {
    let (sender, receiver) = pair();
    let wake = EventFd::new().unwrap();
    let uring = UringSettings {
        ring_size: Some(1),
        ..UringSettings::default()
    };
    let choice = EngineChoice {
        kind: EngineKind::Uring,
        zerocopy: ZeroCopy::Off,
        uring,
    };
    let Some(mut tx) = unless_unavailable(UringTx::<false>::new(
        tx_endpoint(sender, LAYOUT, b"x", &wake),
        &choice,
    )) else {
        return;
    };
    let mut rx = MultishotRx::new(rx_endpoint(receiver, &wake), &uring).unwrap();
    let (mut sent, mut received) = (0, 0);
    while received < 500 {
        while sent < 500
            && sent - received < 50
            && let Some(_) = tx.next_slot()
        {
            tx.queue(100, 1);
            sent += 1;
        }
        tx.submit(|_, error| panic!("{error}")).unwrap();
        received += rx
            .receive(|message| assert_eq!(message.bytes, [b'x'; 100]))
            .unwrap();
    }
    let stats = tx.stats().ring.unwrap();
    assert_eq!(stats.size, 1);
    assert!(stats.enters >= 500, "{stats:?}");
}
