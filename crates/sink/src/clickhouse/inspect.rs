//! What `check --connect` asks of ClickHouse: is it there, are the tables as they have to be, may
//! we write, does somebody else.
//!
//! Nothing is made and nothing is changed: the right to insert is asked for by an insert of no rows
//! at all, which makes no part of a table.

use tidemill_kernel::row::Column;

use super::{
    config::{ClickHouseConfig, Names, TableEngine},
    ddl::{Dialect, create_objects, expected},
    server::Server,
    tables::{FoundTable, check_quorum, compare, read_tables, texts},
};
use crate::{
    check::{
        Check,
        Verdict::{self, Error, NotChecked, Ok as Good, Warning},
    },
    error::SinkError,
    layout::Layout,
    select::{quote_clickhouse, text_clickhouse},
};

/// Records that were written so few seconds ago mean that somebody is writing.
const RECENT_S: u64 = 15;

/// Looks at the server and the tables of a configuration, for one pipeline.
///
/// # Errors
/// `Config` or `Layout`, if there is nothing to look for. All else is an answer.
///
/// # Panics
/// If called within an asynchronous runtime.
pub fn inspect(
    config: &ClickHouseConfig,
    columns: &[Column],
    key_columns: &[String],
    pipeline: &str,
) -> Result<Vec<Check>, SinkError> {
    let layout = Layout::new(columns, key_columns)?;
    let names = Names::parse(&config.table)?;
    let server = match Server::connect(config) {
        Ok(server) => server,
        Err(error) => {
            let text = format!("{error}; check url, user, password and whether it is running");
            return Ok(vec![Check::new("server", Error, text)]);
        }
    };
    let text = format!("ClickHouse {} answers at {}", server.version, config.url);
    let mut look = Look { server, config, names, layout, checks: Vec::new() };
    look.add("server", Good, text);
    if let Err(error) = look.all(pipeline) {
        look.add("server", Error, error.to_string());
    }
    Ok(look.checks)
}

struct Look<'a> {
    server: Server,
    config: &'a ClickHouseConfig,
    names: Names,
    layout: Layout,
    checks: Vec<Check>,
}

