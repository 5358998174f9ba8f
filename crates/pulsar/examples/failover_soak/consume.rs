//! The consumer process of the soak, which reports what it sees line by line, and the reader that
//! reads the whole log at the end.
//!
//! A line is `MICROSECONDS PARTITION WORD [LEDGER ENTRY [FIRST COUNT]]`. It is written before the
//! acknowledgement that it tells of is sent, and the pipe keeps it when the process is killed.

use std::io::{Read, Write};
use std::time::Duration;

use tidemill_pulsar::{
    Client, ClientConfig, Consumer, ConsumerConfig, ConsumerEvent, Entry, Position, StartAt,
    partition_topic,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::check::Logged;
use crate::{PARTITIONS, SUBSCRIPTION, now_us};

const ACK_INTERVAL: Duration = Duration::from_millis(1_000);
const PERMITS: u32 = 500;

/// Consumes all partitions until standard input ends.
pub(crate) async fn run(url: &str, topic: &str, name: &str) {
    let client = Client::new(ClientConfig::new(url)).expect("url");
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for partition in 0..PARTITIONS {
        let mut config = ConsumerConfig::new(partition_topic(topic, partition), SUBSCRIPTION);
        config.consumer_name = name.to_owned();
        tasks.spawn(consume(client.subscribe(config), partition, stopped.clone()));
    }
    let ended = || std::io::stdin().read_to_end(&mut Vec::new());
    let _ = tokio::task::spawn_blocking(ended).await;
    stop.send_replace(true);
    tasks.join_all().await;
}

async fn consume(mut consumer: Consumer, partition: u32, mut stopped: watch::Receiver<bool>) {
    let mut active = false;
    let mut used = 0;
    let mut unacked = None;
    let mut ack_at = Instant::now() + ACK_INTERVAL;
    loop {
        let event = tokio::select! {
            event = consumer.next() => event,
            () = sleep_until(ack_at) => {
                ack_at = Instant::now() + ACK_INTERVAL;
                acknowledge(&consumer, partition, &mut unacked).await;
                continue;
            }
            _ = stopped.changed() => {
                acknowledge(&consumer, partition, &mut unacked).await;
                let _ = consumer.handle().close().await;
                return;
            }
        };
        match event {
            ConsumerEvent::Connected => {
                (active, used, unacked) = (false, 0, None);
                say(partition, "connected", None, "");
                let _ = consumer.flow(PERMITS).await;
            }
            ConsumerEvent::Active(now) => {
                // What the other one reads from now on is not ours to acknowledge.
                unacked = unacked.filter(|_| now && active);
                active = now;
                say(partition, if now { "active" } else { "passive" }, None, "");
            }
            ConsumerEvent::Disconnected { .. } => {
                (active, unacked) = (false, None);
                say(partition, "disconnected", None, "");
            }
            ConsumerEvent::Entry(entry) => {
                let logged = logged(&entry);
                let numbers = format!(" {} {}", logged.first, logged.count);
                say(partition, "entry", Some(entry.position), &numbers);
                unacked = active.then_some(entry.position);
                used += entry.permits;
                if used >= PERMITS / 2 && consumer.flow(used).await.is_ok() {
                    used = 0;
                }
            }
            ConsumerEvent::Waiting { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn acknowledge(consumer: &Consumer, partition: u32, unacked: &mut Option<Position>) {
    let Some(position) = unacked.take() else { return };
    say(partition, "ack", Some(position), "");
    if consumer.handle().ack_cumulative(position).await.is_ok() {
        say(partition, "acked", Some(position), "");
    }
}

fn say(partition: u32, word: &str, position: Option<Position>, more: &str) {
    let place = position.map(|at| format!(" {} {}", at.ledger_id, at.entry_id)).unwrap_or_default();
    let line = format!("{} {partition} {word}{place}{more}\n", now_us());
    // One call, so that a kill leaves no half of a line with the rest of another.
    std::io::stdout().write_all(line.as_bytes()).expect("the soak reads it");
}

fn logged(entry: &Entry) -> Logged {
    assert!(entry.rejected().is_none(), "{entry:?}");
    let mut numbers = entry.messages().map(|message| {
        let payload = message.expect("readable").payload;
        std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok()).expect("a number")
    });
    let first: u64 = numbers.next().expect("an entry holds a message");
    let rest = numbers.zip(first + 1..).inspect(|(number, due)| assert_eq!(number, due));
    let count = 1 + rest.count() as u64;
    Logged { position: entry.position, first, count }
}

/// Reads a partition from its first entry to its last by a reader without a cursor.
pub(crate) async fn read_log(client: &Client, topic: &str, partition: u32) -> Vec<Logged> {
    let topic = partition_topic(topic, partition);
    let config = ConsumerConfig::reader(topic, "soak-log", StartAt::Earliest);
    let mut reader = client.subscribe(config);
    let mut log: Vec<Logged> = Vec::new();
    let mut last = None;
    loop {
        let event =
            timeout(Duration::from_secs(120), reader.next()).await.expect("the log in time");
        match event {
            ConsumerEvent::Connected => {
                last = reader.handle().last_position().await.expect("the last position");
                reader.flow(PERMITS).await.expect("connected");
            }
            ConsumerEvent::Entry(entry) => {
                // A reader that was reconnected gets its last entry again.
                if log.last().is_none_or(|before| before.position < entry.position) {
                    log.push(logged(&entry));
                }
                let _ = reader.flow(entry.permits).await;
            }
            ConsumerEvent::Failed { reason } => panic!("{reason}"),
            _ => {}
        }
        if last.is_some_and(|last| log.last().is_some_and(|read| read.position >= last)) {
            return log;
        }
    }
}
