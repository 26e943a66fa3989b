//! What a proxy's clients ask for and what they are told, both directions. Pure: bytes in, decisions out.
//!
//! A [`FrontEnd`] takes a connection's bytes as they come and ends in a [`Request`] or a [`Refusal`]. It
//! tells the protocols apart by the first byte: the JSON envelope, SOCKS5 and HTTP CONNECT;
//! or it forwards everything to one place and reads nothing. Destinations are read strictly
//! ([`host`]), users by [`credentials`]. A PROXY header may come before all that. The `client` halves
//! write the requests and read the answers.

pub mod credentials;
pub mod front;
pub mod host;
pub mod request;

pub use credentials::Credentials;
pub use front::FrontEnd;
pub use host::{Destination, Host};
pub use request::{Accept, Kind, Outcome, Refusal, Request, Settings, Step};
