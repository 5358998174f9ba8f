//! Which worker gets what a source tells, whoever's thread tells it.
//!
//! New partitions go round the workers, one after the other. From the moment at which a pipeline
//! ends nothing is passed on any more: a lane that began then would never settle.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Sender},
};

use crate::{
    metrics::{Metrics, Queued},
    port::{Inbox, SourceEvent},
    worker::ToWorker,
};

/// The way to the workers.
pub(crate) struct Router {
    workers: Vec<Sender<ToWorker>>,
    metrics: Arc<Metrics>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The worker of each partition.
    workers: BTreeMap<Arc<str>, usize>,
    is_closed: bool,
}

impl Router {
    pub(crate) fn new(workers: Vec<Sender<ToWorker>>, metrics: Arc<Metrics>) -> Router {
        Router { workers, metrics, known: Mutex::default() }
    }

    /// Returns how many partitions there were.
    pub(crate) fn partition_count(&self) -> usize {
        self.lock().workers.len()
    }

    /// Passes on no more events of the source.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Tells all workers something.
    pub(crate) fn tell(&self, what: impl Fn() -> ToWorker) {
        for worker in &self.workers {
            // A worker ends only when it is told to, or by a panic that its join reports.
            let _ = worker.send(what());
        }
    }

    /// Sends an event to the worker of its partition.
    fn route(&self, known: &mut Known, event: SourceEvent) {
        let (partition, to_worker): (_, fn(Arc<str>) -> ToWorker) = match event {
            SourceEvent::Assigned(partition) => {
                self.metrics.end_standby(&partition);
                (partition, ToWorker::Assigned)
            }
            SourceEvent::Revoked(partition) => {
                self.metrics.end_standby(&partition);
                // It was another process's all the time.
                if !known.workers.contains_key(&partition) {
                    return;
                }
                (partition, ToWorker::Revoked)
            }
            SourceEvent::End(partition) => (partition, ToWorker::End),
            SourceEvent::Entry(partition, entry) => {
                let worker = self.worker_of(known, &partition);
                let entry = Queued::new(entry, &self.metrics);
                let _ = self.workers[worker].send(ToWorker::Entry(partition, entry));
                return;
            }
            SourceEvent::Failed(partition, text) => {
                let worker = self.worker_of(known, &partition);
                let _ = self.workers[worker].send(ToWorker::Failed(partition, text));
                return;
            }
            SourceEvent::Partitions(partitions) => {
                return self.tell(|| ToWorker::Partitions(partitions.clone()));
            }
            SourceEvent::Standby(partition) => return self.metrics.stand_by(partition),
            SourceEvent::Exhausted => return,
        };
        let worker = self.worker_of(known, &partition);
        let _ = self.workers[worker].send(to_worker(partition));
    }

    fn worker_of(&self, known: &mut Known, partition: &Arc<str>) -> usize {
        if let Some(worker) = known.workers.get(partition) {
            return *worker;
        }
        let next = known.workers.len() % self.workers.len();
        known.workers.insert(partition.clone(), next);
        next
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox for Router {
    fn put(&self, event: SourceEvent) -> bool {
        let mut known = self.lock();
        if !known.is_closed {
            self.route(&mut known, event);
        }
        !known.is_closed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn names(events: &Receiver<ToWorker>) -> Vec<String> {
        let name = |event| match event {
            ToWorker::Assigned(partition) => format!("{partition} assigned"),
            ToWorker::Revoked(partition) => format!("{partition} revoked"),
            ToWorker::End(partition) => format!("{partition} ended"),
            _ => "other".to_owned(),
        };
        events.try_iter().map(name).collect()
    }

    #[test]
    fn each_partition_stays_with_its_worker_until_the_pipeline_ends() {
        let ((one, first), (two, second)) = (channel(), channel());
        let router = Router::new(vec![one, two], Arc::default());
        let [a, b, c]: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        assert!(router.put(SourceEvent::Revoked(c.clone())));
        for partition in [&a, &b, &c] {
            assert!(router.put(SourceEvent::Assigned(partition.clone())));
        }
        assert!(router.put(SourceEvent::Revoked(a.clone())));
        assert!(router.put(SourceEvent::End(b)));
        assert_eq!(names(&first), ["a assigned", "c assigned", "a revoked"]);
        assert_eq!(names(&second), ["b assigned", "b ended"]);
        assert_eq!(router.partition_count(), 3);
        router.close();
        assert!(!router.put(SourceEvent::Assigned(a)));
        assert!(names(&first).is_empty());
    }
}
