//! The UDP workload: datagrams from senders to receivers, every one of them accounted for.
//!
//! [`plan`] is what a run is, [`control`] how two processes agree on it, and [`header`] what every datagram begins with. A
//! [`stream`] decides what is sent next, by its schedule ([`pacing`]) or by [`credit`]; the [`sender`] hands it to an engine. The
//! [`receiver`] puts every datagram through the [`account`], which tells new from old by the [`sequence`] window. A host's
//! threads are its [`senders`] and [`receivers`]. Around them, [`client`] and [`server`] are the two ends of a
//! session; [`outcome`] puts both sides' figures together.

pub mod account;
pub mod channel;
pub mod client;
pub mod clock_offset;
pub mod control;
pub mod credit;
pub mod engine;
pub mod frame;
pub mod greeting;
pub mod header;
pub mod key;
pub mod link;
pub mod nap;
pub mod outcome;
pub mod pacing;
pub mod path;
pub mod path_probe;
pub mod placement;
pub mod plan;
pub mod receiver;
pub mod receivers;
pub mod sender;
pub mod senders;
pub mod sequence;
pub mod server;
pub mod setup;
pub mod spin;
pub mod spool;
pub mod stream;
