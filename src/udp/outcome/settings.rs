//! What was asked for and what was in force, as a record has it.

use crate::engine::choice::Kind;
use crate::report::record::{Effective, Requested, UringRequested};
use crate::udp::header::HEADER;
use crate::udp::plan::{Amount, Mode, Plan};

/// What was asked for, as far as the plan holds it.
pub fn requested(plan: &Plan) -> Requested {
    let mut requested = Requested {
        chunk: plan.chunk,
        batch: plan.batch,
        gso: plan.offload.name().to_owned(),
        zerocopy: plan.engine.zerocopy.name().to_owned(),
        uring: (plan.engine.kind == Kind::Uring).then(|| UringRequested {
            sqpoll: plan.engine.uring.sqpoll,
            ring_size: plan.engine.uring.ring_size,
            receive: plan.engine.uring.receive.name().to_owned(),
        }),
        streams: plan.streams,
        rcvbuf: plan.receive_buffer,
        sndbuf: plan.send_buffer,
        direction: plan.direction.name().to_owned(),
        ..Requested::default()
    };
    match plan.amount {
        Amount::Bytes(bytes) => requested.bytes = Some(bytes),
        Amount::Packets(packets) => requested.packets = Some(packets),
        Amount::Time(time) => requested.duration_s = Some(time.as_secs_f64()),
    }
    if let Mode::Paced(pps) = plan.mode {
        requested.pps = Some(pps);
    }
    requested
}

/// What is in force by the plan alone.
pub fn effective(plan: &Plan) -> Effective {
    Effective {
        chunk: plan.chunk,
        header: HEADER,
        datagram: plan.datagram(),
        streams: plan.streams,
        segments: 1,
        zerocopy: plan.engine.zerocopy.name().to_owned(),
        ..Effective::default()
    }
}
