//! The statements of a cut-over from another job's table: new tables beside it, a view that can be
//! switched from the old rows to the new ones and back, and queries that compare both.
//!
//! The old table is read, for its columns, and never written. Nothing is executed here; the
//! statements are printed for a person to run, part by part.

use tidemill_kernel::row::{Column, ColumnKind};

use super::{
    config::{ClickHouseConfig, Names},
    ddl::{Dialect, ddl, on_cluster, type_of},
    server::Server,
    tables::texts,
};
use crate::{
    error::SinkError,
    layout::Layout,
    select::{quote_clickhouse, text_clickhouse},
};

/// One part of a cut-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// What it does, and what to know before it is run; one line each.
    pub notes: Vec<String>,
    /// Its statements, without a semicolon at their ends.
    pub statements: Vec<String>,
}

/// Returns the parts of a cut-over from `old` (`database.table`) to the tables of a configuration.
/// Rows that end at or after `switch_at_s` (seconds since 1970) are taken from the new tables.
///
/// # Errors
/// `Config` for bad names; `Missing` if the old table is not there; `Columns` if it has no time or
/// not all group keys; what a connection gives.
///
/// # Panics
/// If called within an asynchronous runtime.
pub fn migration(
    config: &ClickHouseConfig,
    columns: &[Column],
    key_columns: &[String],
    old: &str,
    switch_at_s: u32,
) -> Result<Vec<Part>, SinkError> {
    let layout = Layout::new(columns, key_columns)?;
    let names = Names::parse(&config.table)?;
    let old = Names::parse(old)?;
    if (&old.database, &old.view) == (&names.database, &names.view) {
        let problem = format!(
            "{:?} is the old job's table; while both jobs run the new one needs a name of its own",
            config.table
        );
        return Err(SinkError::Config { key: "table", problem });
    }
    let server = Server::connect(config)?;
    let sql = format!(
        "SELECT name, type FROM system.columns WHERE database = {} AND table = {}",
        text_clickhouse(&old.database),
        text_clickhouse(&old.view),
    );
    let there = texts::<2>(&server, &sql)?;
    if there.is_empty() {
        return Err(SinkError::Absent { table: old.plain(&old.view) });
    }
    let plan = CutOver::new(config, server.dialect, names, old, &layout, &there, switch_at_s)?;
    let made = ddl(server.dialect, &config.engine, &config.table, columns, key_columns)?;
    Ok(plan.parts(made))
}

/// A column that both tables have.
struct Shared {
    name: String,
    /// How each side gives it, in one type.
    old: String,
    new: String,
    is_number: bool,
}

struct CutOver {
    names: Names,
    old: Names,
    keys: Vec<String>,
    shared: Vec<Shared>,
    old_time_is_plain: bool,
    /// Columns of the old table that the new rows have not.
    left_out: Vec<String>,
    on_cluster: String,
    switch_at_s: u32,
}

impl CutOver {
    fn new(
        config: &ClickHouseConfig,
        dialect: Dialect,
        names: Names,
        old: Names,
        layout: &Layout,
        there: &[[String; 2]],
        switch_at_s: u32,
    ) -> Result<CutOver, SinkError> {
        let needed = layout.key_columns.iter().map(String::as_str).chain(["time"]);
        let missing = needed.filter(|name| there.iter().all(|[there, _]| there != name));
        let differences: Vec<String> =
            missing.map(|name| format!("column {name:?} is missing")).collect();
        if !differences.is_empty() {
            return Err(SinkError::Columns { table: old.plain(&old.view), differences });
        }
        let (mut shared, mut left_out) = (Vec::new(), Vec::new());
        for [name, type_there] in there {
            match layout.columns.iter().find(|column| column.name == *name) {
                Some(column) => shared.push(Shared::new(dialect, column, type_there)),
                None => left_out.push(name.clone()),
            }
        }
        Ok(CutOver {
            names,
            old,
            keys: layout.key_columns.iter().map(|name| quote_clickhouse(name)).collect(),
            old_time_is_plain: there
                .iter()
                .any(|[name, type_there]| name == "time" && type_there.starts_with("DateTime")),
            shared,
            left_out,
            on_cluster: on_cluster(&config.engine),
            switch_at_s,
        })
    }

