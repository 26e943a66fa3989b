//! The columns of tables: one definition for CSV files, Markdown tables and the documentation.

use std::fmt;

/// A column of a table with a row for each `T`.
#[derive(Debug)]
pub struct Column<T: ?Sized> {
    /// Name in the header; never renamed, as programs rely on it.
    pub name: &'static str,
    /// Unit of the values; empty for names, flags, counts and dates.
    pub unit: &'static str,
    /// Meaning, as in `results/README.md`.
    pub help: &'static str,
    /// Value of a row.
    pub get: fn(&T) -> Cell,
}

impl<T: ?Sized> Column<T> {
    /// The column without its values.
    pub fn heading(&self) -> Heading {
        Heading {
            name: self.name,
            unit: self.unit,
            help: self.help,
        }
    }
}

/// Name, unit and meaning of a [`Column`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heading {
    /// As [`Column::name`].
    pub name: &'static str,
    /// As [`Column::unit`].
    pub unit: &'static str,
    /// As [`Column::help`].
    pub help: &'static str,
}

/// The value of a column in a row. Its text is the value as in CSV files.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Not known, or not applicable; never written as 0.
    Unknown,
    /// A name, a sentence or a date.
    Text(String),
    /// A count, bytes or ns.
    Integer(i128),
    /// Any other finite number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => Ok(()),
            Self::Text(text) => out.write_str(text),
            Self::Integer(value) => value.fmt(out),
            Self::Number(value) => value.fmt(out),
            Self::Flag(value) => value.fmt(out),
        }
    }
}

impl From<f64> for Cell {
    /// NaN and infinities are unknown values: 0/0 of an interval without length.
    fn from(value: f64) -> Self {
        match value.is_finite() {
            true => Self::Number(value),
            false => Self::Unknown,
        }
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, Into::into)
    }
}

macro_rules! integers {
    ($($type:ty),*) => {
        $(impl From<$type> for Cell {
            fn from(value: $type) -> Self {
                Self::Integer(value as i128)
            }
        })*
    };
}

integers!(u32, u64, usize, i64, i128);

/// Defines a list of columns, each as `name [unit] help => value of the row;`.
macro_rules! columns {
    ($(#[$doc:meta])* $vis:vis $list:ident: $type:ty = |$row:ident| {
        $($name:literal [$unit:literal] $help:literal => $get:expr;)*
    }) => {
        $(#[$doc])*
        $vis const $list: &[$crate::report::export::column::Column<$type>] = &[
            $($crate::report::export::column::Column {
                name: $name,
                unit: $unit,
                help: $help,
                get: |$row| $crate::report::export::column::Cell::from($get),
            }),*
        ];
    };
}
pub(crate) use columns;
