//! What one insert holds: rows or letters of one day, of bounded size.
//!
//! A server writes the rows of an insert atomically only within one partition of the table, and
//! tables are partitioned by day. How a commit is cut depends on its contents alone, so a repeated
//! commit sends the same pieces.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_kernel::row::RowBlock;

use super::row_binary::{Reader, push};
use crate::{
    layout::{Layout, letter_columns, letter_values},
    value::Value,
};
use tidemill_engine::{port::DeadLetter, record::LaneId};

const DAY_MS: i64 = 86_400_000;

/// The most rows and bytes of a piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct PieceLimits {
    pub(super) rows_max: usize,
    pub(super) bytes_max: usize,
}

/// Gathers encoded rows by day and cuts them.
struct Cutter {
    limits: PieceLimits,
    open: BTreeMap<i64, (Vec<u8>, usize)>,
    full: Vec<Bytes>,
}

impl Cutter {
    fn new(limits: PieceLimits) -> Cutter {
        Cutter { limits, open: BTreeMap::new(), full: Vec::new() }
    }

    fn add(&mut self, day: i64, row: &[u8]) {
        let (bytes, row_count) = self.open.entry(day).or_default();
        let beyond = bytes.len() + row.len() > self.limits.bytes_max;
        if *row_count > 0 && (beyond || *row_count == self.limits.rows_max) {
            self.full.push(std::mem::take(bytes).into());
            *row_count = 0;
        }
        bytes.extend_from_slice(row);
        *row_count += 1;
    }

    fn finish(self) -> Vec<Bytes> {
        let mut pieces = self.full;
        pieces.extend(self.open.into_values().map(|(bytes, _)| Bytes::from(bytes)));
        pieces
    }
}

/// Returns the bodies of the inserts that write these rows; `None` if the blocks are not of these
/// columns.
pub(super) fn row_pieces(
    blocks: &[RowBlock],
    layout: &Layout,
    limits: PieceLimits,
) -> Option<Vec<Bytes>> {
    let time = layout.index_of("time");
    let mut cutter = Cutter::new(limits);
    for block in blocks {
        let mut rest = block.bytes();
        while !rest.is_empty() {
            let mut reader = Reader::new(rest);
            let mut end_ms = 0;
            for (index, column) in layout.columns.iter().enumerate() {
                if index == time {
                    end_ms = reader.value(column)?.as_i64()?;
                } else {
                    reader.skip(column)?;
                }
            }
            let (row, tail) = rest.split_at(rest.len() - reader.left());
            cutter.add(end_ms.div_euclid(DAY_MS), row);
            rest = tail;
        }
    }
    Some(cutter.finish())
}

/// Returns the bodies of the inserts that write these letters.
pub(super) fn letter_pieces(
    lane: &LaneId,
    letters: &[DeadLetter],
    limits: PieceLimits,
) -> Vec<Bytes> {
    let columns = letter_columns();
    let mut cutter = Cutter::new(limits);
    let mut row = Vec::new();
    for letter in letters {
        row.clear();
        let values: Vec<Value> = letter_values(lane, letter);
        for (column, value) in columns.iter().zip(&values) {
            push(&mut row, column, value);
        }
        cutter.add(letter.publish_time_ms.div_euclid(DAY_MS), &row);
    }
    cutter.finish()
}
