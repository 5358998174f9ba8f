//! Writing: rows, then dead letters, then the record, each answered before the next is sent.

use tidemill_engine::{
    port::{Commit, RowKey, Store, StoreError, StoredState},
    record::{CommitRecord, LaneId},
};
use tidemill_kernel::row::{Column, RowBlock};

use super::{
    config::{ClickHouseConfig, Names},
    ddl::{Dialect, RECORD_SLOTS, stored_record_columns},
    pieces::{PieceLimits, letter_pieces, row_pieces},
    row_binary::push,
    server::Server,
    tables::{check_quorum, prepare},
};
use crate::{
    error::SinkError,
    layout::{Layout, letter_columns, record_columns, record_from_values, record_values},
    select::{self, newest_per_lane, quote_clickhouse, stored, text_clickhouse},
    value::Value,
};

/// Rows, letters and records in ClickHouse.
///
/// Nothing fences an owner that does not know it lost its lane: all it writes is true, and the
/// greater revision wins.
pub struct ClickHouseStore {
    server: Server,
    names: Names,
    layout: Layout,
    limits: PieceLimits,
    letter_columns: Vec<Column>,
    record_columns: Vec<Column>,
}

impl ClickHouseStore {
    /// Connects, makes what is missing if `create` says so, and compares the tables.
    ///
    /// # Errors
    /// A bad setting; a table that is missing or differs, with each difference; `Refused` for
    /// credentials and rights; `Unavailable` if the server cannot be reached now.
    ///
    /// # Panics
    /// If called within an asynchronous runtime: a store blocks its thread.
    pub fn connect(
        config: ClickHouseConfig,
        columns: &[Column],
        key_columns: &[String],
    ) -> Result<ClickHouseStore, SinkError> {
        let layout = Layout::new(columns, key_columns)?;
        let names = Names::parse(&config.table)?;
        let server = Server::connect(&config)?;
        prepare(&server, &config, &names, &layout, config.create)?;
        check_quorum(&server, &config, &names)?;
        Ok(ClickHouseStore {
            server,
            names,
            layout,
            limits: PieceLimits {
                rows_max: config.piece_rows_max,
                bytes_max: config.piece_bytes_max,
            },
            letter_columns: letter_columns(),
            record_columns: stored_record_columns(),
        })
    }

    /// Returns the dialect of the server.
    pub fn dialect(&self) -> Dialect {
        self.server.dialect
    }
}

impl Store for ClickHouseStore {
    /// That there is no record has to be true of all replicas, not of this one: the read is
    /// refused (and repeated by the engine) where a quorum has what this replica has not.
    fn load(&mut self, lane: &LaneId) -> Result<Option<CommitRecord>, StoreError> {
        let columns = record_columns();
        let names: Vec<String> =
            columns.iter().map(|column| quote_clickhouse(&column.name)).collect();
        let sql = format!(
            "SELECT {} FROM {} FINAL WHERE `pipeline` = {} AND `partition` = {}",
            names.join(", "),
            self.names.full(&self.names.records),
            text_clickhouse(&lane.pipeline),
            text_clickhouse(&lane.partition),
        );
        let mut records = Vec::new();
        for values in self.server.select(&sql, &columns)? {
            records.push(record_from_values(values).map_err(StoreError::Refused)?);
        }
        Ok(newest_per_lane(records).pop())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        self.write_rows(&commit.rows)?;
        let table = self.names.full(&self.names.letters);
        for piece in letter_pieces(&commit.record.lane, &commit.letters, self.limits) {
            self.server.insert(&table, &self.letter_columns, piece)?;
        }
        let mut body = Vec::new();
        let slot = Value::UInt(commit.record.id.number % RECORD_SLOTS);
        let values = [vec![slot], record_values(&commit.record)].concat();
        for (column, value) in self.record_columns.iter().zip(&values) {
            push(&mut body, column, value);
        }
        let table = self.names.full(&self.names.records);
        self.server.insert(&table, &self.record_columns, body.into())?;
        Ok(())
    }

    /// As the record, what is stored has to be what all replicas know.
    fn stored(
        &mut self,
        lane: &LaneId,
        keys: &[RowKey],
    ) -> Result<Vec<Option<StoredState>>, StoreError> {
        let table = format!("{} FINAL", self.names.full(&self.names.rows));
        let (layout, server) = (&self.layout, &mut self.server);
        stored(select::Dialect::ClickHouse, layout, &table, lane, keys, |sql, columns| {
            Ok(server.select(sql, columns)?)
        })
    }

    fn write_rows(&mut self, rows: &[RowBlock]) -> Result<(), StoreError> {
        let pieces = row_pieces(rows, &self.layout, self.limits);
        let pieces = pieces.ok_or_else(|| {
            StoreError::Refused("clickhouse: the rows are not of the store's columns".into())
        })?;
        let table = self.names.full(&self.names.rows);
        for piece in pieces {
            self.server.insert(&table, &self.layout.columns, piece)?;
        }
        Ok(())
    }
}
