//! The signals of `bench proxy serve`, caught from its first moment on.
//!
//! | signal | while it starts | while it serves |
//! |---|---|---|
//! | SIGINT, SIGTERM | ends the program | the first stops the proxy, the second ends the program |
//! | SIGHUP | is kept for later | reopens the log and reloads the lists |
//! | SIGUSR1 | is kept for later | reopens the log |

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals as Source;
use signal_hook::low_level::emulate_default_handler;

use super::super::interrupt::end;
use crate::proxy::access_log::Handle;
use crate::sys::unix::SocketFile;

/// Signals that are caught.
pub(super) struct Signals {
    state: Arc<Mutex<State>>,
    /// A message for each SIGHUP, of which those in a row are one.
    hangups: Receiver<()>,
}

enum State {
    Starting {
        /// The log is to be reopened once there is one.
        reopen: bool,
    },
    Serving {
        log: Option<Handle>,
        stop: Box<dyn Fn() + Send>,
        files: Arc<Vec<SocketFile>>,
        stopping: bool,
    },
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// As sigaction(2), or no thread could be had.
    pub(super) fn catch() -> io::Result<Self> {
        let mut source = Source::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])?;
        let state = Arc::new(Mutex::new(State::Starting { reopen: false }));
        let (hangup, hangups) = mpsc::sync_channel(1);
        let shared = Arc::clone(&state);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in source.forever() {
                    shared
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .take(signal);
                    if signal == SIGHUP {
                        // Where one waits already, the reload it asks for is yet to begin.
                        let _ = hangup.try_send(());
                    }
                }
            })?;
        Ok(Self { state, hangups })
    }

    /// The proxy serves from now on: `stop` ends it, `log` is its log, and `files` are removed where the program ends at once.
    /// What was kept is done. Gives the messages of SIGHUP.
    pub(super) fn serve(
        self,
        log: Option<Handle>,
        stop: impl Fn() + Send + 'static,
        files: Arc<Vec<SocketFile>>,
    ) -> Receiver<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let (State::Starting { reopen: true }, Some(log)) = (&*state, &log) {
            log.reopen();
        }
        *state = State::Serving {
            log,
            stop: Box::new(stop),
            files,
            stopping: false,
        };
        drop(state);
        self.hangups
    }
}

impl State {
    fn take(&mut self, signal: i32) {
        let ends = signal == SIGINT || signal == SIGTERM;
        match self {
            // As if it were not caught. Where that cannot be done, the program goes on and the next one tries again.
            Self::Starting { .. } if ends => drop(emulate_default_handler(signal)),
            Self::Starting { reopen } => *reopen = true,
            Self::Serving {
                stopping: true,
                files,
                ..
            } if ends => {
                files.iter().for_each(SocketFile::remove);
                end();
            }
            Self::Serving { stop, stopping, .. } if ends => {
                *stopping = true;
                stop();
            }
            Self::Serving { log, .. } => log.iter().for_each(Handle::reopen),
        }
    }
}
