//! Ctrl-C, SIGTERM and SIGHUP: the first ends the run and still reports it, the second ends the program.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::failure;
use crate::report::store::partial;
use crate::sys::signal;

/// Exit code of a program ended by the user, as shells know it: 128 + SIGINT.
const ENDED_BY_USER: i32 = 130;

/// A terminal that closes sends SIGHUP more than once. So soon after the first signal another means nothing new.
const SAME_HANGUP: Duration = Duration::from_secs(1);

/// Calls `first` at the first SIGINT, SIGTERM, or SIGHUP unless that is ignored. At the second the program ends at once.
///
/// # Errors
/// No thread can be had for it.
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

/// Has a program that measures nothing end at the first signal, with nothing half done left behind.
///
/// # Errors
/// As [`on_signal_or_hangup`].
pub(super) fn tidily() -> io::Result<()> {
    let mut signals = Signals::new(with_hangup())?;
    on_thread(move || signals.forever().take(1).for_each(|_| end()))
}

/// Those that end a program; without SIGHUP where nohup(1) has it ignored.
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

/// Ends the program at once, with nothing half done left behind.
pub(super) fn end() {
    partial::remove_all();
    failure::ended(ENDED_BY_USER);
    std::process::exit(ENDED_BY_USER);
}
