//! How a control connection begins: with a key, each side proves that it has it; then the client says what it wants. Pure.

use std::io;

use thiserror::Error;

use crate::udp::control::key::{Key, Nonce, Role};
use crate::udp::wire::control::{Hello, Preface, Reply, Request, Resume, VERSION};

/// The client's side of a greeting.
#[derive(Debug)]
pub struct ClientGreeting {
    key: Option<(Key, Nonce)>,
    /// The message that the greeting leads to: [`Request::Hello`] or [`Request::Resume`].
    opening: Request,
    /// The server's nonce, once it has challenged.
    challenge: Option<Nonce>,
    /// Whether the server has proved that it has the key.
    proven: bool,
}

/// Why a greeting failed at the client. One sentence, from the server's name on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GreetingError {
    /// The server refused, and gave a reason.
    #[error("refuses the run: {0}")]
    Refused(String),
    /// Its proof does not hold.
    #[error("does not have the key in --key-file")]
    WrongKey,
    /// It takes the session up without a proof.
    #[error("did not prove that it has the key in --key-file")]
    Unproven,
    /// It wants a proof, and there is no key.
    #[error("asks for a key; name the file that holds it with --key-file")]
    NoKey,
    /// A message that has no place here.
    #[error("answered out of turn; is that a `bench serve` of the same version?")]
    OutOfTurn,
}

/// What a client does next.
#[derive(Debug)]
pub enum ClientStep {
    /// Send these.
    Send(Vec<Request>),
    /// Wait for the next reply.
    Wait,
    /// The greeting is over with this reply to the opening message.
    Over(Reply),
}

impl ClientGreeting {
    /// One that leads to `opening`.
    ///
    /// # Errors
    /// When the system has no random numbers.
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

    /// Takes the next reply in.
    ///
    /// # Errors
    /// [`GreetingError`]; then the connection is of no use.
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

/// The server's side of a greeting. It reads no more of a client without a proof than its version and its nonce.
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

/// What a client's message asks of the server.
#[derive(Debug)]
pub enum ServerStep {
    /// Send this and wait for the next message.
    Send(Reply),
    /// Set a session up.
    Hello(Hello),
    /// Take a session up again.
    Resume(Resume),
}

impl ServerGreeting {
    /// Of a server with this key, if it has one.
    pub fn new(key: Option<Key>) -> Self {
        Self {
            key,
            state: State::Start,
        }
    }

    /// Takes a message in.
    ///
    /// # Errors
    /// A sentence for the client; the connection ends with it.
    pub fn receive(&mut self, json: &[u8]) -> Result<ServerStep, String> {
        let malformed = |error| {
            format!("this is a wirebench server, and the first message makes no sense: {error}")
        };
        if matches!(self.state, State::Start) {
            let preface: Preface = serde_json::from_slice(json).map_err(malformed)?;
            if preface.version != VERSION {
                return Err(format!(
                    "the client has protocol version {} and the server has version {VERSION}; install the same wirebench on both",
                    preface.version
                ));
            }
        }
        let needs_proof = self.key.is_some() && !matches!(self.state, State::Proven);
        // Only the small messages of a proof are read before it.
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
                    .map_err(|error| format!("the server has no random numbers: {error}"))?;
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
                _ => Err("the key is not this server's; compare the files named with --key-file on both hosts".to_owned()),
            },
            (Request::Hello(_) | Request::Resume(_), _) if needs_proof => Err(needs_key()),
            (Request::Hello(hello), _) => Ok(ServerStep::Hello(hello)),
            (Request::Resume(resume), _) => Ok(ServerStep::Resume(resume)),
            _ => Err("this is a wirebench server, and the first message must be a hello".to_owned()),
        }
    }
}

fn needs_key() -> String {
    "this server needs a key; name the file that holds it with --key-file".to_owned()
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

    /// Plays both sides until one is done.
    fn play(client: Option<&[u8]>, server: Option<&[u8]>) -> Result<Reply, GreetingError> {
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
    fn the_same_key_or_none_on_both_sides_is_let_in() {
        for key in [None, Some(&b"0123456789abcdef"[..])] {
            assert!(matches!(play(key, key), Ok(Reply::Resumed { received: 7 })));
        }
    }

    #[test]
    fn any_other_pair_is_refused_by_name() {
        let key = Some(&b"0123456789abcdef"[..]);
        for (client, server, words) in [
            (key, Some(&b"another key 1234"[..]), "compare the files"),
            (key, None, "has no key"),
            (None, key, "needs a key"),
        ] {
            let error = play(client, server).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_server_without_the_key_is_found_out() {
        let key = Key::new(b"0123456789abcdef");
        let server = Nonce::random().unwrap();
        let mut greeting = ClientGreeting::new(Some(&key), resume()).unwrap();
        // It takes the client in without a proof.
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
    fn nothing_is_read_before_the_proof() {
        let mut server = ServerGreeting::new(Some(Key::new(b"0123456789abcdef")));
        let long = format!(
            r#"{{"version":{VERSION},"type":"greet","nonce":"{}"}}"#,
            "0".repeat(2_000)
        );
        let error = server.receive(long.as_bytes()).unwrap_err();
        assert!(error.contains("needs a key"), "{error}");
    }
}
