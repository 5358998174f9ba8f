//! A running pipeline: one source, some worker threads with their lanes, one thread per store.
//!
//! Events go from the source to the workers by the router: from the source's own threads where it
//! has some, else from the calling one. Nothing here decides what is counted or committed; that is
//! the lanes' business.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::info;

use crate::{
    junction_worker::JunctionWorker,
    key_homes::KeyHomes,
    lane::LaneConfig,
    metrics::Metrics,
    port::{Inbox, Source, SourceEvent, Store},
    router::Router,
    settings::{Pauses, Reload},
    worker::{ToWorker, Worker, WorkerContext},
    writer::{self, RetryConfig},
};

/// How long the source may wait before the shutdown flag is looked at.
const POLL: Duration = Duration::from_millis(100);

/// What a pipeline needs beside its source and stores.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// The lanes' configuration; each lane gets its partition's name.
    pub lane: LaneConfig,
    /// Threads that decode and fold; merged lanes have one.
    pub worker_threads: usize,
    /// Whether rows are merged from the windows of all lanes, and how many closed windows of a lane
    /// may wait for the others; `None`: each lane makes rows of its own.
    pub merge: Option<usize>,
    /// How failed commits are repeated.
    pub retry: RetryConfig,
    /// How long a drain waits for the store.
    pub drain_timeout: Duration,
    /// Whether each device of a closed window gets a log line.
    pub log_windows: bool,
    /// At so many bytes by its own books the pipeline asks its source for nothing more.
    pub memory_bytes_max: u64,
    /// The most devices remembered to notice one on two partitions; 0 watches none.
    pub routed_devices_max: usize,
}

/// How a pipeline ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A finite input is processed and durable.
    Finished,
    /// It was told to stop, and all that was taken is durable.
    Drained,
    /// It was told to stop, and the store did not answer in time; the next start reads again.
    DrainedLate,
    /// No lane is left that works; the texts say why.
    Failed(Vec<String>),
}

/// Runs until the input ends, `shutdown` is set, or no lane works any more.
pub fn run(
    config: &PipelineConfig,
    source: Box<dyn Source>,
    stores: Vec<Box<dyn Store>>,
    metrics: &Arc<Metrics>,
    shutdown: &AtomicBool,
) -> Outcome {
    run_reloadable(config, source, stores, metrics, shutdown, &channel().1)
}

/// The same, and does otherwise as soon as `reloads` tells it to.
pub fn run_reloadable(
    config: &PipelineConfig,
    mut source: Box<dyn Source>,
    stores: Vec<Box<dyn Store>>,
    metrics: &Arc<Metrics>,
    shutdown: &AtomicBool,
    reloads: &Receiver<Reload>,
) -> Outcome {
    let mut drain_timeout = config.drain_timeout;
    metrics.memory.set_max(config.memory_bytes_max);
    let give_up = Arc::new(AtomicBool::new(false));
    let threads = Threads::start(config, &*source, stores, metrics, &give_up);
    source.push_to(threads.router.clone());
    let end = loop {
        if shutdown.load(SeqCst) {
            break ToWorker::Drain;
        }
        while let Ok(reload) = reloads.try_recv() {
            drain_timeout = reload.settings.drain_timeout;
            threads.reload(&reload);
        }
        match source.next(POLL) {
            Ok(None) => {}
            Ok(Some(SourceEvent::Exhausted)) => break ToWorker::Finish,
            Ok(Some(event)) => {
                threads.router.put(event);
            }
            Err(text) => {
                threads.stop(&ToWorker::Drain, drain_timeout, &give_up, shutdown);
                return Outcome::Failed(vec![text]);
            }
        }
        if let Some(failures) = metrics.failures_of_all(threads.router.partition_count()) {
            threads.stop(&ToWorker::Drain, drain_timeout, &give_up, shutdown);
            return Outcome::Failed(failures);
        }
    };
    let drains = matches!(end, ToWorker::Drain);
    if drains {
        info!("draining");
    }
    let settled = threads.stop(&end, drain_timeout, &give_up, shutdown);
    let failures: Vec<String> =
        metrics.lanes().values().filter_map(|lane| lane.failure.clone()).collect();
    match (settled, drains) {
        _ if !failures.is_empty() => Outcome::Failed(failures),
        (false, _) => Outcome::DrainedLate,
        (true, true) => Outcome::Drained,
        (true, false) => Outcome::Finished,
    }
}

