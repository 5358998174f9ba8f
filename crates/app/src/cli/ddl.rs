//! `tidemill ddl`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use tidemill_sink::clickhouse::{Dialect, TableEngine, ddl};

use super::{Failure, run};
use crate::config::Sink;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// For which servers; `run` asks the server itself.
    #[arg(long, value_enum, default_value_t = DialectName::Modern)]
    dialect: DialectName,
    /// Whether the tables are on one server or on a cluster [default: as configured].
    #[arg(long, value_enum)]
    engine: Option<EngineName>,
    /// The cluster's name in the servers' `remote_servers` [default: as configured].
    #[arg(long)]
    cluster: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EngineName {
    /// On one server: ReplacingMergeTree.
    Plain,
    /// ReplicatedReplacingMergeTree, and a Distributed table that shards rows by device.
    Replicated,
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
    let engine = engine(arguments, &sink.engine)?;
    let statements = ddl(dialect, &engine, &sink.table, config.schema.columns(), &keys)
        .map_err(Failure::usage)?;
    for statement in statements {
        super::print(&format!("{statement};\n\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the engine of the options, else the configured one.
fn engine(arguments: &Arguments, configured: &TableEngine) -> Result<TableEngine, Failure> {
    let cluster = arguments.cluster.as_deref().or(configured.cluster());
    let is_replicated = match arguments.engine {
        Some(engine) => engine == EngineName::Replicated,
        None => cluster.is_some(),
    };
    match cluster {
        Some(cluster) if is_replicated => Ok(TableEngine::Replicated { cluster: cluster.into() }),
        None if is_replicated => {
            Err(Failure::usage("--engine replicated needs --cluster with the cluster's name"))
        }
        _ if arguments.cluster.is_some() => {
            Err(Failure::usage("--cluster is for --engine replicated"))
        }
        _ => Ok(TableEngine::Plain),
    }
}
