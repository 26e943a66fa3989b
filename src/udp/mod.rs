//! The UDP workload: datagrams from senders to receivers, every one of them accounted for.
//!
//! Read [`plan`] for what a run is and [`control`] for how two processes agree on it. What goes over
//! the wire is in [`header`]. A [`stream`] decides what is sent next, by its schedule ([`pacing`]) or by
//! [`credit`]; the [`sender`] hands it to an engine. The [`receiver`] puts every datagram through the
//! [`account`], which tells new from old by the [`sequence`] window. Around them, [`session`] is the
//! sending process's side of a run and [`server`] the receiving one's; [`outcome`] puts both sides'
//! figures together.

pub mod account;
pub mod clock;
pub mod control;
pub mod credit;
pub mod frame;
pub mod header;
pub mod link;
pub mod nap;
pub mod outcome;
pub mod pacing;
pub mod path;
pub mod placement;
pub mod plan;
pub mod receiver;
pub mod sender;
pub mod sequence;
pub mod server;
pub mod session;
pub mod setup;
pub mod spin;
pub mod spool;
pub mod stream;
