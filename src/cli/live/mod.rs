//! `--live`: a full-screen view of a running measurement.
//!
//! Commands update a [`model`] with the interval rows ([`udp`]) or the load generator's progress ([`proxy`]), which they have
//! anyway. A thread ([`screen`]) draws it five times a second ([`draw`]). Nothing is done per datagram or request. Text for stdout is
//! printed after the view.

mod buckets;
mod draw;
mod model;
mod proxy;
mod screen;
mod udp;

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{self, CliError};
use crate::sys::terminal::Keyboard;
use model::{Model, Phase};
pub(super) use proxy::Measurement;
use screen::Screen;
pub(super) use screen::restore;
pub(super) use udp::Start;

/// Interval of the rows of `bench udp --live`, unless `--interval` is given.
pub(super) const INTERVAL: std::time::Duration = std::time::Duration::from_millis(250);

/// The live view. Drop leaves the screen.
pub(super) struct Live {
    model: Arc<Mutex<Model>>,
    _screen: Screen,
}

impl Live {
    /// Shows the view of a command. `failures` names the runs' failures.
    pub(super) fn start(command: &'static str, failures: &'static str) -> Result<Self, CliError> {
        let model = Arc::new(Mutex::new(Model {
            command,
            failures,
            ..Model::default()
        }));
        let screen = Screen::start(model.clone(), has_colours())
            .map_err(|error| CliError::Runtime(format!("cannot show the live view: {error}")))?;
        Ok(Self {
            model,
            _screen: screen,
        })
    }

    fn update(&self, change: impl FnOnce(&mut Model)) {
        change(&mut self.model.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn warming_up(&self) {
        self.update(|model| model.phase = Phase::WarmingUp);
    }
}

/// Whether the view is asked for and possible. If it is asked for and impossible, a line on stderr gives the reason. `stdout` is the
/// option that writes to stdout.
///
/// # Errors
/// A usage error if an option writes to stdout.
pub(super) fn is_possible(asked: bool, stdout: Option<&str>) -> Result<bool, CliError> {
    if !asked {
        return Ok(false);
    }
    if let Some(option) = stdout {
        return Err(CliError::Usage(format!(
            "--live and {option} - cannot share standard output; give {option} a path"
        )));
    }
    match can_draw() {
        Ok(()) => Ok(true),
        Err(why) => {
            error::print_line(&format!("--live is ignored: {why}"));
            Ok(false)
        }
    }
}

/// Why the terminal cannot show the view, if it cannot.
fn can_draw() -> Result<(), &'static str> {
    let name = std::env::var_os("TERM").unwrap_or_default();
    match () {
        () if !std::io::stdout().is_terminal() => Err("standard output is not a terminal"),
        () if Keyboard::is_absent() => Err("there is no controlling terminal"),
        () if name.is_empty() || name == "dumb" => {
            Err("the terminal cannot move its cursor (TERM is dumb or not set)")
        }
        () => Ok(()),
    }
}

/// Whether colours are wanted (<https://no-color.org>).
fn has_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
