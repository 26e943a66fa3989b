//! Whether a paced sender spins, and whether it stops if spinning makes it late.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::{fs, io};

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{PATIENCE, Running, number};
use serde_json::Value;
use wirebench::sys::affinity;

on_both_engines!(
    spin_on_and_off_are_obeyed,
    auto_stops_spinning_when_another_thread_needs_the_cpu,
    auto_does_not_spin_under_a_quota_and_throttled_periods_are_counted,
);

#[track_caller]
fn only_run(running: Running) -> Value {
    let done = running.wait(PATIENCE).done();
    let mut record: Value = serde_json::from_str(&done.stdout).unwrap();
    record["runs"][0].take()
}

fn udp(engine: Engine, options: &str) -> Value {
    let options = format!("udp {} {options} --no-save --json -", engine.0);
    only_run(crate::common::start(options.split_whitespace()))
}

/// Two CPUs, for a sender and a receiver.
fn two_cpus() -> Option<[usize; 2]> {
    match affinity::allowed().unwrap()[..] {
        [one, two, ..] => Some([one, two]),
        _ => {
            println!("skipped: one CPU, on which no sender spins");
            None
        }
    }
}

fn spin_on_and_off_are_obeyed(engine: Engine) {
    for spin in ["on", "off"] {
        let run = udp(engine, &format!("--pps 2000 --packets 200 --spin {spin}"));
        assert_eq!(run["requested"]["spin"], spin);
        assert_eq!(run["effective"]["spin"], spin == "on");
        assert!(run["effective"]["spin_note"].is_null());
    }
    let lossless = udp(engine, "--packets 200 --spin on");
    assert_eq!(lossless["effective"]["spin"], false);
}

fn auto_stops_spinning_when_another_thread_needs_the_cpu(engine: Engine) {
    let Some([one, two]) = two_cpus() else { return };
    let stop = Arc::new(AtomicBool::new(false));
    let hog = thread::spawn({
        let stop = stop.clone();
        move || {
            affinity::pin(one).unwrap();
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        }
    });
    // The gap between two datagrams is a little shorter than the spinning time, so that the sender never sleeps.
    let options = format!("--pps 3400 --duration 700ms --cpus {one},{two}");
    let auto = udp(engine, &options);
    let on = udp(engine, &format!("{options} --spin on"));
    stop.store(true, Ordering::Relaxed);
    hog.join().unwrap();
    // Spinning is user time, sending is system time.
    let seconds = |name: &str| on["cpu"][name].as_f64().unwrap();
    if seconds("sender_user_s") * 4.0 < seconds("sender_system_s") {
        println!("skipped: sending takes so long here that the sender has no time to spin");
        return;
    }
    assert_eq!(auto["effective"]["spin"], false, "{auto:#}");
    let note = auto["effective"]["spin_note"].as_str().unwrap();
    assert!(note.contains("took its CPU away"), "{note}");
    assert!(number(&auto, "cpu.sender_preemptions") > 0);
    assert_eq!(on["effective"]["spin"], true);
}

/// A control group with a fifth of a CPU, removed on drop.
struct Quota {
    folder: PathBuf,
}

impl Quota {
    fn new(name: &str) -> Option<Self> {
        let name = format!("wirebench-{}-{name}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let parent = match v1.is_dir() {
            true => v1,
            false => Path::new("/sys/fs/cgroup"),
        };
        let folder = parent.join(name);
        let made = fs::create_dir(&folder).and_then(|()| {
            let quota = Self {
                folder: folder.clone(),
            };
            quota.set(20_000)?;
            Ok(quota)
        });
        made.map_err(|error| println!("skipped: no control group can be made here: {error}"))
            .ok()
    }

    /// Sets the CPU time of the group, in us of every 100 ms.
    fn set(&self, us: u32) -> io::Result<()> {
        let v2 = self.folder.join("cpu.max");
        if v2.exists() {
            return fs::write(v2, format!("{us} 100000"));
        }
        fs::write(self.folder.join("cpu.cfs_period_us"), "100000")?;
        fs::write(self.folder.join("cpu.cfs_quota_us"), us.to_string())
    }

    /// Starts `bench` in the group.
    fn bench(&self, options: &str) -> Running {
        let procs = self.folder.join("cgroup.procs");
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(procs)
            .arg(env!("CARGO_BIN_EXE_bench"))
            .args(options.split_whitespace());
        Running::new(command)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        crate::common::until("the control group is empty", || {
            fs::remove_dir(&self.folder).is_ok()
        });
    }
}

fn auto_does_not_spin_under_a_quota_and_throttled_periods_are_counted(engine: Engine) {
    let name = if engine.is_uring() { "uring" } else { "mio" };
    let Some(quota) = Quota::new(name) else {
        return;
    };
    let options = format!("udp {} --no-save --json - --duration 1s", engine.0);
    let run = only_run(quota.bench(&format!("{options} --pps 200")));
    assert_eq!(run["effective"]["spin"], false);
    let note = run["effective"]["spin_note"].as_str().unwrap();
    assert!(note.contains("quota of 0.2 CPUs"), "{note}");
    // The sender needs a CPU, and has a fifth of one.
    let run = only_run(quota.bench(&format!("{options} --pps 2000 --spin on")));
    assert!(number(&run, "cpu.sender_throttled_periods") > 0, "{run:#}");
    let warnings = run["warnings"].to_string();
    assert!(warnings.contains("quota"), "{warnings}");
}

#[test]
fn a_quota_of_the_receiver_is_named_as_the_receivers() {
    let Some(quota) = Quota::new("receiver") else {
        return;
    };
    let mut server = quota.bench("serve --bind 127.0.0.1:0 --no-save");
    let to = server.listening().to_string();
    // A busy machine may not give the receiver more than a few percent.
    quota.set(2_000).unwrap();
    let options = format!("udp --to {to} --no-save --json - --unpaced --duration 600ms");
    let run = only_run(crate::common::start(options.split(' ')));
    assert!(
        number(&run, "cpu.receiver_throttled_periods") > 0,
        "{run:#}"
    );
    let warnings = run["warnings"].to_string();
    assert!(
        warnings.contains("quota of the receiver's control group"),
        "{warnings}"
    );
    assert!(
        run["cpu"]["sender_throttled_periods"].is_null()
            || number(&run, "cpu.sender_throttled_periods") == 0
    );
}
