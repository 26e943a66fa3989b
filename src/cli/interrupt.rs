//! SIGINT, SIGTERM and SIGHUP: the first signal ends the run and reports it, the second ends the program.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{error, live};
use crate::report::store::partial;
use crate::sys::signal;

/// Exit code of a program ended by the user, by the convention of shells: 128 + SIGINT.
const ENDED_BY_USER: i32 = 130;

/// A closing terminal sends SIGHUP more than once. A SIGHUP this soon after the first signal is ignored.
const SAME_HANGUP: Duration = Duration::from_secs(1);

/// Calls `first` at the first SIGINT, SIGTERM or SIGHUP (unless ignored). The second signal ends the program.
///
/// # Errors
/// The signal thread cannot be started.
pub(super) fn on_signal_or_hangup(first: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(with_hangup())?;
    on_thread(move || {
        let mut since = None;
        for signal in signals.forever() {
            match since {
                None => {
                    since = Some(Instant::now());
                    first();
                }
                Some(since) if signal == SIGHUP && since.elapsed() < SAME_HANGUP => {}
                Some(_) => end(),
            }
        }
    })
}

/// Ends the program at the first signal and removes partial files. For commands that measure nothing.
///
/// # Errors
/// As [`on_signal_or_hangup`].
pub(super) fn exit_on_signal() -> io::Result<()> {
    let mut signals = Signals::new(with_hangup())?;
    on_thread(move || signals.forever().take(1).for_each(|_| end()))
}

/// The handled signals, without SIGHUP if nohup(1) ignores it.
fn with_hangup() -> &'static [i32] {
    match signal::is_ignored(SIGHUP) {
        true => &[SIGINT, SIGTERM],
        false => &[SIGINT, SIGTERM, SIGHUP],
    }
}

fn on_thread(act: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(act).map(drop)
}

/// Restores the terminal, removes partial files and ends the program.
pub(super) fn end() {
    live::restore();
    partial::remove_all();
    error::report_signal(ENDED_BY_USER);
    std::process::exit(ENDED_BY_USER);
}
