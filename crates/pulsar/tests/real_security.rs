//! Tokens and TLS on a real broker that checks both.

#![expect(clippy::unwrap_used, reason = "a helper of the tests fails the test")]

mod real;

use real::*;
use tidemill_pulsar::{
    Auth, Client, ClientConfig, ConsumerConfig, ConsumerEvent, Error, ProducerConfig, ServerError,
};

fn secure_config() -> ClientConfig {
    let mut config = ClientConfig::new(broker().tls_url.clone());
    config.tls_ca_file = Some(broker().security.join("ca.pem"));
    config
}

fn token(name: &str) -> Auth {
    Auth::Token(std::fs::read_to_string(broker().security.join(name)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_travel_by_tls_under_a_token() {
    const COUNT: usize = 3000;
    let _use = BROKER_USE.read().await;
    let mut config = secure_config();
    config.auth = token("token");
    let client = Client::new(config).unwrap();
    let topic = new_topic("tls");
    create_partitioned(&topic, 2);
    assert_eq!(client.partition_count(&topic).await.unwrap(), 2);
    produce(&client, &topic, 0..COUNT, 100).await;
    let mut read = Read::default();
    for partition in 0..2 {
        let topic = tidemill_pulsar::partition_topic(&topic, partition);
        let mut consumer = client.subscribe(ConsumerConfig::new(topic, "s"));
        let due = (0..COUNT).filter(|&number| {
            tidemill_pulsar::partition_of(device(number).as_bytes(), 2) == partition
        });
        let due = read.times.len() + due.count();
        while read.times.len() < due {
            let event = next(&mut consumer).await;
            if let Some(entry) = read.take(&consumer, event).await {
                consumer.handle().ack_cumulative(entry.position).await.unwrap();
            }
        }
    }
    assert_eq!(read.times.len(), COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_another_key_is_refused_for_good() {
    let _use = BROKER_USE.read().await;
    for url in [broker().url.clone(), broker().tls_url.clone()] {
        let mut config = secure_config();
        config.url = url;
        config.auth = token("token.foreign");
        let client = Client::new(config).unwrap();
        let topic = new_topic("foreign");
        let error = client.partition_count(&topic).await.unwrap_err();
        let refused = matches!(error, Error::Broker { code: ServerError::Authentication, .. });
        assert!(refused && !error.retry(), "{error:?}");
        let Auth::Token(text) = token("token.foreign") else { unreachable!("it is a token") };
        assert!(!error.to_string().contains(&text), "{error}");
        let mut consumer = client.subscribe(ConsumerConfig::new(&topic, "s"));
        let event = next(&mut consumer).await;
        assert!(matches!(event, ConsumerEvent::Failed { .. }), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_of_an_unknown_authority_is_refused() {
    let _use = BROKER_USE.read().await;
    let mut config = secure_config();
    // Trusts a certificate that signed nothing.
    config.tls_ca_file = Some(broker().security.join("broker.pem"));
    let error = Client::new(config).unwrap().partition_count("t").await.unwrap_err();
    assert!(matches!(&error, Error::Tls { problem, .. } if problem.contains("UnknownIssuer")));
    assert!(!error.retry());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_of_another_host_is_refused() {
    let _use = BROKER_USE.read().await;
    let mut config = secure_config();
    // The certificate is one of 127.0.0.1 alone.
    config.url = config.url.replace("127.0.0.1", "localhost");
    let error = Client::new(config).unwrap().producer(ProducerConfig::new("t")).await;
    let error = error.map(|_| ()).unwrap_err();
    assert!(matches!(&error, Error::Tls { problem, .. } if problem.contains("not valid for name")));
}