struct Threads {
    router: Arc<Router>,
    workers: Vec<JoinHandle<()>>,
    writers: Vec<JoinHandle<()>>,
    metrics: Arc<Metrics>,
    pauses: Arc<Pauses>,
}

impl Threads {
    fn start(
        config: &PipelineConfig,
        source: &dyn Source,
        stores: Vec<Box<dyn Store>>,
        metrics: &Arc<Metrics>,
        give_up: &Arc<AtomicBool>,
    ) -> Threads {
        assert!(!stores.is_empty() && config.worker_threads > 0, "a store and a thread at least");
        let mut writers = Vec::new();
        let pauses = Arc::new(Pauses::new(config.retry));
        let mut store_senders = Vec::new();
        for store in stores {
            let (sender, receiver) = channel();
            store_senders.push(sender);
            let (metrics, give_up, pauses) = (metrics.clone(), give_up.clone(), pauses.clone());
            writers.push(spawn("store", move || {
                writer::serve(store, &receiver, &pauses, &metrics, &give_up);
            }));
        }
        let key_homes = Arc::new(KeyHomes::new(config.routed_devices_max));
        let worker_threads = if config.merge.is_some() { 1 } else { config.worker_threads };
        let workers = (0..worker_threads).map(|index| {
            let (sender, receiver) = channel();
            let mut lane = config.lane.clone();
            lane.continuity = source.continuity();
            let context = WorkerContext {
                lane,
                control: source.control(),
                store: store_senders[index % store_senders.len()].clone(),
                own: sender.clone(),
                metrics: metrics.clone(),
                log_windows: config.log_windows,
                key_homes: key_homes.clone(),
                give_up: give_up.clone(),
            };
            let merge = config.merge;
            let thread = spawn("worker", move || match merge {
                Some(held_max) => JunctionWorker::new(context, held_max).run(&receiver),
                None => Worker::new(context).run(&receiver),
            });
            (sender, thread)
        });
        let (senders, workers) = workers.unzip();
        let router = Arc::new(Router::new(senders, metrics.clone()));
        Threads { router, workers, writers, metrics: metrics.clone(), pauses }
    }

    /// Tells everybody to do otherwise.
    fn reload(&self, reload: &Reload) {
        self.metrics.memory.set_max(reload.settings.memory_bytes_max);
        self.pauses.set(reload.settings.retry);
        self.router.tell(|| ToWorker::Reload(reload.clone()));
    }

    /// Ends the workers and then the writers; returns whether all was durable in time.
    fn stop(
        self,
        end: &ToWorker,
        drain_timeout: Duration,
        give_up: &AtomicBool,
        shutdown: &AtomicBool,
    ) -> bool {
        let mut drains = matches!(end, ToWorker::Drain);
        self.router.close();
        let tell = |drains: bool| {
            self.router.tell(|| if drains { ToWorker::Drain } else { ToWorker::Finish });
        };
        tell(drains);
        let mut deadline = Instant::now() + drain_timeout;
        while self.workers.iter().any(|handle| !handle.is_finished()) {
            if !drains && shutdown.load(SeqCst) {
                drains = true;
                deadline = Instant::now() + drain_timeout;
                tell(true);
            }
            // A finite input may take as long as it needs; only a drain is in a hurry.
            if drains && Instant::now() >= deadline {
                give_up.store(true, Relaxed);
            }
            thread::sleep(Duration::from_millis(5));
        }
        for handle in self.workers.into_iter().chain(self.writers) {
            handle.join().expect("threads of the pipeline do not panic");
        }
        !give_up.load(Relaxed)
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(body).expect("the system has a thread to give")
}
