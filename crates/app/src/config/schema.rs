//! Reads `[schema]`: a preset, fields of one's own, or both, down to the kernel's schema.
//!
//! Presets are config files that hold only `[[schema.field]]` entries; they are part of the binary.

use std::collections::BTreeMap;

use tidemill_kernel::{
    amend::LatePolicy,
    schema::{Aggregate, CODE_RANGE_MAX, FIELDS_MAX, Field, Role, Schema, TimeUnit, ValueType},
};
use toml::de::{DeTable, DeValue};

use super::{
    error::Problem,
    reader::{Reader, Section, describe, number, quote, show, unknown_word, whole},
    sections::TimeMode,
};

/// The presets: name and text.
pub const PRESETS: &[(&str, &str)] = &[
    ("sensor", include_str!("../../../../config/presets/sensor.toml")),
    ("sensor-nested", include_str!("../../../../config/presets/sensor-nested.toml")),
    ("cpu", include_str!("../../../../config/presets/cpu.toml")),
];

/// The most aliases of a field.
const ALIASES_MAX: usize = 64;
/// The longest name of a column in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Beyond this, not every whole number has an `f64` of its own.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// A field and the line where the user wrote it; `None` if it comes from a preset.
struct Placed {
    field: Field,
    line: Option<usize>,
}

/// Returns the schema; `None` and noted problems if there is none.
pub(super) fn read<'a>(
    reader: &'a Reader<'a>,
    root: &'a DeTable<'a>,
    time: TimeMode,
    late: LatePolicy,
) -> Option<Schema> {
    let errors_before = reader.error_count();
    let section = reader.section(root, "schema");
    let mut fields = Vec::new();
    if let Some(name) = section.text_optional("preset") {
        match preset_fields(&name) {
            Some(preset) => fields = preset,
            None => {
                let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
                let raw = section.raw("preset").and_then(DeValue::as_str).unwrap_or_default();
                section.fail("preset", unknown_word(raw, &name, &names));
            }
        }
    }
    let own = read_fields(reader, &section);
    if !section.has("preset") && !section.has("field") {
        let remedy = "add preset = \"sensor\" or [[schema.field]] entries";
        let key = if section.is_written() { "schema.field" } else { "schema" };
        reader.fail(section.line, key, Problem::new("is missing", remedy));
    }
    if reader.error_count() > errors_before {
        return None;
    }
    let own = own?;
    for placed in own {
        match fields.iter_mut().find(|known| known.field.name == placed.field.name) {
            Some(known) => *known = placed,
            None => fields.push(placed),
        }
    }
    if time == TimeMode::Publish {
        leave_time_out(reader, &mut fields);
    }
    build(reader, section.line, fields, time, late)
}

/// Where the publish time counts, a preset's field for the time is not read; one that the user
/// wrote says the opposite.
fn leave_time_out(reader: &Reader<'_>, fields: &mut Vec<Placed>) {
    fields.retain(|placed| {
        let is_time = placed.field.role == Role::Time;
        if let Some(line) = placed.line.filter(|_| is_time) {
            let text = format!(
                "field \"{}\": role \"time\" contradicts window.time = \"publish\"",
                placed.field.name
            );
            reader.fail(line, "", Problem::new(text, "remove one of them"));
        }
        !is_time
    });
}

fn preset_fields(name: &str) -> Option<Vec<Placed>> {
    let (_, text) = PRESETS.iter().find(|(known, _)| *known == name)?;
    let root = DeTable::parse(text).expect("presets are TOML, a test reads them");
    let reader = Reader::new(name, text, &|_| None);
    let fields = read_fields(&reader, &reader.section(root.get_ref(), "schema"));
    let mut fields = fields.expect("presets have entries, a test reads them");
    fields.iter_mut().for_each(|placed| placed.line = None);
    assert_eq!(reader.error_count(), 0, "presets have no errors, a test reads them");
    Some(fields)
}

