//! Traces the kernel's drops on this machine, by reason and place.
//!
//! A thread empties the trace buffer, so that a small buffer suffices. It runs only while losses are explained.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::drops::{self, IPV4, IPV6};
use crate::sys::tracefs::Instance;
use crate::udp::wire::explain::TracedDrops;

const EVENT: &str = "events/skb/kfree_skb";

/// Traces of this process at once: each session of a server may request one.
const MOST_TRACES: usize = 4;

/// Memory of a trace, over all CPUs, and the limits of a CPU's part, in KiB.
const MEMORY_KB: usize = 16 << 10;
const CPU_KB: (usize, usize) = (64, 1_024);

/// Interval between two reads.
const INTERVAL: Duration = Duration::from_millis(20);

/// Longest read: events may arrive faster than they are read.
const LONGEST_READ: Duration = Duration::from_millis(200);

/// Most pairs of reason and place; a kernel has some dozens.
const MOST_PLACES: usize = 200;

static TRACES: AtomicUsize = AtomicUsize::new(0);

/// A running trace.
#[derive(Debug)]
pub(super) struct Trace {
    tally: Arc<Mutex<Tally>>,
    /// Ends the thread when it is dropped.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    // Dropped last: the instance is busy while its pipe is open.
    instance: Instance,
    _permit: Permit,
}

/// One of [`MOST_TRACES`].
#[derive(Debug)]
struct Permit;

impl Permit {
    fn take() -> Option<Self> {
        let more = |count: usize| (count < MOST_TRACES).then_some(count + 1);
        let taken = TRACES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        TRACES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Trace {
    /// Starts to trace.
    ///
    /// # Errors
    /// Why it is impossible: a part of a sentence.
    pub(super) fn start() -> Result<Self, String> {
        let permit = Permit::take().ok_or("the process already traces for other sessions")?;
        let instance = Instance::new().map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => format!("that requires root: {error}"),
            _ => format!("tracefs is unavailable: {error}"),
        })?;
        let format = instance.read(&format!("{EVENT}/format"));
        let format = format.map_err(|error| format!("there is no skb:kfree_skb: {error}"))?;
        let filter = drops::filter(&format)
            .ok_or("the tracepoint skb:kfree_skb has no reasons; requires Linux 5.17")?;
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let size = (MEMORY_KB / cpus).clamp(CPU_KB.0, CPU_KB.1).to_string();
        // Without these settings the trace needs more memory and more time.
        let _ = instance.write("buffer_size_kb", &size);
        let _ = instance.write("trace_options", "nocontext-info");
        let failed = |error: io::Error| format!("the tracepoint skb:kfree_skb fails: {error}");
        instance
            .write(&format!("{EVENT}/filter"), &filter)
            .map_err(failed)?;
        let pipe = instance.events().map_err(failed)?;
        instance
            .write(&format!("{EVENT}/enable"), "1")
            .map_err(failed)?;
        let tally = Arc::new(Mutex::new(Tally::new(pipe)));
        let (stop, stopped) = mpsc::channel::<()>();
        let of_thread = tally.clone();
        let thread = thread::Builder::new()
            .name("explain".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    lock(&of_thread).read();
                }
            });
        Ok(Self {
            tally,
            stop: Some(stop),
            thread: Some(thread.map_err(failed)?),
            instance,
            _permit: permit,
        })
    }

    /// The drops so far of IPv6 or IPv4 packets, and events that were lost.
    pub(super) fn drops(&self, ipv6: bool) -> (Vec<TracedDrops>, u64) {
        let mut tally = lock(&self.tally);
        tally.read();
        (tally.of(ipv6), self.instance.lost_events())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        lock(&self.tally).pipe = None;
    }
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The drops by protocol, reason and place.
#[derive(Debug)]
struct Tally {
    pipe: Option<File>,
    /// The start of a line whose end was not read yet.
    cut: Vec<u8>,
    drops: BTreeMap<(u16, String, String), u64>,
}

impl Tally {
    fn new(pipe: File) -> Self {
        Self {
            pipe: Some(pipe),
            cut: Vec::new(),
            drops: BTreeMap::new(),
        }
    }

    /// Counts the events in the buffer.
    fn read(&mut self) {
        let began = Instant::now();
        let mut buffer = [0; 1 << 14];
        while let Some(Ok(length @ 1..)) = self.pipe.as_mut().map(|pipe| pipe.read(&mut buffer)) {
            self.count(buffer.get(..length).unwrap_or_default());
            if began.elapsed() > LONGEST_READ {
                break;
            }
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.cut.extend(bytes);
        let end = self.cut.iter().rposition(|byte| *byte == b'\n');
        let whole: Vec<u8> = self.cut.drain(..end.map_or(0, |end| end + 1)).collect();
        for line in String::from_utf8_lossy(&whole).lines() {
            let Some(drop) = drops::parse(line) else {
                continue;
            };
            let key = (drop.protocol, drop.reason.to_owned(), drop.place.to_owned());
            if self.drops.len() < MOST_PLACES || self.drops.contains_key(&key) {
                *self.drops.entry(key).or_default() += 1;
            }
        }
    }

    fn of(&self, ipv6: bool) -> Vec<TracedDrops> {
        let wanted = if ipv6 { IPV6 } else { IPV4 };
        let drops = self.drops.iter();
        let drops = drops.filter(|((protocol, ..), _)| *protocol == wanted);
        drops
            .map(|((_, reason, place), drops)| TracedDrops {
                reason: reason.clone(),
                place: place.clone(),
                drops: *drops,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_a_read_cut_are_joined() {
        let mut tally = Tally::new(File::open("/dev/null").unwrap());
        let line = "kfree_skb: skbaddr=1 protocol=2048 location=a+0x1/0x2 reason: NO_SOCKET\n";
        let text = line.repeat(3);
        for bytes in text.as_bytes().chunks(50) {
            tally.count(bytes);
        }
        let drops = TracedDrops {
            reason: "NO_SOCKET".to_owned(),
            place: "a".to_owned(),
            drops: 3,
        };
        assert_eq!((tally.of(false), tally.of(true)), (vec![drops], Vec::new()));
    }

    #[test]
    fn a_datagram_to_a_closed_port_is_traced() {
        let trace = match Trace::start() {
            Ok(trace) => trace,
            Err(reason) => return println!("skipped: {reason}"),
        };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = closed.local_addr().unwrap();
        drop(closed);
        socket.send_to(&[1], to).unwrap();
        let is_seen = || {
            let (drops, _) = trace.drops(false);
            drops
                .iter()
                .any(|of| of.reason == "NO_SOCKET" && of.drops > 0)
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while !is_seen() {
            assert!(Instant::now() < deadline, "{:?}", trace.drops(false));
            thread::sleep(Duration::from_millis(5));
        }
    }
}
