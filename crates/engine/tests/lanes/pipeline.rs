//! A whole pipeline with its threads that is told to do otherwise while it runs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tidemill_engine::{
    lane::Lane,
    metrics::Metrics,
    pipeline::{Outcome, PipelineConfig, run_reloadable},
    port::{
        Commit, Continuity, RowKey, Source, SourceControl, SourceEvent, Store, StoreError,
        StoredState,
    },
    record::{CommitRecord, LaneId},
    settings::{Edge, LaneAnswer, Reload, Settings},
    writer::RetryConfig,
};
use tidemill_kernel::{event::Position, rollup::Timing, row::RowBlock};

use crate::{
    harness::{config, entry, payloads},
    reload::{config_of, timing},
};

type Records = Arc<Mutex<BTreeMap<LaneId, CommitRecord>>>;

/// Keeps records in memory.
struct Memory(Records);

impl Store for Memory {
    fn load(&mut self, lane: &LaneId) -> Result<Option<CommitRecord>, StoreError> {
        Ok(self.0.lock().expect("no panic").get(lane).cloned())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let record = commit.record.clone();
        self.0.lock().expect("no panic").insert(record.lane.clone(), record);
        Ok(())
    }

    fn stored(&mut self, _: &LaneId, _: &[RowKey]) -> Result<Vec<Option<StoredState>>, StoreError> {
        Err(StoreError::Refused("it keeps no rows".into()))
    }

    fn write_rows(&mut self, _: &[RowBlock]) -> Result<(), StoreError> {
        Err(StoreError::Refused("it keeps no rows".into()))
    }
}

/// Yields what the test sends, and assigns a partition again when it is asked to.
struct Fed {
    events: Receiver<SourceEvent>,
    control: Arc<Steered>,
}

struct Steered(Mutex<Sender<SourceEvent>>);

impl Steered {
    fn send(&self, event: SourceEvent) {
        self.0.lock().expect("no panic").send(event).expect("the pipeline runs");
    }
}

impl SourceControl for Steered {
    fn read_from(&self, _: &str, _: Option<Position>, _: bool) {}

    fn credit(&self, _: &str, _: u32) {}

    fn assign_again(&self, partition: &str) {
        self.send(SourceEvent::Assigned(partition.into()));
    }

    fn acknowledge(&self, _: &str, _: Position) {}
}

impl Source for Fed {
    fn next(&mut self, timeout: Duration) -> Result<Option<SourceEvent>, String> {
        Ok(self.events.recv_timeout(timeout).ok())
    }

    fn control(&self) -> Arc<dyn SourceControl> {
        self.control.clone()
    }

    fn continuity(&self) -> Continuity {
        Continuity::Counted
    }
}

/// A pipeline that runs.
struct Running {
    source: Arc<Steered>,
    records: Records,
    metrics: Arc<Metrics>,
    shutdown: Arc<AtomicBool>,
    reloads: Sender<Reload>,
    thread: thread::JoinHandle<Outcome>,
}

fn pipeline_config(timing: Timing) -> PipelineConfig {
    let mut lane = config_of(timing);
    (lane.rollup.devices_max, lane.rollup.piece_rows_max) = (20_000, 20_000);
    PipelineConfig {
        lane,
        worker_threads: 2,
        merge: None,
        retry: RetryConfig::default(),
        drain_timeout: Duration::from_secs(30),
        log_windows: false,
        memory_bytes_max: u64::MAX,
        routed_devices_max: 0,
    }
}

impl Running {
    fn start(timing: Timing, records: Records) -> Running {
        let ((sender, events), (reloads, orders)) = (channel(), channel());
        let source = Arc::new(Steered(Mutex::new(sender)));
        let fed = Box::new(Fed { events, control: source.clone() });
        let store = Box::new(Memory(records.clone()));
        let (metrics, shutdown) = (Arc::new(Metrics::default()), Arc::new(AtomicBool::new(false)));
        let (counted, stop) = (metrics.clone(), shutdown.clone());
        let config = pipeline_config(timing);
        let thread = thread::spawn(move || {
            run_reloadable(&config, fed, vec![store], &counted, &stop, &orders)
        });
        Running { source, records, metrics, shutdown, reloads, thread }
    }

