//! The causes of losses as text.

use crate::udp::result::LossCause;

/// The causes of [`LossCause::cause`].
const NAMES: [(&str, &str); 18] = [
    ("sender_firewall", "sender's firewall"),
    ("sender_route", "sender's route"),
    ("sender_socket", "refused by the sender's socket"),
    ("sender_fragments", "sender's fragments"),
    ("sender_filter", "sender's traffic control filter"),
    ("sender_qdisc", "sender's qdisc"),
    ("sender_device", "sender's device"),
    ("receiver_device", "receiver's device"),
    ("receiver_backlog", "receiver's backlog full"),
    ("receiver_filter", "receiver's traffic control filter"),
    ("receiver_header", "invalid IP header at the receiver"),
    ("receiver_route", "receiver's route"),
    ("receiver_firewall", "receiver's firewall"),
    ("receiver_fragments", "receiver's fragments"),
    ("receiver_memory", "receiver's memory"),
    ("receiver_no_port", "no socket at the receiver's port"),
    ("receiver_checksum", "wrong checksum at the receiver"),
    ("receiver_socket", "receiver's socket full"),
];

/// A cause for a reader. Records of newer versions may have others.
pub(super) fn name(cause: &LossCause) -> &str {
    let known = NAMES.iter().find(|(of, _)| *of == cause.cause);
    known.map_or(cause.cause.as_str(), |(_, name)| name)
}

/// The causes and their datagrams in one cell.
pub(super) fn cell(causes: &[LossCause]) -> String {
    let all = causes.iter();
    let all = all.map(|cause| format!("{} {}", cause.cause, cause.datagrams));
    all.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_causes_have_a_name_and_others_keep_theirs() {
        let cause = |cause: &str| LossCause {
            cause: cause.into(),
            datagrams: 7,
            ..LossCause::default()
        };
        assert_eq!(name(&cause("receiver_socket")), "receiver's socket full");
        assert_eq!(name(&cause("receiver_novelty")), "receiver_novelty");
        assert_eq!(cell(&[cause("a"), cause("b")]), "a 7, b 7");
    }
}
