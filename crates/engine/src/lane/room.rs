//! What a lane holds in memory, and how it gives it up. When that is asked for, the worker decides.

use tidemill_kernel::{rollup::Rollup, window::Window};

use super::{Action, Lane, Phase};
use crate::memory::letters_bytes;

impl Lane {
    /// Returns about how many bytes its windows and letters take.
    pub fn memory_bytes(&self) -> u64 {
        let windows: usize = self.rollup.unmerged().map(Window::memory_bytes).sum();
        (windows + letters_bytes(&self.letters)) as u64
    }

    /// Commits the letters that it holds before that is due; returns whether there were any.
    pub(crate) fn commit_letters(&mut self, now_ms: u64, actions: &mut Vec<Action>) -> bool {
        let holds = self.phase == Phase::Running && !self.letters.is_empty();
        if holds {
            self.snapshot(now_ms, actions);
        }
        holds
    }

    /// Gives the open windows up; only for a lane that has stopped.
    pub(crate) fn forget_windows(&mut self) {
        let progress = self.rollup.progress();
        self.rollup = Rollup::new(self.config.rollup.clone(), &progress);
        self.letters = Vec::new();
    }
}
