//! The settings that runs must share to be merged, by the names of their keys.

use serde_json::{Map, Value};

use crate::udp::result::{Requested, Run};

/// The keys of requested options that may differ: shares of the whole, and the place of a rank.
const SHARES: [&str; 4] = ["bytes", "packets", "rate_bits_per_s", "pps"];
const OWN: [&str; 3] = ["cpus", "to", "seed"];

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
            keys.insert(key.to_owned(), is_given.into());
        }
        for key in OWN {
            keys.remove(key);
        }
        for (key, value) in [
            ("engine", Some(&run.engine)),
            ("mode", Some(&run.mode)),
            ("direction of the run", Some(&run.direction)),
            ("setting", run.setting.as_ref()),
        ] {
            keys.insert(key.to_owned(), value.cloned().into());
        }
        Self(keys)
    }

    /// The first setting that differs: its name, and its value here and there.
    pub(super) fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let mut names: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.sort_unstable();
        names.into_iter().find_map(|name| {
            let (here, there) = (self.0.get(name), other.0.get(name));
            (here != there).then(|| (name.clone(), shown(name, here), shown(name, there)))
        })
    }
}

fn shown(name: &str, value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "not given".to_owned(),
        Some(Value::Bool(true)) if SHARES.contains(&name) => "given".to_owned(),
        Some(Value::Bool(false)) if SHARES.contains(&name) => "not given".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// Adds the shares of the whole in `other`.
pub(super) fn add_shares(sum: &mut Requested, other: &Requested) {
    let whole = |one: Option<u64>, other: Option<u64>| Some(one?.saturating_add(other?));
    let part = |one: Option<f64>, other: Option<f64>| Some(one? + other?);
    sum.bytes = whole(sum.bytes, other.bytes);
    sum.packets = whole(sum.packets, other.packets);
    sum.rate_bits_per_s = part(sum.rate_bits_per_s, other.rate_bits_per_s);
    sum.pps = part(sum.pps, other.pps);
    sum.to = sum.to.take().filter(|to| other.to.as_ref() == Some(to));
    sum.cpus = sum
        .cpus
        .take()
        .filter(|cpus| other.cpus.as_ref() == Some(cpus));
    sum.traffic.seed = sum
        .traffic
        .seed
        .filter(|seed| other.traffic.seed == Some(*seed));
}
