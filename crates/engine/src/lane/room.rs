//! What a lane holds in memory, and how it gives it up. When that is asked for, the worker decides.

use tidemill_kernel::{rollup::Rollup, window::Window};

use super::{Action, Lane, Phase};

impl Lane {
    /// Returns about how many bytes its windows and letters take.
    pub fn memory_bytes(&self) -> u64 {
        let windows: usize = self.rollup.unmerged().map(Window::memory_bytes).sum();
        (windows + self.unsent_bytes()) as u64
    }

    /// Returns how many bytes it keeps for the rows of windows to come.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.rollup.kept_bytes() as u64
    }

    /// Gives back what it keeps for rows to come.
    pub(crate) fn give_back(&mut self) {
        self.rollup.give_back();
    }

    /// Commits the letters and late messages that it holds before that is due; returns whether
    /// there were any.
    pub(crate) fn commit_letters(&mut self, now_ms: u64, actions: &mut Vec<Action>) -> bool {
        let has_any = !self.letters.is_empty() || !self.late.is_empty();
        let holds = self.phase == Phase::Running && has_any;
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
        self.late = Vec::new();
    }
}
