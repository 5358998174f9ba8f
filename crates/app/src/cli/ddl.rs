//! `tidemill ddl`.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Args, ValueEnum};
use tidemill_decode::time::parse_text;
use tidemill_kernel::schema::TimeUnit;
use tidemill_sink::{
    ClickHouseConfig,
    clickhouse::{
        Dialect, TableEngine, ddl,
        migrate::{Part, migration},
    },
};

use super::{Failure, run};
use crate::{assemble::clickhouse_config, config::Sink};

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
    /// Print how to change from another job's table (database.table) to the tables of this
    /// configuration: new tables beside it, a view that can be switched, queries that compare.
    /// Asks the server for the old table's columns; changes nothing.
    #[arg(long, conflicts_with = "dialect")]
    migrate: Option<String>,
    /// Rows that end at or after this time come from the new tables when the view is switched
    /// [default: the next full hour].
    #[arg(long, requires = "migrate")]
    at: Option<String>,
    /// Print only this part.
    #[arg(long, value_enum, requires = "migrate")]
    part: Option<PartName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PartName {
    /// New tables, and a view of the old one for readers.
    Beside,
    /// Queries that compare both.
    Compare,
    /// The view shows new rows from the switch time on.
    Switch,
    /// Undoes the switch.
    Back,
    /// The old table's name becomes the view's, when the old job is stopped.
    Finish,
}

impl PartName {
    fn name(self) -> &'static str {
        match self {
            PartName::Beside => "beside",
            PartName::Compare => "compare",
            PartName::Switch => "switch",
            PartName::Back => "back",
            PartName::Finish => "finish",
        }
    }
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
    let engine = engine(arguments, &sink.engine)?;
    let columns = config.schema.columns();
    let keys: Vec<String> = config.key_columns().into_iter().map(str::to_owned).collect();
    if let Some(old) = &arguments.migrate {
        let piece_rows_max = config.limits.piece_rows_max;
        let sink = ClickHouseConfig { engine, ..clickhouse_config(sink, piece_rows_max) };
        let at_s = switch_at_s(arguments.at.as_deref())?;
        let parts = migration(&sink, columns, &keys, old, at_s).map_err(Failure::failed)?;
        for part in parts {
            if arguments.part.is_none_or(|wanted| wanted.name() == part.name) {
                print_part(&part);
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let dialect = match arguments.dialect {
        DialectName::Modern => Dialect::Modern,
        DialectName::Legacy => Dialect::Legacy,
    };
    let statements = ddl(dialect, &engine, &sink.table, columns, &keys).map_err(Failure::usage)?;
    for statement in statements {
        super::print(&format!("{statement};\n\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_part(part: &Part) {
    super::print(&format!("-- {}\n", part.name));
    for note in &part.notes {
        super::print(&format!("-- {note}\n"));
    }
    for statement in &part.statements {
        super::print(&format!("\n{statement};\n"));
    }
    super::print("\n");
}

/// Returns the switch time in seconds: the one of the option, else the next full hour.
fn switch_at_s(at: Option<&str>) -> Result<u32, Failure> {
    let seconds = match at {
        Some(text) => {
            let time = parse_text(text.as_bytes(), TimeUnit::Auto);
            time.map(|time| time.as_ms().div_euclid(1000))
        }
        None => {
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(unix.as_secs() / 3600 * 3600 + 3600).ok()
        }
    };
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
    seconds.ok_or_else(|| {
        let at = at.unwrap_or_default();
        Failure::usage(format!("--at {at:?}: write a time such as 2026-01-01T12:00:00Z"))
    })
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
