//! The settings that runs must share to be merged, by the names of their keys.

use serde_json::{Map, Value};

use crate::load::result::{Requested, Run};

/// Keys of requested options that may differ: shares of the whole, of which each run has one or none, and addresses.
const SHARES: [&str; 2] = ["rate_per_s", "bytes"];
const OWN: [&str; 3] = ["connections", "via", "origin"];

/// The settings of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings(Map<String, Value>);

impl Settings {
    pub(super) fn of(run: &Run) -> Self {
        let mut keys = match serde_json::to_value(&run.requested) {
            Ok(Value::Object(keys)) => keys,
            // The options are plain values.
            _ => Map::new(),
        };
        for key in SHARES {
            let is_given = keys.get(key).is_some_and(|value| !value.is_null());
            let given = if is_given { "given" } else { "not given" };
            keys.insert(key.to_owned(), given.into());
        }
        for key in OWN {
            keys.remove(key);
        }
        for (key, value) in [
            ("scenario", Some(&run.scenario)),
            ("path", Some(&run.path)),
            ("engine", run.engine.as_ref()),
            ("protocol", run.protocol.as_ref()),
            ("forwarding", run.forwarding.as_ref()),
            ("setting", run.setting.as_ref()),
        ] {
            keys.insert(key.to_owned(), value.cloned().into());
        }
        keys.insert("proxy_threads".to_owned(), run.proxy_threads.into());
        Self(keys)
    }

    /// The first setting that differs: its name, and its value here and there.
    pub(super) fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let mut names: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.sort_unstable();
        names.into_iter().find_map(|name| {
            let (here, there) = (self.0.get(name), other.0.get(name));
            (here != there).then(|| (name.clone(), shown(here), shown(there)))
        })
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "not given".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// What all runs share of the first one; the shares are added up elsewhere.
pub(super) fn shared(sum: &mut Requested, other: &Requested) {
    let both =
        |one: Option<String>, other: &Option<String>| one.filter(|one| other.as_ref() == Some(one));
    sum.via = both(sum.via.take(), &other.via);
    sum.origin = both(sum.origin.take(), &other.origin);
    sum.connections = sum.connections.saturating_add(other.connections);
    sum.bytes = sum
        .bytes
        .zip(other.bytes)
        .map(|(one, other)| one.saturating_add(other));
}
