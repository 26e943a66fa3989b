//! `bench proxy load`: the load generator alone, for two or three hosts.

use super::args::LoadCommand;
use super::fleet;
use super::run::{Started, measure};
use crate::cli::error::CliError;

pub(super) fn run(command: &LoadCommand) -> Result<(), CliError> {
    let args = &command.load;
    if args.is_udp() {
        return Err(CliError::usage(
            "scenario udp has no load generator of its own; use `bench udp --via` on the other host",
        ));
    }
    if args.origin.is_none() {
        return Err(CliError::usage(
            "no origin server: name a running `bench proxy origin` with --origin ADDR:PORT",
        ));
    }
    if args.via.is_none() && args.protocol.is_some() {
        return Err(CliError::usage(
            "--protocol is for requests to a proxy; name one with --via ADDR:PORT",
        ));
    }
    if command.fleet.fleet {
        return fleet::run(args, &command.fleet);
    }
    measure(args, args.via.is_some(), || Ok(Started::default()))
}
