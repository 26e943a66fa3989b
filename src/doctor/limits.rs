//! Limits of sockets, pipes and the process, compared to the needs of a run.

use super::{Check, State};
use crate::sys::machine;
use crate::sys::pipe::Pipe;
use crate::sys::privilege::{IPC_LOCK, Privilege, SYS_RESOURCE};
use crate::sys::rlimit::{self, Rlimit};
use crate::udp::engine::offload::MAX_PAYLOAD;
use crate::units::grouped;

const AREA: &str = "limits";

/// Open files needed by a server with its default 256 streams and 1024 connections, or by a run of 128 streams.
const FILES: u64 = 4_096;

/// Most memory in bytes that zero-copy sends of one stream lock: the contents of its send buffer.
const LOCKED: u64 = 8 << 20;

/// `optmem_max` in bytes that does not delay zero-copy sends: the default from Linux 6.7 on.
const OPTMEM: u64 = 131_072;

/// Bytes that a zero-copy send charges to `optmem_max` until its notification is read: an empty skb
/// (`SKB_TRUESIZE(0)`).
const NOTICE: u64 = 576;

/// The default of `fs.pipe-max-size` in bytes. A run needs an eighth.
const PIPE: u64 = 1 << 20;

/// The default of `fs.pipe-user-pages-soft`: pages in all pipes of a user.
const PIPE_PAGES: u64 = 16_384;

/// Runs all checks of limits. `buffer` is the socket buffer size a run requests, in bytes.
pub fn checks(buffer: usize) -> Vec<Check> {
    let buffer = buffer as u64;
    let privilege = Privilege::now();
    let mut checks = vec![
        buffer_limit(
            "net.core.rmem_max",
            buffer,
            "the receive buffer is smaller: lossless runs use a smaller window and unpaced runs lose more",
        ),
        buffer_limit(
            "net.core.wmem_max",
            buffer,
            "the send buffer is smaller and is full more often",
        ),
        optmem(),
    ];
    checks.extend(rlimit::open_files().map(files));
    checks.extend(rlimit::locked_memory().map(|limit| locked(limit, privilege.has(IPC_LOCK))));
    checks.push(pipe());
    checks.push(pipe_pages(privilege.has(SYS_RESOURCE)));
    checks
}

/// Checks the sysctl of a socket buffer.
fn buffer_limit(name: &'static str, wanted: u64, costs: &str) -> Check {
    buffer(name, machine::sysctl(name), wanted, costs)
}

fn buffer(name: &'static str, found: Option<u64>, wanted: u64, costs: &str) -> Check {
    let check = bytes(name, found, wanted, costs);
    match check.state {
        State::Ok => check,
        _ => check.unfit(format!("{name} is too low")),
    }
}

fn bytes(name: &'static str, found: Option<u64>, wanted: u64, costs: &str) -> Check {
    match found {
        Some(bytes) if bytes >= wanted => Check::ok(AREA, name, format!("{} B", grouped(bytes))),
        Some(bytes) => {
            let found = format!("{} B, requested {}", grouped(bytes), grouped(wanted));
            Check::ok(AREA, name, found)
                .shortfall(State::Limited, costs)
                .remedy(format!("sudo sysctl -w {name}={wanted}"))
        }
        // Some sysctls are invisible in a network namespace. Runs read back the granted sizes anyway.
        None => Check::ok(AREA, name, "not visible here"),
    }
}

fn optmem() -> Check {
    let name = "net.core.optmem_max";
    let found = machine::sysctl(name);
    let sends = found.unwrap_or(0) / NOTICE;
    let costs = format!(
        "--zerocopy msg is limited to about {sends} sends in flight; more fail with ENOBUFS and wait"
    );
    bytes(name, found, OPTMEM, &costs)
}

/// `ulimit` raises the shell's limit up to the hard limit; prlimit(1) raises both.
fn files(limit: Rlimit) -> Check {
    let name = "open files (ulimit -n)";
    // `bench serve` raises the soft limit to the hard limit.
    if reaches(limit.hard, FILES) && reaches(limit.soft, 1_024) {
        return Check::ok(AREA, name, found(limit, ""));
    }
    let command = match reaches(limit.hard, FILES) {
        true => format!("ulimit -n {FILES}"),
        false => format!("sudo prlimit --pid $$ --nofile={FILES}:{FILES}"),
    };
    Check::ok(AREA, name, found(limit, ""))
        .shortfall(
            State::Limited,
            "runs of many streams, and servers with many sessions, fail with 'too many open files'",
        )
        .remedy(command)
}

