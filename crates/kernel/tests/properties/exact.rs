//! Exact sums of floats by whole numbers of any length, rounded by search.
//!
//! Slow and plain: a float is a whole number of units of 2^-1074, and the nearest float of a sum
//! is found by halving the range of all floats.

use std::sync::Arc;

use foldhash::fast::FixedState;
use num_bigint::{BigInt, BigUint, Sign};
use tidemill_kernel::{
    event::{EventBlock, Position},
    plan::Plan,
    row::Cell,
    schema::{Field, Role, Schema, ValueType},
    time::{Timestamp, WindowGrid},
    window::{Finality, Lineage, Window},
};

/// Returns a finite float in units of 2^-1074.
pub(crate) fn units(value: f64) -> BigInt {
    let magnitude = magnitude_units(value.abs().to_bits());
    BigInt::from_biguint(if value < 0.0 { Sign::Minus } else { Sign::Plus }, magnitude)
}

/// Returns a whole number in units of 2^-1074.
pub(crate) fn units_of_int(value: i128) -> BigInt {
    BigInt::from(value) << 1074
}

fn magnitude_units(bits: u64) -> BigUint {
    let (exponent, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
    if exponent == 0 {
        BigUint::from(fraction)
    } else {
        BigUint::from(fraction | 1 << 52) << (exponent - 1)
    }
}

/// Returns the nearest float, ties to even, never infinite; and whether it would have been.
pub(crate) fn nearest(units: &BigInt) -> (f64, bool) {
    let magnitude = units.magnitude();
    let (mut low, mut high) = (0, f64::MAX.to_bits());
    // The largest float that is not above the magnitude.
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if magnitude_units(middle) <= *magnitude {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let twice = magnitude << 1;
    let below = magnitude_units(low);
    // Behind the largest float the next step would be as wide as the one before it.
    let above = if low == f64::MAX.to_bits() {
        (&below << 1) - magnitude_units(low - 1)
    } else {
        magnitude_units(low + 1)
    };
    let middle = below + above;
    let up = twice > middle || (twice == middle && low & 1 == 1);
    let saturated = up && low == f64::MAX.to_bits();
    let value = f64::from_bits(low + u64::from(up && !saturated));
    (if units.sign() == Sign::Minus { -value } else { value }, saturated)
}

#[test]
fn the_reference_itself_rounds_to_nearest_even() {
    for value in [0.0, 5e-324, 0.1, -0.1, 1e300, f64::MAX, f64::MIN_POSITIVE, -3.0] {
        assert_eq!(nearest(&units(value)), (value, false));
    }
    assert_eq!(nearest(&units_of_int((1 << 53) + 1)).0, (1_u64 << 53) as f64);
    assert_eq!(nearest(&units_of_int((1 << 53) + 3)).0, ((1_u64 << 53) + 4) as f64);
    let sum: BigInt = [0.1; 10].into_iter().map(units).sum();
    assert_eq!(nearest(&sum).0, 1.0, "math.fsum([0.1] * 10)");
    let beyond: BigInt = units(f64::MAX) + units(f64::MAX);
    assert_eq!(nearest(&beyond), (f64::MAX, true));
    let half_a_step = units(f64::MAX) + (BigInt::from(1) << (970 + 1074));
    assert_eq!(nearest(&half_a_step), (f64::MAX, true));
    assert_eq!(nearest(&(half_a_step - 1)), (f64::MAX, false));
}

#[test]
fn sums_of_more_messages_than_a_limb_has_room_for_are_exact() {
    const COUNT: u32 = 10_000;
    let fields = vec![
        Field::new("id", ValueType::Text, Role::Key),
        Field::new("time", ValueType::Int, Role::Time),
        Field::new("level", ValueType::Float, Role::Gauge),
    ];
    let schema = Arc::new(Schema::new(fields).expect("a schema"));
    let plan = Plan::new(schema.clone());
    let minute = Timestamp::from_ms(60_000).expect("in range");
    let grid = WindowGrid::new(60_000, 0).expect("a minute");
    // The largest values of the hot domain in either limb, and an exponent beyond it.
    let largest = f64::from_bits(2.0_f64.powi(27).to_bits() - 1);
    for value in [largest, -largest, 2.0_f64.powi(-25) - 2.0_f64.powi(-76), largest * 2.0] {
        let mut block = EventBlock::new(&schema);
        block.begin(Position::default(), 60_000);
        block.set_float(0, value);
        block.finish(minute, ["device"]);
        let mut window = Window::new(grid, grid.window_end(minute), Position::default());
        for _ in 0..COUNT {
            let hasher = FixedState::with_seed(7);
            assert!(window.fold(&plan, &hasher, usize::MAX, &block.message(0)));
        }
        let lineage = Lineage {
            pipeline: "p",
            source_partition: "0",
            revision: 0,
            finality: Finality::Final,
        };
        let mut pieces = Vec::new();
        window.emit(&plan, lineage, 1, &mut pieces);
        let mut cells = Vec::new();
        assert!(pieces[0].reader(schema.columns()).next_row(&mut cells));
        let (sum, _) = nearest(&(units(value) * COUNT));
        let mean = Cell::Float(sum / f64::from(COUNT));
        assert!(cells.contains(&mean), "{COUNT} times {value:e}: {cells:?}, not {mean:?}");
    }
}
