//! Protocols between a proxy and its clients, both sides. Pure: bytes in, decisions out.
//!
//! A [`FrontEnd`] reads a connection's bytes until they are a [`Request`] or a [`Refusal`]. It detects the protocol by the first
//! bytes: the [`json`] envelope, [`socks5`] or HTTP [`connect`]. With a fixed destination it reads nothing. Destinations are
//! parsed strictly ([`destination`](crate::destination)); [`credentials`] are the users. A [`proxy_header`] may precede everything.
//! Clients write requests with [`json::request`], [`socks5::client`] and [`connect::client`], and read replies as
//! [`client_step`]s or with [`json::client`].

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
pub use request::{Accept, Associate, Kind, Outcome, Refusal, Request, Settings, Step};
pub use user::User;

#[cfg(test)]
mod tests;
