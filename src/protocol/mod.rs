//! What a proxy's clients ask for and what they are told, both directions. Pure: bytes in, decisions out.
//!
//! A [`FrontEnd`] takes a connection's bytes as they come and ends in a [`Request`] or a [`Refusal`]. It
//! tells the protocols apart by the first bytes: the [`json`] envelope, [`socks5`] and HTTP [`connect`];
//! or it forwards everything to one place and reads nothing. Destinations are read strictly
//! ([`destination`](crate::destination)), users by [`credentials`]. A [`proxy_header`] may come before all that. A load generator
//! writes the requests with [`json::request`], [`socks5::client`] and [`connect::client`], and reads
//! each [`answer`], or with [`json::client`] what comes instead of one.

pub mod client_step;
pub mod connect;
pub mod credentials;
mod detect;
pub mod front;
pub mod json;
pub mod proxy_header;
pub mod request;
mod socks4;
pub mod socks5;
pub mod user;

pub use crate::destination::{Destination, Host};
pub use client_step::ClientStep;
pub use credentials::Credentials;
pub use front::FrontEnd;
pub use request::{Accept, Kind, Outcome, Refusal, Request, Settings, Step};
pub use user::User;

#[cfg(test)]
mod tests;
