//! Roll-up rows in their encoded form, and a reader that gives the cells back.
//!
//! The encoding is ClickHouse's RowBinary (integers little-endian, floats as their bits, text with
//! a LEB128 length, a leading 0/1 byte before nullable cells), so that sink takes it as it is;
//! other sinks read cells. Byte layout: docs/formats.md.

use alloc::{string::String, sync::Arc, vec::Vec};

/// How a column is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Whole seconds since the epoch, 4 bytes unsigned.
    Seconds,
    /// Milliseconds since the epoch, 8 bytes signed.
    Milliseconds,
    /// IEEE 754 double.
    Float64,
    /// Signed 64 bits.
    Int64,
    /// Unsigned 64 bits.
    UInt64,
    /// Unsigned 32 bits.
    UInt32,
    /// Unsigned 8 bits: 0 or 1.
    UInt8,
    /// Bytes of UTF-8.
    Text,
}

/// A column of the roll-up row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in every store.
    pub name: String,
    /// Its encoding.
    pub kind: ColumnKind,
    /// Whether NULL is possible.
    pub nullable: bool,
}

impl Column {
    /// Returns a column.
    pub fn new(name: &str, kind: ColumnKind, nullable: bool) -> Column {
        Column { name: name.into(), kind, nullable }
    }
}

/// A value in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No message of the window carried a value.
    Null,
    /// `Float64`.
    Float(f64),
    /// `Int64` and `Milliseconds`.
    Int(i64),
    /// `UInt64`, `UInt32`, `UInt8` and `Seconds`.
    UInt(u64),
    /// `Text`.
    Text(&'a str),
}

/// Encoded rows, one behind the other. Clones share their memory until one is written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowBlock {
    bytes: Arc<Vec<u8>>,
    row_count: usize,
}

impl RowBlock {
    /// Returns an empty block.
    pub fn new() -> RowBlock {
        RowBlock::default()
    }

    /// Returns the encoded bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of rows.
    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// Returns whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.row_count == 0
    }

    /// Reads the rows back with the columns they were written with.
    pub fn reader<'a>(&'a self, columns: &'a [Column]) -> RowReader<'a> {
        RowReader { bytes: &self.bytes, columns }
    }

    /// Appends a cell. A row is finished with [`RowBlock::end_row`].
    pub fn push(&mut self, column: &Column, cell: Cell<'_>) {
        self.encoder().push(column, cell);
    }

    /// Finishes a row.
    pub fn end_row(&mut self) {
        self.row_count += 1;
    }

    /// Lets rows be appended.
    pub(crate) fn encoder(&mut self) -> Encoder<'_> {
        let bytes = Arc::make_mut(&mut self.bytes);
        Encoder { bytes, row_count: &mut self.row_count }
    }
}

/// What appends rows to a block: that nobody shares it is seen to once.
#[derive(Debug)]
pub(crate) struct Encoder<'b> {
    bytes: &'b mut Vec<u8>,
    row_count: &'b mut usize,
}

impl Encoder<'_> {
    /// Makes room for so many rows as long as those that are there, and an eighth.
    pub(crate) fn reserve(&mut self, row_count: usize) {
        let row_bytes = self.bytes.len() / (*self.row_count).max(1);
        self.bytes.reserve((row_bytes + row_bytes / 8) * row_count);
    }

    /// Appends a cell. A row is finished with [`Encoder::end_row`].
    pub(crate) fn push(&mut self, column: &Column, cell: Cell<'_>) {
        if column.nullable {
            self.bytes.push(u8::from(cell == Cell::Null));
            if cell == Cell::Null {
                return;
            }
        }
        match (column.kind, cell) {
            (ColumnKind::Float64, Cell::Float(value)) => self.put(&value.to_le_bytes()),
            (ColumnKind::Int64 | ColumnKind::Milliseconds, Cell::Int(value)) => {
                self.put(&value.to_le_bytes());
            }
            (ColumnKind::UInt64, Cell::UInt(value)) => self.put(&value.to_le_bytes()),
            (ColumnKind::UInt32 | ColumnKind::Seconds, Cell::UInt(value)) => {
                let value = u32::try_from(value).expect("32-bit columns hold 32-bit values");
                self.put(&value.to_le_bytes());
            }
            (ColumnKind::UInt8, Cell::UInt(value)) => self.bytes.push(u8::from(value != 0)),
            (ColumnKind::Text, Cell::Text(text)) => {
                self.put_length(text.len());
                self.put(text.as_bytes());
            }
            (kind, cell) => unreachable!("column {} ({kind:?}) got {cell:?}", column.name),
        }
    }

    /// Appends cells that are encoded already.
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn put_length(&mut self, mut length: usize) {
        while length >= 0x80 {
            self.bytes.push((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        self.bytes.push(length as u8);
    }

    /// Finishes a row.
    #[inline]
    pub(crate) fn end_row(&mut self) {
        *self.row_count += 1;
    }
}

/// The memory of rows that were written, for the next ones: with it a row of a million devices
/// takes 240 ns, with memory that is mapped anew 450 ns.
///
/// What is kept are the blocks of the last closing, and of them large ones: the others come back
/// from the allocator as they are. While somebody still has a block, it is his.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptRows {
    blocks: Vec<Arc<Vec<u8>>>,
}

/// A smaller block is not kept.
const KEPT_BYTES_MIN: usize = 1 << 20;

impl KeptRows {
    /// Returns an empty block, in memory that was used before if there is any.
    pub(crate) fn take(&mut self) -> RowBlock {
        while let Some(mut bytes) = self.blocks.pop() {
            if let Some(own) = Arc::get_mut(&mut bytes) {
                own.clear();
                return RowBlock { bytes, row_count: 0 };
            }
        }
        RowBlock::new()
    }

    /// Keeps the memory of these blocks, for when nobody has them any more, and no other.
    pub(crate) fn keep(&mut self, blocks: &[RowBlock]) {
        let large = blocks.iter().filter(|block| block.bytes.capacity() >= KEPT_BYTES_MIN);
        self.blocks = large.map(|block| block.bytes.clone()).collect();
    }

    /// Returns how many bytes it keeps that nobody else has.
    pub(crate) fn memory_bytes(&self) -> usize {
        let free = self.blocks.iter().filter(|bytes| Arc::strong_count(bytes) == 1);
        free.map(|bytes| bytes.capacity()).sum()
    }
}

/// Reads encoded rows cell by cell.
#[derive(Clone, Debug)]
pub struct RowReader<'a> {
    bytes: &'a [u8],
    columns: &'a [Column],
}

