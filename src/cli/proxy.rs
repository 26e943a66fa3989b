//! `bench proxy` and its roles, a file each.

pub(super) mod args;
mod origin;
mod reload;
mod serve;
mod summary;

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;

use super::failure::Failure;
use args::{Proxy, Role};

pub(super) fn run(args: &Proxy) -> Result<(), Failure> {
    match &args.role {
        Role::Serve(args) => serve::run(args),
        Role::Origin(args) => origin::run(args),
    }
}

/// Why a listener could not be had, and the way out.
fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            "; choose another port with --listen, or 0 to let the kernel choose"
        }
        ErrorKind::AddrNotAvailable => "; that address is not of this host",
        ErrorKind::PermissionDenied => "; choose a port from 1024 up",
        _ => "",
    };
    Failure::Undone(format!("cannot listen on {address}: {error}{advice}"))
}

fn say_listening(local: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "listening on {local}")?;
    out.flush()
}
