//! What a message carries and what becomes of it: fields, roles, aggregates, and the columns of
//! the row that follow from them.
//!
//! A schema is plain data known at run time. It does not parse configuration (the app does) and
//! does not read messages (decode does); both build on the slots assigned here.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use crate::row::{Column, ColumnKind};

/// How the value of a field is written in a message and kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueType {
    /// A number, kept as the nearest `f64`.
    Float,
    /// A whole number, kept as `i64`; 3, 3.0 and 3e0 are the same.
    Int,
    /// true/false (also 1/0), kept as `i64` 1 or 0.
    Bool,
    /// Text, kept as UTF-8 bytes.
    Text,
}

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Part of the group key (text; integers are taken as their decimal text).
    Key,
    /// The event time.
    Time,
    /// A property of the device: the earliest value of the window is kept.
    Attribute,
    /// A measured quantity: the mean is kept.
    Gauge,
    /// A yes/no: the majority is kept.
    Flag,
    /// A number that names a state: the most frequent is kept, never an average.
    Code,
    /// A count per message: the sum is kept.
    Counter,
}

/// What is kept of a field's values in one device-window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aggregate {
    /// The exact sum rounded once, divided by the count.
    Avg,
    /// The exact sum, rounded once (floats) or saturated at 64 bits (integers).
    Sum,
    /// How many messages carried a valid value.
    Count,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// The value of the earliest event (ties: the smallest value).
    First,
    /// The value of the latest event (ties: the smallest value).
    Last,
    /// 1 if more than half of the values are true.
    Majority,
    /// The most frequent value (ties: the smallest).
    MostFrequent,
}

impl Aggregate {
    /// Every aggregate.
    pub const ALL: [Aggregate; 9] = [
        Aggregate::Avg,
        Aggregate::Sum,
        Aggregate::Count,
        Aggregate::Min,
        Aggregate::Max,
        Aggregate::First,
        Aggregate::Last,
        Aggregate::Majority,
        Aggregate::MostFrequent,
    ];

    /// Returns the name used in configuration and as the suffix of columns.
    pub const fn name(self) -> &'static str {
        match self {
            Aggregate::Avg => "avg",
            Aggregate::Sum => "sum",
            Aggregate::Count => "count",
            Aggregate::Min => "min",
            Aggregate::Max => "max",
            Aggregate::First => "first",
            Aggregate::Last => "last",
            Aggregate::Majority => "majority",
            Aggregate::MostFrequent => "most_frequent",
        }
    }

    /// Returns whether the aggregate means something for values of that type.
    pub const fn accepts(self, value_type: ValueType) -> bool {
        match self {
            Aggregate::Avg | Aggregate::Sum | Aggregate::Min | Aggregate::Max => {
                matches!(value_type, ValueType::Float | ValueType::Int)
            }
            Aggregate::Count | Aggregate::First | Aggregate::Last => true,
            Aggregate::Majority => matches!(value_type, ValueType::Bool),
            Aggregate::MostFrequent => matches!(value_type, ValueType::Int),
        }
    }
}

impl Role {
    /// Returns the aggregate whose column bears the field's bare name.
    pub const fn main_aggregate(self) -> Option<Aggregate> {
        match self {
            Role::Key | Role::Time => None,
            Role::Attribute => Some(Aggregate::First),
            Role::Gauge => Some(Aggregate::Avg),
            Role::Flag => Some(Aggregate::Majority),
            Role::Code => Some(Aggregate::MostFrequent),
            Role::Counter => Some(Aggregate::Sum),
        }
    }

    /// Returns the name used in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Key => "key",
            Role::Time => "time",
            Role::Attribute => "attribute",
            Role::Gauge => "gauge",
            Role::Flag => "flag",
            Role::Code => "code",
            Role::Counter => "counter",
        }
    }
}

