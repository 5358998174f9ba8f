//! The schema as the decoder needs it: which name at which level leads to which fields, and by
//! which rule each field reads its value. Built once per decoder, then only read.
//!
//! A field's path and its aliases are its sources, numbered in listed order without gaps, so the
//! sources of one field stand side by side. Two fields may share a path.

use tidemill_kernel::schema::{Field, Schema, Slot, TimeUnit, ValueType};

/// What a field's value becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Key,
    Time,
    Float,
    Int,
    Bool,
    Text,
}

/// How one field is read.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) kind: Kind,
    pub(crate) slot: Slot,
    pub(crate) float_low: f64,
    pub(crate) float_high: f64,
    pub(crate) int_low: i64,
    pub(crate) int_high: i64,
    pub(crate) unit: TimeUnit,
    pub(crate) words: Vec<(Box<[u8]>, i64)>,
}

impl Rule {
    fn new(field: &Field, slot: Slot) -> Rule {
        let kind = match slot {
            Slot::Key(_) => Kind::Key,
            Slot::Time => Kind::Time,
            Slot::Float(_) => Kind::Float,
            Slot::Int(_) if field.value_type == ValueType::Bool => Kind::Bool,
            Slot::Int(_) => Kind::Int,
            Slot::Text(_) => Kind::Text,
        };
        let (low, high) = field.range.unwrap_or((f64::MIN, f64::MAX));
        let (int_low, int_high) = whole_range(low, high);
        Rule {
            kind,
            slot,
            // Infinities are never valid, whatever the range says.
            float_low: low.max(f64::MIN),
            float_high: high.min(f64::MAX),
            int_low,
            int_high,
            unit: field.time_unit,
            words: field.words.iter().map(|(word, n)| (word.as_bytes().into(), *n)).collect(),
        }
    }
}

/// Where a field's sources and its value stand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    pub(crate) first: u32,
    pub(crate) end: u32,
    pub(crate) slot: u16,
}

/// Returns the first and last `i64` of a range of numbers; last < first if there is none.
fn whole_range(low: f64, high: f64) -> (i64, i64) {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if low >= BEYOND || high < -BEYOND {
        return (1, 0);
    }
    (low.ceil() as i64, high.floor() as i64)
}

/// A name in an object that leads somewhere.
#[derive(Debug)]
pub(crate) struct Entry {
    node: u32,
    name: Box<[u8]>,
    /// The node of the object that the value may be.
    pub(crate) child: Option<u32>,
    /// The sources that the value itself is.
    pub(crate) sources: Vec<usize>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Layout {
    entries: Vec<Entry>,
    /// Open addressing over entries, at most a quarter full; `EMPTY` where there is none.
    table: Vec<u32>,
    /// One rule per field, in the order of the schema.
    pub(crate) rules: Vec<Rule>,
    /// The field of each source.
    pub(crate) field_of: Vec<usize>,
    /// The parts of the key, in order.
    pub(crate) keys: Vec<Target>,
    pub(crate) time: Target,
    /// Whether the event time is the publish time, and no field.
    pub(crate) time_is_published: bool,
    pub(crate) floats: Vec<Target>,
    /// Integers and booleans.
    pub(crate) ints: Vec<Target>,
    pub(crate) texts: Vec<Target>,
}

/// The node of the message itself.
pub(crate) const ROOT: u32 = 0;
const EMPTY: u32 = u32::MAX;

impl Layout {
    /// Returns the layout of a schema.
    pub(crate) fn new(schema: &Schema) -> Layout {
        let mut layout = Layout {
            entries: Vec::new(),
            table: vec![EMPTY; 16],
            rules: Vec::new(),
            field_of: Vec::new(),
            keys: Vec::new(),
            time: Target::default(),
            time_is_published: !schema.has_time(),
            floats: Vec::new(),
            ints: Vec::new(),
            texts: Vec::new(),
        };
        let mut nodes = 1;
        for (index, (field, slot)) in schema.fields().iter().zip(schema.slots()).enumerate() {
            let first = layout.field_of.len();
            let mut paths: Vec<&[String]> = Vec::new();
            for path in std::iter::once(&field.path).chain(&field.aliases) {
                // A path listed twice would look like a value sent twice.
                if !path.is_empty() && !paths.contains(&path.as_slice()) {
                    paths.push(path);
                    layout.add_source(path, index, &mut nodes);
                }
            }
            layout.rules.push(Rule::new(field, *slot));
            let (first, end) = (first as u32, layout.field_of.len() as u32);
            match *slot {
                Slot::Key(slot) => layout.keys.push(Target { first, end, slot }),
                Slot::Time => layout.time = Target { first, end, slot: 0 },
                Slot::Float(slot) => layout.floats.push(Target { first, end, slot }),
                Slot::Int(slot) => layout.ints.push(Target { first, end, slot }),
                Slot::Text(slot) => layout.texts.push(Target { first, end, slot }),
            }
        }
        layout
    }

