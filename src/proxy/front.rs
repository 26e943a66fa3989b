//! Between a client that was taken and a server that is connected to: what the client asks for, and whether it may have it.
//!
//! A front end is pure: it gets the client's bytes and answers with what to do. The loop asks [`FrontEnd::decide`] about the very
//! address that it gives to connect(2) next, so nothing can come between the two. [`Fixed`] asks nobody.

use std::io;
use std::net::SocketAddr;

/// How clients say where they want to go, and who may go where.
pub trait FrontEnd {
    /// One client's request, while it is being heard.
    type Request: Request;

    /// A client has come. Most answer [`Answer::More`]: nothing of it is heard yet.
    fn begin(&self, client: SocketAddr) -> (Self::Request, Answer);

    /// What a client is told that is one too many, before it is hung up on.
    fn crowded(&self) -> Vec<u8>;

    /// Whether a connection may be made to `address`, which the client may have called by `name`.
    fn decide(&self, address: SocketAddr, name: Option<&str>) -> Decision;
}

/// One client's request.
pub trait Request {
    /// More of the client's bytes. Those behind the request are the server's: [`Target::to_server`].
    fn take(&mut self, bytes: &[u8]) -> Answer;

    /// What the client is told first of all now that the server is there.
    fn connected(&mut self, server: SocketAddr) -> Vec<u8>;

    /// What the client is told before it is hung up on; nothing, and its connection is reset.
    fn failed(&mut self, why: &Failed) -> Vec<u8>;
}

/// What a request has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// More is needed; the client is told this meanwhile, if anything.
    More(Vec<u8>),
    /// It is complete.
    Connect(Target),
    /// It is none. The client is told this, and hung up on.
    Refuse(Vec<u8>),
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// As the client called it, if by name.
    pub name: Option<String>,
    /// What the server gets first of all.
    pub to_server: Vec<u8>,
}

/// What the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Connect.
    Allow,
    /// Do not; for this reason.
    Block(String),
}

/// Why there is no server for a client.
#[derive(Debug)]
pub enum Failed {
    /// The policy is against it, for this reason.
    Blocked(String),
    /// connect(2) failed.
    Connect(io::Error),
    /// It did not answer in time.
    TimedOut,
    /// The client did not say in time what it wants.
    RequestTimedOut,
}

/// Every client goes to one server, which whoever started the proxy has named.
#[derive(Debug, Clone, Copy)]
pub struct Fixed(pub SocketAddr);

/// The request of a client that is not asked.
#[derive(Debug, Clone, Copy)]
pub struct Unasked;

impl FrontEnd for Fixed {
    type Request = Unasked;

    fn begin(&self, _client: SocketAddr) -> (Unasked, Answer) {
        let target = Target {
            address: self.0,
            name: None,
            to_server: Vec::new(),
        };
        (Unasked, Answer::Connect(target))
    }

    fn crowded(&self) -> Vec<u8> {
        Vec::new()
    }

    fn decide(&self, _address: SocketAddr, _name: Option<&str>) -> Decision {
        Decision::Allow
    }
}

/// The client's bytes are all the server's, and the other way round: there is nothing that could be said to it.
impl Request for Unasked {
    fn take(&mut self, _bytes: &[u8]) -> Answer {
        Answer::Refuse(Vec::new())
    }

    fn connected(&mut self, _server: SocketAddr) -> Vec<u8> {
        Vec::new()
    }

    fn failed(&mut self, _why: &Failed) -> Vec<u8> {
        Vec::new()
    }
}
