//! What the server itself can say of a session: its receivers' figures, and of the sender what the client reported.

use crate::dates;
use crate::udp::plan::Plan;
use crate::udp::receive::result_upload::Upload;
use crate::udp::result::{self, Ended, Facts};
use crate::udp::result::{Clock, Effective, Measured};
use crate::udp::wire::control::{Finish, Welcome};

/// The record of the streams that the client sent.
pub(super) fn received(
    plan: &Plan,
    welcome: &Welcome,
    ended: Ended,
    finish: Option<Finish>,
    upload: Upload,
) -> Measured {
    // Without the client's word, the highest number seen says how many there were at least.
    let sent = match finish {
        Some(finish) => finish.streams,
        None => result::at_least(plan, &upload.received),
    };
    let source = if welcome.same_clock {
        "same"
    } else {
        "estimated"
    };
    let receiver = welcome.receiver.clone().unwrap_or_default();
    let first = upload.received.iter();
    result::assemble(Facts {
        plan,
        direction: "forward",
        requested: result::requested(plan),
        effective: Effective {
            gro: receiver.gro,
            rcvbuf: receiver.receive_buffer,
            receiver_cpus: receiver.cpus,
            window: receiver.window,
            clock: Clock {
                source: source.to_owned(),
                ..Clock::default()
            },
            ..result::effective(plan)
        },
        ended,
        sent,
        // The lowest count that the numbers allow, which is all that a server's record is of.
        senders_lost: false,
        senders: Vec::new(),
        first_sent: first.filter_map(|stream| stream.first_sent).min(),
        first_sent_at: None,
        received: upload.received,
        last_received_at: upload.done.last_received_wall.map(dates::rfc3339),
        done: Some(upload.done),
        client_ip: Some(welcome.client_ip.clone()),
        latencies: upload.latencies,
        intervals: upload.intervals,
    })
}
