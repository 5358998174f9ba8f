//! Random schemas, rules and logs, with everything that is nasty more often than life has it.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select, test_runner::RngSeed};
use tidemill_kernel::{
    event::{EventBlock, Position, Reason},
    schema::{Aggregate, Field, Role, Schema, Slot, ValueType},
    time::Timestamp,
};

use crate::naive::{Rules, Sent, Value, has_values};

/// A schema, rules and a log.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) schema: Arc<Schema>,
    pub(crate) rules: Rules,
    pub(crate) log: Vec<Sent>,
}

/// Settings of all properties: the same cases on every run.
pub(crate) fn cases(count: u32, seed: u64) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    }
}

const KINDS: [(ValueType, Role); 9] = [
    (ValueType::Text, Role::Attribute),
    (ValueType::Float, Role::Attribute),
    (ValueType::Int, Role::Attribute),
    (ValueType::Bool, Role::Attribute),
    (ValueType::Float, Role::Gauge),
    (ValueType::Int, Role::Gauge),
    (ValueType::Bool, Role::Flag),
    (ValueType::Int, Role::Code),
    (ValueType::Int, Role::Counter),
];

const RANGES: [(f64, f64); 4] = [(0.0, 255.0), (-5.0, 5.0), (1000.0, 2023.0), (7.0, 7.0)];

const FLOATS: [f64; 24] = [
    0.1,
    -0.1,
    0.0,
    22.5,
    1e-7,
    5e-324,
    -5e-324,
    2.2250738585072014e-308,
    1e300,
    -1e300,
    f64::MAX,
    -f64::MAX,
    1e16,
    1.0,
    -1.0,
    // The edges of the domain that goes without the long integer: 2^27 and 2^-76.
    134_217_728.0,
    -134_217_728.0,
    134_217_727.999_999_98,
    -134_217_728.000_000_03,
    1.3234889800848443e-23,
    6.617444900424222e-24,
    5.960464477539063e-8,
    2.980232238769531e-8,
    48.137_154_000_000_01,
];

const INTS: [i64; 8] = [i64::MAX, i64::MIN, 0, 1, -1, i64::MAX - 1, 1 << 53, (1 << 53) + 1];

const TEXTS: [&str; 8] =
    ["", "a", "b", "ab", "Straße 7", "温度", "\u{0}", "🌡️ long enough to grow"];

const KEY_PARTS: [&str; 8] = ["d1", "d2", "sensor_001", "", "é", "e\u{301}", "ключ", "d1/d2"];

/// One message before it has a schema.
#[derive(Clone, Debug)]
struct Seed {
    step: u16,
    back: u16,
    publish: u8,
    reject: u8,
    device: u8,
    present: u16,
    picks: Vec<u64>,
}

const FIELDS: usize = 10;

fn seeds(count_max: usize) -> impl Strategy<Value = Vec<Seed>> {
    let step = prop_oneof![3 => Just(0_u16), 3 => 0_u16..2_000, 1 => any::<u16>()];
    let back = prop_oneof![3 => Just(0_u16), 3 => 0_u16..5_000, 1 => any::<u16>()];
    let present = prop_oneof![2 => Just(u16::MAX), 3 => any::<u16>()];
    let picks = vec(any::<u64>(), FIELDS);
    let seed = (step, back, any::<u8>(), any::<u8>(), 0_u8..12, present, picks);
    vec(seed, 1..count_max).prop_map(|seeds| {
        let build = |(step, back, publish, reject, device, present, picks)| Seed {
            step,
            back,
            publish,
            reject,
            device,
            present,
            picks,
        };
        seeds.into_iter().map(build).collect()
    })
}

