//! What a lane takes of the memory, by the pipeline's books.

use tidemill_kernel::{rollup::Rollup, window::Window};

use super::Lane;
use crate::memory::letters_bytes;

impl Lane {
    /// Returns about how many bytes its windows and letters take.
    pub fn memory_bytes(&self) -> u64 {
        let windows: usize = self.rollup.unmerged().map(Window::memory_bytes).sum();
        (windows + letters_bytes(&self.letters)) as u64
    }

    /// Gives the open windows up; only for a lane that has stopped.
    pub(crate) fn forget_windows(&mut self) {
        let progress = self.rollup.progress();
        self.rollup = Rollup::new(self.config.rollup.clone(), &progress);
        self.letters = Vec::new();
    }
}
