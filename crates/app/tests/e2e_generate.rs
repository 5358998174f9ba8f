//! `tidemill generate --pulsar` on a real broker: each compression stores the messages of the file.

mod e2e;

use std::{collections::BTreeMap, process::Command, time::Duration};

use e2e::{TIDEMILL, services::broker, until};
use tidemill_pulsar::{Client, ClientConfig, ConsumerConfig, ConsumerEvent, StartAt};

const MESSAGES: usize = 3_000;

fn generate(more: &[&str]) -> String {
    let count = MESSAGES.to_string();
    let mut command = Command::new(TIDEMILL);
    command.args(["generate", "--messages", &count, "--devices", "20"]).args(more);
    let output = command.output().expect("tidemill can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Reads all messages of a topic without partitions.
async fn read(topic: &str) -> Vec<String> {
    let client = Client::new(ClientConfig::new(&broker().url)).expect("the broker's address");
    let mut reader = client.subscribe(ConsumerConfig::reader(topic, "read", StartAt::Earliest));
    let mut texts = Vec::new();
    while texts.len() < MESSAGES {
        let event = tokio::time::timeout(Duration::from_secs(60), reader.next()).await;
        match event.expect("the broker is not silent") {
            ConsumerEvent::Connected => reader.flow(10_000).await.expect("permits"),
            ConsumerEvent::Entry(entry) => {
                let payloads = entry.messages().map(|message| message.expect("readable").payload);
                texts.extend(payloads.map(|text| String::from_utf8_lossy(text).into_owned()));
            }
            ConsumerEvent::Failed { reason } => panic!("{reason}"),
            _ => {}
        }
    }
    texts
}

/// Returns how many bytes the broker has been sent.
fn bytes_in(topic: &str) -> u64 {
    let path = topic.replacen("://", "/", 1);
    let url = format!("{}/admin/v2/{path}/stats", broker().admin);
    until("the bytes sent", || {
        let stats = ureq::get(&url).call().ok()?.into_body().read_to_string().ok()?;
        let stats: serde_json::Value = serde_json::from_str(&stats).ok()?;
        stats["bytesInCounter"].as_u64().filter(|bytes| *bytes > 0)
    })
}

#[test]
fn every_compression_brings_the_messages_of_the_file_in_fewer_bytes() {
    let expected: Vec<String> = generate(&[]).lines().map(str::to_owned).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut sizes = BTreeMap::new();
    for compression in ["none", "lz4", "snappy", "zlib", "zstd"] {
        let process = std::process::id();
        let topic = format!("persistent://public/default/generate-{compression}-{process}");
        let options = ["--topic", &topic, "--compression", compression];
        let said = generate(&[&["--pulsar", &broker().url][..], &options].concat());
        assert!(said.contains(&format!("confirmed {MESSAGES} messages, 0 without")), "{said}");
        assert_eq!(runtime.block_on(read(&topic)), expected, "{compression}");
        sizes.insert(compression, bytes_in(&topic));
    }
    let plain = sizes.remove("none").expect("sent without compression");
    assert!(plain > 1_000_000, "{plain}");
    assert!(sizes.values().all(|size| size * 2 < plain), "{sizes:?} of {plain}");
    let mut different: Vec<u64> = sizes.values().copied().collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), sizes.len(), "each is a codec of its own: {sizes:?}");
}
