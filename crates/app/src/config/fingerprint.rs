//! The fingerprint: everything that decides what a row means, as sorted `key=value` lines.
//!
//! It is stored with every commit; a lane with open windows goes on only under the same one. What
//! merely decides where data comes from, where it goes or how fast is not part of it.

use std::fmt::Write;

use tidemill_kernel::schema::{Field, Role, TimeUnit, ValueType};

use super::Config;

/// Raised whenever the kernel or the decoder gives other rows for the same messages and settings.
pub const ROW_SEMANTICS: u32 = 1;

pub(super) fn fingerprint(config: &Config) -> String {
    let window = &config.window;
    let limits = &config.limits;
    let mut lines = vec![
        format!("row_semantics={ROW_SEMANTICS}"),
        format!("window.size_ms={}", window.grid.size_ms()),
        format!("window.offset_ms={}", window.grid.offset_ms()),
        format!("window.max_out_of_orderness_ms={}", window.max_out_of_orderness.as_ms()),
        format!("window.allowed_lateness_ms={}", window.allowed_lateness.as_ms()),
        format!("window.max_future_skew_ms={}", window.max_future_skew.as_ms()),
        format!("window.late={}", window.late.name()),
        format!("window.time={}", window.time.name()),
        format!("pipeline.routing={}", config.pipeline.routing.name()),
        format!("limits.devices_max={}", limits.devices_max),
        format!("limits.payload_bytes_max={}", limits.decode.payload_bytes_max),
        format!("limits.key_bytes_max={}", limits.decode.key_bytes_max),
        format!("limits.text_bytes_max={}", limits.decode.text_bytes_max),
        format!("limits.depth_max={}", limits.decode.depth_max),
        format!("schema.keys={:?}", config.key_columns()),
    ];
    lines.extend(config.schema.fields().iter().map(field_line));
    lines.sort();
    lines.join("\n")
}

/// Returns the field in one line; texts are escaped, so none can hold a line break.
fn field_line(field: &Field) -> String {
    let mut line = format!(
        "schema.field.{}=role:{} type:{} path:{:?}",
        field.name,
        field.role.name(),
        type_name(field.value_type),
        field.path
    );
    let mut add = |what: &str, value: &dyn std::fmt::Debug| {
        write!(line, " {what}:{value:?}").expect("writing into a string cannot fail");
    };
    if !field.aliases.is_empty() {
        add("aliases", &field.aliases);
    }
    if let Some((low, high)) = field.range {
        add("range", &[low, high]);
    }
    if !field.aggregates.is_empty() {
        let mut names: Vec<&str> = field.aggregates.iter().map(|kept| kept.name()).collect();
        names.sort_unstable();
        add("aggregates", &names);
    }
    if !field.words.is_empty() {
        let mut words = field.words.clone();
        words.sort();
        add("words", &words);
    }
    if field.role == Role::Time {
        add("unit", &unit_name(field.time_unit));
    }
    line
}

/// Returns the name of a type used in configuration.
pub(super) const fn type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Float => "float",
        ValueType::Int => "int",
        ValueType::Bool => "bool",
        ValueType::Text => "text",
    }
}

const fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Auto => "auto",
        TimeUnit::Seconds => "s",
        TimeUnit::Milliseconds => "ms",
        TimeUnit::Microseconds => "us",
        TimeUnit::Nanoseconds => "ns",
    }
}
