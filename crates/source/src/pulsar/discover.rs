//! Finds topics and partitions, at first and again and again, and starts a task for each new one.
//!
//! A broker that cannot be reached is asked again. What was found once is never given up here: the
//! consumer of a topic that is gone tells so itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidemill_engine::port::SourceEvent;
use tidemill_pulsar::{Client, Error, partition_topic};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    Control, PulsarConfig, Start, Steering,
    flow::SharedFlow,
    gate::Gate,
    outlet::Outlet,
    partition::PartitionTask,
    topics::{PLAIN_PARTITION, Topics, fits},
};

/// The pause before a broker is asked again that could not be reached.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// More partitions than this are not read by one process.
const PARTITIONS_MAX: usize = 10_000;

/// A lane's name and the topic that it reads.
type Found = BTreeMap<Arc<str>, String>;

/// Runs until the engine is gone.
pub(super) async fn discover(
    client: Client,
    config: PulsarConfig,
    events: Arc<Outlet>,
    control: Arc<Control>,
) {
    let mut known = Found::new();
    let mut config = config;
    let mut first = true;
    let (open, behind) = watch::channel(false);
    let mut open = config.is_exclusive.then_some(open);
    loop {
        let pause = match find(&client, &config.topics).await {
            Ok(found) if found.len() > PARTITIONS_MAX => {
                let text = format!("{} partitions, more than {PARTITIONS_MAX}", found.len());
                return give_up(&events, text, first);
            }
            Ok(found) => {
                let new: Found =
                    found.into_iter().filter(|(name, _)| !known.contains_key(name)).collect();
                if first || !new.is_empty() {
                    info!(topics = ?config.topics, partitions = new.len(), "partitions found");
                }
                if !new.is_empty() {
                    let names = known.keys().chain(new.keys()).cloned().collect();
                    events.send(SourceEvent::Partitions(names));
                }
                for (name, topic) in &new {
                    let mut gate = match (config.is_exclusive, open.take()) {
                        (false, _) => Gate::None,
                        (true, Some(open)) => Gate::First(open),
                        (true, None) => Gate::Behind(behind.clone()),
                    };
                    let (orders, receiver) = tokio::sync::mpsc::unbounded_channel();
                    let flow = SharedFlow::new(config.queue_messages_max, &control.queue);
                    let steering = Steering { orders, flow: flow.clone() };
                    control.lock().insert(name.clone(), steering);
                    let (name, events) = (name.clone(), events.clone());
                    let (client, config, topic) = (client.clone(), config.clone(), topic.clone());
                    let share = control.queue.clone();
                    tokio::spawn(async move {
                        if gate.opened().await {
                            let held = (share, flow, gate);
                            PartitionTask::new(
                                &client, &config, name, &topic, events, receiver, held,
                            )
                            .run()
                            .await;
                        }
                    });
                }
                known.extend(new);
                // Nothing that appears from now on may be passed over.
                config.start = Start::Earliest;
                first = false;
                config.discovery_interval
            }
            Err(error) if first && error.retry() => {
                warn!(topics = ?config.topics, %error, "topics not reached, trying again");
                RETRY_PAUSE
            }
            Err(error) if first => return give_up(&events, error.to_string(), first),
            Err(error) => {
                debug!(topics = ?config.topics, %error, "new partitions cannot be looked for now");
                config.discovery_interval
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn give_up(events: &Outlet, text: String, first: bool) {
    warn!(text, "no more partitions are looked for");
    if first {
        let name: Arc<str> = PLAIN_PARTITION.into();
        events.send(SourceEvent::Assigned(name.clone()));
        events.send(SourceEvent::Failed(name, text));
    }
}

/// Returns the names of the topics: those given, or those that fit the pattern now.
///
/// # Errors
/// If the broker does not list a namespace.
pub async fn topic_names(client: &Client, topics: &Topics) -> Result<Vec<String>, Error> {
    match topics {
        Topics::One(topic) => Ok(vec![topic.clone()]),
        Topics::List(topics) => Ok(topics.clone()),
        Topics::Pattern(pattern) => {
            let rest = pattern.strip_prefix("persistent://").unwrap_or(pattern);
            let namespace = rest.rsplit_once('/').map_or("", |(namespace, _)| namespace);
            let all = client.topics_of_namespace(namespace).await?;
            Ok(all.into_iter().filter(|topic| fits(pattern, topic)).collect())
        }
    }
}

async fn find(client: &Client, topics: &Topics) -> Result<Found, Error> {
    let names = topic_names(client, topics).await?;
    let mut found = Found::new();
    for topic in names {
        match client.partition_count(&topic).await? {
            0 => {
                found.insert(topics.lane(&topic, None), topic);
            }
            count => found.extend((0..count).map(|number| {
                (topics.lane(&topic, Some(number)), partition_topic(&topic, number))
            })),
        }
    }
    Ok(found)
}