impl<'a> RowReader<'a> {
    /// Reads the next row into `cells` (cleared first); returns false behind the last row.
    pub fn next_row(&mut self, cells: &mut Vec<Cell<'a>>) -> bool {
        cells.clear();
        if self.bytes.is_empty() {
            return false;
        }
        for index in 0..self.columns.len() {
            let (kind, nullable) = (self.columns[index].kind, self.columns[index].nullable);
            let cell = if nullable && self.take(1)[0] == 1 { Cell::Null } else { self.read(kind) };
            cells.push(cell);
        }
        true
    }

    fn read(&mut self, kind: ColumnKind) -> Cell<'a> {
        match kind {
            ColumnKind::Float64 => Cell::Float(f64::from_bits(self.integer(8))),
            ColumnKind::Int64 | ColumnKind::Milliseconds => Cell::Int(self.integer(8) as i64),
            ColumnKind::UInt64 => Cell::UInt(self.integer(8)),
            ColumnKind::UInt32 | ColumnKind::Seconds => Cell::UInt(self.integer(4)),
            ColumnKind::UInt8 => Cell::UInt(self.integer(1)),
            ColumnKind::Text => {
                let length = self.length();
                let text = core::str::from_utf8(self.take(length));
                Cell::Text(text.expect("text cells are written from str"))
            }
        }
    }

    fn integer(&mut self, width: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width));
        u64::from_le_bytes(bytes)
    }

    fn length(&mut self) -> usize {
        let mut length = 0;
        for shift in (0..).step_by(7) {
            let byte = self.take(1)[0];
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        length
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.bytes.split_at(count);
        self.bytes = tail;
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_text(mut block: RowBlock, length: usize) -> RowBlock {
        let text: String = core::iter::repeat_n('x', length).collect();
        block.push(&Column::new("text", ColumnKind::Text, false), Cell::Text(&text));
        block.end_row();
        block
    }

    #[test]
    fn memory_of_rows_is_used_again_once_nobody_has_them() {
        let mut kept = KeptRows::default();
        let large = with_text(kept.take(), KEPT_BYTES_MIN);
        kept.keep(&[large.clone(), with_text(RowBlock::new(), 7)]);
        assert_eq!(kept.memory_bytes(), 0, "one is somebody's, the other one small");
        let place = large.bytes().as_ptr();
        let other = with_text(kept.take(), 3);
        assert_ne!(other.bytes().as_ptr(), place);
        assert_eq!((large.row_count(), large.bytes().len()), (1, KEPT_BYTES_MIN + 3));
        kept.keep(core::slice::from_ref(&large));
        drop(large);
        assert!(kept.memory_bytes() >= KEPT_BYTES_MIN);
        let again = kept.take();
        assert!(again.is_empty() && again.bytes().is_empty());
        let again = with_text(again, 3);
        assert_eq!((again.bytes().as_ptr(), &again), (place, &other));
        assert_eq!(kept.memory_bytes(), 0);
    }

    #[test]
    fn clones_of_rows_do_not_change_with_each_other() {
        let one = with_text(RowBlock::new(), 3);
        let two = with_text(one.clone(), 4);
        assert_eq!((one.row_count(), one.bytes()), (1, &b"\x03xxx"[..]));
        assert_eq!((two.row_count(), two.bytes()), (2, &b"\x03xxx\x04xxxx"[..]));
    }
}
