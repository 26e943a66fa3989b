//! Options that take a list: one value as ever, several with commas between to be compared.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error};

/// The values of an option, each once; never none.
#[derive(Debug, Clone)]
pub(super) struct List<T>(Vec<T>);

impl<T> List<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

/// Reads a list of what `one` reads.
pub(super) fn list<P>(one: P) -> ListParser<P> {
    ListParser(one)
}

/// What [`list`] makes.
#[derive(Debug, Clone)]
pub(super) struct ListParser<P>(P);

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
        // Other than UTF-8 is for the parser of one value to refuse.
        let items: Vec<&OsStr> = match value.to_str() {
            Some(text) => text.split(',').map(OsStr::new).collect(),
            None => vec![value],
        };
        for item in &items {
            if item.is_empty() && items.len() > 1 {
                let why = "a value is missing beside a comma; write it like A,B".to_owned();
                return refuse(why, command, arg, value);
            }
            let read = self.0.parse_ref(command, arg, item)?;
            if values.contains(&read) {
                let item = item.to_string_lossy();
                let why = format!("{item} is in it twice; name each value once");
                return refuse(why, command, arg, value);
            }
            values.push(read);
        }
        Ok(List(values))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

/// clap's own sentence on a value that is none, with `why` at its end. Only parsing makes it.
fn refuse<T: Clone + Send + Sync + 'static>(
    why: String,
    command: &Command,
    arg: Option<&Arg>,
    value: &OsStr,
) -> Result<T, Error> {
    let never = move |_: &str| Err::<T, String>(why.clone());
    never.parse_ref(command, arg, value)
}
