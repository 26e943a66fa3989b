//! Signals of `bench proxy serve`, handled from the start.
//!
//! | signal | while it starts | while it serves |
//! |---|---|---|
//! | SIGINT, SIGTERM | ends the program | the first stops the proxy, the second ends the program |
//! | SIGHUP | deferred | reopens the log and reloads the lists |
//! | SIGUSR1 | deferred | reopens the log |

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

/// Handled signals.
pub(super) struct Signals {
    state: Arc<Mutex<State>>,
    /// A message for each SIGHUP; several in a row are one message.
    hangups: Receiver<()>,
}

enum State {
    Starting {
        /// Whether to reopen the log once it is open.
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
    /// Installs the handlers.
    ///
    /// # Errors
    /// As sigaction(2), or the thread cannot be started.
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
                        // If a message is pending, its reload has not begun.
                        let _ = hangup.try_send(());
                    }
                }
            })?;
        Ok(Self { state, hangups })
    }

    /// The proxy now serves: `stop` stops it, `log` is its log, and `files` are removed if the program is ended at once. Performs
    /// deferred actions and returns the messages of SIGHUP.
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
            // Default action. If it cannot be done, the next signal tries again.
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
