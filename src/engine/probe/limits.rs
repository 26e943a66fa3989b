//! The limits that the system sets to a socket, a pipe and a process, held against what a run needs.

use super::{Check, State};
use crate::engine::offload::MOST_PAYLOAD;
use crate::sys::host;
use crate::sys::limit::{self, Limit};
use crate::sys::pipe::Pipe;
use crate::sys::privilege::{IPC_LOCK, Privilege, SYS_RESOURCE};
use crate::units::grouped;

const AREA: &str = "limits";

/// Open files that a server with its usual 256 streams and 1024 connections, or a run of 128 streams, needs.
const FILES: u64 = 4_096;

/// Bytes locked at most by zero-copy sends of one stream: what its send buffer holds.
const LOCKED: u64 = 8 << 20;

/// Bytes of notices outstanding that do not hold up zero-copy sends: the default from Linux 6.7 on.
const OPTMEM: u64 = 131_072;

/// Bytes that a zero-copy send is charged to `optmem_max` until its notice is read: an empty skb (`SKB_TRUESIZE(0)`).
const NOTICE: u64 = 576;

/// The usual `fs.pipe-max-size`, in bytes; a run needs an eighth of it.
const PIPE: u64 = 1 << 20;

/// Pages in all pipes of a user, the usual `fs.pipe-user-pages-soft`.
const PIPE_PAGES: u64 = 16_384;

/// Does all that concerns limits. `buffer` is what a run asks the kernel for, in bytes.
pub fn checks(buffer: usize) -> Vec<Check> {
    let buffer = buffer as u64;
    let privilege = Privilege::now();
    let mut checks = vec![
        sysctl(
            "net.core.rmem_max",
            buffer,
            "the receiver's queue holds less: lossless runs have a smaller window and blasts lose more",
        ),
        sysctl(
            "net.core.wmem_max",
            buffer,
            "the send buffer holds less: the sender finds it full more often",
        ),
        optmem(),
    ];
    checks.extend(limit::open_files().map(files));
    checks.extend(limit::locked_memory().map(|limit| locked(limit, privilege.has(IPC_LOCK))));
    checks.push(pipe());
    checks.push(pipe_pages(privilege.has(SYS_RESOURCE)));
    checks
}

/// A limit in bytes that the administrator sets.
fn sysctl(name: &'static str, wanted: u64, costs: &str) -> Check {
    bytes(name, host::sysctl(name), wanted, costs)
}

fn bytes(name: &'static str, found: Option<u64>, wanted: u64, costs: &str) -> Check {
    match found {
        Some(bytes) if bytes >= wanted => Check::ok(AREA, name, format!("{} B", grouped(bytes))),
        Some(bytes) => {
            let found = format!("{} B, of {} asked for", grouped(bytes), grouped(wanted));
            Check::ok(AREA, name, found)
                .short(State::Limited, costs)
                .lifted_by(format!("sudo sysctl -w {name}={wanted}"))
        }
        // Some cannot be seen in a network namespace of one's own; what is granted is read back anyway.
        None => Check::ok(AREA, name, "not to be seen here"),
    }
}

fn optmem() -> Check {
    let name = "net.core.optmem_max";
    let found = host::sysctl(name);
    let sends = found.unwrap_or(0) / NOTICE;
    let costs = format!(
        "--zerocopy msg can have some {sends} sends under way; the next one gets ENOBUFS and must wait"
    );
    bytes(name, found, OPTMEM, &costs)
}

/// `ulimit` changes the shell's own limit, up to the hard one; prlimit(1) changes both.
fn files(limit: Limit) -> Check {
    let name = "open files (ulimit -n)";
    // bench serve raises the limit as far as it may.
    if reaches(limit.hard, FILES) && reaches(limit.soft, 1_024) {
        return Check::ok(AREA, name, found(limit, ""));
    }
    let command = match reaches(limit.hard, FILES) {
        true => format!("ulimit -n {FILES}"),
        false => format!("sudo prlimit --pid $$ --nofile={FILES}:{FILES}"),
    };
    Check::ok(AREA, name, found(limit, ""))
        .short(
            State::Limited,
            "many streams, or many sessions at a server, end with 'too many open files'",
        )
        .lifted_by(command)
}

