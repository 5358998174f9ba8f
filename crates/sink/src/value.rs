//! Values read from a store, or written into its letters and records.
//!
//! Rows are not written through these: they come encoded (`RowBlock`) and are taken as they are.

use std::fmt;

use tidemill_kernel::row::Cell;

use crate::time_text::format_ms;

/// A value of a stored table.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// A double.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes that are not UTF-8.
    Bytes(Vec<u8>),
    /// An instant in whole seconds, kept as milliseconds since the epoch.
    Second(i64),
    /// An instant in milliseconds since the epoch.
    Millisecond(i64),
}

impl Value {
    /// Returns text or bytes as a value: text if they are UTF-8.
    pub fn from_bytes(bytes: &[u8]) -> Value {
        match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.into()),
            Err(_) => Value::Bytes(bytes.into()),
        }
    }

    /// Returns an unsigned integer, if it is one.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::UInt(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns a signed integer or the milliseconds of an instant.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(value) | Value::Second(value) | Value::Millisecond(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<Cell<'_>> for Value {
    /// Keeps the value; `Seconds` and `Milliseconds` cells become plain integers.
    fn from(cell: Cell<'_>) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Float(value) => Value::Float(value),
            Cell::Int(value) => Value::Int(value),
            Cell::UInt(value) => Value::UInt(value),
            Cell::Text(text) => Value::Text(text.into()),
        }
    }
}

impl fmt::Display for Value {
    /// Writes it as a reader wants to see it: `NULL`, shortest float, UTC date and time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("NULL"),
            Value::Int(value) => write!(f, "{value}"),
            Value::UInt(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value}"),
            Value::Text(text) => f.write_str(text),
            Value::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Value::Second(at_ms) => f.write_str(&format_ms(*at_ms, ' ', false)),
            Value::Millisecond(at_ms) => f.write_str(&format_ms(*at_ms, ' ', true)),
        }
    }
}
