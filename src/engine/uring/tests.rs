//! What holds when a run is cut off in the middle: after teardown the kernel takes nothing and writes nowhere.

use std::cell::Cell;
use std::net::UdpSocket;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use super::*;
use crate::engine::choice::{EngineChoice, Kind, UringSettings, ZeroCopy};
use crate::engine::{Flow, Layout, Rx, Tx, Until};
use crate::sys::clock::monotonic_ns;
use crate::sys::socket;
use crate::sys::wake::Wake;

const LAYOUT: Layout = Layout {
    messages: 4,
    bytes: 256,
    datagram: 256,
    fragments: false,
};

/// Stands where the kernel must not write any more.
const CANARY: u8 = 0xa5;

fn pair() -> (UdpSocket, UdpSocket) {
    let receiver = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    receiver.connect(sender.local_addr().unwrap()).unwrap();
    (sender, receiver)
}

/// The engine, unless this kernel lacks it.
fn made<T>(engine: std::io::Result<T>) -> Option<T> {
    match engine {
        Ok(engine) => Some(engine),
        Err(error) => {
            println!("skipped: no io_uring as this program needs it: {error}");
            None
        }
    }
}

/// Everything sent now stays in the socket, for whoever reads it next.
#[track_caller]
fn assert_nobody_takes(sender: &UdpSocket, receiver: &UdpSocket) {
    for number in 0..100u8 {
        sender.send(&[number; 100]).unwrap();
    }
    let mut bytes = [0; 256];
    for number in 0..100u8 {
        assert_eq!(receiver.recv(&mut bytes).unwrap(), 100);
        assert_eq!(bytes[..100], [number; 100]);
    }
}

fn in_the_middle<R: Rx>(rx: &mut R, sender: &UdpSocket) {
    // Some are read, some are in the socket or in buffers, an answer is on its way, and the requests go on.
    for _ in 0..20 {
        sender.send(&[1; 100]).unwrap();
    }
    rx.wait(monotonic_ns() + 1_000_000_000).unwrap();
    assert!(
        rx.receive(|message| assert_eq!(message.bytes, [1; 100]))
            .unwrap()
            > 0
    );
    rx.answer(b"answer", sender.local_addr().unwrap());
}

#[test]
fn a_multishot_receiver_cut_off_takes_nothing_more_and_leaves_its_buffers_alone() {
    let (sender, receiver) = pair();
    let (wake, settings) = (Wake::new().unwrap(), UringSettings::default());
    let ours = receiver.try_clone().unwrap();
    let Some(mut rx) = made(MultishotRx::new(receiver, LAYOUT, &settings, &wake)) else {
        return;
    };
    in_the_middle(&mut rx, &sender);
    rx.settle(CANARY);
    while ours.recv(&mut [0; 256]).is_ok() {}
    assert_nobody_takes(&sender, &ours);
    wake.wake();
    assert!(rx.is_all(CANARY));
    drop(rx);
    assert_nobody_takes(&sender, &ours);
}

#[test]
fn a_single_receiver_cut_off_takes_nothing_more() {
    let (sender, receiver) = pair();
    let (wake, settings) = (Wake::new().unwrap(), UringSettings::default());
    let ours = receiver.try_clone().unwrap();
    let Some(mut rx) = made(SingleRx::new(receiver, LAYOUT, &settings, &wake)) else {
        return;
    };
    in_the_middle(&mut rx, &sender);
    rx.wait(monotonic_ns()).unwrap();
    drop(rx);
    while ours.recv(&mut [0; 256]).is_ok() {}
    assert_nobody_takes(&sender, &ours);
}

/// A datagram socket whose send buffer fills: its reader is not fast enough.
fn slow_pair() -> (UdpSocket, UnixDatagram) {
    let (sender, receiver) = UnixDatagram::pair().unwrap();
    sender.set_nonblocking(true).unwrap();
    receiver.set_nonblocking(true).unwrap();
    // SAFETY: the descriptor is handed over, and nothing that is done with it asks what kind of socket it is.
    #[allow(unsafe_code)]
    let sender = unsafe {
        use std::os::fd::IntoRawFd;
        UdpSocket::from(OwnedFd::from_raw_fd(sender.into_raw_fd()))
    };
    (sender, receiver)
}

