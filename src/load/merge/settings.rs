//! The settings that runs must share to be merged, by the names of their keys.

use crate::load::result::{Requested, Run};
pub(super) use crate::udp::merge::settings::Settings;

/// Keys of requested options that may differ: shares of the whole, of which each run has one or none, and addresses.
const SHARES: [&str; 2] = ["rate_per_s", "bytes"];
const OWN: [&str; 3] = ["connections", "via", "origin"];

/// The settings of a run.
pub(super) fn of(run: &Run) -> Settings {
    let more = [
        ("scenario", run.scenario.clone().into()),
        ("path", run.path.clone().into()),
        ("engine", run.engine.clone().into()),
        ("protocol", run.protocol.clone().into()),
        ("forwarding", run.forwarding.clone().into()),
        ("setting", run.setting.clone().into()),
        ("proxy_threads", run.proxy_threads.into()),
    ];
    Settings::new(&run.requested, &SHARES, &OWN, more)
}

/// What all runs share of the first one; the shares are added up elsewhere.
pub(super) fn shared(sum: &mut Requested, other: &Requested) {
    let both =
        |one: Option<String>, other: &Option<String>| one.filter(|one| other.as_ref() == Some(one));
    sum.via = both(sum.via.take(), &other.via);
    sum.origin = both(sum.origin.take(), &other.origin);
    sum.connections = sum.connections.saturating_add(other.connections);
    sum.bytes = sum
        .bytes
        .zip(other.bytes)
        .map(|(one, other)| one.saturating_add(other));
}
