//! Blocklists: which destinations the proxy refuses.
//!
//! [`policy::Policy::decide`] decides on the socket address that is passed to connect(2). Earlier checks are not sufficient: an
//! address has many spellings, and a name may resolve to any address.
//!
//! - [`destination`](crate::destination) parses destinations strictly: a text that some resolver would read as an address, and
//!   that is not in standard form, is an error. Names have one canonical form.
//! - [`embedded`] lists every address that a connection to an address may reach, such as an IPv4 address embedded in IPv6.
//! - [`entry`] and [`ports`] define entries; [`format`](mod@format) reads list formats, detected by content.
//! - [`index`] finds matching entries, with `networks` for addresses, `names`, their `texts`, and `chain` for scopes; [`list`] adds their file and line.
//!   [`private`] has the networks of `--deny-private`, [`local_addresses`] the addresses of this host.
//! - [`policy`] combines the lists; [`load`] reads files and [`problem`] describes their errors. [`reload`] replaces the policy
//!   of a running proxy, [`file_state`] detects changed files, and [`target`] parses the destinations of `bench blocklist check`.

mod chain;
pub mod embedded;
pub mod entry;
pub mod file_state;
pub mod format;
pub mod index;
pub mod list;
pub mod load;
pub mod local_addresses;
mod names;
mod networks;
pub mod policy;
pub mod ports;
pub mod private;
pub mod problem;
pub mod reload;
pub mod target;
mod texts;
