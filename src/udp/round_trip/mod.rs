//! The round-trip workload: requests, their responses, and the time between the two at one clock.
//!
//! ```text
//!   client                                                server, or any echo
//!   schedule ──> requester ── Ping: sequence, chunk ─────> responder     a thread that only receives and sends
//!                    │      <─ Pong: the same bytes, ────────┘
//!                    v         the server's own time
//!                exchanges    answered, duplicate, late or lost
//! ```
//!
//! [`schedule`] and [`exchanges`] are pure. [`requester`] and [`responder`] are the threads around them, over a channel of either engine.
//! The client turns the outcome into the record of a run. [`unanswered`] names the reason why an echo server answered nothing.

mod channel;
pub mod exchanges;
pub mod requester;
pub mod responder;
mod ring;
mod rows;
pub mod schedule;
mod socket;
mod thread;
pub mod unanswered;
