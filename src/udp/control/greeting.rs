//! The greeting of a control connection: with a key, both sides prove that they have it; then the client opens or resumes a session.
//! Pure.

use std::io;

use thiserror::Error;

use crate::udp::control::key::{Key, Nonce, Role};
use crate::udp::wire::VERSION;
use crate::udp::wire::control::{Hello, Preface, Reply, Request, Resume};
use crate::udp::wire::fleet::{FleetJoin, FleetRequest};

/// The client's side of a greeting.
#[derive(Debug)]
pub struct ClientGreeting {
    key: Option<(Key, Nonce)>,
    /// The message after the proof: [`Request::Hello`] or [`Request::Resume`].
    opening: Request,
    /// The server's nonce, after its challenge.
    challenge: Option<Nonce>,
    /// Whether the server has proved that it has the key.
    proven: bool,
}

/// Why a greeting failed at the client: the predicate of a sentence about the server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GreetingError {
    /// The server refused the session.
    #[error("refuses the run: {0}")]
    Refused(String),
    /// The server's proof is invalid.
    #[error("does not have the key in --key-file")]
    WrongKey,
    /// The server opened the session without a proof.
    #[error("did not prove that it has the key in --key-file")]
    Unproven,
    /// The server requires a key, and the client has none.
    #[error("requires a key; name the key file with --key-file")]
    NoKey,
    /// An unexpected message.
    #[error("sent an unexpected message; is it a `bench serve` of the same version?")]
    OutOfTurn,
}

/// The next step of a client.
#[derive(Debug)]
pub enum ClientStep {
    /// Send these messages.
    Send(Vec<Request>),
    /// Wait for the next reply.
    Wait,
    /// The greeting ended with this reply to the opening message.
    Over(Reply),
}

impl ClientGreeting {
    /// A greeting that ends with `opening`.
    ///
    /// # Errors
    /// When no random numbers can be read.
    pub fn new(key: Option<&Key>, opening: Request) -> io::Result<Self> {
        let key = match key {
            Some(key) => Some((key.clone(), Nonce::random()?)),
            None => None,
        };
        Ok(Self {
            key,
            opening,
            challenge: None,
            proven: false,
        })
    }

    /// The first message.
    pub fn first(&self) -> Request {
        match &self.key {
            None => self.opening.clone(),
            Some((_, nonce)) => Request::Greet {
                version: VERSION,
                nonce: nonce.to_hex(),
            },
        }
    }

    /// Processes the next reply.
    ///
    /// # Errors
    /// [`GreetingError`]; the connection cannot be used any more.
    pub fn receive(&mut self, reply: Reply) -> Result<ClientStep, GreetingError> {
        match (reply, &self.key) {
            (Reply::Refused { reason }, _) => Err(GreetingError::Refused(reason)),
            (Reply::Challenge { .. }, None) => Err(GreetingError::NoKey),
            (Reply::Challenge { nonce }, Some((key, client))) if self.challenge.is_none() => {
                let server = Nonce::from_hex(&nonce).ok_or(GreetingError::OutOfTurn)?;
                self.challenge = Some(server);
                let mac = key.prove(Role::Client, *client, server);
                Ok(ClientStep::Send(vec![
                    Request::Proof { mac },
                    self.opening.clone(),
                ]))
            }
            (Reply::Proven { mac }, Some((key, client))) => match self.challenge {
                Some(server) if key.is_proof(&mac, Role::Server, *client, server) => {
                    self.proven = true;
                    Ok(ClientStep::Wait)
                }
                _ => Err(GreetingError::WrongKey),
            },
            (reply @ (Reply::Welcome(_) | Reply::Resumed { .. }), key) => {
                if key.is_some() && !self.proven {
                    return Err(GreetingError::Unproven);
                }
                Ok(ClientStep::Over(reply))
            }
            _ => Err(GreetingError::OutOfTurn),
        }
    }
}

/// The server's side of a greeting. Before the client's proof it reads the version and the nonce only.
#[derive(Debug)]
pub struct ServerGreeting {
    key: Option<Key>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Start,
    Challenged { client: Nonce, server: Nonce },
    Proven,
}

/// The next step of a server.
#[derive(Debug)]
pub enum ServerStep {
    /// Send this message, and wait for the next request.
    Send(Reply),
    /// Open a session.
    Hello(Hello),
    /// Resume a session.
    Resume(Resume),
    /// Add a rank to a fleet.
    Fleet(FleetJoin),
}

impl ServerGreeting {
    /// The greeting of a server with this key, if it has one.
    pub fn new(key: Option<Key>) -> Self {
        Self {
            key,
            state: State::Start,
        }
    }

