//! A topic with a known content: generated, sent, closed by later messages, read back, and what
//! the oracle expects of it. Any number of jobs can read it, each by a subscription of its own.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;
use tidemill_pulsar::{
    Client, ClientConfig, ConsumerConfig, ConsumerEvent, OutgoingMessage, PartitionedConfig,
    PartitionedProducer, StartAt, partition_of, partition_topic,
};

use super::{
    TIDEMILL, root,
    services::{admin_put, broker},
};

/// How many partitions a topic has whose maker says nothing else.
pub(crate) const PARTITIONS: u32 = 4;
/// The window of a job whose maker says nothing else.
const WINDOW_MS: u64 = 60_000;

/// A topic whose content is known.
pub(crate) struct Topic {
    /// Its full name.
    pub(crate) name: String,
    /// How many messages it holds when it is closed.
    pub(crate) messages: u64,
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// Whether rows are merged of all partitions.
    pub(crate) is_merged: bool,
    /// Rules of the oracle beside the usual.
    rules: &'static [&'static str],
    directory: TempDir,
}

/// Which messages a topic gets.
pub(crate) struct Content {
    /// How many are generated.
    pub(crate) messages: u64,
    /// How many for a second of event time.
    pub(crate) rate: u64,
    /// Shares of late, malformed and future messages.
    pub(crate) ratios: [f64; 3],
}

impl Topic {
    /// Makes a topic and has the oracle compute what is expected of it.
    pub(crate) fn new(name: &str, content: &Content) -> Topic {
        let topic = Topic::empty(name, PARTITIONS, content);
        let start_ms = now_ms() - 200_000;
        topic.generate(content, start_ms);
        topic.close(content, start_ms);
        topic.expect(WINDOW_MS, u64::MAX);
        topic
    }

    /// The same of messages without keys: each device is on all partitions, and what is expected
    /// is merged.
    pub(crate) fn unkeyed(name: &str, content: &Content) -> Topic {
        let mut topic = Topic::empty(name, PARTITIONS, content);
        topic.is_merged = true;
        let start_ms = now_ms() - 200_000;
        topic.generate_with(content, start_ms, &["--no-key", "--batch-messages", "200"]);
        topic.close(content, start_ms);
        topic.expect(WINDOW_MS, u64::MAX);
        topic
    }

