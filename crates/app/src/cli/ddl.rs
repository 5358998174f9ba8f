//! `tidemill ddl`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use tidemill_sink::clickhouse::{Dialect, ddl};

use super::{Failure, run};
use crate::config::Sink;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// For which servers; `run` asks the server itself.
    #[arg(long, value_enum, default_value_t = DialectName::Modern)]
    dialect: DialectName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DialectName {
    /// Servers of today.
    Modern,
    /// 18.16: without codecs, `LowCardinality` and `DateTime64`.
    Legacy,
}

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = run::load(&arguments.config)?;
    let Sink::ClickHouse(sink) = &config.sink else {
        let name = config.sink.name();
        return Err(Failure::usage(format!("sink.{name} needs no DDL; it is for sink.clickhouse")));
    };
    let dialect = match arguments.dialect {
        DialectName::Modern => Dialect::Modern,
        DialectName::Legacy => Dialect::Legacy,
    };
    let keys: Vec<String> = config.key_columns().into_iter().map(str::to_owned).collect();
    let statements =
        ddl(dialect, &sink.table, config.schema.columns(), &keys).map_err(Failure::usage)?;
    for statement in statements {
        super::print(&format!("{statement};\n\n"));
    }
    Ok(ExitCode::SUCCESS)
}
