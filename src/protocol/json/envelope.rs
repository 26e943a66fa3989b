//! The object of a request: three keys with typed values.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::error::Category;

use crate::destination::error::quoted;
use crate::destination::{Destination, Host};

// The keys of a request.
const HOST: &str = "server_ip";
const PORT: &str = "server_port";
const MESSAGE: &str = "message";

/// A parsed request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) destination: Destination,
    pub(super) message: String,
}

impl Envelope {
    /// Parses one object.
    ///
    /// # Errors
    /// A sentence on the first error and its position.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let place = error.valid_up_to();
            format!("the request is not UTF-8 from byte {place} on")
        })?;
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => error.to_string(),
            Category::Syntax | Category::Eof | Category::Io => {
                format!("the request is not JSON: {error}")
            }
        })
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Envelope;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Envelope, M::Error> {
        let (mut host, mut port, mut message) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let again = match key.as_str() {
                HOST => host.is_some(),
                PORT => port.is_some(),
                MESSAGE => message.is_some(),
                _ => {
                    let key = quoted(&key);
                    let known = format_args!("only {HOST}, {PORT} and {MESSAGE} are known");
                    return Err(Error::custom(format_args!(
                        "the key {key} is unknown, {known},"
                    )));
                }
            };
            if again {
                return Err(Error::custom(format_args!("{key} comes a second time")));
            }
            let value = map.next_value()?;
            match (key.as_str(), value) {
                (HOST, Scalar::Text(text)) => {
                    let read: Result<Host, _> = text.parse();
                    let wrong = |error| Error::custom(format_args!("{HOST}: {error},"));
                    host = Some(read.map_err(wrong)?);
                }
                (PORT, Scalar::Whole(number)) => {
                    let read = u16::try_from(number).ok().filter(|port| *port > 0);
                    let wrong = || Error::custom(format_args!("{PORT} is not between 1 and 65535"));
                    port = Some(read.ok_or_else(wrong)?);
                }
                (MESSAGE, Scalar::Text(text)) => message = Some(text),
                (_, value) => {
                    let due = if key == PORT {
                        "a whole number"
                    } else {
                        "a text"
                    };
                    let found = value.name();
                    return Err(Error::custom(format_args!(
                        "{key} is {found} instead of {due}"
                    )));
                }
            }
        }
        let missing = |key| Error::custom(format_args!("{key} is missing"));
        Ok(Envelope {
            destination: Destination {
                host: host.ok_or_else(|| missing(HOST))?,
                port: port.ok_or_else(|| missing(PORT))?,
            },
            message: message.ok_or_else(|| missing(MESSAGE))?,
        })
    }
}

/// A value other than an object or a list.
enum Scalar {
    Text(String),
    Whole(u64),
    Negative,
    Fraction,
    Truth,
    Null,
}

impl Scalar {
    const fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Whole(_) => "a number",
            Self::Negative => "a negative number",
            Self::Fraction => "a number with a fraction or exponent",
            Self::Truth => "true or false",
            Self::Null => "null",
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a text or a number")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Whole(number))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Scalar, E> {
                Ok(Scalar::Negative)
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Scalar, E> {
                Ok(Scalar::Fraction)
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Scalar, E> {
                Ok(Scalar::Truth)
            }
            fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
                Ok(Scalar::Null)
            }
        }
        deserializer.deserialize_any(Any)
    }
}
