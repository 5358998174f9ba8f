//! What a worker does when it is told to do otherwise: its lanes, those to come, and those that
//! stopped because another process was told before.

use std::sync::Arc;

use super::Worker;
use crate::settings::{LaneAnswer, Reload, remember};

impl Worker {
    pub(super) fn reload(&mut self, reload: &Reload) {
        let settings = &reload.settings;
        remember(&mut self.earlier, self.context.lane.rollup.timing());
        self.context.adopt(settings);
        let partitions: Vec<Arc<str>> = self.places.keys().cloned().collect();
        for partition in partitions {
            self.with_lane(&partition, |lane, now_ms, actions| {
                lane.reload(&settings.lane, now_ms, actions);
            });
            let Some(place) = self.places.get(&partition) else {
                continue;
            };
            if place.lane.was_refused() {
                // It begins anew from its record, which it may understand now.
                self.context.control.assign_again(&partition);
            } else if !place.lane.is_stopped() {
                let answer = LaneAnswer { partition: partition.clone(), edge: place.lane.edge() };
                // Whoever asked may have lost patience.
                let _ = reload.answers.send(answer);
            }
            self.work(&partition);
        }
    }
}
