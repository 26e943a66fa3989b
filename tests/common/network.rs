//! Network namespaces for tests that change a network, need fixed ports, or use thousands of addresses.

use std::io;
use std::process::Command;
use std::thread;

/// Runs `body` in a new network namespace with loopback up. The test is skipped where the system permits none.
///
/// The namespace belongs to a new thread, and to the threads and processes that `body` starts.
pub(crate) fn in_own_network(body: impl FnOnce() + Send) {
    if let Err(reason) = enter_and_run(libc::CLONE_NEWNET, body) {
        println!("skipped: no network namespace is permitted here: {reason}");
    }
}

/// Like [`in_own_network`], with mounts that no other process sees.
pub(crate) fn in_own_network_and_mounts(body: impl FnOnce() + Send) {
    if let Err(reason) = enter_and_run(libc::CLONE_NEWNET | libc::CLONE_NEWNS, body) {
        println!("skipped: no network and mount namespaces are permitted here: {reason}");
    }
}

/// Like [`in_own_network`], but `body` runs in the network of the host where the system permits no other.
///
/// A host that tracks connections (nf_conntrack) has a table of fixed size for all of them. Once the table is full, sends fail with
/// EPERM. A new namespace tracks no connections.
pub(crate) fn with_own_network(body: impl FnOnce() + Send) {
    let mut body = Some(body);
    let once = || body.take().unwrap()();
    if let Err(reason) = enter_and_run(libc::CLONE_NEWNET, once) {
        println!(
            "no network namespace is permitted here, the test uses that of the host: {reason}"
        );
        body.take().unwrap()();
    }
}

/// Like [`in_own_network`], with an nftables chain `t out` of its output. The test is skipped without nft(8).
pub(crate) fn with_firewall(body: impl FnOnce() + Send) {
    in_own_network(|| {
        let table = run("nft add table inet t");
        let chain = "nft add chain inet t out { type filter hook output priority 0 ; }";
        match table.and_then(|()| run(chain)) {
            Ok(()) => body(),
            Err(reason) => println!("skipped: no rules of a firewall are possible here: {reason}"),
        }
    });
}

/// Runs `body` in a thread with new namespaces. The reason if the thread cannot have them.
fn enter_and_run(namespaces: libc::c_int, body: impl FnOnce() + Send) -> Result<(), String> {
    let in_namespaces = || {
        unshare(namespaces).map_err(|error| format!("unshare: {error}"))?;
        if namespaces & libc::CLONE_NEWNS != 0 {
            // Mounts of the host's namespace may be shared with its copies.
            run("mount --make-rprivate /")?;
        }
        run("ip link set lo up")?;
        body();
        Ok(())
    };
    let joined = thread::scope(|scope| scope.spawn(in_namespaces).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs ip(8) in the network of the calling thread.
#[track_caller]
pub(crate) fn ip(words: &str) {
    run(&format!("ip {words}")).unwrap();
}

/// Runs a command in the network of the calling thread, without any output.
pub(crate) fn run(words: &str) -> Result<(), String> {
    let mut parts = words.split(' ');
    let output = Command::new(parts.next().unwrap()).args(parts).output();
    let output = output.map_err(|error| format!("{words}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let errors = String::from_utf8_lossy(&output.stderr);
            Err(format!("{words}: {}", errors.trim_end()))
        }
    }
}

/// Moves the calling thread into new namespaces (unshare(2)).
#[allow(unsafe_code, reason = "the standard library has no unshare(2)")]
fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare(2) has no pointer arguments. Network and mount namespaces belong to the thread, so no other thread is affected.
    match unsafe { libc::unshare(namespaces) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
