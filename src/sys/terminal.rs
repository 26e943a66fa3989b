//! The controlling terminal: keys without echo and without waiting for the end of a line (termios(3)).

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::Duration;

const TERMINAL: &str = "/dev/tty";

/// The keyboard of the controlling terminal.
#[derive(Debug)]
pub struct Keyboard {
    terminal: File,
    before: Settings,
}

/// Settings of the controlling terminal.
#[derive(Debug, Clone, Copy)]
pub struct Settings(libc::termios);

impl Keyboard {
    /// Turns line editing and echo off. Unlike in raw mode, Ctrl-C, Ctrl-\ and Ctrl-Z send their signals.
    ///
    /// # Errors
    /// This process has no controlling terminal.
    pub fn open() -> io::Result<Self> {
        let terminal = File::open(TERMINAL)?;
        let mut settings = MaybeUninit::uninit();
        // SAFETY: one writable termios.
        unsafe { syscall!(tcgetattr(terminal.as_raw_fd(), settings.as_mut_ptr()))? };
        // SAFETY: the successful call initialised it.
        let before = Settings(unsafe { settings.assume_init() });
        let mut settings = before;
        settings.0.c_lflag &= !(libc::ICANON | libc::ECHO);
        settings.set(&terminal)?;
        Ok(Self { terminal, before })
    }

    /// Whether this process has no controlling terminal.
    pub fn is_absent() -> bool {
        File::open(TERMINAL).is_err()
    }

    /// The settings before [`Self::open`].
    pub fn before(&self) -> Settings {
        self.before
    }

    /// The next keys, as the bytes that the terminal sends; none if no key is pressed within `limit`, or if a signal comes.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8], limit: Duration) -> io::Result<&'a [u8]> {
        let mut poll = libc::pollfd {
            fd: self.terminal.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let ms = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: one pollfd.
        let ready = match unsafe { syscall!(poll(&mut poll, 1, ms)) } {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            ready => ready?,
        };
        if ready == 0 {
            return Ok(&[]);
        }
        match self.terminal.read(buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(buffer.get(..length).unwrap_or_default()),
        }
    }
}

impl Settings {
    /// Applies the settings to the controlling terminal.
    ///
    /// # Errors
    /// This process has no controlling terminal.
    pub fn apply(&self) -> io::Result<()> {
        self.set(&File::open(TERMINAL)?)
    }

    fn set(&self, terminal: &File) -> io::Result<()> {
        // SAFETY: one termios.
        unsafe { syscall!(tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &self.0))? };
        Ok(())
    }
}