    fn parts(&self, made: Vec<String>) -> Vec<Part> {
        let [old, new] = [&self.old.view, &self.names.view];
        let [current, next, before] = self.view_names();
        let mut notes = vec![
            format!("makes the new tables and {current}, a view of {old}, for readers"),
            "changes nothing that is there; point readers to the view now".to_owned(),
        ];
        if !self.left_out.is_empty() {
            let columns = self.left_out.join(", ");
            notes.push(format!(
                "not in the view, since the new rows have no such column: {columns}"
            ));
        }
        let mut beside = made;
        beside.push(self.create_view(&current, &self.select_old("")));
        let part =
            |name, notes: &[String], statements| Part { name, notes: notes.to_vec(), statements };
        let note = |text: &str| text.to_owned();
        vec![
            part("beside", &notes, beside),
            part(
                "compare",
                &[
                    note("compares the last hour that both jobs have whole; changes nothing"),
                    note("1. rows by minute  2. keys that only one job has  3. means by column"),
                ],
                vec![self.rows_by_minute(), self.keys_of_one(), self.means()],
            ),
            part(
                "switch",
                &[
                    format!("readers of {current} see the rows of {new} from the switch time on"),
                    note("run it when the comparison is good; the old job may go on"),
                ],
                vec![
                    self.drop_view(&next),
                    self.drop_view(&before),
                    self.create_view(&next, &self.select_both(&self.old.view)),
                    self.rename(&[(&current, &before), (&next, &current)]),
                ],
            ),
            part(
                "back",
                &[format!("undoes the switch: readers of {current} see only {old} again")],
                vec![self.rename(&[(&current, &next), (&before, &current)])],
            ),
            part(
                "finish",
                &[
                    note("run it when the old job is stopped; else its inserts fail"),
                    format!(
                        "{old} becomes {old}_old, and a view of old and new rows takes its name"
                    ),
                ],
                vec![
                    self.rename(&[(old, &format!("{old}_old"))]),
                    self.create_view(old, &self.select_both(&format!("{old}_old"))),
                ],
            ),
        ]
    }

    /// Returns the names of the readers' view, of the one that takes its place, and of the one
    /// that had it.
    fn view_names(&self) -> [String; 3] {
        ["current", "current_next", "current_before"].map(|end| format!("{}_{end}", self.old.view))
    }

    fn create_view(&self, name: &str, select: &str) -> String {
        let name = self.old.full(name);
        format!("CREATE VIEW {name}{} AS\n{select}", self.on_cluster)
    }

    fn drop_view(&self, name: &str) -> String {
        format!("DROP TABLE IF EXISTS {}{}", self.old.full(name), self.on_cluster)
    }

    fn rename(&self, pairs: &[(&str, &str)]) -> String {
        let pair =
            |(from, to): &(&str, &str)| format!("{} TO {}", self.old.full(from), self.old.full(to));
        let pairs: Vec<String> = pairs.iter().map(pair).collect();
        format!("RENAME TABLE {}{}", pairs.join(", "), self.on_cluster)
    }

    fn select_old(&self, condition: &str) -> String {
        self.select_from(&self.old.full(&self.old.view), condition, |shared| &shared.old)
    }

    fn select_both(&self, old: &str) -> String {
        let at = format!("toDateTime({})", self.switch_at_s);
        let [old_time, new_time] = self.times();
        let old = self.old.full(old);
        let new = self.names.full(&self.names.view);
        format!(
            "{}\nUNION ALL\n{}",
            self.select_from(&old, &format!("\nWHERE {old_time} < {at}"), |shared| &shared.old),
            self.select_from(&new, &format!("\nWHERE {new_time} >= {at}"), |shared| &shared.new),
        )
    }

