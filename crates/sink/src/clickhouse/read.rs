//! Reading back, over a connection of its own, always with FINAL.

use tidemill_kernel::row::Column;

use super::{
    config::{ClickHouseConfig, Names},
    ddl::RECORD_SLOTS,
    server::Server,
    tables::prepare,
};
use crate::{
    error::SinkError,
    layout::Layout,
    select::{Dialect, Select},
    value::Value,
};

/// Reads what a ClickHouse store holds.
pub struct ClickHouseReader {
    server: Server,
    names: Names,
    layout: Layout,
}

impl ClickHouseReader {
    /// Connects and compares the tables; makes nothing, whatever `create` says.
    ///
    /// # Errors
    /// As [`ClickHouseStore::connect`](super::ClickHouseStore::connect).
    ///
    /// # Panics
    /// If called within an asynchronous runtime: a reader blocks its thread.
    pub fn connect(
        config: ClickHouseConfig,
        columns: &[Column],
        key_columns: &[String],
    ) -> Result<ClickHouseReader, SinkError> {
        let layout = Layout::new(columns, key_columns)?;
        let names = Names::parse(&config.table)?;
        let server = Server::connect(&config)?;
        prepare(&server, &config, &names, &layout, false)?;
        Ok(ClickHouseReader { server, names, layout })
    }

    fn final_table(&self, name: &str) -> String {
        format!("{} FINAL", self.names.full(name))
    }
}

impl Select for ClickHouseReader {
    fn dialect(&self) -> Dialect {
        Dialect::ClickHouse
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn rows_table(&self) -> String {
        self.final_table(&self.names.rows)
    }

    fn letters_table(&self) -> String {
        self.final_table(&self.names.letters)
    }

    fn records_table(&self) -> String {
        self.final_table(&self.names.records)
    }

    fn record_slots(&self) -> u64 {
        RECORD_SLOTS
    }

    fn select(&mut self, sql: &str, columns: &[Column]) -> Result<Vec<Vec<Value>>, SinkError> {
        Ok(self.server.select_of_days(sql, columns)?)
    }
}