    /// The same for jobs with other rules, and with a backlog behind the messages: five devices
    /// deliver so many of a month ago.
    pub(crate) fn with_backlog(
        name: &str,
        content: &Content,
        backlog: u64,
        rules: &'static [&'static str],
    ) -> Topic {
        let mut topic = Topic::empty(name, PARTITIONS, content);
        topic.rules = rules;
        topic.messages += backlog;
        let start_ms = now_ms() - 200_000;
        topic.generate(content, start_ms);
        let old = Content { messages: backlog, rate: 20, ratios: [0.01, 0.001, 0.0] };
        topic.generate_with(&old, start_ms - 30 * 86_400_000, &["--devices", "5"]);
        topic.close(content, start_ms);
        topic.expect(WINDOW_MS, u64::MAX);
        topic
    }

    /// Makes a topic that holds nothing yet and will hold that.
    pub(crate) fn empty(name: &str, partitions: u32, content: &Content) -> Topic {
        let name = format!("{name}-{}", std::process::id());
        let path = format!("persistent/public/default/{name}");
        admin_put(&format!("{path}/partitions"), &partitions.to_string());
        // Holds the messages back from deletion while one job after the other reads them.
        admin_put(&format!("{path}/subscription/keep"), "");
        Topic {
            name: format!("persistent://public/default/{name}"),
            messages: content.messages + u64::from(partitions),
            partitions,
            is_merged: false,
            rules: &[],
            directory: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// Ends all but the last window of what was generated from that time on; the last one stays
    /// within what the skew guard allows.
    pub(crate) fn close(&self, content: &Content, start_ms: i64) {
        let end_ms = start_ms + (content.messages * 1000 / content.rate) as i64;
        runtime().block_on(self.send_closing(end_ms + 70_000));
    }

    /// Has the oracle compute what is expected of all partitions, or of the first ones that hold
    /// `messages_max` together (of one at least).
    pub(crate) fn expect(&self, window_ms: u64, messages_max: u64) {
        let mut dumped = 0;
        for partition in 0..self.partitions {
            if dumped > 0 && dumped + dumped / u64::from(partition) > messages_max {
                eprintln!("{}: the oracle looks at {partition} partitions", self.name);
                return self.ask_oracle(window_ms);
            }
            dumped += runtime().block_on(self.dump(partition));
        }
        assert_eq!(dumped, self.messages, "confirmed and read back");
        self.ask_oracle(window_ms);
    }

    /// The file with what the oracle expects.
    pub(crate) fn expected(&self) -> PathBuf {
        self.directory.path().join("expected")
    }

    fn generate(&self, content: &Content, start_ms: i64) {
        self.generate_with(content, start_ms, &[]);
    }

    /// Generates with further options; returns what the generator said.
    pub(crate) fn generate_with(
        &self,
        content: &Content,
        start_ms: i64,
        options: &[&str],
    ) -> String {
        let [late, malformed, future] = content.ratios.map(|ratio| ratio.to_string());
        let output = Command::new(TIDEMILL)
            .args(["generate", "--pulsar", &broker().url, "--topic", &self.name])
            .args(["--messages", &content.messages.to_string()])
            .args(["--rate", &content.rate.to_string(), "--start-ms", &start_ms.to_string()])
            .args(["--late-ratio", &late, "--malformed-ratio", &malformed])
            .args(["--future-ratio", &future])
            .args(options)
            .output()
            .expect("tidemill can be run");
        let said = String::from_utf8_lossy(&output.stdout);
        eprintln!("{}: {}", self.name, said.trim_end());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "generate: {said}{errors}");
        assert!(said.contains(&format!("confirmed {} messages, 0", content.messages)), "{said}");
        said.into_owned()
    }

    /// Sends a later message to every partition, so that the windows before it close.
    async fn send_closing(&self, time_ms: i64) {
        let config = PartitionedConfig::new(&self.name);
        let client = client();
        let mut producer = PartitionedProducer::new(&client, config).await.expect("producer");
        for partition in 0..self.partitions {
            let mut names = (0..).map(|number| format!("closer_{number}"));
            let name =
                names.find(|name| partition_of(name.as_bytes(), self.partitions) == partition);
            let name = name.expect("some key goes to every partition");
            let payload = format!(r#"{{"device_id":"{name}","time":{time_ms}}}"#);
            producer.send(OutgoingMessage::new(Some(name), payload)).await.expect("sent");
        }
        producer.flush().await.expect("confirmed");
        assert_eq!(producer.confirmed_count(), u64::from(self.partitions));
    }

    /// Writes a partition's log into a file, in the form that the oracle reads.
    async fn dump(&self, partition: u32) -> u64 {
        let path = self.logs().join(format!("{partition}.log"));
        std::fs::create_dir_all(self.logs()).expect("folder of logs");
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path).expect("log file"));
        let client = client();
        let topic = partition_topic(&self.name, partition);
        let config = ConsumerConfig::reader(topic, "dump", StartAt::Earliest);
        let mut reader = client.subscribe(config);
        let (mut count, mut last) = (0, None);
        loop {
            let event = tokio::time::timeout(Duration::from_secs(60), reader.next()).await;
            match event.expect("the broker is not silent") {
                ConsumerEvent::Connected => {
                    last = reader.handle().last_position().await.expect("last position");
                    reader.flow(20_000).await.expect("permits");
                }
                ConsumerEvent::Entry(entry) => {
                    for message in entry.messages() {
                        let message = message.expect("messages of our own can be read");
                        assert!(!message.payload.contains(&b'\n'), "one line each");
                        let (at, index) = (entry.position, message.batch_index);
                        let time_ms = entry.message_time_ms();
                        let (ledger, number) = (at.ledger_id, at.entry_id);
                        write!(out, "{ledger}:{number}:{index}\t{time_ms}\t").expect("written");
                        out.write_all(message.payload).expect("written");
                        out.write_all(b"\n").expect("written");
                        count += 1;
                    }
                    if Some(entry.position) >= last {
                        out.flush().expect("written");
                        return count;
                    }
                    reader.flow(entry.permits).await.expect("permits");
                }
                ConsumerEvent::Failed { reason } => panic!("{reason}"),
                _ => {}
            }
        }
    }

    fn logs(&self) -> PathBuf {
        self.directory.path().join("logs")
    }

    fn ask_oracle(&self, window_ms: u64) {
        let preset = root().join("config/presets/sensor.toml");
        let logs = self.logs();
        let arguments: [(&str, &Path); 3] =
            [("--logs", &logs), ("--preset", &preset), ("--out", &self.expected())];
        let mut command = oracle("expect");
        for (option, path) in arguments {
            command.arg(option).arg(path);
        }
        command.args(["--window-ms", &window_ms.to_string()]);
        command.args(self.is_merged.then_some("--merged")).args(self.rules);
        let (ended_well, said) = run(command);
        eprint!("{said}");
        assert!(ended_well, "the oracle: {said}");
        // Half a gigabyte that nobody needs any more.
        std::fs::remove_dir_all(logs).expect("folder of logs");
    }
}

/// A call of the oracle.
pub(crate) fn oracle(command: &str) -> Command {
    let mut python = Command::new("python3");
    python.arg("-B").arg(root().join("tests/oracle/oracle.py")).arg(command);
    python
}

/// Runs a command; returns whether it ended well, and what it said.
pub(crate) fn run(mut command: Command) -> (bool, String) {
    let output = command.output().expect("the program can be run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn client() -> Client {
    Client::new(ClientConfig::new(broker().url.clone())).expect("the broker's address")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The time, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}