fn locked(limit: Limit, privileged: bool) -> Check {
    let name = "locked memory (ulimit -l)";
    if privileged {
        return Check::ok(
            AREA,
            name,
            format!("any amount, by CAP_IPC_LOCK; else {}", found(limit, " B")),
        );
    }
    if reaches(limit.soft, LOCKED) {
        return Check::ok(AREA, name, found(limit, " B"));
    }
    let command = match reaches(limit.hard, LOCKED) {
        true => format!("ulimit -l {}", LOCKED / 1_024),
        false => format!("sudo prlimit --pid $$ --memlock={LOCKED}:{LOCKED}"),
    };
    Check::ok(AREA, name, found(limit, " B"))
        .short(
            State::Limited,
            "zero-copy sends beyond it get ENOBUFS; io_uring's rings, which many kernels count too, ENOMEM",
        )
        .lifted_by(command)
}

fn reaches(limit: Option<u64>, wanted: u64) -> bool {
    limit.is_none_or(|limit| limit >= wanted)
}

fn found(limit: Limit, unit: &str) -> String {
    let of = |limit: Option<u64>| match limit {
        Some(limit) => format!("{}{unit}", grouped(limit)),
        None => "no limit".to_owned(),
    };
    match limit.soft == limit.hard {
        true => of(limit.soft),
        false => format!("{}, up to {}", of(limit.soft), of(limit.hard)),
    }
}

/// A pipe is made as a run needs it, since more than this limit decides.
fn pipe() -> Check {
    const NAME: &str = "pipe size (fs.pipe-max-size)";
    let most = host::sysctl("fs.pipe-max-size").unwrap_or(0);
    match Pipe::for_message(MOST_PAYLOAD) {
        Ok(_) => Check::ok(AREA, NAME, format!("{} B", grouped(most))),
        Err(error) => Check::ok(AREA, NAME, format!("{} B: {error}", grouped(most)))
            .short(State::Limited, "--zerocopy splice is refused")
            .lifted_by(format!("sudo sysctl -w fs.pipe-max-size={PIPE}")),
    }
}

fn pipe_pages(privileged: bool) -> Check {
    const NAME: &str = "fs.pipe-user-pages-soft";
    let pages = host::sysctl("fs.pipe-user-pages-soft");
    match pages {
        Some(0) => Check::ok(AREA, NAME, "no limit"),
        Some(pages) if privileged => {
            let found = format!("any number, by CAP_SYS_RESOURCE; else {}", grouped(pages));
            Check::ok(AREA, NAME, found)
        }
        Some(pages) if pages < PIPE_PAGES => Check::ok(AREA, NAME, grouped(pages))
            .short(
                State::Limited,
                "when all of a user's pipes exceed it, a new one gets 1 or 2 pages, and --zerocopy splice is refused",
            )
            .lifted_by(format!("sudo sysctl -w fs.pipe-user-pages-soft={PIPE_PAGES}")),
        Some(pages) => Check::ok(AREA, NAME, grouped(pages)),
        None => Check::ok(AREA, NAME, "not to be seen here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(soft: u64, hard: u64) -> Limit {
        let finite = |value| (value != u64::MAX).then_some(value);
        Limit {
            soft: finite(soft),
            hard: finite(hard),
        }
    }

    #[test]
    fn a_limit_that_is_too_low_is_lifted_by_the_command_that_can() {
        let command = |check: Check| check.lifts_with;
        assert_eq!(command(files(limit(1_024, 4_096))), None);
        assert_eq!(
            command(files(limit(256, u64::MAX))).unwrap(),
            "ulimit -n 4096"
        );
        assert_eq!(
            command(files(limit(1_024, 1_024))).unwrap(),
            "sudo prlimit --pid $$ --nofile=4096:4096"
        );
        assert_eq!(command(locked(limit(u64::MAX, u64::MAX), false)), None);
        assert_eq!(command(locked(limit(65_536, 65_536), true)), None);
        assert_eq!(
            command(locked(limit(65_536, 1 << 30), false)).unwrap(),
            "ulimit -l 8192"
        );
        assert_eq!(
            command(locked(limit(65_536, 65_536), false)).unwrap(),
            "sudo prlimit --pid $$ --memlock=8388608:8388608"
        );
    }

    #[test]
    fn a_buffer_limit_is_held_against_what_is_asked_for() {
        let of = |found| bytes("net.core.rmem_max", found, 4_194_304, "something");
        assert_eq!(of(Some(4_194_304)).state, State::Ok);
        assert_eq!(of(None).state, State::Ok);
        let low = of(Some(212_992));
        assert_eq!(low.state, State::Limited);
        assert_eq!(low.found, "212,992 B, of 4,194,304 asked for");
        assert_eq!(
            low.lifts_with.unwrap(),
            "sudo sysctl -w net.core.rmem_max=4194304"
        );
    }
}
