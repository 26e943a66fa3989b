//! The server's side: greeting, password if required, request.

use super::super::request::{Associate, Kind, Outcome, Refusal, Request, Settings, Step};
use super::{
    ASSOCIATE, Address, CONNECT, NO_METHOD, OPEN, PASSWORD, PASSWORD_VERSION, Reply, VERSION,
    destination, take, take_address, take_word, unknown_type,
};
use crate::destination::Destination;

/// The expected message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Greeting,
    Password,
    Request,
}

/// Reads the messages of one client: at most three, of at most 513 bytes each.
#[derive(Debug, Default)]
pub(in super::super) struct Reader {
    phase: Phase,
    bytes: Vec<u8>,
    user: Option<Vec<u8>>,
}

impl Reader {
    /// The user that the client named, valid or not.
    pub(in super::super) fn user(&self) -> Option<&[u8]> {
        self.user.as_deref()
    }

    /// Takes the next bytes.
    pub(in super::super) fn push(&mut self, bytes: &[u8], settings: &Settings) -> Step {
        self.bytes.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = &bytes[..];
        let step = match self.phase {
            Phase::Greeting => self.greeting(&mut rest, settings),
            Phase::Password => self.password(&mut rest, settings),
            Phase::Request => self.request(&mut rest, settings),
        };
        match step {
            None => self.bytes = bytes,
            Some(_) => self.bytes = rest.to_vec(),
        }
        step.unwrap_or(Step::More)
    }

    fn greeting(&mut self, rest: &mut &[u8], settings: &Settings) -> Option<Step> {
        if take(rest)? != VERSION {
            return Some(self.bad("the greeting is not SOCKS version 5"));
        }
        let methods = take_word(rest)?;
        let (method, phase) = match settings.credentials {
            None => (OPEN, Phase::Request),
            Some(_) => (PASSWORD, Phase::Password),
        };
        if !methods.contains(&method) {
            let detail = match phase {
                Phase::Password => {
                    "the client does not offer user and password, which this proxy requires"
                }
                _ => "the client offers no supported authentication method",
            };
            let reason = Refusal::Unauthenticated(detail.to_owned());
            let reply = self.failure(Reply::General);
            return Some(Step::Refuse { reply, reason });
        }
        self.phase = phase;
        Some(Step::Reply(vec![VERSION, method]))
    }

    fn password(&mut self, rest: &mut &[u8], settings: &Settings) -> Option<Step> {
        if take(rest)? != PASSWORD_VERSION {
            return Some(self.bad("the user and password message is not version 1"));
        }
        let (user, password) = (take_word(rest)?, take_word(rest)?);
        self.user = Some(user.to_vec());
        let credentials = settings.credentials.as_ref();
        if !credentials.is_some_and(|known| known.allow(user, password)) {
            let detail = "unknown user or wrong password";
            let reason = Refusal::Unauthenticated(detail.to_owned());
            let reply = self.failure(Reply::General);
            return Some(Step::Refuse { reply, reason });
        }
        self.phase = Phase::Request;
        Some(Step::Reply(vec![PASSWORD_VERSION, 0]))
    }

    fn request(&mut self, rest: &mut &[u8], settings: &Settings) -> Option<Step> {
        if take(rest)? != VERSION {
            return Some(self.bad("the request is not SOCKS version 5"));
        }
        let (command, reserved) = (take(rest)?, take(rest)?);
        // The whole message is read before it is refused: unread bytes would reset the connection and could discard the reply.
        let (address, port) = take_address(rest)?;
        if command == ASSOCIATE && settings.associate {
            return Some(match reserved {
                0 => self.associate(address, port),
                _ => self.bad(&not_reserved(reserved)),
            });
        }
        let commands = match settings.associate {
            true => "1 (CONNECT) and 3 (UDP ASSOCIATE)",
            false => "1 (CONNECT)",
        };
        Some(match asked(command, commands, reserved, address, port) {
            Ok(destination) => Step::Ready(Request {
                kind: Kind::Socks5,
                destination,
                upstream: std::mem::take(rest).to_vec(),
                whole: false,
            }),
            Err((reply, detail)) => Step::Refuse {
                reply: self.failure(reply),
                reason: Refusal::BadRequest(detail),
            },
        })
    }

    /// The address is where the client's datagrams come from, so any port and name is valid.
    fn associate(&self, address: Address, port: u16) -> Step {
        let ip = match address {
            Address::Ip(ip) => (!ip.is_unspecified()).then_some(ip.to_canonical()),
            Address::Name(_) => None,
            Address::Other(kind) => {
                return Step::Refuse {
                    reply: self.failure(Reply::NoSuchAddress),
                    reason: Refusal::BadRequest(unknown_type(kind)),
                };
            }
        };
        Step::Associate(Associate { ip, port })
    }

    /// Refuses an invalid message.
    pub(in super::super) fn bad(&self, detail: &str) -> Step {
        Step::Refuse {
            reply: self.failure(Reply::General),
            reason: Refusal::BadRequest(detail.to_owned()),
        }
    }

    /// The reply to the client.
    pub(in super::super) fn outcome(&self, outcome: &Outcome) -> Vec<u8> {
        match outcome {
            Outcome::Connected(local) => Reply::Succeeded.encode(Some(*local)),
            failure => self.failure(Reply::of(failure)),
        }
    }

    /// A failure in the format of the expected reply. Only the reply to a request has a code.
    fn failure(&self, reply: Reply) -> Vec<u8> {
        match self.phase {
            Phase::Greeting => vec![VERSION, NO_METHOD],
            Phase::Password => vec![PASSWORD_VERSION, 1],
            Phase::Request => reply.encode(None),
        }
    }
}

fn not_reserved(byte: u8) -> String {
    format!("the reserved byte is {byte} instead of 0")
}

fn asked(
    command: u8,
    commands: &str,
    reserved: u8,
    address: Address,
    port: u16,
) -> Result<Destination, (Reply, String)> {
    if command != CONNECT {
        let detail = format!("command {command} is not supported, only {commands}");
        return Err((Reply::NoSuchCommand, detail));
    }
    if reserved != 0 {
        return Err((Reply::General, not_reserved(reserved)));
    }
    destination(address, port)
}
