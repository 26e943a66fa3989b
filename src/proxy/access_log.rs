//! The access log: one JSON line for each closed connection, flow and association, written by a separate thread.
//!
//! A connection's thread sends a [`ConnectionRecord`], a flow's a [`FlowRecord`], and continues. It never formats, writes or waits. Lines for which
//! there is no room and lines that cannot be written are counted, and the log contains the count as soon as possible:
//! `{"time": ..., "dropped": N}`.

pub mod line;
mod sink;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use thiserror::Error;

use super::associations::record::AssociationRecord;
use super::datagrams::record::FlowRecord;
use super::record::ConnectionRecord;
use crate::sys::clock::realtime_ns;
use crate::sys::reopen;
use sink::Sink;

/// Records that may wait to be written: the connections of 100 ms at the highest rates measured, about 1 MiB.
const QUEUE: usize = 4_096;

/// How long lines are collected, so that many need one write and one wake-up of the writer.
const COLLECT: Duration = Duration::from_millis(10);

/// Bytes of one write.
const BATCH: usize = 64 << 10;

/// The target of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// The end of a file, which is created if it does not exist.
    File(PathBuf),
}

impl Target {
    fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
            Self::File(path) => reopen::for_appending(path),
        }
    }
}

/// An error of a log. None of them stops the proxy.
#[derive(Debug, Error)]
pub enum LogError {
    /// Lines cannot be written. Reported once, until [`Handle::reopen`].
    #[error(
        "the access log cannot be written ({0}); connections continue, and lost lines are counted"
    )]
    Write(#[source] io::Error),
    /// The file cannot be reopened.
    #[error("cannot reopen {0} ({1}); the access log continues in the old file")]
    Reopen(PathBuf, #[source] io::Error),
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    handle: Handle,
    /// Disconnected when the writer has ended.
    over: Receiver<()>,
}

/// Sends records to the log from any thread.
#[derive(Debug, Clone)]
pub struct Handle {
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
}

enum Message {
    Connection(ConnectionRecord),
    Flow(FlowRecord),
    Association(Box<AssociationRecord>),
    /// Look at the shared flags.
    Look,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    dropped: AtomicU64,
    reopen: AtomicBool,
    stop: AtomicBool,
}

impl Log {
    /// Opens the log and starts its writer, which passes errors to `on_error`.
    ///
    /// # Errors
    /// As open(2) and pthread_create(3).
    pub fn open(
        target: &Target,
        on_error: impl FnMut(&LogError) + Send + 'static,
    ) -> io::Result<Self> {
        Self::begin(target.open()?, target.clone(), QUEUE, on_error)
    }

    fn begin(
        file: File,
        target: Target,
        waiting: usize,
        on_error: impl FnMut(&LogError) + Send + 'static,
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
            reported: 0,
            is_reported: false,
            on_error,
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

    /// A handle to send records.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Writes all records received so far and ends, within `patience`, as the reader of the log may have stopped reading.
    /// Whether all were attempted.
    pub fn finish(self, patience: Duration) -> bool {
        self.handle.shared.stop.store(true, Ordering::SeqCst);
        self.handle.look();
        self.over.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Handle {
    /// Logs a closed connection. Never blocks.
    pub fn record(&self, record: ConnectionRecord) {
        self.send(Message::Connection(record));
    }

    /// Logs a closed flow. Never blocks.
    pub fn record_flow(&self, record: FlowRecord) {
        self.send(Message::Flow(record));
    }

    /// Logs a closed association. Never blocks.
    pub fn record_association(&self, record: AssociationRecord) {
        self.send(Message::Association(Box::new(record)));
    }

    fn send(&self, message: Message) {
        if self.messages.try_send(message).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reopens the file by its name, after it was renamed. Never blocks.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::SeqCst);
        self.look();
    }

    /// Lines written.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Connections and flows whose line is missing.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// If there is no room for this message, the writer looks anyway once it has made room.
    fn look(&self) {
        let _ = self.messages.try_send(Message::Look);
    }
}

struct Writer<T> {
    messages: Receiver<Message>,
    shared: Arc<Shared>,
    sink: Sink<File>,
    target: Target,
    lines: Vec<u8>,
    /// Dropped lines that the log contains as a count.
    reported: u64,
    /// An error was reported.
    is_reported: bool,
    on_error: T,
}

impl<T: FnMut(&LogError)> Writer<T> {
    /// Until it is to stop, or no handle is left.
    fn run(&mut self) {
        while let Ok(first) = self.messages.recv() {
            if !self.is_stopping() {
                thread::sleep(COLLECT);
            }
            self.take(first);
            self.take_all();
            // Read when no record waits, so that a request whose message found no room is noticed.
            if self.shared.reopen.swap(false, Ordering::SeqCst) {
                self.reopen();
            }
            if self.is_stopping() {
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

    fn is_stopping(&self) -> bool {
        self.shared.stop.load(Ordering::SeqCst)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Connection(record) => line::write(&record, &mut self.lines),
            Message::Flow(record) => line::write_flow(&record, &mut self.lines),
            Message::Association(record) => line::write_association(&record, &mut self.lines),
            Message::Look => {}
        }
        if self.lines.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed) - self.reported;
        if dropped > 0 {
            let mut line = Vec::new();
            line::write_dropped(realtime_ns(), dropped, &mut line);
            match self.sink.write(&line) {
                Ok(()) => self.reported += dropped,
                Err(failed) => self.report(&LogError::Write(failed.error)),
            }
        }
        let lines = self.lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        let lost = match self.sink.write(&self.lines) {
            Ok(()) => 0,
            Err(failed) => {
                self.report(&LogError::Write(failed.error));
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
        match reopen::for_appending(path) {
            Ok(file) => {
                self.sink = Sink::new(file);
                self.is_reported = false;
            }
            Err(error) => (self.on_error)(&LogError::Reopen(path.clone(), error)),
        }
    }

    fn report(&mut self, error: &LogError) {
        if !self.is_reported {
            self.is_reported = true;
            (self.on_error)(error);
        }
    }
}

#[cfg(test)]
mod tests;
