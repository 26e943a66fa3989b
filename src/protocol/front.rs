//! One connection's request, of whichever kind its first byte says.

use std::sync::Arc;

use super::request::{Kind, Outcome, Refusal, Request, Settings, Step};

/// Takes a connection's bytes as they come, until they are a request or cannot become one.
#[derive(Debug)]
pub struct FrontEnd {
    settings: Arc<Settings>,
    over: bool,
}

impl FrontEnd {
    /// The front end of a new connection.
    pub fn new(settings: &Arc<Settings>) -> Self {
        Self {
            settings: Arc::clone(settings),
            over: false,
        }
    }

    /// Takes the next bytes. Push nothing once at the start: a forwarded connection is ready before its client
    /// says anything. After [`Step::Ready`] and [`Step::Refuse`] nothing more is taken.
    pub fn push(&mut self, bytes: &[u8]) -> Step {
        if self.over {
            return Step::More;
        }
        if let Some(destination) = &self.settings.forward {
            self.over = true;
            return Step::Ready(Request {
                kind: Kind::Forward,
                destination: destination.clone(),
                upstream: bytes.to_vec(),
                whole: false,
            });
        }
        Step::More
    }

    /// The client will send nothing more.
    pub fn eof(&mut self) -> Step {
        self.over = true;
        Step::Refuse {
            say: Vec::new(),
            why: Refusal::Closed,
        }
    }

    /// What the client is told once it is known what became of its request, in its own protocol.
    pub fn outcome(&self, outcome: Outcome) -> Vec<u8> {
        let _ = outcome.detail();
        Vec::new()
    }
}
