//! The client against a real broker: `TIDEMILL_PULSAR_URL` and `TIDEMILL_PULSAR_ADMIN` name one,
//! without them the tests start their own.

#![expect(clippy::unwrap_used, reason = "a helper of the tests fails the test")]

mod real;

use std::time::{Duration, Instant};

use real::*;
use tidemill_pulsar::{
    Compression, Consumer, ConsumerConfig, ConsumerEvent, Error, OutgoingMessage,
    PartitionedConfig, PartitionedProducer, ProducerConfig, ServerError, StartAt, key_hash,
    partition_topic,
};

/// Reads one partition until `count` messages came.
async fn read_all(consumer: &mut Consumer, count: usize) -> Read {
    let mut read = Read::default();
    let mut last = None;
    while read.times.len() < count {
        let event = next(consumer).await;
        if let Some(entry) = read.take(consumer, event).await {
            assert!(last < Some(entry.position), "entries come in the order of the log");
            last = Some(entry.position);
        }
    }
    read
}

async fn four_partitions_return_what_was_sent(compression: Compression) {
    const COUNT: usize = 20_000;
    let _use = BROKER_USE.read().await;
    let client = client();
    let topic = new_topic("codec");
    create_partitioned(&topic, 4);
    assert_eq!(client.partition_count(&topic).await.unwrap(), 4);
    let mut config = PartitionedConfig::new(&topic);
    config.compression = compression;
    config.batch_messages_max = 300;
    let mut producer = PartitionedProducer::new(&client, config).await.unwrap();
    for number in 0..COUNT {
        producer.send(message(number)).await.unwrap();
    }
    producer.close().await.unwrap();
    let mut total = 0;
    for partition in 0..4 {
        let expected: Vec<usize> = (0..COUNT)
            .filter(|&number| key_hash(device(number).as_bytes()) % 4 == partition)
            .collect();
        let config = ConsumerConfig::new(partition_topic(&topic, partition), "all");
        let mut consumer = client.subscribe(config);
        let read = read_all(&mut consumer, expected.len()).await;
        assert!(read.times.iter().map(|(&number, _)| number).eq(expected.iter().copied()));
        assert!(read.times.values().all(|&times| times == 1));
        assert!(read.active, "the only consumer is the active one");
        total += read.times.len();
        consumer.handle().close().await.unwrap();
    }
    assert_eq!(total, COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn four_partitions_return_what_was_sent_with_lz4() {
    four_partitions_return_what_was_sent(Compression::Lz4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_partitions_return_what_was_sent_with_zstd() {
    four_partitions_return_what_was_sent(Compression::Zstd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_partitions_return_what_was_sent_with_zlib_and_snappy() {
    four_partitions_return_what_was_sent(Compression::Zlib).await;
    four_partitions_return_what_was_sent(Compression::Snappy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_partitions_return_what_was_sent_without_compression() {
    four_partitions_return_what_was_sent(Compression::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unbatched_message_is_an_entry_of_its_own() {
    let _use = BROKER_USE.read().await;
    let client = client();
    let topic = new_topic("single");
    let mut consumer = client.subscribe(ConsumerConfig::new(&topic, "s"));
    connected(&mut consumer).await;
    consumer.flow(10).await.unwrap();
    let producer = client.producer(ProducerConfig::new(&topic)).await.unwrap();
    let keyless = OutgoingMessage::new(None::<&str>, "plain");
    let receipts = [
        producer.send_unbatched(&message(7)).await.unwrap(),
        producer.send_unbatched(&keyless).await.unwrap(),
        producer.send_batch(&[message(8)]).await.unwrap(),
    ];
    let mut entries = Vec::new();
    while entries.len() < 3 {
        if let ConsumerEvent::Entry(entry) = next(&mut consumer).await {
            entries.push(entry);
        }
    }
    for (entry, receipt) in entries.iter().zip(&receipts) {
        assert_eq!(Some(entry.position), receipt.position);
        assert_eq!((entry.message_count, entry.permits), (1, 1));
        assert!(entry.publish_time_ms > 1_600_000_000_000);
    }
    let first = entries[0].messages().next().unwrap().unwrap();
    assert_eq!(first.payload, &message(7).payload[..]);
    assert_eq!(first.key, Some(device(7).as_bytes()));
    let second = entries[1].messages().next().unwrap().unwrap();
    assert_eq!((second.payload, second.key), (&b"plain"[..], None));
    let last = consumer.handle().last_position().await.unwrap();
    assert_eq!(last, Some(entries[2].position));
}

/// Every partition gets one active consumer, and both replicas get some.
async fn wait_until_spread(sides: &mut [(Consumer, Read)]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "partitions are not spread");
        for (consumer, read) in sides.iter_mut() {
            let event = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
            match event {
                Ok(ConsumerEvent::Connected) => read.connected_count += 1,
                Ok(ConsumerEvent::Active(active)) => read.active = active,
                Ok(other) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
        let active = |from: usize| sides[from..from + 4].iter().filter(|side| side.1.active);
        let (a, b) = (active(0).count(), active(4).count());
        if sides.iter().all(|side| side.1.connected_count == 1) && (a, b) == (2, 2) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passive_consumer_takes_over_behind_the_last_ack() {
    const COUNT: usize = 4000;
    let _use = BROKER_USE.read().await;
    let client = client();
    // Two clients, as two processes would have, so that a drop closes a connection of its own.
    let other = real::client();
    let topic = new_topic("failover");
    create_partitioned(&topic, 4);
    produce(&client, &topic, 0..COUNT, 50).await;
    let mut sides = Vec::new();
    for (client, name) in [(&other, "a"), (&client, "b")] {
        for partition in 0..4 {
            let mut config = ConsumerConfig::new(partition_topic(&topic, partition), "f");
            config.consumer_name = name.to_owned();
            sides.push((client.subscribe(config), Read::default()));
        }
    }
    wait_until_spread(&mut sides).await;
    let mut times = std::collections::BTreeMap::<usize, u32>::new();
    let mut acked = Vec::new();
    // Replica a reads some entries, acks all but the last two of each partition, and goes.
    let mut b = sides.split_off(4);
    for (consumer, read) in sides.iter_mut().filter(|side| side.1.active) {
        consumer.flow(400).await.unwrap();
        let mut entries = Vec::new();
        while entries.len() < 6 {
            let event = next(consumer).await;
            if let ConsumerEvent::Entry(entry) = event {
                entries.push(entry);
            }
        }
        consumer.handle().ack_cumulative(entries[3].position).await.unwrap();
        for entry in &entries[..4] {
            for message in entry.messages() {
                acked.push(number_of(message.unwrap().payload));
            }
        }
        read.last = Some(entries[3].position);
    }
    let gone_at = Instant::now();
    drop(sides);
    drop(other);
    for (consumer, _) in &b {
        consumer.flow(PERMITS).await.unwrap();
    }
    while times.len() + acked.len() < COUNT {
        for (consumer, read) in &mut b {
            let wait = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
            let Ok(event) = wait else { continue };
            if read.take(consumer, event).await.is_some() {
                for (number, count) in std::mem::take(&mut read.times) {
                    *times.entry(number).or_default() += count;
                }
            }
        }
        assert!(gone_at.elapsed() < PATIENCE, "{} of {COUNT} came", times.len() + acked.len());
    }
    assert!(times.values().all(|&times| times == 1), "nothing comes twice to one consumer");
    assert!(acked.iter().all(|number| !times.contains_key(number)), "acked entries stay away");
    assert!(b.iter().all(|side| side.1.active));
}

#[tokio::test(flavor = "multi_thread")]
async fn unload_loses_nothing_and_is_reported() {
    const COUNT: usize = 6000;
    let _use = BROKER_USE.read().await;
    let client = client();
    let topic = new_topic("unload");
    let mut consumer = client.subscribe(ConsumerConfig::new(&topic, "u"));
    let producing = {
        let (client, topic) = (client.clone(), topic.clone());
        tokio::spawn(async move { produce(&client, &topic, 0..COUNT, 20).await })
    };
    let mut read = Read::default();
    let mut unloads = 0;
    while read.times.len() < COUNT {
        let event = next(&mut consumer).await;
        let Some(entry) = read.take(&consumer, event).await else { continue };
        if read.entry_count.is_multiple_of(20) {
            // On an ended connection the ack fails; the entry then comes again.
            let _ = consumer.handle().ack_cumulative(entry.position).await;
        }
        if unloads < 2 && read.times.len() > (unloads + 1) * COUNT / 4 {
            unloads += 1;
            let topic = topic.clone();
            tokio::task::spawn_blocking(move || admin(&topic, "unload", "")).await.unwrap();
        }
    }
    producing.await.unwrap();
    assert_eq!(unloads, 2);
    assert!(read.disconnected_count >= 2 && read.connected_count >= 3);
    assert_eq!(read.connected_count, read.disconnected_count + 1);
}

/// Goes to a place. A broker that is just storing the cursor may answer that it cannot; then once
/// more, as sources do, when nothing has come of it for a while.
async fn seek(consumer: &mut Consumer, to: StartAt) {
    let handle = consumer.handle();
    let mut refusals = Vec::new();
    while let Err(error) = handle.seek(to).await {
        refusals.push(error.to_string());
        assert!(refusals.len() < 5, "{refusals:?}");
        while tokio::time::timeout(Duration::from_millis(500), next(consumer)).await.is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seek_goes_to_the_entry_itself_each_time() {
    let _use = BROKER_USE.read().await;
    let client = client();
    let topic = new_topic("seek");
    let mut consumer = client.subscribe(ConsumerConfig::new(&topic, "s"));
    connected(&mut consumer).await;
    produce(&client, &topic, 0..200, 10).await;
    consumer.flow(100).await.unwrap();
    let mut positions = Vec::new();
    while positions.len() < 10 {
        if let ConsumerEvent::Entry(entry) = next(&mut consumer).await {
            positions.push(entry.position);
        }
    }
    let handle = consumer.handle();
    handle.ack_cumulative(positions[8]).await.unwrap();
    let places = [
        (StartAt::Position(positions[3]), 3),
        (StartAt::Position(positions[9]), 9),
        (StartAt::Earliest, 0),
        (StartAt::Position(positions[0]), 0),
        (StartAt::PublishTime(1), 0),
    ];
    for (to, expected) in places {
        // Permits stay, so entries of the old subscription are on their way.
        let _ = handle.flow(100).await;
        seek(&mut consumer, to).await;
        let mut ended = false;
        loop {
            match next(&mut consumer).await {
                ConsumerEvent::Disconnected { .. } => ended = true,
                ConsumerEvent::Connected => break,
                ConsumerEvent::Entry(_) => assert!(!ended, "an old entry after the end"),
                _ => {}
            }
        }
        assert!(ended, "{to:?}");
        handle.flow(1).await.unwrap();
        let first = loop {
            if let ConsumerEvent::Entry(entry) = next(&mut consumer).await {
                break entry.position;
            }
        };
        assert_eq!(first, positions[expected], "{to:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_starts_at_its_position_and_goes_on_after_an_unload() {
    let _use = BROKER_USE.read().await;
    let client = client();
    let topic = new_topic("reader");
    produce(&client, &topic, 0..100, 10).await;
    let start = ConsumerConfig::reader(&topic, "r0", StartAt::Earliest);
    let mut consumer = client.subscribe(start);
    let all = read_all(&mut consumer, 100).await;
    assert_eq!(all.entry_count, 10);
    let last = all.last.unwrap();
    let mut fourth = last;
    fourth.entry_id -= 6;
    let start = ConsumerConfig::reader(&topic, "r1", StartAt::Position(fourth));
    let mut reader = client.subscribe(start);
    connected(&mut reader).await;
    assert_eq!(reader.handle().last_position().await.unwrap(), Some(last));
    reader.flow(25).await.unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 3 {
        if let ConsumerEvent::Entry(entry) = next(&mut reader).await {
            numbers.push(number_of(entry.messages().next().unwrap().unwrap().payload));
        }
    }
    assert_eq!(numbers, [30, 40, 50]);
    admin(&topic, "unload", "");
    // A broker may send more than there are permits for.
    let mut delivered = 50;
    loop {
        match next(&mut reader).await {
            ConsumerEvent::Entry(entry) => {
                delivered = number_of(entry.messages().next().unwrap().unwrap().payload);
            }
            ConsumerEvent::Connected => break,
            _ => {}
        }
    }
    reader.flow(1).await.unwrap();
    let again = loop {
        if let ConsumerEvent::Entry(entry) = next(&mut reader).await {
            break number_of(entry.messages().next().unwrap().unwrap().payload);
        }
    };
    assert_eq!(again, delivered, "a reader goes on with the entry that it delivered last");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_topic_has_no_last_position() {
    let _use = BROKER_USE.read().await;
    let topic = new_topic("empty");
    let mut consumer = client().subscribe(ConsumerConfig::new(&topic, "e"));
    connected(&mut consumer).await;
    assert_eq!(consumer.handle().last_position().await.unwrap(), None);
    consumer.handle().unsubscribe().await.unwrap();
    let end = loop {
        match next(&mut consumer).await {
            ConsumerEvent::Failed { reason } => break reason,
            _ => continue,
        }
    };
    assert_eq!(end, Error::Closed);
    assert!(matches!(consumer.handle().flow(1).await.unwrap_err(), Error::NotConnected { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topic_is_a_failure() {
    let _use = BROKER_USE.read().await;
    let mut config = ConsumerConfig::new(new_topic("missing"), "m");
    config.create_topic = false;
    let mut consumer = client().subscribe(config);
    let reason = loop {
        match next(&mut consumer).await {
            ConsumerEvent::Failed { reason } => break reason,
            ConsumerEvent::Waiting { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(reason, Error::Broker { code: ServerError::TopicNotFound, .. }), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_kill_loses_no_confirmed_message_slow() {
    const COUNT: usize = 8000;
    let broker = tokio::task::spawn_blocking(broker).await.unwrap();
    if !broker.is_own() {
        println!("skipped: the broker does not belong to this test");
        return;
    }
    let _use = BROKER_USE.write().await;
    let client = client();
    let topic = new_topic("kill");
    let mut consumer = client.subscribe(ConsumerConfig::new(&topic, "k"));
    let producing = {
        let (client, topic) = (client.clone(), topic.clone());
        tokio::spawn(async move { produce(&client, &topic, 0..COUNT, 20).await })
    };
    let mut read = Read::default();
    let mut restarting = None;
    let deadline = Instant::now() + Duration::from_secs(240);
    while read.times.len() < COUNT {
        assert!(Instant::now() < deadline, "{} of {COUNT} came", read.times.len());
        let wait = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await;
        let Ok(event) = wait else { continue };
        let Some(entry) = read.take(&consumer, event).await else { continue };
        let _ = consumer.handle().ack_cumulative(entry.position).await;
        if restarting.is_none() && read.times.len() > COUNT / 4 {
            restarting = Some(tokio::task::spawn_blocking(|| {
                broker.kill();
                broker.start_again();
            }));
        }
    }
    producing.await.unwrap();
    restarting.expect("the kill happened").await.unwrap();
    assert!(read.disconnected_count >= 1);
}
