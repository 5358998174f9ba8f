//! Partial states: hostile bytes are refused whole, and what is accepted can be used.
//!
//! The input is what stands behind version and shape, which are put in front unless the first byte
//! is odd. It is merged twice into a window that holds an honest device.
#![no_main]

use std::sync::{Arc, LazyLock};

use foldhash::fast::FixedState;
use libfuzzer_sys::fuzz_target;
use tidemill_kernel::event::{EventBlock, Position};
use tidemill_kernel::schema::{Aggregate as A, Field, Role, Schema, ValueType as V};
use tidemill_kernel::time::{Timestamp, WindowGrid};
use tidemill_kernel::window::{Lineage, Window};
use tidemill_kernel::{partial, partial::Merger, plan::Plan};

static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let mut temperature = Field::new("temperature", V::Float, Role::Gauge);
    temperature.aggregates = vec![A::Avg, A::Sum, A::Min, A::Max, A::Count, A::First, A::Last];
    let mut packets = Field::new("packets", V::Int, Role::Counter);
    packets.aggregates = vec![A::Avg, A::Sum, A::Min, A::Max, A::First, A::Last];
    let fields = vec![
        Field::new("device", V::Text, Role::Key),
        Field::new("time", V::Int, Role::Time),
        Field::new("site", V::Text, Role::Attribute),
        Field::new("motion", V::Bool, Role::Flag),
        Field::new("status", V::Int, Role::Code),
        temperature,
        packets,
    ];
    Arc::new(Plan::new(Arc::new(Schema::new(fields).expect("a schema"))))
});

static HONEST: LazyLock<Window> = LazyLock::new(|| {
    let mut block = EventBlock::new(PLAN.schema());
    block.begin(Position::default(), 0);
    (0..1).for_each(|slot| block.set_float(slot, 22.5));
    (0..3).for_each(|slot| block.set_int(slot, 1));
    block.set_text(0, "north");
    block.finish(Timestamp::from_ms(1_000).expect("in range"), ["d"]);
    let mut window = Window::new(grid(), 60_000, Position::default());
    assert!(window.fold(&PLAN, &FixedState::with_seed(0), 9, &block.message(0)));
    window
});

fn grid() -> WindowGrid {
    WindowGrid::new(60_000, 0).expect("a minute")
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let mut window = HONEST.clone();
    let mut merger = Merger::new(grid(), PLAN.clone(), FixedState::with_seed(1));
    let before = partial::encode(&window, &PLAN);
    let head = if kind & 1 == 0 { &before[0][..9] } else { &[] };
    let state = [head, rest].concat();
    for _ in 0..2 {
        let count = window.message_count();
        let held = partial::encode(&window, &PLAN);
        if let Err(error) = merger.merge(&mut window, &state) {
            assert!(error.at <= state.len());
            assert_eq!(held, partial::encode(&window, &PLAN), "an error leaves nothing behind");
            assert_eq!(count, window.message_count());
            continue;
        }
        assert!(window.message_count() > count && window.device_count() <= 2);
        let lineage = Lineage { pipeline: "p", source_partition: "0", revision: 1 };
        let mut pieces = Vec::new();
        window.emit(&PLAN, lineage, 1, &mut pieces);
        let mut cells = Vec::new();
        for piece in &pieces {
            assert!(piece.reader(PLAN.schema().columns()).next_row(&mut cells));
        }
        for state in partial::encode(&window, &PLAN) {
            let mut again = Window::new(grid(), 60_000, Position::default());
            let merged = merger.merge(&mut again, &state);
            // A state may hold a quarter of what a device-window can count.
            assert!(merged.is_ok() || window.message_count() > 1 << 29, "{merged:?}");
            assert!(merged.is_err() || partial::encode(&again, &PLAN) == [state]);
        }
    }
});
