//! Options that take a comma-separated list of values to compare.

use std::ffi::{OsStr, OsString};

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error};

/// The values of an option: at least one, each once.
#[derive(Debug, Clone)]
pub(super) struct List<T>(Vec<T>);

impl<T> List<T> {
    pub(super) fn one(value: T) -> Self {
        Self(vec![value])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

/// Parses a list of the values that `one` parses.
pub(super) fn list<P>(one: P) -> ListParser<P> {
    joined_list(one, |_| false)
}

/// As [`list`], where successive items of which `joins` is true are one value with commas.
pub(super) fn joined_list<P>(one: P, joins: fn(&str) -> bool) -> ListParser<P> {
    ListParser { one, joins }
}

/// Parser of [`list`].
#[derive(Debug, Clone)]
pub(super) struct ListParser<P> {
    one: P,
    joins: fn(&str) -> bool,
}

impl<P> ListParser<P> {
    /// The texts of the values.
    fn items(&self, text: &str) -> Vec<String> {
        let mut items: Vec<String> = Vec::new();
        for item in text.split(',') {
            match items.last_mut() {
                Some(last) if (self.joins)(last) && (self.joins)(item) => {
                    last.push(',');
                    last.push_str(item);
                }
                _ => items.push(item.to_owned()),
            }
        }
        items
    }
}

impl<P> TypedValueParser for ListParser<P>
where
    P: TypedValueParser,
    P::Value: PartialEq,
{
    type Value = List<P::Value>;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, Error> {
        let mut values = Vec::new();
        // The parser of one value rejects text that is not UTF-8.
        let items: Vec<OsString> = match value.to_str() {
            Some(text) => self.items(text).into_iter().map(OsString::from).collect(),
            None => vec![value.to_owned()],
        };
        for item in &items {
            if item.is_empty() && items.len() > 1 {
                let why = "a value is missing beside a comma; write it like A,B".to_owned();
                return refuse(why, command, arg, value);
            }
            let read = self.one.parse_ref(command, arg, item)?;
            if values.contains(&read) {
                let item = item.to_string_lossy();
                let why = format!("{item} occurs twice; name each value once");
                return refuse(why, command, arg, value);
            }
            values.push(read);
        }
        Ok(List(values))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.one.possible_values()
    }
}

/// clap's error for an invalid value, with `why` as the reason. clap builds it only while parsing.
fn refuse<T: Clone + Send + Sync + 'static>(
    why: String,
    command: &Command,
    arg: Option<&Arg>,
    value: &OsStr,
) -> Result<T, Error> {
    let never = move |_: &str| Err::<T, String>(why.clone());
    never.parse_ref(command, arg, value)
}
