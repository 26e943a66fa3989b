//! `bench proxy load`: the load generator alone, for two and three hosts.

use super::args::Load as Args;
use super::run::{Started, measure};
use crate::cli::failure::Failure;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if args.origin.is_none() {
        return Err(Failure::usage(
            "there is nobody to answer; name a running `bench proxy origin` with --origin ADDR:PORT",
        ));
    }
    measure(args, args.via.is_some(), || Ok(Started::default()))
}
