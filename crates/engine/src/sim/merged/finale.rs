//! The end of a run: the faults stop, a clean owner takes what is left, all inputs end, and what
//! old owners still had under way arrives too late.

use super::{World, shell::Worker};
use crate::sim::sending::Door;

impl World {
    pub(super) fn finish(&mut self) -> Result<(), String> {
        for _ in 0..self.random.below(60) {
            self.step()?;
        }
        let mut late = Vec::new();
        for worker in &mut self.workers {
            worker.drop_unsent(&mut self.random);
            late.append(&mut worker.detached);
            *worker = Worker::new(self.brokers.len());
        }
        self.is_quiet = true;
        self.close_session();
        self.note(|| "the last owner".to_owned());
        self.last_owner()?;
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
            self.note(|| "one more owner".to_owned());
            self.workers[0] = Worker::new(self.brokers.len());
            self.close_session();
            self.last_owner()?;
            self.check_end()?;
        }
        Ok(())
    }

    /// Lets worker 0 read everything there is, undisturbed, and then end the inputs.
    fn last_owner(&mut self) -> Result<(), String> {
        let entries: usize = self.brokers.iter().map(|broker| broker.entries.len()).sum();
        for _ in 0..4_000 + 100 * entries {
            self.now_ms += 20;
            if self.owner.is_none() {
                self.assign(0);
            }
            for lane in 0..self.brokers.len() {
                self.deliver(lane)?;
            }
            if self.random.chance(50) {
                self.tick(0)?;
            }
            if self.work(0)? {
                continue;
            }
            let all_read = self.brokers.iter().all(|broker| broker.read >= broker.entries.len());
            let all_taken = self.workers[0].entries.iter().all(|entries| entries.is_empty());
            let runs = self.workers[0].junction.as_ref().is_some_and(|j| !j.is_stopped());
            if all_read && all_taken && runs {
                return self.end_inputs();
            }
        }
        Err("the last owner does not come to the end of the logs".to_owned())
    }

    fn end_inputs(&mut self) -> Result<(), String> {
        self.has_ended = true;
        for partition in self.partitions.clone() {
            let mut actions = Vec::new();
            if let Some(junction) = self.workers[0].junction.as_mut() {
                junction.end(&partition, self.now_ms, &mut actions);
            }
            self.queue(0, actions);
        }
        self.note(|| "end of the inputs".to_owned());
        while !self.workers[0].is_settled() {
            self.work(0)?;
        }
        Ok(())
    }
}
