use super::*;
use crate::udp::plan::tests::small_plan;
use crate::udp::receive::socket::ReceiverSocket;

#[test]
fn a_batch_is_truncated_to_whole_messages() {
    let of = |segments, batch| {
        let policy = batch_policy(segments, batch);
        (policy.segments, policy.batch)
    };
    assert_eq!(of(63, None), (63, 126));
    assert_eq!(of(63, Some(64)), (63, 63));
    assert_eq!(of(63, Some(130)), (63, 126));
    assert_eq!(of(63, Some(16)), (16, 16));
    assert_eq!(of(1, None), (1, 64));
    assert_eq!(of(1, Some(7)), (1, 7));
}

#[test]
fn unavailable_gso_is_an_error_if_required_and_a_note_under_auto() {
    let (receiver, sender) = pair();
    let plan = Plan {
        chunk: 40_000,
        offload: Offload::On,
        ..small_plan()
    };
    let set_up = |plan: &Plan| {
        let socket = sender.try_clone().unwrap();
        SenderSocket::new(socket, plan, None, (1, &RelayHeader::default()), None, None)
    };
    let error = set_up(&plan).unwrap_err().to_string();
    assert!(error.contains("do not fit one send"), "{error}");
    let sender = set_up(&Plan {
        offload: Offload::Auto,
        ..plan
    })
    .unwrap();
    assert!(!sender.gso());
    assert!(sender.gso_note.is_some());
    drop(receiver);
}

fn pair() -> (UdpSocket, UdpSocket) {
    let local = "127.0.0.1:0".parse().unwrap();
    let receiver = socket::bind_udp(local).unwrap();
    let sender = socket::bind_udp(local).unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    (receiver, sender)
}

#[test]
fn offload_off_applies_to_both_ends() {
    let plan = Plan {
        offload: Offload::Off,
        ..small_plan()
    };
    let (receiver, sender) = pair();
    let receiver = ReceiverSocket::new(receiver, &plan, false, 0).unwrap();
    let sender = SenderSocket::new(
        sender,
        &plan,
        None,
        (1, &RelayHeader::default()),
        None,
        None,
    )
    .unwrap();
    assert_eq!(
        (receiver.gro, sender.gso(), sender.gso_note),
        (false, false, None)
    );
    assert_eq!(
        sender.layout,
        Layout {
            messages: 64,
            bytes: 1_032,
            datagram: 1_032,
            fragments: true,
        }
    );
}
