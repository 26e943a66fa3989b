use super::*;
use crate::report::compare::udp::{Latencies, within_command};
use crate::report::export::packets::PacketRow;
use crate::report::sample::udp as sample;
use crate::report::store::saved::{self, Saved};
use std::os::unix::fs::symlink;

const STARTED: u64 = 1_795_356_301_000_000_000;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A run without a comparison.
fn alone() -> Measured {
    let mut measured = sample::measured();
    measured.run.setting = None;
    measured
}

fn read(folder: &Path) -> UdpRecord {
    match saved::read(folder).unwrap() {
        Saved::Udp(record) => record,
        _ => panic!("it is of bench udp"),
    }
}

#[test]
fn aborted_command_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("results");
    let mut store = RunFolder::create(&out, "udp", STARTED).unwrap();
    assert_eq!(names(&out).len(), 1);
    assert!(names(&out)[0].starts_with(".20261122T140501Z-udp-"));
    let _open = store.intervals().unwrap();
    drop(store);
    assert!(!out.exists());

    fs::create_dir(&out).unwrap();
    drop(RunFolder::create(&out, "udp", STARTED).unwrap());
    assert!(out.exists(), "the store did not create it");
}

#[test]
fn saved_run_has_all_its_files() {
    let out = tempfile::tempdir().unwrap();
    let mut store = RunFolder::create(out.path(), "udp", STARTED).unwrap();
    let mut intervals = store.intervals().unwrap();
    let mut packets = store.packets().unwrap();
    let measured = alone();
    for run in 0..2 {
        intervals.row(run, &sample::interval()).unwrap();
        let row = PacketRow {
            stream: 0,
            sequence: 1,
            sent_ns: 2,
            received_ns: 3,
            clocks_related: true,
            intended_ns: None,
        };
        packets.row(run, &row).unwrap();
        let runs = vec![measured.run.clone(); run + 1];
        store.save(&sample::record(runs), &measured).unwrap();
    }
    intervals.finish().unwrap().finish().unwrap();
    packets.finish().unwrap().finish().unwrap();
    let path = store.path().to_owned();
    drop(store);

    assert_eq!(names(out.path()).len(), 1);
    assert_eq!(
        names(&path),
        [
            "histograms.jsonl",
            "intervals.csv",
            "latency-intended.hgrm",
            "latency.hgrm",
            "packets.csv",
            "run.json"
        ]
    );
    assert_eq!(read(&path).runs.len(), 2);
    let text = |name| fs::read_to_string(path.join(name)).unwrap();
    assert!(text("latency.hgrm").contains("Total count    =         2000]"));
    assert!(text("latency-intended.hgrm").contains("Total count    =         2002]"));
    assert_eq!(text("intervals.csv").lines().count(), 3);
    assert!(text("packets.csv").ends_with("\n0,0,1,2,3,1,\n1,0,1,2,3,1,\n"));
}

#[test]
fn each_compared_setting_has_its_own_histograms() {
    let out = tempfile::tempdir().unwrap();
    let mut store = RunFolder::create(out.path(), "udp", STARTED).unwrap();
    let mut runs = Vec::new();
    for setting in ["mio", "uring, batch 1.5k", "mio"] {
        let mut measured = sample::measured();
        measured.run.setting = Some(setting.into());
        runs.push(measured.run.clone());
        store
            .save(&sample::record(runs.clone()), &measured)
            .unwrap();
    }
    let mut record = sample::record(runs);
    record.comparison = within_command(&record.runs, &Latencies::default());
    store.save_comparison(&record).unwrap();
    assert_eq!(
        names(store.path()),
        [
            "comparison.csv",
            "histograms.jsonl",
            "latency-intended-mio.hgrm",
            "latency-intended-uring-batch-1.5k.hgrm",
            "latency-mio.hgrm",
            "latency-uring-batch-1.5k.hgrm",
            "run.json"
        ]
    );
    let count = |name: &str| {
        let text = fs::read_to_string(store.path().join(name)).unwrap();
        let at = text.find("Total count    =").unwrap();
        text[at + 16..].split(']').next().unwrap().trim().to_owned()
    };
    assert_eq!(count("latency-mio.hgrm"), "2000");
    assert_eq!(count("latency-uring-batch-1.5k.hgrm"), "1000");
    assert!(!read(store.path()).comparison.is_empty());
}

#[test]
fn full_disk_is_an_error_and_saved_runs_stay() {
    let out = tempfile::tempdir().unwrap();
    let mut store = RunFolder::create(out.path(), "udp", STARTED).unwrap();
    let measured = alone();
    let record = sample::record(vec![measured.run.clone()]);
    store.save(&record, &measured).unwrap();
    let file = store.path().join("latency.hgrm");
    let aside = store.path().join("aside");
    fs::rename(&file, &aside).unwrap();
    symlink("/dev/full", &file).unwrap();
    let error = store.save(&record, &measured).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot write {}: No space left on device (os error 28); choose another folder with --out or skip saving with --no-save",
            file.display()
        )
    );
    assert!(saved::read(store.path()).is_ok());

    fs::rename(&aside, &file).unwrap();
    store.save(&record, &measured).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("Total count    =         2000]"),
        "merged once"
    );
}

#[test]
fn folder_without_write_permission_fails_before_the_run() {
    for place in ["/proc/results", "/dev/null"] {
        let error = RunFolder::create(Path::new(place), "udp", STARTED)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("cannot create {place}: ")),
            "{error}"
        );
        assert!(error.contains("--no-save"), "{error}");
    }
}

#[test]
fn error_names_the_folder_that_cannot_be_created() {
    let error = RunFolder::create(Path::new("/proc"), "udp", STARTED).unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("cannot create /proc/20261122T140501Z-udp-"),
        "{error}"
    );
}

#[test]
fn ids_are_six_digits_and_differ() {
    let (a, b) = (random_id(), random_id());
    assert_eq!((a.len(), b.len()), (6, 6));
    assert_ne!(a, b);
}

#[test]
fn no_run_of_many_is_lost_by_a_kill() {
    let out = tempfile::tempdir().unwrap();
    let mut store = RunFolder::create(out.path(), "udp", STARTED).unwrap();
    let mut measured = alone();
    measured.latency = Latency::new();
    measured.latency.record(1_000);
    let mut record = sample::record(Vec::new());
    let mut is_behind = false;
    for number in 0..90 {
        measured.run.sent.packets = number;
        record.runs.push(measured.run.clone());
        store.save(&record, &measured).unwrap();
        if number < 60 {
            continue;
        }
        // The state after a kill at this point.
        let runs = read(store.path()).runs;
        assert_eq!(runs.len() as u64, number + 1);
        assert!(
            (0..)
                .zip(&runs)
                .all(|(number, run)| run.sent.packets == number)
        );
        is_behind |= store.path().join("runs.jsonl").exists();
    }
    assert!(is_behind, "run.json was rewritten after each of 90 runs");
    store.finish(&record).unwrap();
    assert!(!store.path().join("runs.jsonl").exists());
    assert_eq!(read(store.path()).runs.len(), 90);
    let text = fs::read_to_string(store.path().join("latency.hgrm")).unwrap();
    assert!(text.contains("Total count    =           90]"), "{text}");
}
