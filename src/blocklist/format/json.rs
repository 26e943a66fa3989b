//! JSON lines of Spamhaus DROP: `{"cidr":"192.0.2.0/24","sblid":"SBL1","rir":"ripencc"}`, and one line of
//! `"type":"metadata"` at the end.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Item, LineError};
use crate::blocklist::entry::{self, EntryError};

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, default)]
    cidr: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    asn: Option<u32>,
}

pub(super) fn read(line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
    // serde would accept an array too.
    if !line.starts_with('{') {
        return Err(LineError::Json(1));
    }
    let row: Row =
        serde_json::from_str(line).map_err(|error| LineError::Json(error.column().max(1)))?;
    match (&row.cidr, row.kind.as_deref(), row.asn) {
        (Some(cidr), _, _) => take(Item::Entry(cidr, entry::network(cidr)?.into())),
        (None, Some("metadata"), _) => {}
        (None, _, Some(asn)) => return Err(EntryError::AsNumber(format!("AS{asn}")).into()),
        (None, _, None) => return Err(LineError::NoCidr),
    }
    Ok(())
}
