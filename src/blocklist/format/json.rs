//! A JSON object a line, as Spamhaus gives out DROP: `{"cidr":"192.0.2.0/24","sblid":"SBL1","rir":"ripencc"}`, and
//! one of `"type":"metadata"` at the end.

use std::borrow::Cow;

use serde::Deserialize;

use super::LineError;
use crate::blocklist::entry::{self, Entry};

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, default)]
    cidr: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
}

pub(super) fn read(line: &str, take: &mut impl FnMut(&str, Entry)) -> Result<(), LineError> {
    // serde would also read an array as a row.
    if !line.starts_with('{') {
        return Err(LineError::Json(1));
    }
    let row: Row =
        serde_json::from_str(line).map_err(|error| LineError::Json(error.column().max(1)))?;
    match (&row.cidr, row.kind.as_deref()) {
        (Some(cidr), _) => take(cidr, entry::network(cidr)?.into()),
        (None, Some("metadata")) => {}
        (None, _) => return Err(LineError::NoCidr),
    }
    Ok(())
}
