//! Where the proxy must not go: lists of addresses and names, and the decision on one destination.
//!
//! The decision that counts is [`policy::Policy::decide`], on the very socket address that connect(2) gets. An
//! address has many spellings, and a name is only a promise of one, so nothing before that point can be relied on:
//!
//! - [`destination`](crate::destination) reads a destination strictly: what some resolver would take for an address, and no
//!   standard text form is, is refused and never handed to a resolver. It keeps names in one form.
//! - [`readings`] tells every address that a socket address may reach: the IPv4 addresses within an IPv6
//!   one, and what stands for "unspecified".
//! - [`entry`] is a line's worth of a list, [`ports`] what part of a host it is about, [`format`](mod@format)
//!   the file formats, each recognised by its content.
//! - [`index`] finds the entries that match, with `networks` for addresses and `chain` for ports; [`list`] knows where each stands.
//!   [`private`] are the networks of `--deny-private`, to which it adds this host's [`own`] addresses.
//! - [`policy`] puts the lists together and says what wins over what, [`load`] reads their files, [`problem`] is what may be wrong
//!   with them, [`reload`] swaps them while others decide, told by their [`stamp`] that they changed. [`target`] is what a dry run asks about.

mod chain;
pub mod embedded;
pub mod entry;
pub mod file_state;
pub mod format;
pub mod index;
pub mod list;
pub mod load;
pub mod local_addresses;
mod networks;
pub mod policy;
pub mod ports;
pub mod private;
pub mod problem;
pub mod reload;
pub mod target;