/// Returns the `[[schema.field]]` entries; `None` if something else stands there, which the check
/// of names has noted.
fn read_fields<'a>(reader: &'a Reader<'a>, schema: &Section<'a>) -> Option<Vec<Placed>> {
    let mut fields: Vec<Placed> = Vec::new();
    let items = match schema.raw("field") {
        Some(DeValue::Array(items)) => items,
        Some(_) => return None,
        None => return Some(fields),
    };
    if items.len() > FIELDS_MAX {
        let text = format!("has {} entries, at most {FIELDS_MAX}", items.len());
        schema.fail("field", Problem::new(text, "leave out what no query reads"));
        return None;
    }
    for item in items.iter() {
        let section =
            Section::item(reader, "schema.field", item.get_ref().as_table()?, item.span().start);
        let Some(field) = read_field(&section) else {
            continue;
        };
        let same = |known: &&Placed| known.field.name.eq_ignore_ascii_case(&field.name);
        if let Some(Placed { line: Some(line), .. }) = fields.iter().find(same) {
            let text = format!("is \"{}\", already defined in line {line}", field.name);
            section.fail("name", Problem::new(text, "rename or remove one of them"));
        }
        fields.push(Placed { field, line: Some(section.line) });
    }
    Some(fields)
}

fn read_field(section: &Section<'_>) -> Option<Field> {
    let errors_before = section.reader.error_count();
    let name = section.text("name");
    if !name.is_empty() && !is_column_name(&name) {
        let text = format!("is {}, which is no column name", section.shown("name"));
        let remedy = "write 1 to 64 letters, digits or _, not beginning with a digit; \
                      \"path\" tells how messages call it";
        section.fail("name", Problem::new(text, remedy));
    }
    let role = section.choice("role").map(role_of);
    let value_type = section.choice("type").map(type_of);
    let time_unit = section.choice("time_unit").map(unit_of);
    let role = role?;
    let mut field = Field::new(&name, value_type.unwrap_or(default_type(role)), role);
    let note = |key: &str, problem: Problem| section.fail(key, problem);
    if let Some(value) = section.raw("path") {
        field.path = path(section, value).map_err(|p| note("path", p)).unwrap_or_default();
    }
    if let Some(value) = section.raw("aliases") {
        field.aliases = aliases(section, value).map_err(|p| note("aliases", p)).unwrap_or_default();
    }
    if let Some(value) = section.raw("range") {
        field.range = range(value, role).map_err(|p| note("range", p)).ok();
        if !matches!(field.value_type, ValueType::Float | ValueType::Int) {
            note("range", Problem::new("is only for numbers", "remove it"));
        }
    }
    if section.has("aggregates") {
        field.aggregates = aggregates(section);
    }
    if let Some(value) = section.raw("words") {
        field.words = words(value).map_err(|p| note("words", p)).unwrap_or_default();
        if field.value_type != ValueType::Int || matches!(role, Role::Key | Role::Time) {
            note("words", Problem::new("is only for codes and whole numbers", "remove it"));
        }
    }
    match time_unit {
        Some(_) if role != Role::Time => {
            note("time_unit", Problem::new("is only for the role \"time\"", "remove it"));
        }
        unit => field.time_unit = unit.unwrap_or_default(),
    }
    (section.reader.error_count() == errors_before).then_some(field)
}

fn is_column_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    plain && starts_well && name.len() <= NAME_BYTES_MAX
}

fn role_of(name: &str) -> Role {
    match name {
        "key" => Role::Key,
        "time" => Role::Time,
        "attribute" => Role::Attribute,
        "gauge" => Role::Gauge,
        "flag" => Role::Flag,
        "code" => Role::Code,
        _ => Role::Counter,
    }
}

fn type_of(name: &str) -> ValueType {
    match name {
        "float" => ValueType::Float,
        "int" => ValueType::Int,
        "bool" => ValueType::Bool,
        _ => ValueType::Text,
    }
}

fn unit_of(name: &str) -> TimeUnit {
    match name {
        "s" => TimeUnit::Seconds,
        "ms" => TimeUnit::Milliseconds,
        "us" => TimeUnit::Microseconds,
        "ns" => TimeUnit::Nanoseconds,
        _ => TimeUnit::Auto,
    }
}

const fn default_type(role: Role) -> ValueType {
    match role {
        Role::Key | Role::Time | Role::Attribute => ValueType::Text,
        Role::Gauge => ValueType::Float,
        Role::Flag => ValueType::Bool,
        Role::Code | Role::Counter => ValueType::Int,
    }
}

