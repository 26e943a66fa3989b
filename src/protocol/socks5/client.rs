//! The client's side: sends three messages and reads the replies.

use std::net::SocketAddr;

use super::super::client_step::ClientStep;
use super::{
    CONNECT, NO_METHOD, OPEN, PASSWORD, PASSWORD_VERSION, Reply, VERSION, put_address, put_word,
    take, take_address,
};
use crate::destination::{Destination, Host};

/// The command that requests a UDP relay (RFC 1928, section 7).
const UDP_ASSOCIATE: u8 = 3;

/// The expected reply.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Method,
    Password,
    Reply,
}

/// Requests one connection, or a UDP relay.
#[derive(Debug)]
pub struct Client {
    phase: Phase,
    /// The encoded user and password, until sent.
    password: Option<Vec<u8>>,
    request: Vec<u8>,
    bytes: Vec<u8>,
    /// The address of the reply, unless it is a name.
    bound: Option<SocketAddr>,
}

impl Client {
    /// Requests `destination`, with a user and password if the proxy requires them; both are truncated to 255 bytes.
    pub fn new(destination: &Destination, user: Option<(&str, &str)>) -> Self {
        Self::request(CONNECT, &destination.host, destination.port, user)
    }

    /// Requests a UDP relay for datagrams from `source`, whose unspecified parts are any.
    pub fn associate(source: SocketAddr, user: Option<(&str, &str)>) -> Self {
        Self::request(UDP_ASSOCIATE, &Host::Ip(source.ip()), source.port(), user)
    }

    fn request(command: u8, host: &Host, port: u16, user: Option<(&str, &str)>) -> Self {
        let mut request = vec![VERSION, command, 0];
        put_address(&mut request, host, port);
        let password = user.map(|(user, password)| {
            let mut message = vec![PASSWORD_VERSION];
            put_word(&mut message, user.as_bytes());
            put_word(&mut message, password.as_bytes());
            message
        });
        Self {
            phase: Phase::Method,
            password,
            request,
            bytes: Vec::new(),
            bound: None,
        }
    }

    /// The first message.
    pub fn greeting(&self) -> Vec<u8> {
        match self.password {
            None => vec![VERSION, 1, OPEN],
            Some(_) => vec![VERSION, 2, OPEN, PASSWORD],
        }
    }

    /// Whether the connection was requested; earlier replies are about the user.
    pub const fn has_asked(&self) -> bool {
        matches!(self.phase, Phase::Reply)
    }

    /// The address in the proxy's reply: its end of the connection, or its UDP relay. `None` before the reply, and for a name.
    pub const fn bound(&self) -> Option<SocketAddr> {
        self.bound
    }

    /// Takes bytes of the proxy.
    pub fn push(&mut self, bytes: &[u8]) -> ClientStep {
        self.bytes.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = &bytes[..];
        let answer = match self.phase {
            Phase::Method => self.method(&mut rest),
            Phase::Password => self.welcome(&mut rest),
            Phase::Reply => reply(&mut rest, &mut self.bound),
        };
        match answer {
            None => self.bytes = bytes,
            Some(_) => self.bytes = rest.to_vec(),
        }
        answer.unwrap_or(ClientStep::More)
    }

    fn method(&mut self, rest: &mut &[u8]) -> Option<ClientStep> {
        if take(rest)? != VERSION {
            return Some(ClientStep::Bad("not a SOCKS5 proxy".to_owned()));
        }
        Some(match (take(rest)?, self.password.take()) {
            (OPEN, _) => self.ask(),
            (PASSWORD, Some(password)) => {
                self.phase = Phase::Password;
                ClientStep::Send(password)
            }
            (NO_METHOD, _) => ClientStep::Refused {
                code: NO_METHOD.into(),
                detail: "no common authentication method".to_owned(),
            },
            (other, _) => ClientStep::Bad(format!(
                "the proxy chose method {other}, which was not offered"
            )),
        })
    }

    fn welcome(&mut self, rest: &mut &[u8]) -> Option<ClientStep> {
        if take(rest)? != PASSWORD_VERSION {
            let detail = "the reply to user and password is not version 1";
            return Some(ClientStep::Bad(detail.to_owned()));
        }
        Some(match take(rest)? {
            0 => self.ask(),
            status => ClientStep::Refused {
                code: status.into(),
                detail: "unknown user or wrong password".to_owned(),
            },
        })
    }

    fn ask(&mut self) -> ClientStep {
        self.phase = Phase::Reply;
        ClientStep::Send(std::mem::take(&mut self.request))
    }
}

fn reply(rest: &mut &[u8], bound: &mut Option<SocketAddr>) -> Option<ClientStep> {
    if take(rest)? != VERSION {
        return Some(ClientStep::Bad(
            "the reply is not SOCKS version 5".to_owned(),
        ));
    }
    let (code, _reserved) = (take(rest)?, take(rest)?);
    if code != Reply::Succeeded as u8 {
        let detail = Reply::words(code).to_owned();
        let code = code.into();
        return Some(ClientStep::Refused { code, detail });
    }
    Some(match take_address(rest)? {
        (super::Address::Other(kind), _) => {
            ClientStep::Bad(format!("the reply has an address of unknown type {kind}"))
        }
        (address, port) => {
            if let super::Address::Ip(ip) = address {
                *bound = Some(SocketAddr::new(ip, port));
            }
            ClientStep::Open {
                early: std::mem::take(rest).to_vec(),
            }
        }
    })
}
