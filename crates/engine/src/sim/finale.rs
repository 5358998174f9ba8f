//! The end of a run: the faults stop, a clean owner takes what is left, the input ends, and what
//! old owners still had under way arrives too late.

use super::{
    sending::{Door, Sending},
    shell::Worker,
    store::Write,
    world::World,
};

/// Steps in which everybody goes on after the last message.
const AFTERMATH_STEPS: usize = 60;

impl World {
    pub(super) fn finish(&mut self) -> Result<(), String> {
        for _ in 0..self.random.below(AFTERMATH_STEPS) {
            self.step()?;
        }
        let mut late = self.end_old_owners();
        self.is_quiet = true;
        self.trim();
        self.broker.close_session();
        self.note(|| "the last owner".to_owned());
        self.last_owner()?;
        // Zombies finish what they had begun; delayed writes arrive.
        while !late.is_empty() {
            let at = self.random.below(late.len());
            if self.attempt(&mut late[at])?.is_some() {
                late.swap_remove(at);
            }
        }
        while !self.limbo.is_empty() {
            self.arrive()?;
        }
        self.check_end()?;
        if self.random.chance(500) {
            // The record that counts may be that of a zombie: as many messages, open windows.
            self.note(|| "one more owner".to_owned());
            self.workers[0] = Worker::default();
            self.broker.close_session();
            self.last_owner()?;
            self.check_end()?;
        }
        Ok(())
    }

    /// Ends all processes; returns the commits whose writing goes on.
    fn end_old_owners(&mut self) -> Vec<Sending<Write>> {
        let mut late = Vec::new();
        for worker in &mut self.workers {
            worker.drop_unsent(&mut self.random);
            late.append(&mut worker.detached);
            *worker = Worker::default();
        }
        late
    }

    /// Lets worker 0 read everything there is, undisturbed, and then end the input.
    fn last_owner(&mut self) -> Result<(), String> {
        let limit = 2_000 + 40 * self.broker.entries.len() + 4 * self.reference.messages.len();
        for _ in 0..limit {
            self.now_ms += 20;
            if self.broker.active.is_none() {
                self.assign(0);
            }
            self.deliver()?;
            if self.work(0)? || self.broker.read < self.broker.entries.len() {
                continue;
            }
            if self.workers[0].lane.as_ref().is_none_or(|lane| lane.is_stopped()) {
                continue;
            }
            return self.end_input();
        }
        Err("the last owner does not come to the end of the log".to_owned())
    }

    fn end_input(&mut self) -> Result<(), String> {
        self.has_ended = true;
        let worker = &mut self.workers[0];
        let lane = worker.lane.as_mut().expect("the last owner has a lane");
        lane.end(self.now_ms, &mut worker.todo);
        self.note(|| "end of the input".to_owned());
        while !self.is_settled(0) {
            self.work(0)?;
        }
        Ok(())
    }
}