    fn select_from(
        &self,
        table: &str,
        condition: &str,
        side: impl Fn(&Shared) -> &String,
    ) -> String {
        let column = |shared: &Shared| {
            let (given, name) = (side(shared), quote_clickhouse(&shared.name));
            if *given == name { name } else { format!("{given} AS {name}") }
        };
        let columns: Vec<String> = self.shared.iter().map(column).collect();
        format!("SELECT {}\nFROM {table} AS rows{condition}", columns.join(", "))
    }

    /// Returns the time of a row of each side; bare where it can be, so that its index is used.
    fn times(&self) -> [String; 2] {
        let bare = "rows.`time`".to_owned();
        let old = if self.old_time_is_plain { bare.clone() } else { format!("toDateTime({bare})") };
        [old, bare]
    }

    /// Returns FROM and WHERE of each side: the last hour that both have whole. The old job's time
    /// is its clock when the row was written, shortly after the end of the minute that new rows
    /// bear as their time.
    fn hour_of_both(&self) -> [String; 2] {
        let [old, new] = [self.old.full(&self.old.view), self.names.full(&self.names.view)];
        // For bounds alone no row has to be in its last revision.
        let tables = [old.clone(), self.names.full(&self.names.rows)];
        let bound = |outer: &str, inner: &str| {
            let ends: Vec<String> = tables
                .iter()
                .map(|table| format!("SELECT {inner}(toDateTime(`time`)) AS at FROM {table}"))
                .collect();
            format!("(SELECT toStartOfMinute({outer}(at)) FROM ({}))", ends.join(" UNION ALL "))
        };
        let (first, last) = (bound("max", "min"), bound("min", "max"));
        let [old_time, new_time] = self.times();
        [(old, old_time), (new, new_time)].map(|(table, time)| {
            format!(
                "FROM {table} AS rows\n  \
                 WHERE {time} >= greatest({first} + 60, {last} - 3600)\n    \
                 AND {time} < {last}"
            )
        })
    }

    fn rows_by_minute(&self) -> String {
        let [old, new] = self.hour_of_both();
        let minute = "toStartOfMinute(toDateTime(rows.`time`)) AS minute";
        format!(
            "SELECT minute, sum(old_count) AS old_rows, sum(new_count) AS new_rows\nFROM (\n  \
             SELECT {minute}, toUInt64(1) AS old_count, toUInt64(0) AS new_count\n  {old}\n  \
             UNION ALL\n  \
             SELECT {minute}, toUInt64(0) AS old_count, toUInt64(1) AS new_count\n  {new}\n)\n\
             GROUP BY minute ORDER BY minute"
        )
    }

    fn keys_of_one(&self) -> String {
        let [old, new] = self.hour_of_both();
        let keys = self.keys.join(", ");
        let texts = |side: &str| {
            let keys: Vec<String> =
                self.keys.iter().map(|key| format!("toString(rows.{key}) AS {key}")).collect();
            let [is_old, is_new] = [side == "old", side == "new"].map(u8::from);
            let keys = keys.join(", ");
            format!("{keys}, toUInt64({is_old}) AS old_count, toUInt64({is_new}) AS new_count")
        };
        format!(
            "SELECT {keys}, sum(old_count) AS old_rows, sum(new_count) AS new_rows\nFROM (\n  \
             SELECT {}\n  {old}\n  UNION ALL\n  SELECT {}\n  {new}\n)\n\
             GROUP BY {keys} HAVING old_rows = 0 OR new_rows = 0 ORDER BY {keys} LIMIT 100",
            texts("old"),
            texts("new"),
        )
    }