const PATH_EXAMPLE: &str = "write it such as \"metadata.latitude\" or [\"metadata\", \"latitude\"]";

/// Reads `"a.b"` or `["a", "b"]`.
fn path(section: &Section<'_>, value: &DeValue<'_>) -> Result<Vec<String>, Problem> {
    let wrong = |found| Problem::new(format!("must be a path, found {found}"), PATH_EXAMPLE);
    let levels: Vec<String> = match value {
        DeValue::String(text) => section.expand(text)?.split('.').map(Into::into).collect(),
        DeValue::Array(items) => {
            let level = |item: &DeValue<'_>| {
                section.expand(item.as_str().ok_or_else(|| wrong(describe(item)))?)
            };
            items.iter().map(|item| level(item.get_ref())).collect::<Result<_, _>>()?
        }
        other => return Err(wrong(describe(other))),
    };
    if levels.is_empty() || levels.iter().any(String::is_empty) {
        return Err(Problem::new(
            format!("is {}, a level without a name", show(value)),
            PATH_EXAMPLE,
        ));
    }
    Ok(levels)
}

fn aliases(section: &Section<'_>, value: &DeValue<'_>) -> Result<Vec<Vec<String>>, Problem> {
    let DeValue::Array(items) = value else {
        let text = format!("must be a list of paths, found {}", describe(value));
        return Err(Problem::new(text, "write it such as [\"deviceId\", \"meta.id\"]"));
    };
    check_length(items.len(), ALIASES_MAX)?;
    items.iter().map(|item| path(section, item.get_ref())).collect()
}

fn check_length(length: usize, length_max: usize) -> Result<(), Problem> {
    if length > length_max {
        return Err(Problem::new(format!("has {length} entries, at most {length_max}"), ""));
    }
    Ok(())
}

fn range(value: &DeValue<'_>, role: Role) -> Result<(f64, f64), Problem> {
    let remedy = "write smallest and largest value, such as [0, 100]";
    let wrong = || Problem::new(format!("must be a range, found {}", describe(value)), remedy);
    let items = value.as_array().ok_or_else(wrong)?;
    let bounds: Vec<f64> = items.iter().filter_map(|item| number(item.get_ref())).collect();
    let (&[low, high], 2) = (&bounds[..], items.len()) else {
        return Err(Problem::new("must be two numbers", remedy));
    };
    if low.is_nan() || high.is_nan() || low > high {
        return Err(Problem::new(format!("is [{low}, {high}], which holds no number"), remedy));
    }
    let is_whole = |bound: f64| bound.fract() == 0.0 && bound.abs() <= WHOLE_MAX;
    if role == Role::Code && !(is_whole(low) && is_whole(high)) {
        let text = format!("is [{low}, {high}], but codes are whole numbers");
        return Err(Problem::new(text, "write it such as [0, 255]"));
    }
    Ok((low, high))
}

fn aggregates(section: &Section<'_>) -> Vec<Aggregate> {
    if let Some(DeValue::Array(items)) = section.raw("aggregates") {
        if items.is_empty() {
            // Nothing is kept; values are still checked and counted as invalid.
            return Vec::new();
        }
        if let Err(problem) = check_length(items.len(), Aggregate::ALL.len()) {
            section.fail("aggregates", problem);
            return Vec::new();
        }
    }
    let known: Vec<&str> = Aggregate::ALL.iter().map(|aggregate| aggregate.name()).collect();
    let mut kept = Vec::new();
    for name in section.texts("aggregates") {
        let found = Aggregate::ALL.into_iter().find(|aggregate| aggregate.name() == name);
        match found {
            Some(aggregate) if kept.contains(&aggregate) => {
                let text = format!("names {} twice", quote(&name));
                section.fail("aggregates", Problem::new(text, "name it once"));
            }
            Some(aggregate) => kept.push(aggregate),
            None => {
                let mut problem = unknown_word("", &name, &known);
                // A value out of the environment is not repeated.
                let written = section.raw("aggregates").is_some_and(|raw| holds(raw, &name));
                let shown = if written { quote(&name) } else { "a word".into() };
                problem.text = format!("names {shown}, which is unknown");
                section.fail("aggregates", problem);
            }
        }
    }
    kept
}

