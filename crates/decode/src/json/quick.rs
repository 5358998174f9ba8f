//! The quick reader: messages of a known shape, several in lock step, straight into the rows of a
//! block.
//!
//! It works on plans learnt from messages that the judge accepted, accepts only what the judge
//! would with the same values, and gives up without a verdict on everything else. It needs AVX2;
//! without it, or where a plan cannot be quick, `fast.rs` reads.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "needs AVX2"))]

mod names;
mod plan;
mod table;
mod work;

#[cfg(target_arch = "x86_64")]
mod any_order;
#[cfg(target_arch = "x86_64")]
mod convert;
#[cfg(target_arch = "x86_64")]
mod long;
#[cfg(target_arch = "x86_64")]
mod repair;
#[cfg(target_arch = "x86_64")]
mod settle;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(target_arch = "x86_64")]
mod stage;
#[cfg(target_arch = "x86_64")]
mod walk;

#[cfg(not(target_arch = "x86_64"))]
use self::nowhere::Avx2;
#[cfg(target_arch = "x86_64")]
use self::simd::Avx2;
use self::work::{Memory, Stages, Work};
use tidemill_kernel::event::{EventBlock, Position};

pub(crate) use self::plan::{QuickPlan, Sketch};
use super::{layout::Layout, value::Values};

/// How many messages are read in lock step. One alone waits for each value's length before it can
/// look at the next; four need more registers than there are. On a Zen 4, messages of 513 bytes
/// and 25 fields from JSON to rows: 170 ns with two, 164 with three, 174 with four.
pub(crate) const LANES: usize = 3;
/// So many bytes must be readable from every place of a payload at which a step looks.
const BEHIND_BYTES: usize = 64;

/// Where a message lies in its buffer. What stands behind it may be read and decides nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The quick reader's memory.
#[derive(Debug)]
pub(crate) struct Quick {
    avx2: Option<Avx2>,
    stages: Stages,
    memory: Memory,
    padded: Vec<u8>,
}

impl Quick {
    /// Returns a reader for messages of that layout.
    pub(crate) fn new(layout: &Layout) -> Quick {
        Quick {
            avx2: Avx2::detect(),
            stages: Stages::new(layout),
            memory: Memory::default(),
            padded: Vec::new(),
        }
    }

    /// Returns whether this processor has what is needed.
    pub(crate) fn is_on(&self) -> bool {
        self.avx2.is_some()
    }

    /// Leaves everything to the slower readers from now on.
    pub(crate) fn turn_off(&mut self) {
        self.avx2 = None;
    }

    /// Returns memory that holds the payload and enough behind it.
    pub(crate) fn pad(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut padded = std::mem::take(&mut self.padded);
        padded.clear();
        padded.extend_from_slice(payload);
        padded.extend_from_slice(&[0; BEHIND_BYTES]);
        padded
    }

    /// Takes the memory of [`pad`](Quick::pad) back.
    pub(crate) fn take_back(&mut self, padded: Vec<u8>) {
        self.padded = padded;
    }

    /// Reads messages of a plan's shape into the block; returns whether it could. If not the
    /// block is as it was.
    #[inline]
    pub(crate) fn read<const L: usize>(
        &mut self,
        plan: &QuickPlan,
        of: &mut Context<'_>,
        lanes: &[Lane; L],
        places: [(Position, i64); L],
        block: &mut EventBlock,
    ) -> bool {
        let Some(avx2) = self.avx2 else { return false };
        let mark = block.mark();
        let text_bytes = lanes.iter().map(|lane| lane.end - lane.start).sum::<usize>();
        let mut rows = block.rows(places, text_bytes + L * plan.room_bytes());
        let (stages, memory) = (&mut self.stages, &mut self.memory);
        let mut work = Work::new(of.layout, of.values, stages, memory, of.depth_max, of.buffer);
        let is_read = avx2.read(plan, of.buffer, lanes, &mut work, &mut rows).is_some();
        if !is_read {
            block.rewind(mark);
        }
        is_read
    }
}

/// What a reading needs beside the plan and the quick reader's memory.
#[derive(Debug)]
pub(crate) struct Context<'c> {
    pub(crate) layout: &'c Layout,
    pub(crate) values: &'c mut Values,
    pub(crate) depth_max: usize,
    /// The buffer that the messages lie in.
    pub(crate) buffer: &'c [u8],
}

impl Lane {
    /// Returns whether enough may be read behind the message.
    #[inline]
    pub(crate) fn is_open(self, buffer: &[u8]) -> bool {
        buffer.len().saturating_sub(self.end) >= BEHIND_BYTES
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod nowhere {
    use tidemill_kernel::event::Rows;

    use super::{Lane, QuickPlan, work::Work};

    /// What does not exist on this architecture.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Avx2 {}

    impl Avx2 {
        pub(crate) fn detect() -> Option<Avx2> {
            None
        }

        pub(super) fn read<const L: usize>(
            self,
            _: &QuickPlan,
            _: &[u8],
            _: &[Lane; L],
            _: &mut Work<'_>,
            _: &mut Rows<'_>,
        ) -> Option<()> {
            match self {}
        }
    }
}