impl Look<'_> {
    fn add(&mut self, what: &'static str, verdict: Verdict, text: impl Into<String>) {
        self.checks.push(Check::new(what, verdict, text));
    }

    fn all(&mut self, pipeline: &str) -> Result<(), SinkError> {
        self.cluster()?;
        let found = read_tables(&self.server, &self.names)?;
        let is_there = |name: &str| found.iter().any(|table| table.name == name);
        let objects =
            create_objects(self.server.dialect, &self.config.engine, &self.names, &self.layout);
        let missing: Vec<String> =
            objects.into_iter().map(|(name, _)| name).filter(|name| !is_there(name)).collect();
        self.tables(&found, &missing)?;
        self.grants(&found)?;
        if !missing.is_empty() && self.config.create {
            self.right_to_create()?;
        }
        if is_there(&self.names.records) && is_there(&self.names.rows) {
            self.writers(pipeline)?;
        }
        Ok(())
    }

    fn cluster(&mut self) -> Result<(), SinkError> {
        let TableEngine::Replicated { cluster } = &self.config.engine else {
            return Ok(());
        };
        let known = texts::<1>(&self.server, "SELECT DISTINCT cluster FROM system.clusters")?;
        if known.iter().any(|[name]| name == cluster) {
            self.add("cluster", Good, format!("the server knows cluster {cluster:?}"));
        } else {
            let known: Vec<&str> = known.iter().map(|[name]| name.as_str()).collect();
            let text = format!(
                "the server knows no cluster {cluster:?}, only [{}]: add it to remote_servers, or \
                 write another name",
                known.join(", ")
            );
            self.add("cluster", Error, text);
        }
        match check_quorum(&self.server, self.config, &self.names) {
            Err(error @ SinkError::Config { .. }) => self.add("quorum", Error, error.to_string()),
            other => other?,
        }
        Ok(())
    }

    fn tables(&mut self, found: &[FoundTable], missing: &[String]) -> Result<(), SinkError> {
        let name = self.names.plain(&self.names.view);
        if found.iter().any(|table| table.name == self.names.view && table.engine != "View") {
            let error = SinkError::NotAView { table: name };
            self.add("tables", Error, error.to_string());
            return Ok(());
        }
        if !missing.is_empty() {
            let list = missing.join(", ");
            if self.config.create {
                self.add("tables", Good, format!("not there, made at the start: {list}"));
            } else {
                let first = SinkError::Missing { missing: self.names.plain(&missing[0]) };
                self.add("tables", Error, first.to_string());
            }
        }
        let engine = &self.config.engine;
        for table in expected(self.server.dialect, engine, &self.names, &self.layout) {
            if missing.contains(&table.name) {
                continue;
            }
            let differences = compare(&self.server, &self.names, &table, found)?;
            let name = self.names.plain(&table.name);
            if differences.is_empty() {
                self.add("columns", Good, format!("{name} is as the configuration needs it"));
            } else {
                let error = SinkError::Columns { table: name, differences };
                let text = format!("{error}; change the table, or write another name for it");
                self.add("columns", Error, text);
            }
        }
        Ok(())
    }

    fn grants(&mut self, found: &[FoundTable]) -> Result<(), SinkError> {
        let user = self.config.user.as_deref().unwrap_or("default").to_owned();
        let tables = [&self.names.rows, &self.names.letters, &self.names.records];
        let there = tables.into_iter().filter(|name| found.iter().any(|t| t.name == **name));
        let there: Vec<String> = there.map(|name| self.names.full(name)).collect();
        let mut allowed = !there.is_empty();
        for name in &there {
            let questions = [
                ("SELECT", format!("SELECT toString(count()) FROM {name} WHERE 0")),
                ("INSERT", format!("INSERT INTO {name} SELECT * FROM {name} WHERE 0")),
            ];
            for (right, sql) in questions {
                let outcome = match right {
                    "SELECT" => texts::<1>(&self.server, &sql).map(|_| ()),
                    _ => self.server.execute(&sql).map_err(SinkError::from),
                };
                if let Err(error) = outcome {
                    allowed = false;
                    let text = format!("{user} may not {right} on {name}: {error}; grant it");
                    self.add("grants", Error, text);
                }
            }
        }
        if allowed {
            self.add("grants", Good, format!("{user} may SELECT and INSERT"));
        }
        Ok(())
    }

    fn right_to_create(&mut self) -> Result<(), SinkError> {
        let user = self.config.user.as_deref().unwrap_or("default").to_owned();
        let database = quote_clickhouse(&self.names.database);
        let answer = if self.server.dialect == Dialect::Modern {
            let sql = format!("CHECK GRANT CREATE TABLE, CREATE VIEW ON {database}.*");
            number(&self.server, &sql)
        } else {
            // There are no grants yet, only profiles that forbid.
            let sql = "SELECT toUInt8(countIf((name = 'readonly' AND value != '0') \
                       OR (name = 'allow_ddl' AND value = '0')) = 0) FROM system.settings";
            number(&self.server, sql)
        };
        match answer {
            Ok(1) => self.add("grants", Good, format!("{user} may CREATE in {database}")),
            Ok(_) => {
                let text = format!(
                    "{user} may not CREATE in {database}: grant it, or make the tables with the \
                     statements of `tidemill ddl`"
                );
                self.add("grants", Error, text);
            }
            Err(error) => {
                let text = format!("whether {user} may CREATE in {database}: {error}");
                self.add("grants", NotChecked, text);
            }
        }
        Ok(())
    }

    fn writers(&mut self, pipeline: &str) -> Result<(), SinkError> {
        let [rows, records] = [&self.names.rows, &self.names.records].map(|t| self.names.full(t));
        let own = text_clickhouse(pipeline);
        let sql = format!(
            "SELECT pipeline, if(max(at) = toDateTime(0), '', toString(max(at))) FROM (\
             SELECT pipeline, max(time) AS at FROM {rows} WHERE time > now() - 86400 \
             GROUP BY pipeline UNION ALL \
             SELECT pipeline, toDateTime(0) AS at FROM {records} GROUP BY pipeline) \
             WHERE pipeline != {own} GROUP BY pipeline ORDER BY pipeline LIMIT 10"
        );
        let others = texts::<2>(&self.server, &sql)?;
        for [other, newest] in &others {
            let newest = match newest.is_empty() {
                true => "no row in the last day".to_owned(),
                false => format!("newest row {newest}"),
            };
            let text = format!(
                "pipeline {other:?} writes to this table, too ({newest}): readers see both; give \
                 each a table, or let them read WHERE pipeline = {own}"
            );
            self.add("writers", Warning, text);
        }
        let sql = format!(
            "SELECT toString(toUInt64(now() - max(modification_time))), toString(count()) \
             FROM system.parts WHERE active AND database = {} AND table = {}",
            text_clickhouse(&self.names.database),
            text_clickhouse(&self.names.records),
        );
        let written = texts::<2>(&self.server, &sql)?.pop();
        let age_s: Option<u64> =
            written.filter(|[_, parts]| parts != "0").and_then(|[age, _]| age.parse().ok());
        match age_s {
            Some(age_s) if age_s <= RECENT_S => {
                let text = format!(
                    "commit records were written {age_s} s ago: a process may be running on \
                     this table; if it is not yours, give each a table"
                );
                self.add("writers", Warning, text);
            }
            _ if others.is_empty() => self.add("writers", Good, "nobody else writes"),
            _ => {}
        }
        Ok(())
    }
}

fn number(server: &Server, sql: &str) -> Result<u8, SinkError> {
    let column = Column::new("number", tidemill_kernel::row::ColumnKind::UInt8, false);
    let rows = server.select(sql, &[column])?;
    let number = rows.first().and_then(|row| row[0].as_u64());
    Ok(number.and_then(|number| u8::try_from(number).ok()).unwrap_or(0))
}