fn holds(array: &DeValue<'_>, text: &str) -> bool {
    let items = array.as_array();
    items.is_some_and(|items| items.iter().any(|item| item.get_ref().as_str() == Some(text)))
}

fn words(value: &DeValue<'_>) -> Result<Vec<(String, i64)>, Problem> {
    let remedy = "write them such as { ONLINE = 1, OFFLINE = 2 }";
    let DeValue::Table(table) = value else {
        return Err(Problem::new(format!("must be a table, found {}", describe(value)), remedy));
    };
    let word = |name: &str, value: &DeValue<'_>| {
        let number = whole(value).and_then(|number| i64::try_from(number).ok());
        let text = || format!("gives {} {}, no whole number", quote(name), describe(value));
        number.map(|number| (name.to_owned(), number)).ok_or_else(|| Problem::new(text(), remedy))
    };
    check_length(table.len(), CODE_RANGE_MAX as usize)?;
    table.iter().map(|(name, value)| word(name.get_ref(), value.get_ref())).collect()
}

/// Makes the schema, and notes what the kernel refuses at the line of the field.
fn build(
    reader: &Reader<'_>,
    schema_line: usize,
    mut fields: Vec<Placed>,
    time: TimeMode,
    late: LatePolicy,
) -> Option<Schema> {
    let check = |fields| {
        let schema = match time {
            TimeMode::Event => Schema::new(fields),
            TimeMode::Publish => Schema::published(fields),
        };
        match late {
            LatePolicy::DeadLetter => schema,
            LatePolicy::Amend => schema.and_then(Schema::amendable),
        }
    };
    let errors_before = reader.error_count();
    note_like_columns(reader, schema_line, &fields);
    loop {
        let candidates = fields.iter().map(|placed| placed.field.clone()).collect();
        let error = match check(candidates) {
            Ok(schema) => return (reader.error_count() == errors_before).then_some(schema),
            Err(error) => error,
        };
        let names = |placed: &Placed| placed.field.name == error.field;
        let Some(at) = fields.iter().position(names).or_else(|| owner(&fields, &error.field))
        else {
            // Without the fields that were refused, the schema as a whole says nothing new.
            if reader.error_count() == errors_before {
                let text = format!("{}: {}", error.field, error.problem);
                let times = || fields.iter().filter(|placed| placed.field.role == Role::Time);
                let (line, remedy) = match times().rfind(|placed| placed.line.is_some()) {
                    Some(own) if times().count() > 1 => {
                        (own.line, "keep one; one with the name of a preset's replaces that")
                    }
                    _ => (None, ""),
                };
                reader.fail(line.unwrap_or(schema_line), "", Problem::new(text, remedy));
            }
            return None;
        };
        let refused = fields.remove(at);
        let text = format!("field \"{}\": {}", refused.field.name, error.problem);
        reader.fail(refused.line.unwrap_or(schema_line), "", Problem::new(text, ""));
    }
}

/// Returns the last field, best one that the user wrote, that makes a column of that name.
fn owner(fields: &[Placed], column: &str) -> Option<usize> {
    let makes = |placed: &Placed| {
        let mut columns = placed.field.aggregates.iter().map(|a| placed.field.column_name(*a));
        columns.any(|name| name == column)
    };
    let own = fields.iter().rposition(|placed| placed.line.is_some() && makes(placed));
    own.or_else(|| fields.iter().rposition(makes))
}

/// Notes columns that only differ by case: SQLite takes them for the same.
fn note_like_columns(reader: &Reader<'_>, schema_line: usize, fields: &[Placed]) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for placed in fields {
        let kept = placed.field.aggregates.iter().map(|kept| placed.field.column_name(*kept));
        let keys = (placed.field.role == Role::Key).then(|| placed.field.name.clone());
        for column in kept.chain(keys) {
            let first = seen.entry(column.to_ascii_lowercase()).or_insert_with(|| column.clone());
            if *first != column {
                let text = format!(
                    "field \"{}\": column \"{column}\" differs from \"{first}\" only by case",
                    placed.field.name
                );
                let line = placed.line.unwrap_or(schema_line);
                reader.fail(line, "", Problem::new(text, "rename one of them"));
            }
        }
    }
}
