//! Windows that one lane has closed and that wait for the other lanes of their pipeline.
//!
//! Where a device's messages may come on any partition, a row is made of the windows of all lanes.
//! A lane still decides by its own messages alone which of them are late; what it closed is kept
//! here, with the ordinal of each closing, until the caller takes it out to merge it.

use alloc::vec::Vec;

use crate::{event::Position, window::Window};

/// That a lane closed all windows up to an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// All windows that end at or before this instant (ms) were closed.
    pub until_ms: i64,
    /// How many messages of the lane had been processed.
    pub ordinal: u64,
    /// The last of them; `None` if there was none. What stands behind it and belongs to one of
    /// these windows is late.
    pub processed: Option<Position>,
}

/// What a lane closed and nobody has merged.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// All windows that end at or before this instant (ms) are merged.
    merged_until_ms: i64,
    /// With rising instants, all above `merged_until_ms`.
    closings: Vec<Closing>,
    /// Oldest first.
    windows: Vec<Window>,
}

impl Held {
    pub(crate) fn new(merged_until_ms: i64, closings: Vec<Closing>) -> Held {
        Held { merged_until_ms, closings, windows: Vec::new() }
    }

    pub(crate) fn merged_until_ms(&self) -> i64 {
        self.merged_until_ms
    }

    pub(crate) fn closings(&self) -> &[Closing] {
        &self.closings
    }

    pub(crate) fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Notes a closing and keeps what it closed.
    pub(crate) fn close(&mut self, closing: Closing, windows: impl Iterator<Item = Window>) {
        self.windows.extend(windows);
        match self.closings.last_mut() {
            // Nothing came between: the two are one.
            Some(last) if last.ordinal == closing.ordinal => last.until_ms = closing.until_ms,
            _ => self.closings.push(closing),
        }
    }

    /// Keeps windows that were rebuilt, whose closings are known.
    pub(crate) fn restore(&mut self, windows: impl Iterator<Item = Window>) {
        self.windows.extend(windows);
    }

    /// Returns the closing of the window that ends then, if it is closed.
    pub(crate) fn closing_of(&self, window_end_ms: i64) -> Option<Closing> {
        self.closings.iter().find(|closing| closing.until_ms >= window_end_ms).copied()
    }

    /// Returns whether a message that is read again was late for its window, or is merged.
    pub(crate) fn was_closed(&self, window_end_ms: i64, at: Position) -> bool {
        window_end_ms <= self.merged_until_ms
            || self.closing_of(window_end_ms).is_some_and(|closing| Some(at) > closing.processed)
    }

    /// Gives out the windows up to an instant.
    pub(crate) fn release(&mut self, until_ms: i64) -> Vec<Window> {
        self.merged_until_ms = self.merged_until_ms.max(until_ms);
        self.closings.retain(|closing| closing.until_ms > until_ms);
        let count = self.windows.partition_point(|window| window.end_ms() <= until_ms);
        self.windows.drain(..count).collect()
    }
}
