//! Counts in the file: all of them are null if unknown.

/// Defines the serialised form of a struct of counts, and the conversions both ways.
macro_rules! nullable_counts {
    ($file:ident for $counts:ident: $($count:ident),+) => {
        #[derive(Serialize, Deserialize)]
        struct $file {
            $($count: Option<u64>),+
        }

        impl From<$counts> for $file {
            fn from(counts: $counts) -> Self {
                let known = |count| (!counts.is_unknown).then_some(count);
                Self { $($count: known(counts.$count)),+ }
            }
        }

        impl From<$file> for $counts {
            fn from(counts: $file) -> Self {
                Self {
                    is_unknown: [$(counts.$count),+].contains(&None),
                    $($count: counts.$count.unwrap_or(0)),+
                }
            }
        }
    };
}

pub(super) use nullable_counts;

/// A setting that is never 0: null in the file if it was not reported.
pub(super) mod positive {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::udp::result) fn serialize<S: Serializer>(
        value: &usize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        (*value > 0).then_some(*value).serialize(serializer)
    }

    pub(in crate::udp::result) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<usize, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use crate::udp::result::{Lost, Received};

    #[test]
    fn unknown_counts_are_null_and_read_back_as_unknown() {
        let lost = Lost {
            is_unknown: true,
            packets: 7,
            ..Lost::default()
        };
        let json = serde_json::to_value(lost).unwrap();
        assert!(
            json.as_object()
                .unwrap()
                .values()
                .all(serde_json::Value::is_null)
        );
        assert!(serde_json::from_value::<Lost>(json).unwrap().is_unknown);
        let received = Received {
            unique: 3,
            ..Received::default()
        };
        let json = serde_json::to_value(received).unwrap();
        assert_eq!((&json["unique"], &json["late"]), (&3.into(), &0.into()));
        let read: Received = serde_json::from_value(json).unwrap();
        assert_eq!((read.unique, read.is_unknown), (3, false));
    }
}