    fn add_source(&mut self, path: &[String], field: usize, nodes: &mut u32) {
        let source = self.field_of.len();
        self.field_of.push(field);
        let mut node = ROOT;
        for (level, name) in path.iter().enumerate() {
            let at = self.entry_or_insert(node, name.as_bytes());
            let entry = &mut self.entries[at];
            if level + 1 == path.len() {
                entry.sources.push(source);
            } else {
                node = *entry.child.get_or_insert_with(|| {
                    *nodes += 1;
                    *nodes - 1
                });
            }
        }
    }

    fn entry_or_insert(&mut self, node: u32, name: &[u8]) -> usize {
        if let Some(at) = self.find(node, name) {
            return at;
        }
        let entry = Entry { node, name: name.into(), child: None, sources: Vec::new() };
        self.entries.push(entry);
        if self.entries.len() * 4 > self.table.len() {
            self.table = vec![EMPTY; self.table.len() * 2];
            for at in 0..self.entries.len() {
                self.put(at);
            }
        } else {
            self.put(self.entries.len() - 1);
        }
        self.entries.len() - 1
    }

    fn put(&mut self, entry: usize) {
        let mask = self.table.len() - 1;
        let mut at = hash(self.entries[entry].node, &self.entries[entry].name) as usize & mask;
        while self.table[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.table[at] = u32::try_from(entry).expect("names are far fewer than 2^32");
    }

    /// Returns the index of the entry for a name (without escapes) in an object.
    #[inline]
    pub(crate) fn find(&self, node: u32, name: &[u8]) -> Option<usize> {
        let mask = self.table.len() - 1;
        let mut at = hash(node, name) as usize & mask;
        loop {
            let index = self.table[at];
            if index == EMPTY {
                return None;
            }
            let entry = &self.entries[index as usize];
            if entry.node == node && *entry.name == *name {
                return Some(index as usize);
            }
            at = (at + 1) & mask;
        }
    }

    /// Returns an entry by its index.
    #[inline]
    pub(crate) fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }
}

/// Mixes a name. Only the schema's names are ever stored, so messages cannot fill a chain.
#[inline]
fn hash(node: u32, name: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = (u64::from(node) << 32 ^ name.len() as u64).wrapping_mul(FACTOR);
    let mut mix = |word: u64| {
        state = (state ^ word).wrapping_mul(FACTOR);
        state ^= state >> 29;
    };
    let (words, rest) = name.as_chunks::<8>();
    for word in words {
        mix(u64::from_le_bytes(*word));
    }
    let mut last = 0;
    for byte in rest {
        last = last << 8 | u64::from(*byte);
    }
    mix(last);
    state ^ state >> 32
}

#[cfg(test)]
mod tests {
    use super::whole_range;

    #[test]
    fn ranges_of_numbers_become_ranges_of_integers() {
        assert_eq!(whole_range(0.5, 2.5), (1, 2));
        assert_eq!(whole_range(f64::MIN, f64::MAX), (i64::MIN, i64::MAX));
        assert_eq!(whole_range(1e19, 2e19), (1, 0));
        assert_eq!(whole_range(-2e19, -1e19), (1, 0));
        assert_eq!(whole_range(-9_223_372_036_854_775_808.0, 0.0), (i64::MIN, 0));
    }
}
