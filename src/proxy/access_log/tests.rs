//! The writer, with disks and readers that fail.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, PipeReader};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;

use super::line::tests::least;
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A record that its length identifies.
fn record(number: u64) -> ConnectionRecord {
    ConnectionRecord {
        closed: least().accepted + number * 1_000_000_000,
        ..least()
    }
}

fn number(line: &str) -> Option<u64> {
    let line: Value = serde_json::from_str(line).unwrap();
    line["seconds"].as_f64().map(|seconds| seconds as u64)
}

/// Errors that were reported.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl Errors {
    fn listener(&self) -> impl FnMut(&LogError) + Send + 'static {
        let errors = self.clone();
        move |error| errors.0.lock().unwrap().push(error.to_string())
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A log into a pipe that is not read yet.
fn piped(waiting: usize, errors: &Errors) -> (Log, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let file = File::from(OwnedFd::from(writer));
    let log = Log::begin(file, Target::Stdout, waiting, errors.listener()).unwrap();
    (log, reader)
}

#[track_caller]
fn until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it never came");
        thread::yield_now();
    }
}

#[test]
fn each_connection_has_its_line_behind_existing_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    fs::write(&path, "before\n").unwrap();
    let log = Log::open(&Target::File(path.clone()), |error| panic!("{error}")).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let handle = log.handle();
            thread::spawn(move || (0..100).for_each(|n| handle.record(record(thread * 100 + n))))
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let handle = log.handle();
    assert!(log.finish(PATIENCE));
    assert_eq!((handle.written(), handle.dropped()), (400, 0));
    let text = fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("before"));
    let numbers: HashSet<_> = lines.map(|line| number(line).unwrap()).collect();
    assert_eq!(numbers, (0..400).collect());
}

#[test]
fn a_single_line_is_written() {
    let (log, reader) = piped(QUEUE, &Errors::default());
    for n in 0..3 {
        log.handle().record(record(n));
        let mut line = String::new();
        BufReader::with_capacity(1, &reader)
            .read_line(&mut line)
            .unwrap();
        assert_eq!(number(&line), Some(n));
    }
    assert!(log.finish(PATIENCE));
}

#[test]
fn lines_without_room_are_counted_in_the_log() {
    const MANY: u64 = 5_000;
    let errors = Errors::default();
    let (log, reader) = piped(4, &errors);
    let handle = log.handle();
    let begin = Instant::now();
    (0..MANY).for_each(|n| handle.record(record(n)));
    assert!(begin.elapsed() < PATIENCE / 4, "it waited for room");
    assert!(handle.dropped() > 0);
    let hear = thread::spawn(move || BufReader::new(reader).lines().map(Result::unwrap).collect());
    assert!(log.finish(PATIENCE));
    let (written, dropped) = (handle.written(), handle.dropped());
    drop(handle);
    let lines: Vec<String> = hear.join().unwrap();
    let numbers = lines.iter().filter_map(|line| number(line)).count() as u64;
    let shown = lines.iter().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["dropped"].as_u64().unwrap_or(0)
    });
    assert_eq!(numbers, written);
    assert_eq!(shown.sum::<u64>(), dropped);
    assert_eq!(written + dropped, MANY);
    // Writing itself has not failed.
    assert_eq!(errors.all(), [""; 0]);
}

#[test]
fn a_full_disk_is_reported_once_and_its_lines_are_counted() {
    let errors = Errors::default();
    let log = Log::open(&Target::File("/dev/full".into()), errors.listener()).unwrap();
    let handle = log.handle();
    for n in 1..=3 {
        handle.record(record(n));
        until(|| handle.dropped() == n);
    }
    assert_eq!(handle.written(), 0);
    assert!(log.finish(PATIENCE));
    let errors = errors.all();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("No space left"), "{errors:?}");
}

#[test]
fn a_reader_that_closed_the_pipe_is_reported_once() {
    let errors = Errors::default();
    let (log, reader) = piped(QUEUE, &errors);
    drop(reader);
    let handle = log.handle();
    (0..50).for_each(|n| handle.record(record(n)));
    assert!(log.finish(PATIENCE));
    assert_eq!(handle.dropped(), 50);
    assert_eq!(errors.all().len(), 1);
    assert!(errors.all()[0].contains("Broken pipe"));
}

#[test]
fn a_reader_that_stopped_reading_delays_nothing() {
    let (log, _reader) = piped(QUEUE, &Errors::default());
    let handle = log.handle();
    // More than a pipe contains.
    (0..1_000).for_each(|n| handle.record(record(n)));
    assert!(!log.finish(Duration::from_millis(100)));
}

#[test]
fn a_renamed_log_continues_in_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let moved = folder.path().join("access.log.1");
    let log = Log::open(&Target::File(path.clone()), |error| panic!("{error}")).unwrap();
    let handle = log.handle();
    handle.record(record(1));
    until(|| handle.written() == 1);
    fs::rename(&path, &moved).unwrap();
    handle.record(record(2));
    until(|| handle.written() == 2);
    handle.reopen();
    // Also without new records.
    until(|| path.exists());
    handle.record(record(3));
    assert!(log.finish(PATIENCE));
    let numbers = |path| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&moved), [Some(1), Some(2)]);
    assert_eq!(numbers(&path), [Some(3)]);
}

#[test]
fn a_log_that_cannot_be_reopened_continues_in_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let (inner, elsewhere) = (folder.path().join("a"), folder.path().join("b"));
    fs::create_dir(&inner).unwrap();
    let errors = Errors::default();
    let target = Target::File(inner.join("log"));
    let log = Log::open(&target, errors.listener()).unwrap();
    fs::rename(&inner, &elsewhere).unwrap();
    log.handle().reopen();
    until(|| errors.all().len() == 1);
    assert!(errors.all()[0].contains("a/log"), "{:?}", errors.all());
    log.handle().record(record(1));
    assert!(log.finish(PATIENCE));
    assert_eq!(
        fs::read_to_string(elsewhere.join("log"))
            .unwrap()
            .lines()
            .count(),
        1
    );
}

#[test]
fn a_target_that_cannot_be_opened_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/log");
    for path in [folder.path(), &missing] {
        assert!(Log::open(&Target::File(path.to_owned()), |_| {}).is_err());
    }
}