    fn until(&self, what: &str, is_so: impl Fn(&Running) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so(self) {
            assert!(Instant::now() < deadline && !self.thread.is_finished(), "{what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn record(&self, partition: &str) -> Option<CommitRecord> {
        self.records.lock().expect("no panic").get(&LaneId::new("p", partition)).cloned()
    }

    fn reload(&self, settings: Settings) -> Vec<LaneAnswer> {
        let (answers, answered) = channel();
        self.reloads.send(Reload { settings, answers }).expect("the pipeline runs");
        let mut lanes: Vec<LaneAnswer> = answered.into_iter().collect();
        lanes.sort_by(|a, b| a.partition.cmp(&b.partition));
        lanes
    }

    fn stop(self) -> Outcome {
        self.shutdown.store(true, SeqCst);
        self.thread.join().expect("it does not panic")
    }
}

#[test]
fn lane_that_is_drained_before_its_record_comes_stays_stopped() {
    let (mut lane, mut actions) = (Lane::new(config_of(timing([0, 0, 0])), 1, 0), Vec::new());
    lane.drain(0, &mut actions);
    lane.start(None, 1, &mut actions);
    assert!(lane.is_stopped() && lane.is_settled(), "a drain would wait for it in vain");
    assert!(actions.is_empty(), "{actions:?}");
}

#[test]
fn lane_that_another_process_took_over_an_edge_goes_on_once_this_one_is_reloaded_too() {
    let (old, new) = (timing([0, 0, 0]), timing([30, 0, 0]));
    // A process that has both partitions is reloaded.
    let first = Running::start(old, Records::default());
    for partition in ["0", "1"] {
        first.source.send(SourceEvent::Assigned(partition.into()));
        first.source.send(SourceEvent::Entry(partition.into(), entry(1, 0, &[10])));
    }
    let both = |running: &Running, is_so: fn(&CommitRecord) -> bool| {
        ["0", "1"].iter().all(|name| running.record(name).as_ref().is_some_and(is_so))
    };
    first.until("both have read", |running| both(running, |record| record.ordinal == 1));
    let settings = pipeline_config(new).settings();
    let edge = Edge::At(crate::harness::START_MS + crate::harness::MINUTE_MS);
    let answers = first.reload(settings);
    assert_eq!(answers.iter().map(|answer| answer.edge).collect::<Vec<_>>(), [edge, edge]);
    first.until("the edges are durable", |running| {
        both(running, |record| !record.transition.changes.is_empty())
    });
    let records = first.records.clone();
    assert_eq!(first.stop(), Outcome::Drained);

    // One that was not has a lane of its own, and gets one of those.
    let second = Running::start(old, records);
    second.source.send(SourceEvent::Assigned("2".into()));
    second.source.send(SourceEvent::Assigned("0".into()));
    let failure = |running: &Running| running.metrics.lanes().get("0")?.failure.clone();
    second.until("it refuses", |running| failure(running).is_some());
    let text = failure(&second).expect("it was refused");
    assert!(text.contains("max_out_of_orderness_ms") && text.contains("reload"), "{text}");
    second.reload(settings);
    second.until("it reads", |running| {
        running.metrics.lanes().get("0").is_some_and(|lane| lane.running && lane.failure.is_none())
    });
    // Under the new values the first minute is over, the second still open.
    for (offset, second_of_day) in [(0, 10), (1, 65), (2, 149)] {
        let entry = entry(1, offset, &[second_of_day]);
        second.source.send(SourceEvent::Entry("0".into(), entry));
    }
    second.until("all is committed", |running| {
        running.record("0").is_some_and(|record| record.ledger.messages == 3)
    });
    let record = second.record("0").expect("just read");
    assert_eq!((record.ledger.aggregated, record.ledger.open), (1, 2));
    assert!(record.transition.is_none());
    assert_eq!(second.stop(), Outcome::Drained);
}

#[test]
fn settings_that_decide_no_row_hold_for_running_lanes() {
    let running = Running::start(timing([0, 0, 0]), Records::default());
    running.source.send(SourceEvent::Assigned("0".into()));
    running.until("it reads", |running| {
        running.metrics.lanes().get("0").is_some_and(|lane| lane.running)
    });
    let quick = pipeline_config(timing([0, 0, 0])).settings();
    let mut settings = quick;
    (settings.memory_bytes_max, settings.lane.commit_interval_ms) = (1 << 30, 3_600_000);
    assert_eq!(running.reload(settings)[0].edge, Edge::Passed);
    assert_eq!(running.metrics.memory.max(), 1 << 30);
    running.source.send(SourceEvent::Entry("0".into(), entry(1, 0, &[10])));
    running.until("its birth", |running| running.record("0").is_some());
    assert_eq!(running.record("0").expect("it is born").ordinal, 0, "no commit for an hour");
    running.reload(quick);
    running.until("a commit", |running| running.record("0").is_some_and(|r| r.ordinal == 1));
    assert_eq!(config(0).commit_interval_ms, 1, "what it was before");
    assert_eq!(running.stop(), Outcome::Drained);
}

#[test]
fn idle_lane_gives_back_what_it_keeps_of_its_rows_when_memory_is_tight() {
    let running = Running::start(timing([0, 0, 0]), Records::default());
    running.source.send(SourceEvent::Assigned("0".into()));
    let message = |device: usize| {
        let time_ms = crate::harness::START_MS;
        format!("{{\"device\":\"d{device}\",\"time\":{time_ms}}}").into_bytes()
    };
    let devices: Vec<Vec<u8>> = (0..20_000).map(message).collect();
    running.source.send(SourceEvent::Entry("0".into(), payloads(1, 0, &devices)));
    // Closes their window.
    running.source.send(SourceEvent::Entry("0".into(), entry(1, 1, &[70])));
    let memory = &running.metrics.memory;
    running.until("the rows are written and their memory is kept", |_| memory.kept() >= 1 << 20);
    assert!(memory.open() < 1 << 20, "{} bytes are open", memory.open());
    let mut settings = pipeline_config(timing([0, 0, 0])).settings();
    settings.memory_bytes_max = 2 << 20;
    running.reload(settings);
    running.until("it is given back", |_| memory.kept() == 0);
    assert_eq!(memory.waiting() + memory.committing(), 0);
    assert_eq!(running.stop(), Outcome::Drained);
}