fn schemas() -> impl Strategy<Value = Arc<Schema>> {
    let field = (select(KINDS.to_vec()), any::<u16>(), select(RANGES.to_vec()));
    (1_usize..4, vec(field, 0..FIELDS)).prop_map(|(key_count, kinds)| {
        let mut fields = vec![Field::new("time", ValueType::Int, Role::Time)];
        let key = |at: usize| Field::new(&format!("k{at}"), ValueType::Text, Role::Key);
        fields.extend((0..key_count).map(key));
        for (at, ((value_type, role), mask, range)) in kinds.into_iter().enumerate() {
            let mut field = Field::new(&format!("f{at}"), value_type, role);
            let wanted = |(bit, aggregate): (usize, &Aggregate)| {
                (mask >> bit & 1 == 1 && aggregate.accepts(value_type)).then_some(*aggregate)
            };
            field.aggregates = Aggregate::ALL.iter().enumerate().filter_map(wanted).collect();
            let codes = field.aggregates.contains(&Aggregate::MostFrequent);
            field.range = (codes || role == Role::Code).then_some(range);
            fields.push(field);
        }
        Arc::new(Schema::new(fields).expect("a schema"))
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let grids =
        select(vec![(60_000, 0), (1_000, 0), (3_600_000, 0), (10_000, 3_000), (7_000, 6_000)]);
    let ms = || prop_oneof![Just(0_i64), Just(5_000), 0_i64..20_000, Just(70_000)];
    let devices_max = prop_oneof![4 => Just(1_000_usize), 1 => 1_usize..4];
    let generation = prop_oneof![Just(0_u32), Just(3), Just((1 << 19) - 1)];
    (grids, ms(), ms(), ms(), devices_max, generation).prop_map(
        |((size_ms, offset_ms), out_of_orderness, lateness, skew, devices_max, generation)| Rules {
            size_ms,
            offset_ms,
            max_out_of_orderness_ms: out_of_orderness,
            allowed_lateness_ms: lateness,
            max_future_skew_ms: skew,
            devices_max,
            generation,
        },
    )
}

/// Logs of fewer than `count_max` messages, with late, future and rejected ones.
pub(crate) fn scenarios(count_max: usize) -> impl Strategy<Value = Scenario> {
    let bases = select(vec![1_700_000_000_000, 0, Timestamp::MAX.as_ms() - 30_000]);
    (schemas(), rules(), bases, seeds(count_max)).prop_map(|(schema, rules, base_ms, seeds)| {
        let mut now_ms: i64 = base_ms;
        let mut log = Vec::with_capacity(seeds.len());
        for (index, seed) in seeds.iter().enumerate() {
            now_ms += i64::from(seed.step);
            let time_ms = (now_ms - i64::from(seed.back)).clamp(0, Timestamp::MAX.as_ms());
            let publish_time_ms = match seed.publish {
                0..8 => time_ms - rules.max_future_skew_ms - 1 - i64::from(seed.publish),
                8..16 => time_ms - rules.max_future_skew_ms,
                16 => i64::MAX,
                _ => time_ms,
            };
            let reject = match seed.reject {
                0..8 => Some(Reason::ALL[usize::from(seed.reject)]),
                _ => None,
            };
            let mut sent = sent(&schema, index, time_ms, seed);
            (sent.publish_time_ms, sent.reject) = (publish_time_ms, reject);
            log.push(sent);
        }
        Scenario { schema, rules, log }
    })
}

/// Logs whose messages all lie in one window, and nothing is refused.
pub(crate) fn one_window(count_max: usize) -> impl Strategy<Value = Scenario> {
    scenarios(count_max).prop_map(|mut scenario| {
        scenario.rules.devices_max = usize::MAX;
        let (size_ms, offset_ms) = (scenario.rules.size_ms, scenario.rules.offset_ms);
        let start_ms = 1_700_000_000_000_i64.div_euclid(size_ms) * size_ms + offset_ms;
        for sent in &mut scenario.log {
            sent.time_ms = start_ms + sent.time_ms.rem_euclid(size_ms);
            (sent.publish_time_ms, sent.reject) = (sent.time_ms, None);
        }
        scenario
    })
}

fn sent(schema: &Schema, index: usize, time_ms: i64, seed: &Seed) -> Sent {
    let mut picks = seed.picks.iter();
    let values = schema.fields().iter().enumerate().map(|(at, field)| {
        let present = seed.present >> (at % 16) & 1 == 1;
        let pick = if has_values(field) { *picks.next()? } else { return None };
        present.then(|| value(field, pick))
    });
    let part = |at: usize| KEY_PARTS[(usize::from(seed.device) >> at) % KEY_PARTS.len()].into();
    Sent {
        // Gaps and steps of all three parts: positions are compared, never subtracted.
        position: Position::new(index as u64 / 16, index as u64 % 16 / 4, index as u32 % 4),
        publish_time_ms: time_ms,
        time_ms,
        reject: None,
        key: (0..schema.key_count()).map(part).collect(),
        values: values.collect(),
        invalid_count: u32::from(seed.reject) / 100,
    }
}

fn value(field: &Field, pick: u64) -> Value {
    let low_bits = (pick >> 8) as usize;
    match field.value_type {
        ValueType::Float => Value::Float(match pick % 4 {
            0 => FLOATS[low_bits % FLOATS.len()],
            1 => Some(f64::from_bits(pick)).filter(|v| v.is_finite()).unwrap_or(1.5) + 0.0,
            _ => (low_bits % 20_000) as f64 / 100.0 - 100.0,
        }),
        ValueType::Bool => Value::Int((pick >> 8 & 1) as i64),
        ValueType::Text => Value::Text(TEXTS[low_bits % TEXTS.len()].into()),
        ValueType::Int => Value::Int(match (field.range, pick % 4) {
            (Some((low, high)), 0) => low as i64 + low_bits as i64 % (high - low + 1.0) as i64,
            (Some((low, high)), _) => {
                low as i64 + low_bits as i64 % (high - low + 1.0).min(3.0) as i64
            }
            (None, 0) => INTS[low_bits % INTS.len()],
            (None, _) => low_bits as i64 % 100,
        }),
    }
}

/// Writes messages into a block, as a decoder does.
pub(crate) fn block(schema: &Schema, messages: &[Sent]) -> EventBlock {
    let mut block = EventBlock::new(schema);
    for sent in messages {
        block.begin(sent.position, sent.publish_time_ms);
        for (slot, value) in schema.slots().iter().zip(&sent.values) {
            match (slot, value) {
                (_, None) => {}
                (Slot::Float(slot), Some(Value::Float(value))) => block.set_float(*slot, *value),
                (Slot::Int(slot), Some(Value::Int(value))) => block.set_int(*slot, *value),
                (Slot::Text(slot), Some(Value::Text(value))) => block.set_text(*slot, value),
                other => panic!("{other:?}"),
            }
        }
        block.count_invalid(sent.invalid_count);
        match sent.reject {
            Some(reason) => block.reject(reason),
            None => {
                let time = Timestamp::from_ms(sent.time_ms).expect("a time in range");
                block.finish(time, sent.key.iter().map(String::as_str));
            }
        }
    }
    block
}
