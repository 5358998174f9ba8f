//! The value of every key of a configuration as it holds: what is written, with variables and files
//! replaced, or the default. Only to tell which keys of two configurations differ.
//!
//! `60s` and `1m` are equal. What a value means, the other modules know.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::{
    keys::{self, Fallback, Key, Kind, TABLES},
    reader::{default_value, number, whole},
    secret::{self, Environment, Secret},
    units::{parse_duration_ms, parse_size_bytes},
};

/// The values by the full names of their keys. None is ever shown: some are secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValues(BTreeMap<String, Secret>);

impl KeyValues {
    /// Returns the values of a file that is right.
    pub(super) fn of(root: &DeTable<'_>, environment: &Environment<'_>) -> KeyValues {
        let mut values = KeyValues::default();
        for table in TABLES {
            let found = table.path.split('.').try_fold(root, |table, name| {
                table.get(name).and_then(|value| value.get_ref().as_table())
            });
            let is_choice = table.path.starts_with("source.") || table.path.starts_with("sink.");
            match found {
                None if is_choice || table.path == "schema.field" => continue,
                Some(_) if is_choice => values.insert(table.path.to_owned(), String::new()),
                _ => {}
            }
            for key in table.keys {
                let name = format!("{}.{}", table.path, key.name);
                values.read(name, key, found, environment);
            }
        }
        values.read_fields(root, environment);
        values
    }

    /// The fields are named, and their order decides that of the columns.
    fn read_fields(&mut self, root: &DeTable<'_>, environment: &Environment<'_>) {
        let fields = root
            .get("schema")
            .and_then(|schema| schema.get_ref().as_table()?.get("field")?.get_ref().as_array());
        let table = keys::table("schema.field").expect("the table of fields is known");
        let mut names = Vec::new();
        for field in fields.into_iter().flatten() {
            let Some(field) = field.get_ref().as_table() else { continue };
            let name = field.get("name").and_then(|name| name.get_ref().as_str()).unwrap_or("");
            for key in table.keys {
                let full = format!("schema.field.{name}.{}", key.name);
                self.read(full, key, Some(field), environment);
            }
            names.push(name);
        }
        self.insert("schema.field".to_owned(), names.join(" "));
    }

    fn read(
        &mut self,
        name: String,
        key: &Key,
        table: Option<&DeTable<'_>>,
        environment: &Environment<'_>,
    ) {
        let written = table.and_then(|table| table.get(key.name));
        let value = match (written, key.fallback) {
            (Some(value), _) => text(key.kind, value.get_ref(), environment),
            (None, Fallback::Is(default)) => {
                text(key.kind, &default_value(key, default), environment)
            }
            (None, _) => return,
        };
        self.insert(name, value);
    }

    fn insert(&mut self, name: String, value: String) {
        self.0.insert(name, Secret::new(value));
    }

    /// Returns the keys that have another value, or only one.
    pub fn differing(&self, other: &KeyValues) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let differ = names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name));
        differ.cloned().collect()
    }

    /// Takes the values of some keys over.
    pub fn take_over(&mut self, other: &KeyValues, names: &[String]) {
        for name in names {
            match other.0.get(name) {
                Some(value) => self.0.insert(name.clone(), value.clone()),
                None => self.0.remove(name),
            };
        }
    }
}

/// Returns a text that is equal for equal values.
fn text(kind: Kind, value: &DeValue<'_>, environment: &Environment<'_>) -> String {
    let expand = |text: &str| match kind {
        Kind::Secret => secret::secret(text, environment).map(|secret| secret.expose().to_owned()),
        _ => secret::expand(text, environment),
    };
    match value {
        DeValue::String(text) => {
            let text = expand(text).unwrap_or_else(|_| text.to_string());
            let measure = match kind {
                Kind::Duration(..) => parse_duration_ms(&text).ok(),
                Kind::Size(..) => parse_size_bytes(&text).ok(),
                _ => None,
            };
            measure.map_or(text, |measure| measure.to_string())
        }
        DeValue::Array(items) => {
            let items = items.iter().map(|item| self::text(kind, item.get_ref(), environment));
            format!("{:?}", items.collect::<Vec<_>>())
        }
        DeValue::Table(table) => {
            let cell = |(name, value): (&_, &toml::Spanned<DeValue<'_>>)| {
                let name: &toml::Spanned<std::borrow::Cow<'_, str>> = name;
                (name.get_ref().to_string(), self::text(kind, value.get_ref(), environment))
            };
            format!("{:?}", table.iter().map(cell).collect::<BTreeMap<_, _>>())
        }
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        number_value => match (whole(number_value), number(number_value)) {
            (Some(whole), _) if matches!(kind, Kind::Int(..)) => whole.to_string(),
            (_, number) => format!("{number:?}"),
        },
    }
}
