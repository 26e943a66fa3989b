//! The requested and the effective settings of a record.

use crate::engine::EngineKind;
use crate::udp::path_mtu::TooLong;
use crate::udp::plan::{Amount, Mode, Plan};
use crate::udp::result::{Effective, Requested, UringRequested};
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::wire::header::HEADER;

/// The requested settings that the plan contains.
pub fn requested(plan: &Plan) -> Requested {
    let mut requested = Requested {
        chunk: plan.chunk,
        batch: plan.batch,
        gso: plan.offload.name().to_owned(),
        df: plan.df.name().to_owned(),
        spin: plan.spin.name().to_owned(),
        zerocopy: plan.engine.zerocopy.name().to_owned(),
        timestamps: timestamps(plan),
        uring: (plan.engine.kind == EngineKind::Uring).then(|| UringRequested {
            sqpoll: plan.engine.uring.sqpoll,
            ring_size: plan.engine.uring.ring_size,
            receive: plan.engine.uring.receive.name().to_owned(),
        }),
        traffic: (&plan.traffic).into(),
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
    if let Mode::Paced(pps) | Mode::RoundTrip(Some(pps)) = plan.mode {
        requested.pps = Some(pps);
    }
    requested
}

/// The effective settings that follow from the plan alone.
pub fn effective(plan: &Plan) -> Effective {
    Effective {
        chunk: plan.chunk,
        mean_chunk: plan.pattern().map(|pattern| pattern.mean()),
        header: HEADER,
        datagram: plan.datagram(),
        streams: plan.streams,
        segments: 1,
        df: plan.df.name().to_owned(),
        zerocopy: plan.engine.zerocopy.name().to_owned(),
        timestamps: timestamps(plan),
        ..Effective::default()
    }
}

/// Who takes the receive stamp of a datagram.
fn timestamps(plan: &Plan) -> String {
    match plan.kernel_latency {
        true => "kernel".to_owned(),
        false => "user".to_owned(),
    }
}

/// Sets the effective settings at the end of the run, from the senders' outcomes.
pub(super) fn at_the_end(effective: &mut Effective, senders: &[SenderOutcome]) {
    let paths = senders.iter().filter_map(|sender| sender.path);
    let smallest = paths.min_by_key(|path| path.mtu.unwrap_or(usize::MAX));
    effective.path_mtu = smallest.and_then(|path| path.mtu).map(|mtu| mtu as u64);
    if let Some(errno) = senders
        .iter()
        .find_map(|sender| sender.stats.fallback_error)
    {
        (effective.gso, effective.segments) = (false, 1);
        let datagram = effective.datagram + effective.relay_header.unwrap_or(0);
        let too_long = smallest.and_then(|path| TooLong::of(datagram, path));
        let reason = match too_long {
            Some(too_long) => too_long.to_string(),
            None => std::io::Error::from_raw_os_error(errno).to_string(),
        };
        effective.offload_note = Some(format!("GSO was disabled during the run: {reason}"));
    }
    if let Some(spins) = senders
        .iter()
        .filter_map(|sender| sender.spin)
        .reduce(|all, one| all && one)
    {
        effective.spin = spins;
    }
    effective.spin_note = senders
        .iter()
        .find_map(|sender| sender.why_no_spin)
        .map(|why| format!("--spin auto does not spin: {why}"));
}