    fn means(&self) -> String {
        let [old, new] = self.hour_of_both();
        let numbers = || self.shared.iter().filter(|shared| shared.is_number);
        let names: Vec<String> = numbers().map(|shared| text_clickhouse(&shared.name)).collect();
        let means: Vec<String> = numbers()
            .map(|shared| format!("rows.{}", quote_clickhouse(&shared.name)))
            .map(|column| format!("ifNull(avg(toFloat64({column})), nan)"))
            .collect();
        let (names, means) = (names.join(", "), means.join(", "));
        format!(
            "SELECT name, sumIf(mean, is_new = 0) AS old_mean,\n  \
             sumIf(mean, is_new = 1) AS new_mean,\n  \
             (new_mean - old_mean) / abs(old_mean) AS difference\nFROM (\n  \
             SELECT 0 AS is_new, [{names}] AS name, [{means}] AS mean\n  {old}\n  UNION ALL\n  \
             SELECT 1 AS is_new, [{names}] AS name, [{means}] AS mean\n  {new}\n)\n\
             ARRAY JOIN name, mean\nGROUP BY name ORDER BY name"
        )
    }
}

impl Shared {
    fn new(dialect: Dialect, column: &Column, type_there: &str) -> Shared {
        // A key's type is never a dictionary.
        let type_here = type_of(dialect, column, true);
        let [old, new] = [type_there, &type_here].map(without_dictionary);
        let common = common_type(&old, &new);
        let name = quote_clickhouse(&column.name);
        let side = |given: &str, is_dictionary: bool| {
            if given == common && !is_dictionary {
                format!("rows.{name}")
            } else {
                format!("CAST(rows.{name} AS {common})")
            }
        };
        // The dictionary of the new column is one of the modern dialect only.
        let is_number = column.kind != ColumnKind::Text
            && !matches!(column.kind, ColumnKind::Seconds | ColumnKind::Milliseconds)
            && !common.contains("String");
        Shared {
            old: side(&old, type_there.contains("LowCardinality")),
            new: side(&new, type_of(dialect, column, false).contains("LowCardinality")),
            name: column.name.clone(),
            is_number,
        }
    }
}

fn without_dictionary(name: &str) -> String {
    let inner = name.strip_prefix("LowCardinality(").and_then(|rest| rest.strip_suffix(')'));
    inner.unwrap_or(name).to_owned()
}

/// Returns a type that holds the values of both, the new one where that is possible.
fn common_type(old: &str, new: &str) -> String {
    let bare = |name: &str| {
        let inner = name.strip_prefix("Nullable(").and_then(|rest| rest.strip_suffix(')'));
        inner.unwrap_or(name).to_owned()
    };
    let (old_bare, new_bare) = (bare(old), bare(new));
    let is_text = |name: &str| name == "String" || name.starts_with("FixedString");
    let common = if is_text(&old_bare) || is_text(&new_bare) {
        // A text that must be a time is read as one; other numbers are shown as text.
        if new_bare.starts_with("DateTime") { new_bare } else { "String".to_owned() }
    } else if old_bare.starts_with("Float") || new_bare.starts_with("Float") {
        "Float64".to_owned()
    } else {
        new_bare
    };
    let nullable = old.starts_with("Nullable(") || new.starts_with("Nullable(");
    if nullable { format!("Nullable({common})") } else { common }
}

#[cfg(test)]
mod tests {
    use super::common_type;

    #[test]
    fn common_type_loses_no_value() {
        for (old, new, common) in [
            ("Float32", "Nullable(Float64)", "Nullable(Float64)"),
            ("Float64", "Nullable(Int64)", "Nullable(Float64)"),
            ("Int32", "Nullable(Int64)", "Nullable(Int64)"),
            ("DateTime", "DateTime('UTC')", "DateTime('UTC')"),
            ("String", "DateTime('UTC')", "DateTime('UTC')"),
            ("String", "Nullable(Int64)", "Nullable(String)"),
            ("Nullable(String)", "String", "Nullable(String)"),
            ("String", "String", "String"),
        ] {
            assert_eq!(common_type(old, new), common, "{old} and {new}");
        }
    }
}
