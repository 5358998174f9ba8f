//! Every processor does the same, and no place is beyond its row.

use super::*;
use crate::aggregate::most_frequent::PLACES;
use std::vec;

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0.rotate_left(20) % end as u64) as usize
    }

    /// Returns mostly short decimals, now and then anything finite.
    fn float(&mut self) -> f64 {
        let bits = (self.below(usize::MAX) as u64) << 1 ^ self.below(usize::MAX) as u64;
        match self.below(20) {
            0 => Some(f64::from_bits(bits)).filter(|value| value.is_finite()).unwrap_or(0.5) + 0.0,
            _ => self.below(2_000_000) as f64 / 100.0 - 10_000.0,
        }
    }

    fn int(&mut self) -> i64 {
        match self.below(20) {
            0 => (self.below(usize::MAX) as i64).wrapping_mul(2),
            _ => self.below(2_000) as i64 - 1_000,
        }
    }
}

/// Returns places that take turns, a row and how many numbers there are.
fn places(random: &mut Random) -> (Places, usize, usize, usize) {
    let (floats, ints) = (random.below(20) + 1, random.below(20) + 1);
    let mut words = random.below(5);
    let mut cells = |random: &mut Random, numbers: usize, size: usize| {
        let chosen: Vec<usize> = (0..numbers).filter(|_| random.below(4) > 0).collect();
        let cells = chosen.into_iter().map(|from| {
            words += size;
            Cell { from, to: words - size }
        });
        cells.collect::<Vec<_>>()
    };
    let (high, ranges) = (cells(random, floats, 1), cells(random, floats, 2));
    let (sums, int_ranges) = (cells(random, ints, 1), cells(random, ints, 2));
    let flags = cells(random, ints, 1);
    let groups = 1 + random.below(2);
    let codes = cells(random, ints, groups * PLACES);
    let code = |cell: Cell| CodeCell { from: cell.from, to: cell.to, groups, low: -1_000 };
    let limbs = words;
    words += high.iter().map(|cell| cell.to + 1).max().unwrap_or(0);
    let places = Places {
        float_sums: runs(&high),
        limbs,
        int_sums: runs(&sums),
        flags,
        float_ranges: ranges,
        int_ranges,
        codes: codes.into_iter().map(code).collect(),
        int_bit: floats,
    };
    (places, words, floats, ints)
}

#[test]
fn every_processor_folds_the_same() {
    let mut random = Random(7);
    let mut seen = [false; 6];
    for round in 0..2_000 {
        let (mut places, words, floats, ints) = places(&mut random);
        if round % 2 == 0 {
            places.codes.truncate(1);
        }
        let folder = RowFolder::new(places.clone(), words, floats, ints);
        let mut row = vec![0; words];
        for cell in &places.float_ranges {
            row[cell.to..][..2].copy_from_slice(&[f64::INFINITY, -f64::INFINITY].map(f64::to_bits));
        }
        let mut expected_row = row.clone();
        for _ in 0..random.below(30) {
            let floats: Vec<f64> = (0..floats).map(|_| random.float()).collect();
            let mut ints: Vec<i64> = (0..ints).map(|_| random.int()).collect();
            for code in &places.codes {
                ints[code.from] = code.low + random.below(10) as i64;
            }
            let is_complete = random.below(3) > 0;
            let (left, expected) = if is_complete {
                let left = folder.fold(&mut row, &floats, &ints, All);
                (left, portable::fold(&places, &mut expected_row, &floats, &ints, All))
            } else {
                let words = [random.below(usize::MAX) as u64];
                let has = Presence::new(&words, floats.len() + ints.len());
                let left = folder.fold(&mut row, &floats, &ints, has);
                (left, portable::fold(&places, &mut expected_row, &floats, &ints, has))
            };
            assert_eq!((left, &row), (expected, &expected_row), "{places:?}");
            let parts = [Left::OUTSIDE, Left::WRAPPED, Left::UNPLACED].map(|part| left.has(part));
            for (at, is_so) in parts.into_iter().enumerate() {
                seen[2 * at + usize::from(is_so)] = true;
            }
        }
    }
    assert_eq!(seen, [true; 6], "each outcome both ways");
}

#[test]
fn neighbours_are_one_run() {
    let cells = |slots: &[usize]| {
        let cells = slots.iter().zip(10..).map(|(from, to)| Cell { from: *from, to });
        runs(&cells.collect::<Vec<_>>()).iter().map(|run| (run.from, run.count)).collect::<Vec<_>>()
    };
    assert_eq!(cells(&[]), []);
    assert_eq!(cells(&[0, 3, 4, 5, 7]), [(0, 1), (3, 3), (7, 1)]);
}

#[test]
#[should_panic(expected = "a place beyond its row")]
fn place_beyond_the_row_is_refused() {
    let places = Places { flags: vec![Cell { from: 0, to: 8 }], ..Places::default() };
    RowFolder::new(places, 8, 0, 1);
}

#[test]
#[should_panic(expected = "a place beyond its row")]
fn low_limb_beyond_the_row_is_refused() {
    let run = Run { from: 0, to: 0, count: 4 };
    let places = Places { float_sums: vec![run], limbs: 5, ..Places::default() };
    RowFolder::new(places, 8, 4, 0);
}

#[test]
#[should_panic(expected = "another schema")]
fn message_of_another_schema_is_refused() {
    RowFolder::new(Places::default(), 8, 4, 0).fold(&mut [0; 8], &[0.0; 3], &[], All);
}
