//! Consumes one topic with one of two clients, so that whoever starts the process can compare the
//! processor time of both; also fills the topic. Does no measuring of its own: the runner reads
//! the resource usage of the ended process. Both sides run on one thread, read every message
//! (payload and key), acknowledge cumulatively every 50,000 messages, and print what they saw, so
//! that equal work can be proved by equal lines.

use std::error::Error;
use std::fmt;

mod fill;
mod ours;
mod theirs;

const ACK_MESSAGES: u64 = 50_000;

/// What a consumer saw.
#[derive(Default)]
struct Seen {
    messages: u64,
    payload_bytes: u64,
    key_bytes: u64,
    edge_sum: u64,
}

impl Seen {
    fn add(&mut self, payload: &[u8], key: &[u8]) {
        self.messages += 1;
        self.payload_bytes += payload.len() as u64;
        self.key_bytes += key.len() as u64;
        let first = payload.first().copied().unwrap_or(0);
        let last = payload.last().copied().unwrap_or(0);
        self.edge_sum += u64::from(first) + u64::from(last);
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { messages, payload_bytes, key_bytes, edge_sum } = self;
        write!(f, "{messages} {payload_bytes} {key_bytes} {edge_sum}")
    }
}

const USAGE: &str = "usage: pulsar-consumer-bench fill URL TOPIC MESSAGES NDJSON
       pulsar-consumer-bench ours URL TOPIC MESSAGES SUBSCRIPTION
       pulsar-consumer-bench theirs URL TOPIC MESSAGES SUBSCRIPTION PERMITS";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = match words[..] {
        ["fill", url, topic, messages, lines] => {
            runtime.block_on(fill::fill(url, topic, messages.parse()?, lines))?
        }
        ["ours", url, topic, messages, subscription] => {
            runtime.block_on(ours::consume(url, topic, subscription, messages.parse()?))?
        }
        ["theirs", url, topic, messages, subscription, permits] => {
            let (messages, permits) = (messages.parse()?, permits.parse()?);
            runtime.block_on(theirs::consume(url, topic, subscription, messages, permits))?
        }
        _ => return Err(USAGE.into()),
    };
    println!("{seen}");
    Ok(())
}