/// How the text or number of a time field is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// RFC 3339, `YYYY-MM-DD HH:MM:SS[.fff]` as UTC, or epoch units told apart by magnitude.
    #[default]
    Auto,
    /// Epoch seconds.
    Seconds,
    /// Epoch milliseconds.
    Milliseconds,
    /// Epoch microseconds.
    Microseconds,
    /// Epoch nanoseconds.
    Nanoseconds,
}

/// One field of the messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The canonical name: the column's name, and the message's unless `path` says otherwise.
    pub name: String,
    /// Where the value stands: one name per level of nesting. Never empty.
    pub path: Vec<String>,
    /// Other paths, tried in order after `path`; the first that is there and not null counts.
    pub aliases: Vec<Vec<String>>,
    /// How the value is written.
    pub value_type: ValueType,
    /// What it is for.
    pub role: Role,
    /// Smallest and largest valid value of numbers; others are invalid: counted, never added.
    /// Codes need a range of at most `CODE_RANGE_MAX` values.
    pub range: Option<(f64, f64)>,
    /// What is kept; empty for keys and time.
    pub aggregates: Vec<Aggregate>,
    /// Words that stand for numbers (codes and ints), compared exactly.
    pub words: Vec<(String, i64)>,
    /// How a time is read; only for the time field.
    pub time_unit: TimeUnit,
}

impl Field {
    /// Returns a field with the defaults of its role: path = name, no aliases, main aggregate only.
    pub fn new(name: &str, value_type: ValueType, role: Role) -> Field {
        let range = matches!(role, Role::Code).then_some((0.0, 255.0));
        Field {
            name: name.into(),
            path: alloc::vec![name.into()],
            aliases: Vec::new(),
            value_type,
            role,
            range,
            aggregates: role.main_aggregate().into_iter().collect(),
            words: Vec::new(),
            time_unit: TimeUnit::Auto,
        }
    }

    /// Returns the name of the column that holds `aggregate`.
    pub fn column_name(&self, aggregate: Aggregate) -> String {
        if self.role.main_aggregate() == Some(aggregate) {
            self.name.clone()
        } else {
            alloc::format!("{}_{}", self.name, aggregate.name())
        }
    }
}

/// The most values a code may tell apart.
pub const CODE_RANGE_MAX: u32 = 1024;
/// The most fields of a schema.
pub const FIELDS_MAX: usize = 1024;

/// Why a set of fields is no schema. The text names the field and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field:?}: {problem}")]
pub struct SchemaError {
    /// The field's name, or the name of the whole schema's part.
    pub field: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// Where the values of a field stand in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The n-th part of the group key.
    Key(u16),
    /// The event time.
    Time,
    /// The n-th float.
    Float(u16),
    /// The n-th integer (also codes and booleans).
    Int(u16),
    /// The n-th text.
    Text(u16),
}

/// A checked set of fields with their slots.
///
/// ```
/// use tidemill_kernel::schema::{Field, Role, Schema, ValueType};
/// let schema = Schema::new(vec![
///     Field::new("device_id", ValueType::Text, Role::Key),
///     Field::new("time", ValueType::Int, Role::Time),
///     Field::new("temperature", ValueType::Float, Role::Gauge),
/// ])?;
/// assert_eq!(schema.columns()[0].name, "time");
/// # Ok::<(), tidemill_kernel::schema::SchemaError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    fields: Vec<Field>,
    slots: Vec<Slot>,
    key_count: usize,
    float_count: usize,
    int_count: usize,
    text_count: usize,
    columns: Vec<Column>,
    is_amendable: bool,
}

impl Schema {
    /// Checks the fields and gives each its slot.
    ///
    /// # Errors
    /// No key, not exactly one time, a name twice (also as a column), an aggregate that the type
    /// does not allow, a code without a small range, too many fields.
    pub fn new(fields: Vec<Field>) -> Result<Schema, SchemaError> {
        Schema::with_times(fields, 1)
    }

    /// Checks the fields of messages whose event time is the time at which they were published.
    ///
    /// # Errors
    /// As [`Schema::new`], but any field with the role of the time is one too many.
    pub fn published(fields: Vec<Field>) -> Result<Schema, SchemaError> {
        Schema::with_times(fields, 0)
    }