fn locked(limit: Rlimit, privileged: bool) -> Check {
    let name = "locked memory (ulimit -l)";
    if privileged {
        return Check::ok(
            AREA,
            name,
            format!(
                "unlimited by CAP_IPC_LOCK; otherwise {}",
                found(limit, " B")
            ),
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
        .shortfall(
            State::Limited,
            "larger zero-copy sends fail with ENOBUFS; io_uring rings, which count on many kernels, fail with ENOMEM",
        )
        .remedy(command)
}

fn reaches(limit: Option<u64>, wanted: u64) -> bool {
    limit.is_none_or(|limit| limit >= wanted)
}

fn found(limit: Rlimit, unit: &str) -> String {
    let of = |limit: Option<u64>| match limit {
        Some(limit) => format!("{}{unit}", grouped(limit)),
        None => "unlimited".to_owned(),
    };
    match limit.soft == limit.hard {
        true => of(limit.soft),
        false => format!("{}, hard limit {}", of(limit.soft), of(limit.hard)),
    }
}

/// Creates a pipe as a run does, since several limits apply.
fn pipe() -> Check {
    const NAME: &str = "pipe size (fs.pipe-max-size)";
    let most = machine::sysctl("fs.pipe-max-size").unwrap_or(0);
    match Pipe::for_message(MAX_PAYLOAD) {
        Ok(_) => Check::ok(AREA, NAME, format!("{} B", grouped(most))),
        Err(error) => Check::ok(AREA, NAME, format!("{} B: {error}", grouped(most)))
            .shortfall(State::Limited, "--zerocopy splice is refused")
            .remedy(format!("sudo sysctl -w fs.pipe-max-size={PIPE}")),
    }
}

fn pipe_pages(privileged: bool) -> Check {
    const NAME: &str = "fs.pipe-user-pages-soft";
    let pages = machine::sysctl("fs.pipe-user-pages-soft");
    match pages {
        Some(0) => Check::ok(AREA, NAME, "unlimited"),
        Some(pages) if privileged => {
            let found = format!("unlimited by CAP_SYS_RESOURCE; otherwise {}", grouped(pages));
            Check::ok(AREA, NAME, found)
        }
        Some(pages) if pages < PIPE_PAGES => Check::ok(AREA, NAME, grouped(pages))
            .shortfall(
                State::Limited,
                "when the pipes of a user exceed the limit, a new pipe gets 1 or 2 pages and --zerocopy splice is refused",
            )
            .remedy(format!("sudo sysctl -w fs.pipe-user-pages-soft={PIPE_PAGES}")),
        Some(pages) => Check::ok(AREA, NAME, grouped(pages)),
        None => Check::ok(AREA, NAME, "not visible here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(soft: u64, hard: u64) -> Rlimit {
        let finite = |value| (value != u64::MAX).then_some(value);
        Rlimit {
            soft: finite(soft),
            hard: finite(hard),
        }
    }

    #[test]
    fn low_limit_names_the_command_that_raises_it() {
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
    fn buffer_limit_is_compared_to_the_requested_size() {
        let of = |found| buffer("net.core.rmem_max", found, 4_194_304, "something");
        assert_eq!(of(Some(4_194_304)).state, State::Ok);
        assert_eq!(of(None).state, State::Ok);
        let low = of(Some(212_992));
        assert_eq!(low.state, State::Limited);
        assert_eq!(low.found, "212,992 B, requested 4,194,304");
        assert_eq!(
            low.lifts_with.unwrap(),
            "sudo sysctl -w net.core.rmem_max=4194304"
        );
        assert_eq!(low.unfit.unwrap(), "net.core.rmem_max is too low");
        assert_eq!(of(Some(4_194_304)).unfit, None);
        assert_eq!(of(None).unfit, None);
    }
}
