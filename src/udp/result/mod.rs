//! The result of a run, computed from the counts of the sender and of the receiver. Pure: numbers in, numbers out.
//!
//! `assemble` takes [`RunInputs`] and returns a [`Measured`] run: the [`Run`] that `run.json` holds, and its histograms.

mod assemble;
pub mod by_size;
pub mod causes;
mod costs;
mod counts;
mod ended;
mod explained;
mod fleet;
mod inputs;
mod interval;
mod interval_rows;
mod marks;
mod measured;
mod packets;
mod round_trip;
mod run;
mod settings;
mod stage_inputs;
mod stages;
mod streams;
mod tail;
mod traffic;
mod warnings;

pub use crate::stats::latency::NamedHistograms;
pub use assemble::assemble;
pub(in crate::udp) use assemble::speeds;
pub use by_size::SizeLatency;
pub use ended::Ended;
pub use explained::{Explained, HostDrops, Increase, LossCause, Reason};
pub use fleet::{Fleet, HostCpu, MissingRank, Rank};
pub use inputs::{Hosts, RunInputs};
pub use interval::Interval;
pub use interval_rows::IntervalRows;
pub use marks::{DscpCount, Marks};
pub use measured::Measured;
pub use packets::{Lost, Received, Traffic};
pub use round_trip::RoundTrip;
pub use run::{
    Clock, Cpu, CpuTrial, Effective, EngineStats, MAX_INTERVALS, Pacing, Requested, Run, Stream,
    UringRequested,
};
pub use settings::{effective, requested};
pub use stage_inputs::StageInputs;
pub use stages::{Stage, Stages, StampCost};
pub use streams::{sent_at_least, total_sent};
pub use traffic::TrafficRequested;
pub(in crate::udp) use warnings::late_ns;