    fn with_times(fields: Vec<Field>, time_count: usize) -> Result<Schema, SchemaError> {
        let mut schema = Schema {
            slots: Vec::with_capacity(fields.len()),
            fields: Vec::new(),
            key_count: 0,
            float_count: 0,
            int_count: 0,
            text_count: 0,
            columns: Vec::new(),
            is_amendable: false,
        };
        if fields.len() > FIELDS_MAX {
            let problem = alloc::format!("{} fields, at most {FIELDS_MAX}", fields.len());
            return Err(SchemaError { field: "schema".into(), problem });
        }
        for field in &fields {
            check_field(field)?;
            schema.assign(field);
        }
        let times = schema.slots.iter().filter(|slot| **slot == Slot::Time).count();
        if times != time_count {
            let needed = if time_count == 1 { "exactly one" } else { "none" };
            let problem = alloc::format!("{times} fields with role \"time\", {needed} needed");
            return Err(SchemaError { field: "schema".into(), problem });
        }
        if schema.key_count == 0 {
            let problem = "no field with role \"key\", at least one needed".into();
            return Err(SchemaError { field: "schema".into(), problem });
        }
        schema.fields = fields;
        schema.columns = derive_columns(&schema.fields);
        check_names(&schema.columns)?;
        Ok(schema)
    }

    /// Gives the rows the [`AMEND_COLUMNS`]: what is needed to correct a stored row.
    ///
    /// # Errors
    /// If a column of that name is there already.
    pub fn amendable(mut self) -> Result<Schema, SchemaError> {
        let columns = AMEND_COLUMNS.iter().map(|(name, kind)| Column::new(name, *kind, false));
        self.columns.extend(columns);
        self.is_amendable = true;
        check_names(&self.columns)?;
        Ok(self)
    }

    /// Returns whether rows have the [`AMEND_COLUMNS`].
    pub fn is_amendable(&self) -> bool {
        self.is_amendable
    }

    fn assign(&mut self, field: &Field) {
        let next = |count: &mut usize| {
            let slot = *count as u16;
            *count += 1;
            slot
        };
        let slot = match (field.role, field.value_type) {
            (Role::Key, _) => Slot::Key(next(&mut self.key_count)),
            (Role::Time, _) => Slot::Time,
            (_, ValueType::Float) => Slot::Float(next(&mut self.float_count)),
            (_, ValueType::Int | ValueType::Bool) => Slot::Int(next(&mut self.int_count)),
            (_, ValueType::Text) => Slot::Text(next(&mut self.text_count)),
        };
        self.slots.push(slot);
    }

    /// Returns the fields in their order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Returns the slot of each field, in the order of the fields.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Returns the columns of a row, in the order of the row's encoding.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns whether messages have a field for the event time; else it is their publish time.
    pub fn has_time(&self) -> bool {
        self.slots.contains(&Slot::Time)
    }

    /// Returns how many parts the group key has.
    pub fn key_count(&self) -> usize {
        self.key_count
    }

    /// Returns how many float slots an event has.
    pub fn float_count(&self) -> usize {
        self.float_count
    }

    /// Returns how many integer slots an event has.
    pub fn int_count(&self) -> usize {
        self.int_count
    }

    /// Returns how many text slots an event has.
    pub fn text_count(&self) -> usize {
        self.text_count
    }
}

fn check_names(columns: &[Column]) -> Result<(), SchemaError> {
    let mut names = BTreeSet::new();
    for column in columns {
        if !names.insert(column.name.as_str()) {
            let problem = "this column name appears twice; rename one field".into();
            return Err(SchemaError { field: column.name.clone(), problem });
        }
    }
    Ok(())
}

