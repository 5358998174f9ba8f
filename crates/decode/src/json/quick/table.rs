//! Where the digits of a number stand, by its shape: one table entry per sign, digits before the
//! point and length. The scan copies an entry per number; the conversion is done later, four at
//! a time.

/// How a number of one shape becomes 16 right-aligned digits, and what follows.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct Shape {
    /// For each of 16 places the character that it takes, or 0x80 for none.
    pub(super) shuffle: [u8; 16],
    pub(super) scale: Scale,
}

/// For floats the divisor (as bits of an `f64`), for integers all ones if negative; then the
/// bits of the least mantissa that has no leading zero. Infinity there: no number of this shape.
pub(super) type Scale = [u64; 2];

/// The first float, the one with no digits. An entry is found from here by `NEGATIVE_FLOAT` if the
/// number has a sign, 16 · the digits before the point and the length. The sign counts as a digit,
/// and a length of as many as the digits is a float without a point. Both are at most 15, or 32
/// where there is none, which leads to the entry of no number.
pub(super) const FLOATS: usize = 0;
/// See [`FLOATS`].
pub(super) const NEGATIVE_FLOAT: usize = 512;
/// The first integer, the one with no digits. An entry is found from here by `NEGATIVE_INT` if the
/// number has a sign and the length, which is at most 15, or 32.
pub(super) const INTS: usize = FLOATS + NEGATIVE_FLOAT + 16 * 32 + 32 + 1;
/// See [`INTS`].
pub(super) const NEGATIVE_INT: usize = 64;
/// As many entries as there are.
const ENTRIES: usize = INTS + NEGATIVE_INT + 32 + 1;

/// The digits and scales of false, true and neither.
pub(super) static BOOLS: [([u8; 16], Scale); 3] =
    [([0; 16], NEUTRAL_INT), (ONE, NEUTRAL_INT), ([0; 16], NONE.scale)];

const ONE: [u8; 16] = 1_u128.to_be_bytes();

/// A stage's entry that converts to 0 and is valid, as float and as integer.
pub(super) const NEUTRAL_FLOAT: Scale = [1.0_f64.to_bits(), 0];
/// See [`NEUTRAL_FLOAT`].
pub(super) const NEUTRAL_INT: Scale = [0, 0];

const NONE: Shape =
    Shape { shuffle: [0x80; 16], scale: [1.0_f64.to_bits(), f64::INFINITY.to_bits()] };

const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

pub(super) static SHAPES: [Shape; ENTRIES] = shapes();

const fn shapes() -> [Shape; ENTRIES] {
    let mut table = [NONE; ENTRIES];
    let mut sign = 0;
    while sign < 2 {
        let mut whole = sign + 1;
        while whole < 16 {
            table[FLOATS + sign * NEGATIVE_FLOAT + 16 * whole + whole] = float(sign, whole, whole);
            // A point without digits behind it is no number.
            let mut length = whole + 2;
            while length < 16 {
                table[FLOATS + sign * NEGATIVE_FLOAT + 16 * whole + length] =
                    float(sign, whole, length);
                length += 1;
            }
            let mut shape = float(sign, whole, whole);
            shape.scale[0] = if sign == 1 { u64::MAX } else { 0 };
            table[INTS + sign * NEGATIVE_INT + whole] = shape;
            whole += 1;
        }
        sign += 1;
    }
    table
}

/// The shape of a number whose point (or end) is at `whole`, and whose end is at `length`.
const fn float(sign: usize, whole: usize, length: usize) -> Shape {
    let places = if length > whole { length - whole - 1 } else { 0 };
    let count = whole + places;
    let mut shape = NONE;
    let mut digit = sign;
    while digit < count {
        let from = if digit < whole { digit } else { digit + 1 };
        shape.shuffle[16 - count + digit] = from as u8;
        digit += 1;
    }
    let divisor = POWERS[places];
    shape.scale[0] = (if sign == 1 { -divisor } else { divisor }).to_bits();
    // Without leading zeros the first of several digits before the point is at least 1.
    let least = if whole - sign > 1 { POWERS[count - sign - 1] } else { 0.0 };
    shape.scale[1] = least.to_bits();
    shape
}