/// Sends until that is not possible, and adds up how many datagrams were queued.
fn fill(tx: &mut UringTx, queued: &Cell<u64>) -> Flow {
    for _ in 0..1_000 {
        while let Some(slot) = tx.vacant() {
            slot[0] = slot[0].wrapping_add(1);
            tx.queue(100, 1);
            queued.set(queued.get() + 1);
        }
        let flow = tx.submit(|_, error| panic!("{error}")).unwrap();
        if flow != Flow::Open {
            return flow;
        }
    }
    Flow::Open
}

#[test]
fn sends_that_wait_for_room_are_cancelled_and_never_sent() {
    let (sender, receiver) = slow_pair();
    let wake = Wake::new().unwrap();
    let choice = EngineChoice {
        kind: Kind::Uring,
        zerocopy: ZeroCopy::Off,
        uring: UringSettings::default(),
    };
    let Some(mut tx) = made(UringTx::new(sender, LAYOUT, &choice, b"x", &wake)) else {
        return;
    };
    assert_eq!(fill(&mut tx, &Cell::new(0)), Flow::Full);
    assert!(tx.unresolved() > 0);
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
fn what_a_sender_stopped_while_full_has_sent_is_what_arrives() {
    let (sender, receiver) = slow_pair();
    let wake = Wake::new().unwrap();
    let choice = EngineChoice {
        kind: Kind::Uring,
        ..EngineChoice::default()
    };
    let Some(mut tx) = made(UringTx::new(sender, LAYOUT, &choice, b"x", &wake)) else {
        return;
    };
    let queued = Cell::new(0);
    assert_eq!(fill(&mut tx, &queued), Flow::Full);
    let mut bytes = [0; 256];
    let mut received = 0;
    // Room for one of those that wait; its completion is there, and nobody has taken it yet.
    receiver.recv(&mut bytes).unwrap();
    received += 1;
    tx.wait(Until::WritableOr(monotonic_ns() + 1_000_000_000))
        .unwrap();
    tx.settle().unwrap();
    let sent = queued.get() - tx.unresolved();
    drop(tx);
    while receiver.recv(&mut bytes).is_ok() {
        received += 1;
    }
    assert_eq!(received, sent);
}

#[test]
fn a_send_that_waited_for_room_goes_on_in_order() {
    let (sender, receiver) = slow_pair();
    let wake = Wake::new().unwrap();
    let choice = EngineChoice {
        kind: Kind::Uring,
        ..EngineChoice::default()
    };
    let layout = Layout {
        messages: 1,
        ..LAYOUT
    };
    let Some(mut tx) = made(UringTx::new(sender, layout, &choice, &[0], &wake)) else {
        return;
    };
    let (mut sent, mut got) = (0u32, 0u32);
    let mut bytes = [0; 256];
    while got < 1_000 {
        while let Some(slot) = tx.vacant()
            && sent < 1_000
        {
            slot[..4].copy_from_slice(&sent.to_ne_bytes());
            tx.queue(100, 1);
            sent += 1;
            if tx.submit(|_, error| panic!("{error}")).unwrap() == Flow::Full {
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
    assert_eq!((tx.unresolved(), tx.stats().errors), (0, 0));
}

#[test]
fn a_ring_of_one_entry_does_all_the_same() {
    let (sender, receiver) = pair();
    let wake = Wake::new().unwrap();
    let uring = UringSettings {
        ring_size: Some(1),
        ..UringSettings::default()
    };
    let choice = EngineChoice {
        kind: Kind::Uring,
        zerocopy: ZeroCopy::Off,
        uring,
    };
    let Some(mut tx) = made(UringTx::new(sender, LAYOUT, &choice, b"x", &wake)) else {
        return;
    };
    let mut rx = MultishotRx::new(receiver, LAYOUT, &uring, &wake).unwrap();
    let (mut sent, mut received) = (0, 0);
    while received < 500 {
        while sent < 500
            && sent - received < 50
            && let Some(_) = tx.vacant()
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
