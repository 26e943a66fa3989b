//! The terminal of the live view: a thread reads keys and draws. The only part that is not pure.

use std::io::{self, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::queue;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::{SigId, flag, low_level};

use super::draw::{self, Theme};
use super::model::{Model, Phase};
use crate::sys::sched_policy;
use crate::sys::terminal::{Keyboard, Settings};

/// Time between two drawings: longer than a reader notices, short against an interval.
const DRAW: Duration = Duration::from_millis(200);

/// Longest wait for a key, and so the delay of the end of the view.
const KEY: Duration = Duration::from_millis(50);

/// The settings of the terminal before the view; `None` while there is no view.
static BEFORE: Mutex<Option<Settings>> = Mutex::new(None);

/// Leaves the view's screen, if there is one: for every end of the program.
pub(in crate::cli) fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(before) = before else {
        return;
    };
    let mut out = io::stdout();
    // A terminal that is gone needs no settings.
    let _ = queue!(out, LeaveAlternateScreen, Show);
    let _ = out.flush();
    let _ = before.apply();
}

fn enter() -> io::Result<Keyboard> {
    let keyboard = Keyboard::open()?;
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(keyboard.before());
    let mut out = io::stdout();
    queue!(out, EnterAlternateScreen, Hide)?;
    out.flush()?;
    Ok(keyboard)
}

fn is_entered() -> bool {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    before.is_some()
}

/// The screen and its thread. Drop ends the thread and restores the terminal.
pub(super) struct Screen {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Screen {
    /// Enters the screen.
    ///
    /// # Errors
    /// There is no controlling terminal, or no thread.
    pub(super) fn start(model: Arc<Mutex<Model>>, colours: bool) -> io::Result<Self> {
        restore_on_panic();
        let over = Arc::new(AtomicBool::new(false));
        let signals = Signals::watch(&over)?;
        let keyboard = enter()?;
        // From here on, drop restores the terminal.
        let mut screen = Self { over, thread: None };
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        let view = View {
            model,
            theme: Theme { colours },
            terminal,
            keyboard: Some(keyboard),
            signals,
            over: screen.over.clone(),
        };
        let thread = thread::Builder::new().name("live".to_owned());
        screen.thread = Some(thread.spawn(move || view.run())?);
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        restore();
    }
}

/// Prints the message of a panic where it can be read.
fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
}

/// The signals that the view takes notice of.
struct Signals {
    /// A signal ends the run. Its own handler does so.
    ended: Arc<AtomicBool>,
    /// Ctrl-Z, or kill(1).
    stop: Arc<AtomicBool>,
    ids: Vec<SigId>,
}

impl Signals {
    /// Once the view is `over`, SIGTSTP stops the program as it would without a view.
    fn watch(over: &Arc<AtomicBool>) -> io::Result<Self> {
        let (ended, stop) = (Arc::default(), Arc::default());
        let mut ids = Vec::new();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            ids.push(flag::register(signal, Arc::clone(&ended))?);
        }
        flag::register_conditional_default(SIGTSTP, over.clone())?;
        ids.push(flag::register(SIGTSTP, Arc::clone(&stop))?);
        Ok(Self { ended, stop, ids })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}

/// The drawing thread.
struct View {
    model: Arc<Mutex<Model>>,
    theme: Theme,
    terminal: Terminal<CrosstermBackend<Stdout>>,
    /// `None` once the terminal is gone.
    keyboard: Option<Keyboard>,
    signals: Signals,
    over: Arc<AtomicBool>,
}

impl View {
    fn run(mut self) {
        // The thread should not preempt a sender or a receiver.
        let _ = sched_policy::set_batch();
        let mut drawn: Option<Instant> = None;
        while !self.over.load(Ordering::Relaxed) && is_entered() {
            if self.signals.stop.swap(false, Ordering::Relaxed) {
                self.suspend();
                drawn = None;
            }
            if drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW) {
                drawn = Some(Instant::now());
                // A terminal that is gone shows nothing.
                let _ = self.draw();
            }
            self.read_keys();
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        // The lock is released before the terminal is written, which may block.
        let mut model = {
            let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
            model.sample();
            model.clone()
        };
        if self.signals.ended.load(Ordering::Relaxed) {
            model.phase = Phase::Stopping;
        }
        let (now, theme) = (Instant::now(), self.theme);
        self.terminal
            .draw(|frame| draw::draw(frame, &model, now, theme))?;
        Ok(())
    }

    /// Waits for keys. q ends the run like Ctrl-C, which sends its signal by itself.
    fn read_keys(&mut self) {
        let Some(keyboard) = &mut self.keyboard else {
            return thread::sleep(KEY);
        };
        match keyboard.read(&mut [0; 64], KEY) {
            Ok(keys) => {
                let quits = keys.iter().any(|key| matches!(key, b'q' | b'Q'));
                // A second signal would end the program without a summary.
                if quits && !self.signals.ended.swap(true, Ordering::Relaxed) {
                    let _ = low_level::raise(SIGINT);
                }
            }
            Err(_) => self.keyboard = None,
        }
    }

    /// Stops the program, as SIGTSTP does without a view, and continues with a new screen.
    fn suspend(&mut self) {
        restore();
        let _ = low_level::emulate_default_handler(SIGTSTP);
        self.keyboard = enter().ok();
        let _ = self.terminal.clear();
    }
}
