//! The settings that runs must share to be merged, by the names of their keys.

use serde::Serialize;
use serde_json::{Map, Value};

use super::MergeError;
use crate::udp::result::{Requested, Run};

/// Keys of requested options that may differ: shares of the whole, of which each run has one or none, and places of a rank.
const SHARES: [&str; 4] = ["bytes", "packets", "rate_bits_per_s", "pps"];
const OWN: [&str; 3] = ["cpus", "to", "seed"];

/// The settings of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings(Map<String, Value>);

impl Settings {
    /// The requested options and `more` settings. Of the options `shares` only whether they are given counts, and `own` do not count.
    pub(crate) fn new<'a>(
        requested: &impl Serialize,
        shares: &[&str],
        own: &[&str],
        more: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Self {
        let mut keys = match serde_json::to_value(requested) {
            Ok(Value::Object(keys)) => keys,
            // The options are plain values.
            _ => Map::new(),
        };
        for key in shares {
            let is_given = keys.get(*key).is_some_and(|value| !value.is_null());
            let given = if is_given { "given" } else { "not given" };
            keys.insert((*key).to_owned(), given.into());
        }
        for key in own {
            keys.remove(*key);
        }
        keys.extend(more.into_iter().map(|(key, value)| (key.to_owned(), value)));
        Self(keys)
    }

    /// Those of a run of `bench udp`.
    pub(super) fn of(run: &Run) -> Self {
        let more = [
            ("engine", run.engine.clone().into()),
            ("mode", run.mode.clone().into()),
            ("direction of the run", run.direction.clone().into()),
            ("setting", run.setting.clone().into()),
        ];
        Self::new(&run.requested, &SHARES, &OWN, more)
    }

    /// Whether the run `name` has the settings of the run `first`, which are these.
    ///
    /// # Errors
    /// [`MergeError::Settings`], with the first setting that differs.
    pub(crate) fn check(&self, first: &str, name: &str, other: &Self) -> Result<(), MergeError> {
        let mut keys: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        keys.sort_unstable();
        let differs = |key: &&String| self.0.get(*key) != other.0.get(*key);
        match keys.into_iter().find(differs) {
            None => Ok(()),
            Some(key) => Err(MergeError::Settings {
                name: name.to_owned(),
                first: first.to_owned(),
                key: key.clone(),
                here: shown(self.0.get(key)),
                there: shown(other.0.get(key)),
            }),
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "not given".to_owned(),
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