    /// Processes the next request.
    ///
    /// # Errors
    /// A sentence for the client, after which the connection ends.
    pub fn receive(&mut self, json: &[u8]) -> Result<ServerStep, String> {
        let malformed = |error| {
            format!("this is a wirebench server, and the first message is invalid: {error}")
        };
        if matches!(self.state, State::Start) {
            let preface: Preface = serde_json::from_slice(json).map_err(malformed)?;
            if preface.version != VERSION {
                return Err(format!(
                    "the client has protocol version {} and the server has version {VERSION}; install the same wirebench on both hosts",
                    preface.version
                ));
            }
        }
        let needs_proof = self.key.is_some() && !matches!(self.state, State::Proven);
        // Only the short messages of a proof are read before it.
        if needs_proof && json.len() > 1_024 {
            return Err(needs_key());
        }
        match (serde_json::from_slice(json).map_err(malformed)?, self.state) {
            (Request::Greet { nonce, .. }, State::Start) => {
                if self.key.is_none() {
                    return Err("this server has no key; leave out --key-file, or restart the server with --key-file".to_owned());
                }
                let client = Nonce::from_hex(&nonce)
                    .ok_or("this is a wirebench server, and the nonce is malformed")?;
                let server = Nonce::random()
                    .map_err(|error| format!("the server cannot read random numbers: {error}"))?;
                self.state = State::Challenged { client, server };
                Ok(ServerStep::Send(Reply::Challenge {
                    nonce: server.to_hex(),
                }))
            }
            (Request::Proof { mac }, State::Challenged { client, server }) => match &self.key {
                Some(key) if key.is_proof(&mac, Role::Client, client, server) => {
                    self.state = State::Proven;
                    Ok(ServerStep::Send(Reply::Proven {
                        mac: key.prove(Role::Server, client, server),
                    }))
                }
                _ => Err("the client's key differs from the server's; compare the files named with --key-file on both hosts".to_owned()),
            },
            (Request::Hello(_) | Request::Resume(_) | Request::Fleet(_), _) if needs_proof => {
                Err(needs_key())
            }
            (Request::Hello(hello), _) => Ok(ServerStep::Hello(hello)),
            (Request::Resume(resume), _) => Ok(ServerStep::Resume(resume)),
            (Request::Fleet(FleetRequest::Join(join)), _) => Ok(ServerStep::Fleet(join)),
            _ => Err("this is a wirebench server, and the first message must be a hello".to_owned()),
        }
    }
}

fn needs_key() -> String {
    "this server requires a key; name the key file with --key-file".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resume() -> Request {
        Request::Resume(Resume {
            version: VERSION,
            session: 7,
            received: 3,
        })
    }

    /// Runs both sides of a greeting.
    fn greet(client: Option<&[u8]>, server: Option<&[u8]>) -> Result<Reply, GreetingError> {
        let mut client = ClientGreeting::new(client.map(Key::new).as_ref(), resume()).unwrap();
        let mut server = ServerGreeting::new(server.map(Key::new));
        let mut requests = vec![client.first()];
        loop {
            let mut replies = Vec::new();
            for request in requests.drain(..) {
                let json = serde_json::to_vec(&request).unwrap();
                replies.push(match server.receive(&json) {
                    Ok(ServerStep::Send(reply)) => reply,
                    Ok(ServerStep::Resume(resume)) => Reply::Resumed {
                        received: resume.session,
                    },
                    Ok(ServerStep::Hello(_)) => unreachable!(),
                    Ok(ServerStep::Fleet(_)) => panic!("no rank joined"),
                    Err(reason) => Reply::Refused { reason },
                });
            }
            for reply in replies {
                match client.receive(reply)? {
                    ClientStep::Send(more) => requests = more,
                    ClientStep::Wait => {}
                    ClientStep::Over(reply) => return Ok(reply),
                }
            }
        }
    }

    #[test]
    fn equal_keys_or_none_on_both_sides_are_accepted() {
        for key in [None, Some(&b"0123456789abcdef"[..])] {
            assert!(matches!(
                greet(key, key),
                Ok(Reply::Resumed { received: 7 })
            ));
        }
    }

    #[test]
    fn any_other_pair_of_keys_is_refused_with_the_reason() {
        let key = Some(&b"0123456789abcdef"[..]);
        for (client, server, words) in [
            (key, Some(&b"another key 1234"[..]), "compare the files"),
            (key, None, "has no key"),
            (None, key, "requires a key"),
        ] {
            let error = greet(client, server).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_server_without_the_key_is_refused() {
        let key = Key::new(b"0123456789abcdef");
        let server = Nonce::random().unwrap();
        let mut greeting = ClientGreeting::new(Some(&key), resume()).unwrap();
        // It accepts the client without a proof.
        let welcome = Reply::Resumed { received: 0 };
        assert_eq!(
            greeting.receive(welcome).unwrap_err(),
            GreetingError::Unproven
        );
        let challenge = Reply::Challenge {
            nonce: server.to_hex(),
        };
        let sent = match greeting.receive(challenge.clone()).unwrap() {
            ClientStep::Send(sent) => sent,
            other => panic!("{other:?}"),
        };
        // It sends the client's own proof back.
        let Request::Proof { mac } = sent[0].clone() else {
            panic!("{sent:?}")
        };
        assert_eq!(
            greeting.receive(Reply::Proven { mac }).unwrap_err(),
            GreetingError::WrongKey
        );
        assert_eq!(
            greeting.receive(challenge).unwrap_err(),
            GreetingError::OutOfTurn
        );
    }

    #[test]
    fn no_long_message_is_read_before_the_proof() {
        let mut server = ServerGreeting::new(Some(Key::new(b"0123456789abcdef")));
        let long = format!(
            r#"{{"version":{VERSION},"type":"greet","nonce":"{}"}}"#,
            "0".repeat(2_000)
        );
        let error = server.receive(long.as_bytes()).unwrap_err();
        assert!(error.contains("requires a key"), "{error}");
    }
}
