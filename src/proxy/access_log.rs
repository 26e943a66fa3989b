//! The access log: a JSON line for each connection that is over, written by a thread of its own.
//!
//! A connection's thread hands its [`ConnectionRecord`] over and goes on; it never formats, writes or waits. What the writer has no room
//! for, and what cannot be written, is counted, and said in the log as soon as that can be: `{"time": ..., "dropped": N}`.

pub mod line;
mod sink;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use thiserror::Error;

use super::record::ConnectionRecord;
use crate::sys::clock::realtime_ns;
use sink::Sink;

/// Connections that may wait to be written: what ends in 100 ms at the highest rates seen. About 1 MiB.
const WAITING: usize = 4_096;

/// How long lines are gathered, so that many are one write and one waking of the writer.
const GATHER: Duration = Duration::from_millis(10);

/// Bytes of lines that are written at once.
const BATCH: usize = 64 << 10;

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To standard output.
    Stdout,
    /// To the end of a file, which is made where it is not there.
    File(PathBuf),
}

impl Target {
    fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
            Self::File(path) => append(path),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// What is wrong with a log. None of it stops the proxy.
#[derive(Debug, Error)]
pub enum Trouble {
    /// Lines cannot be written. Told once, until it is [`Handle::reopen`]ed.
    #[error(
        "the access log cannot be written ({0}); connections go on, and lines that are lost are counted"
    )]
    Write(#[source] io::Error),
    /// The file cannot be opened anew.
    #[error("cannot open {0} anew ({1}); the access log goes on where it was")]
    Reopen(PathBuf, #[source] io::Error),
}

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    handle: Handle,
    /// Nothing comes; it ends with the writer.
    over: Receiver<()>,
}

/// What is logged comes through this, from any thread.
#[derive(Debug, Clone)]
pub struct Handle {
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
}

/// A connection that is over; nothing says to look at what is shared.
type Message = Option<ConnectionRecord>;

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    dropped: AtomicU64,
    reopen: AtomicBool,
    stop: AtomicBool,
}

impl Log {
    /// Opens the log and begins to write it. `tell` is given what goes wrong, by the writer's thread.
    ///
    /// # Errors
    /// As open(2), or no thread could be had.
    pub fn open(target: &Target, tell: impl FnMut(&Trouble) + Send + 'static) -> io::Result<Self> {
        Self::begin(target.open()?, target.clone(), WAITING, tell)
    }

    fn begin(
        file: File,
        target: Target,
        waiting: usize,
        tell: impl FnMut(&Trouble) + Send + 'static,
    ) -> io::Result<Self> {
        let (messages, receiver) = mpsc::sync_channel(waiting);
        let shared = Arc::new(Shared::default());
        let (running, over) = mpsc::channel();
        let mut writer = Writer {
            messages: receiver,
            shared: Arc::clone(&shared),
            sink: Sink::new(file),
            target,
            lines: Vec::new(),
            said: 0,
            silent: false,
            tell,
        };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                writer.run();
                drop::<mpsc::Sender<()>>(running);
            })?;
        Ok(Self {
            handle: Handle { messages, shared },
            over,
        })
    }

    /// What is logged comes through this.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Writes what has come so far and ends, within `patience`: whoever reads the log may have stopped reading. Whether all could be
    /// tried.
    pub fn finish(self, patience: Duration) -> bool {
        self.handle.shared.stop.store(true, Ordering::SeqCst);
        self.handle.look();
        self.over.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Handle {
    /// Logs a connection that is over. Never blocks.
    pub fn record(&self, record: ConnectionRecord) {
        if self.messages.try_send(Some(record)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Goes on in a new file of the same name, for whoever has moved the old one away. Never blocks.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::SeqCst);
        self.look();
    }

    /// Lines that were written.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Connections that ought to have a line and have none.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Where there is no room for it the writer looks anyway, once it has made some.
    fn look(&self) {
        let _ = self.messages.try_send(None);
    }
}

struct Writer<T> {
    messages: Receiver<Message>,
    shared: Arc<Shared>,
    sink: Sink<File>,
    target: Target,
    lines: Vec<u8>,
    /// Of the dropped ones, how many the log says.
    said: u64,
    /// Trouble was told.
    silent: bool,
    tell: T,
}

impl<T: FnMut(&Trouble)> Writer<T> {
    /// Until it is to stop, or nobody is left who could log.
    fn run(&mut self) {
        while let Ok(first) = self.messages.recv() {
            if !self.stops() {
                thread::sleep(GATHER);
            }
            self.take(first);
            self.take_all();
            // Looked at when nothing waits any more: who found no room to say so is seen to have asked.
            if self.shared.reopen.swap(false, Ordering::SeqCst) {
                self.reopen();
            }
            if self.stops() {
                return self.take_all();
            }
        }
    }

    fn take_all(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
        self.flush();
    }

    fn stops(&self) -> bool {
        self.shared.stop.load(Ordering::SeqCst)
    }

    fn take(&mut self, message: Message) {
        if let Some(record) = message {
            line::write(&record, &mut self.lines);
            if self.lines.len() >= BATCH {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed) - self.said;
        if dropped > 0 {
            let mut line = Vec::new();
            line::write_dropped(realtime_ns(), dropped, &mut line);
            match self.sink.write(&line) {
                Ok(()) => self.said += dropped,
                Err(failed) => self.trouble(&Trouble::Write(failed.error)),
            }
        }
        let lines = self.lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        let lost = match self.sink.write(&self.lines) {
            Ok(()) => 0,
            Err(failed) => {
                self.trouble(&Trouble::Write(failed.error));
                failed.lines
            }
        };
        self.shared
            .written
            .fetch_add(lines - lost, Ordering::Relaxed);
        self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
        self.lines.clear();
    }

    fn reopen(&mut self) {
        let Target::File(path) = &self.target else {
            return;
        };
        match append(path) {
            Ok(file) => {
                self.sink = Sink::new(file);
                self.silent = false;
            }
            Err(error) => (self.tell)(&Trouble::Reopen(path.clone(), error)),
        }
    }

    fn trouble(&mut self, trouble: &Trouble) {
        if !self.silent {
            self.silent = true;
            (self.tell)(trouble);
        }
    }
}

#[cfg(test)]
mod tests;
