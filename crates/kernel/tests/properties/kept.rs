//! Memory that a roll-up keeps of the rows it wrote, and what it looks at ahead in it.

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

fn rollup(schema: &Arc<Schema>, max_out_of_orderness: DurationMs) -> Rollup {
    let config = RollupConfig {
        plan: Arc::new(Plan::new(schema.clone())),
        grid: WindowGrid::new(60_000, 0).expect("a minute"),
        max_out_of_orderness,
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
    let new = || rollup(&schema, DurationMs::ZERO);
    let (mut kept, mut new) = (new(), new());
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

/// Messages of devices at times from 0:00 on, each with a float and a text.
fn block(schema: &Schema, segment: u64, messages: impl Iterator<Item = (u64, u64)>) -> EventBlock {
    let mut block = EventBlock::new(schema);
    for (index, (device, time_ms)) in (0..).zip(messages) {
        block.begin(Position::new(segment, index, 0), time_ms as i64);
        block.set_text(0, format!("{segment}/{device}"));
        if !device.is_multiple_of(11) {
            block.set_float(0, device as f64 / 8.0);
        }
        let time = Timestamp::from_ms(time_ms as i64).expect("in range");
        block.finish(time, [format!("{device}")]);
    }
    block
}

#[test]
fn devices_of_several_chunks_that_are_gone_leave_no_memory() {
    const MANY: u64 = 150_000;
    let schema = schema();
    let new = || rollup(&schema, DurationMs::ZERO);
    let (mut used, mut new, mut kept) = (new(), new(), Vec::new());
    for (number, count) in [MANY, MANY + 1, 600, 600, 600, MANY, 1].into_iter().enumerate() {
        let minute = 60_000 * number as u64;
        let devices = (0..count).map(|device| (device * 7919 % count, minute + device % 60_000));
        let block = block(&schema, number as u64, devices);
        let emitted = [&mut used, &mut new].map(|rollup| {
            let mut effects = Effects::default();
            rollup.step(&block, &mut effects).expect("no replay");
            rollup.finish(&mut effects).expect("no replay");
            effects.rows
        });
        assert_eq!(emitted[0], emitted[1]);
        let rows = emitted[0].iter().map(RowBlock::row_count).sum::<usize>();
        assert_eq!(rows as u64, count);
        drop(emitted);
        new.give_back();
        kept.push(used.kept_bytes());
    }
    assert!(kept[0] > 15_000_000 && kept[1] > 15_000_000, "{kept:?}");
    assert!(kept[2..5].iter().all(|bytes| *bytes < 2_000_000), "{kept:?}");
}

#[test]
fn window_that_closes_within_a_block_misleads_no_look_ahead() {
    let schema = schema();
    let minutes = |minute: u64, second: u64| 60_000 * minute + 1_000 * second;
    // Three windows: few devices, many, one.
    let first = (0..10).map(|device| (device, minutes(1, 0)));
    let second = (0..600).map(|device| (device, minutes(2, 0)));
    let third = [(0, minutes(3, 5))].into_iter();
    // The first of these closes the first window; those behind were looked for in the second.
    let closing = [(0, minutes(3, 31))].into_iter();
    let behind = (300..600).map(|device| (device, minutes(2, 30)));
    let blocks = [
        block(&schema, 0, first.chain(second).chain(third)),
        block(&schema, 1, closing.chain(behind)),
    ];
    let mut rollup = rollup(&schema, DurationMs::from_ms(90_000));
    let mut effects = Effects::default();
    for block in &blocks {
        rollup.step(block, &mut effects).expect("no replay");
    }
    rollup.finish(&mut effects).expect("no replay");
    let rows: Vec<usize> = effects.rows.iter().map(RowBlock::row_count).collect();
    assert_eq!((rows, effects.letters.len()), (vec![10, 600, 1], 0));
    assert_eq!(rollup.progress().ledger.aggregated, 10 + 600 + 1 + 1 + 300);
}
