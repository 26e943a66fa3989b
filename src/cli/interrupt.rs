//! Ctrl-C and SIGTERM: the first ends the run and still reports it, the second ends the program.

use std::io;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Exit code of a program ended by the user, as shells know it: 128 + SIGINT.
pub(super) const ENDED_BY_USER: i32 = 130;

/// Calls `first` at the first signal. From the second on, ends the program at once.
pub(super) fn on_signal(first: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut signals = signals.forever();
            if signals.next().is_some() {
                first();
            }
            if signals.next().is_some() {
                std::process::exit(ENDED_BY_USER);
            }
        })?;
    Ok(())
}
