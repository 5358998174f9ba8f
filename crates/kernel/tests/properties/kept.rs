//! Memory that a roll-up keeps of the rows it wrote.

use std::sync::Arc;

use tidemill_kernel::{
    amend::LatePolicy,
    effect::Effects,
    event::{EventBlock, Position},
    plan::Plan,
    rollup::{Progress, Rollup, RollupConfig},
    row::RowBlock,
    schema::{Field, Role, Schema, ValueType},
    time::{DurationMs, Timestamp, WindowGrid},
};

const DEVICES: u64 = 700;

fn schema() -> Arc<Schema> {
    let fields = vec![
        Field::new("id", ValueType::Text, Role::Key),
        Field::new("time", ValueType::Int, Role::Time),
        Field::new("place", ValueType::Text, Role::Attribute),
        Field::new("level", ValueType::Float, Role::Gauge),
    ];
    Arc::new(Schema::new(fields).expect("a schema"))
}

fn rollup(schema: &Arc<Schema>) -> Rollup {
    let config = RollupConfig {
        plan: Arc::new(Plan::new(schema.clone())),
        grid: WindowGrid::new(60_000, 0).expect("a minute"),
        max_out_of_orderness: DurationMs::ZERO,
        allowed_lateness: DurationMs::ZERO,
        late: LatePolicy::DeadLetter,
        max_future_skew: DurationMs::ZERO,
        devices_max: usize::MAX,
        piece_rows_max: 10_000,
        generation: 0,
        pipeline: "p".into(),
        source_partition: "0".into(),
        hash_seed: 7,
    };
    Rollup::new(config, &Progress::BIRTH)
}

/// The messages of one window, each device (other ones than before) with a text so long that the
/// rows take more than 1 MiB.
fn window(schema: &Schema, number: u64) -> EventBlock {
    let mut block = EventBlock::new(schema);
    for device in 0..DEVICES - 40 * number {
        let time_ms = ((number + 1) * 60_000 + device) as i64;
        block.begin(Position::new(number, device, 0), time_ms);
        if !(device + number).is_multiple_of(5) {
            block.set_text(0, format!("{number}/{device}/").repeat(500 + device as usize % 90));
        }
        if !(device + number).is_multiple_of(3) {
            block.set_float(0, (device * number) as f64 / 8.0);
        }
        let id = format!("d{}", (device * 7919 + number * 13) % DEVICES);
        block.finish(Timestamp::from_ms(time_ms).expect("in range"), [id]);
    }
    block
}

#[test]
fn rows_in_memory_used_before_are_those_in_new_memory() {
    let schema = schema();
    let (mut kept, mut new) = (rollup(&schema), rollup(&schema));
    let mut all: Vec<RowBlock> = Vec::new();
    for number in 0..6 {
        let block = window(&schema, number);
        let mut effects = Effects::default();
        // Who has all rows leaves no memory for rows to be used again.
        new.step(&block, &mut effects).expect("no replay");
        let expected: Vec<RowBlock> = effects.rows.drain(..).collect();
        kept.step(&block, &mut effects).expect("no replay");
        assert_eq!(expected, effects.rows);
        assert_eq!(expected.len(), usize::from(number > 0));
        drop(effects);
        all.extend(expected);
        assert_eq!(new.kept_bytes() > 0, number > 0, "a window's memory, {number}");
        assert_eq!(kept.kept_bytes() >= new.kept_bytes() + (1 << 20), number > 0, "{number}");
        new.give_back();
        assert_eq!(new.kept_bytes(), 0);
    }
    kept.give_back();
    assert_eq!(kept.kept_bytes(), 0);
}
