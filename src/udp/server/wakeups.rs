//! Wakes the server's event loop for a session.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use mio::{Token, Waker};

use crate::udp::Notify;

/// The sessions whose threads have events for the loop.
pub(super) struct Wakeups {
    waker: Arc<Waker>,
    sessions: Mutex<Vec<Token>>,
}

impl Wakeups {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Self {
            waker,
            sessions: Mutex::default(),
        }
    }

    /// Wakes the loop for a session.
    pub(super) fn notify(self: &Arc<Self>, session: Token) -> Notify {
        let wakeups = self.clone();
        Arc::new(move || wakeups.wake(session))
    }

    fn wake(&self, session: Token) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.push(session);
        // An earlier session has woken the loop already.
        let first = sessions.len() == 1;
        drop(sessions);
        if first {
            let _ = self.waker.wake();
        }
    }

    /// The sessions since the last call.
    pub(super) fn take(&self) -> Vec<Token> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *sessions)
    }
}
