//! A stored row beside one that was computed again: which columns differ, and how it is written.
//!
//! Floats are compared by their bits; only the two zeros are the same, because SQLite keeps one.

use tidemill_kernel::row::{Cell, Column, ColumnKind, RowBlock};
use tidemill_sink::Value;

/// The column that says when a row was emitted.
pub const REVISION: &str = "revision";
/// Columns that a difference names.
const NAMED_MAX: usize = 4;

/// Returns a cell as a store gives it back.
pub fn value_of(cell: Cell<'_>, kind: ColumnKind) -> Value {
    match (Value::from(cell), kind) {
        (Value::UInt(at_s), ColumnKind::Seconds) => {
            Value::Second(i64::try_from(at_s).unwrap_or(i64::MAX).saturating_mul(1000))
        }
        (Value::Int(at_ms), ColumnKind::Milliseconds) => Value::Millisecond(at_ms),
        (value, _) => value,
    }
}

/// Encodes a row, whose values are those that [`value_of`] gives of cells of these columns.
pub fn append_row(block: &mut RowBlock, columns: &[Column], row: &[Value]) {
    for (column, value) in columns.iter().zip(row) {
        let cell = match value {
            Value::Null => Cell::Null,
            Value::Float(value) => Cell::Float(*value),
            Value::Int(value) | Value::Millisecond(value) => Cell::Int(*value),
            Value::UInt(value) => Cell::UInt(*value),
            Value::Second(at_ms) => Cell::UInt(at_ms.unsigned_abs() / 1000),
            Value::Text(text) => Cell::Text(text),
            Value::Bytes(_) => unreachable!("rows have no column of bytes"),
        };
        block.push(column, cell);
    }
    block.end_row();
}

/// Reports whether two values are the same, floats by their bits.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => {
            a.to_bits() == b.to_bits() || (*a == 0.0 && *b == 0.0)
        }
        _ => a == b,
    }
}

/// Returns what differs, as text; `None` if nothing does. Some columns may be left out.
pub fn difference(
    columns: &[Column],
    stored: &[Value],
    computed: &[Value],
    left_out: &[&str],
) -> Option<String> {
    let mut differing = columns.iter().zip(stored.iter().zip(computed)).filter(|(column, pair)| {
        !left_out.contains(&column.name.as_str()) && !same(pair.0, pair.1)
    });
    let named: Vec<String> = differing
        .by_ref()
        .take(NAMED_MAX)
        .map(|(column, (a, b))| format!("{} is {a} stored, {b} by the messages", column.name))
        .collect();
    let more = differing.count();
    if named.is_empty() {
        return None;
    }
    let more = if more == 0 { String::new() } else { format!(", and {more} columns more") };
    Some(named.join(", ") + &more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_bit_of_a_float_is_a_difference_and_the_sign_of_zero_is_none() {
        let float = |bits: u64| Value::Float(f64::from_bits(bits));
        let bits = 21.5_f64.to_bits();
        assert!(same(&float(bits), &float(bits)) && !same(&float(bits), &float(bits + 1)));
        assert!(same(&Value::Float(0.0), &Value::Float(-0.0)));
        assert!(!same(&Value::Float(0.0), &Value::Null) && same(&Value::Null, &Value::Null));
    }

    #[test]
    fn difference_names_columns_with_both_values() {
        let column = |name: &str| Column::new(name, ColumnKind::UInt64, false);
        let columns = ["a", "b", REVISION].map(column);
        let values = |numbers: [u64; 3]| numbers.map(Value::UInt);
        let (stored, computed) = (values([1, 2, 3]), values([1, 5, 4]));
        let found = difference(&columns, &stored, &computed, &[REVISION]);
        assert_eq!(found.as_deref(), Some("b is 2 stored, 5 by the messages"));
        let found = difference(&columns, &stored, &computed, &[]).expect("two differ");
        assert!(found.ends_with("revision is 3 stored, 4 by the messages"), "{found}");
        assert_eq!(difference(&columns, &stored, &values([1, 2, 4]), &[REVISION]), None);
        let many: Vec<Column> = (0..6).map(|at| column(&format!("c{at}"))).collect();
        let found = difference(
            &many,
            &[const { Value::Null }; 6],
            &[
                Value::UInt(1),
                Value::UInt(1),
                Value::UInt(1),
                Value::UInt(1),
                Value::UInt(1),
                Value::UInt(1),
            ],
            &[REVISION],
        );
        assert!(found.expect("all differ").ends_with("and 2 columns more"));
    }

    #[test]
    fn cells_become_what_stores_give_back() {
        assert_eq!(value_of(Cell::UInt(60), ColumnKind::Seconds), Value::Second(60_000));
        assert_eq!(value_of(Cell::Int(60), ColumnKind::Milliseconds), Value::Millisecond(60));
        assert_eq!(value_of(Cell::UInt(1), ColumnKind::UInt8), Value::UInt(1));
        assert_eq!(value_of(Cell::Null, ColumnKind::Float64), Value::Null);
    }

    #[test]
    fn row_is_encoded_as_the_cells_it_came_from() {
        let cells = [
            (ColumnKind::Seconds, Cell::UInt(u64::from(u32::MAX))),
            (ColumnKind::Milliseconds, Cell::Int(-1)),
            (ColumnKind::Float64, Cell::Float(-0.0)),
            (ColumnKind::Float64, Cell::Null),
            (ColumnKind::Int64, Cell::Int(i64::MIN)),
            (ColumnKind::UInt64, Cell::UInt(u64::MAX)),
            (ColumnKind::UInt32, Cell::UInt(7)),
            (ColumnKind::UInt8, Cell::UInt(1)),
            (ColumnKind::Text, Cell::Text("\u{fc}'\0")),
        ];
        let column = |(kind, cell): &(ColumnKind, Cell<'_>)| {
            Column::new("c", *kind, *cell == Cell::Null || *kind == ColumnKind::Float64)
        };
        let columns: Vec<Column> = cells.iter().map(column).collect();
        let mut expected = RowBlock::new();
        columns.iter().zip(cells).for_each(|(column, (_, cell))| expected.push(column, cell));
        expected.end_row();
        let row: Vec<Value> = cells.iter().map(|(kind, cell)| value_of(*cell, *kind)).collect();
        let mut block = RowBlock::new();
        append_row(&mut block, &columns, &row);
        assert_eq!(block, expected);
    }
}