fn check_field(field: &Field) -> Result<(), SchemaError> {
    let fail = |problem: String| Err(SchemaError { field: field.name.clone(), problem });
    if field.name.is_empty() || field.path.is_empty() || field.path.iter().any(String::is_empty) {
        return fail("name and path need at least one character per level".into());
    }
    for aggregate in &field.aggregates {
        if !aggregate.accepts(field.value_type) {
            let name = aggregate.name();
            return fail(alloc::format!("{name:?} cannot be taken of {:?}", field.value_type));
        }
        if matches!(field.role, Role::Key | Role::Time) {
            return fail("keys and time take no aggregates".into());
        }
    }
    let types: &[ValueType] = match field.role {
        Role::Flag => &[ValueType::Bool],
        Role::Code => &[ValueType::Int],
        Role::Counter => &[ValueType::Int],
        Role::Gauge => &[ValueType::Float, ValueType::Int],
        Role::Attribute | Role::Key | Role::Time => {
            &[ValueType::Text, ValueType::Float, ValueType::Int, ValueType::Bool]
        }
    };
    if !types.contains(&field.value_type) {
        return fail(alloc::format!("role {:?} takes type {types:?}", field.role.name()));
    }
    if let Some((low, high)) = field.range
        && (low.is_nan() || high.is_nan() || low > high)
    {
        return fail(alloc::format!("range [{low}, {high}] is empty"));
    }
    if field.aggregates.contains(&Aggregate::MostFrequent) {
        // Codes are counted by their offset from the smallest one: exact only for whole bounds
        // that a float holds exactly.
        let exact =
            |bound: f64| bound.abs() <= 9_007_199_254_740_992.0 && bound as i64 as f64 == bound;
        let small = field.range.is_some_and(|(low, high)| {
            exact(low) && exact(high) && high - low + 1.0 <= f64::from(CODE_RANGE_MAX)
        });
        if !small {
            return fail(alloc::format!(
                "\"most_frequent\" needs a range of at most {CODE_RANGE_MAX} whole numbers"
            ));
        }
    }
    Ok(())
}

fn aggregate_kind(field: &Field, aggregate: Aggregate) -> ColumnKind {
    match (aggregate, field.value_type) {
        (Aggregate::Avg, _) => ColumnKind::Float64,
        (Aggregate::Count, _) => ColumnKind::UInt64,
        (Aggregate::Majority, _) | (_, ValueType::Bool) => ColumnKind::UInt8,
        (_, ValueType::Float) => ColumnKind::Float64,
        (_, ValueType::Int) => ColumnKind::Int64,
        (_, ValueType::Text) => ColumnKind::Text,
    }
}

fn derive_columns(fields: &[Field]) -> Vec<Column> {
    let mut columns = alloc::vec![Column::new("time", ColumnKind::Seconds, false)];
    for field in fields.iter().filter(|field| field.role == Role::Key) {
        columns.push(Column::new(&field.name, ColumnKind::Text, false));
    }
    for field in fields {
        for aggregate in &field.aggregates {
            let kind = aggregate_kind(field, *aggregate);
            let nullable = *aggregate != Aggregate::Count;
            columns.push(Column::new(&field.column_name(*aggregate), kind, nullable));
        }
    }
    for (name, kind) in QUALITY_COLUMNS {
        columns.push(Column::new(name, kind, false));
    }
    columns
}

/// The columns behind the fields' own, in this order.
pub const QUALITY_COLUMNS: [(&str, ColumnKind); 10] = [
    ("window_start", ColumnKind::Seconds),
    ("record_count", ColumnKind::UInt64),
    ("invalid_count", ColumnKind::UInt64),
    ("first_event_time", ColumnKind::Milliseconds),
    ("last_event_time", ColumnKind::Milliseconds),
    ("coverage", ColumnKind::Float64),
    ("max_gap_ms", ColumnKind::UInt32),
    ("pipeline", ColumnKind::Text),
    ("source_partition", ColumnKind::Text),
    ("revision", ColumnKind::UInt64),
];

/// The columns behind those where late messages correct rows.
pub const AMEND_COLUMNS: [(&str, ColumnKind); 3] = [
    ("late_count", ColumnKind::UInt32),
    ("finality", ColumnKind::Text),
    ("partial_state", ColumnKind::Text),
];
