//! RowBinary outside of rows: letters and records out, answers in.
//!
//! Rows themselves come encoded from the kernel; here they are only cut at their borders. Answers
//! are received data: nothing in them can panic or allocate more than they are long.

use tidemill_kernel::row::{Column, ColumnKind};

use crate::value::Value;

/// Appends a value of that column.
///
/// # Panics
/// If the value is of another kind, which is a mistake in the lists of `layout.rs`.
pub(super) fn push(out: &mut Vec<u8>, column: &Column, value: &Value) {
    if column.nullable {
        out.push(u8::from(*value == Value::Null));
        if *value == Value::Null {
            return;
        }
    }
    match (column.kind, value) {
        (ColumnKind::UInt64, Value::UInt(value)) => out.extend(value.to_le_bytes()),
        (ColumnKind::UInt32, Value::UInt(value)) => {
            let value = u32::try_from(*value).expect("32-bit columns hold 32-bit values");
            out.extend(value.to_le_bytes());
        }
        (ColumnKind::UInt8, Value::UInt(value)) => {
            out.push(u8::try_from(*value).expect("8-bit columns hold 8-bit values"));
        }
        (ColumnKind::Int64, Value::Int(value))
        | (ColumnKind::Milliseconds, Value::Millisecond(value)) => {
            out.extend(value.to_le_bytes());
        }
        (ColumnKind::Text, Value::Text(text)) => push_bytes(out, text.as_bytes()),
        (ColumnKind::Text, Value::Bytes(bytes)) => push_bytes(out, bytes),
        (kind, value) => unreachable!("column {} ({kind:?}) got {value:?}", column.name),
    }
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length as u8 & 0x7f) | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// Reads values one behind the other.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Returns how many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Reads one value; `None` if the bytes end within it.
    pub(super) fn value(&mut self, column: &Column) -> Option<Value> {
        if column.nullable && self.take(1)?[0] != 0 {
            return Some(Value::Null);
        }
        Some(match column.kind {
            ColumnKind::Float64 => Value::Float(f64::from_bits(self.integer(8)?)),
            ColumnKind::Int64 => Value::Int(self.integer(8)? as i64),
            ColumnKind::Milliseconds => Value::Millisecond(self.integer(8)? as i64),
            ColumnKind::Seconds => Value::Second(self.integer(4)? as i64 * 1000),
            ColumnKind::UInt64 => Value::UInt(self.integer(8)?),
            ColumnKind::UInt32 => Value::UInt(self.integer(4)?),
            ColumnKind::UInt8 => Value::UInt(self.integer(1)?),
            ColumnKind::Text => Value::from_bytes(self.bytes()?),
        })
    }

    /// Passes over one value; `None` if the bytes end within it.
    pub(super) fn skip(&mut self, column: &Column) -> Option<()> {
        if column.nullable && self.take(1)?[0] != 0 {
            return Some(());
        }
        match column.kind {
            ColumnKind::Float64
            | ColumnKind::Int64
            | ColumnKind::Milliseconds
            | ColumnKind::UInt64 => self.take(8)?,
            ColumnKind::Seconds | ColumnKind::UInt32 => self.take(4)?,
            ColumnKind::UInt8 => self.take(1)?,
            ColumnKind::Text => self.bytes()?,
        };
        Some(())
    }

    fn integer(&mut self, width: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        Some(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let mut length = 0_usize;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return self.take(length);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count)?;
        self.rest = tail;
        Some(head)
    }
}
