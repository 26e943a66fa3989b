//! The bytes of every message. A change here is a change of the protocol, and needs a new [`VERSION`].

use std::collections::BTreeSet;

use super::*;
use crate::udp::wire::VERSION;

const REQUESTS: &str = include_str!("requests.txt");
const REPLIES: &str = include_str!("replies.txt");

/// Checks that each line decodes to a message that encodes to the line. Returns the names of the messages.
#[track_caller]
fn names<M: Message>(lines: &str, name: fn(&M) -> &'static str) -> BTreeSet<&'static str> {
    let each = lines.lines().map(|line| {
        let message: M = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), line);
        assert!(
            line.starts_with(&format!("{{\"type\":\"{}\"", name(&message))),
            "{line}"
        );
        name(&message)
    });
    each.collect()
}

#[test]
fn every_message_has_these_bytes() {
    assert_eq!(VERSION, 3, "the lines below are those of version 3");
    let requests = names(REQUESTS, |request| match request {
        Request::Greet { .. } => "greet",
        Request::Proof { .. } => "proof",
        Request::Hello(_) => "hello",
        Request::Resume(_) => "resume",
        Request::Alive(_) => "alive",
        Request::Begin { .. } => "begin",
        Request::Finish(_) => "finish",
        Request::Stop => "stop",
        Request::Fleet(_) => "fleet",
    });
    assert_eq!(requests.len(), 9, "{requests:?}");
    let replies = names(REPLIES, |reply| match reply {
        Reply::Challenge { .. } => "challenge",
        Reply::Proven { .. } => "proven",
        Reply::Welcome(_) => "welcome",
        Reply::Refused { .. } => "refused",
        Reply::Resumed { .. } => "resumed",
        Reply::Alive(_) => "alive",
        Reply::IntervalCounts { .. } => "interval_counts",
        Reply::Interval(_) => "interval",
        Reply::Counts { .. } => "counts",
        Reply::Rows { .. } => "rows",
        Reply::Stamps { .. } => "stamps",
        Reply::Stream(_) => "stream",
        Reply::Explained(_) => "explained",
        Reply::Done(_) => "done",
        Reply::Finish(_) => "finish",
        Reply::Sender(_) => "sender",
        Reply::SendersDone { .. } => "senders_done",
        Reply::Fleet(_) => "fleet",
    });
    assert_eq!(replies.len(), 18, "{replies:?}");
}

#[test]
fn the_messages_of_a_greeting_are_not_numbered_and_later_messages_are() {
    let numbered = |lines: &str, is: fn(&str) -> bool| -> BTreeSet<String> {
        let lines = lines.lines().filter(|line| is(line));
        lines
            .filter_map(|line| line.split('"').nth(3).map(str::to_owned))
            .collect()
    };
    let requests = numbered(REQUESTS, |line| {
        serde_json::from_str::<Request>(line).unwrap().is_numbered()
    });
    assert_eq!(
        Vec::from_iter(requests),
        ["begin", "finish", "stop"].map(str::to_owned)
    );
    let replies = numbered(REPLIES, |line| {
        !serde_json::from_str::<Reply>(line).unwrap().is_numbered()
    });
    let unnumbered = [
        "alive",
        "challenge",
        "fleet",
        "proven",
        "refused",
        "resumed",
        "welcome",
    ];
    assert_eq!(Vec::from_iter(replies), unnumbered.map(str::to_owned));
}
