//! A server that keeps what producers send and then serves it to consumers as often as asked, for
//! `bench/replay.py`: entries come faster than any broker gives them, so that a consumer's own
//! cost shows.
//!
//! `replay_server ADDRESS PARTITIONS ROUNDS` speaks as much of the Pulsar protocol as
//! `tidemill generate` and `tidemill run` need, without checks, memory bounds or errors: every
//! topic has PARTITIONS partitions, and a consumer gets all entries of its partition ROUNDS times,
//! with rising entry ids and otherwise as they were sent. It ends when it is killed.

mod wire;

use std::{
    collections::BTreeMap,
    io::{BufReader, BufWriter, Read as _, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use wire::{Answer, Fields, number, text};

/// Bytes that are given to the system at once.
const WRITE_BYTES: usize = 1 << 20;
/// The largest message that clients may send, as brokers have it by default.
const MESSAGE_BYTES_MAX: u64 = 5 << 20;
const LEDGER: u64 = 1;

// Numbers of the commands that are read.
const CONNECT: u64 = 2;
const SUBSCRIBE: u64 = 4;
const PRODUCER: u64 = 5;
const SEND: u64 = 6;
const ACK: u64 = 10;
const FLOW: u64 = 11;
const UNSUBSCRIBE: u64 = 12;
const CLOSE_PRODUCER: u64 = 15;
const CLOSE_CONSUMER: u64 = 16;
const PING: u64 = 18;
const PARTITIONS_OF: u64 = 21;
const LOOKUP: u64 = 23;
const LAST_MESSAGE_ID: u64 = 29;

/// An entry as a producer sent it.
#[derive(Clone)]
struct Kept {
    payload: Arc<[u8]>,
    messages: u64,
}

/// What all connections share.
struct Server {
    address: String,
    partitions: u64,
    rounds: u64,
    kept: Mutex<BTreeMap<String, Vec<Kept>>>,
}

/// A subscription of a connection.
struct Consumer {
    topic: String,
    permits: i64,
    /// Entries sent so far; also the next entry's id.
    sent: u64,
}

/// What a connection's reading and writing threads share.
#[derive(Default)]
struct Connection {
    consumers: Mutex<BTreeMap<u64, Consumer>>,
    granted: Condvar,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, partitions, rounds] = words.as_slice() else {
        panic!("usage: replay_server ADDRESS PARTITIONS ROUNDS");
    };
    let server = Arc::new(Server {
        address: address.clone(),
        partitions: partitions.parse().expect("a number of partitions"),
        rounds: rounds.parse().expect("a number of rounds"),
        kept: Mutex::default(),
    });
    let listener = TcpListener::bind(address).expect("the address is free");
    for stream in listener.incoming() {
        let (server, stream) = (server.clone(), stream.expect("a connection"));
        thread::spawn(move || serve(&server, stream));
    }
}

/// Answers a connection until it ends.
fn serve(server: &Arc<Server>, stream: TcpStream) {
    stream.set_nodelay(true).expect("a socket");
    let connection = Arc::new(Connection::default());
    let out = Arc::new(Mutex::new(stream.try_clone().expect("a socket")));
    let sending = (server.clone(), connection.clone(), out.clone());
    thread::spawn(move || send_entries(&sending.0, &sending.1, &sending.2));
    let mut producers: BTreeMap<u64, String> = BTreeMap::new();
    let mut input = BufReader::with_capacity(WRITE_BYTES, stream);
    while let Some((kind, fields, payload)) = read_command(&mut input) {
        match kind {
            PRODUCER => {
                producers.insert(number(&fields, 2), text(&fields, 1));
            }
            SEND => {
                let topic = producers[&number(&fields, 1)].clone();
                let messages = number(&fields, 3).max(1);
                let mut kept = server.kept.lock().expect("no panic");
                let payload = payload.into();
                kept.entry(topic).or_default().push(Kept { payload, messages });
            }
            SUBSCRIBE => {
                let consumer = Consumer { topic: text(&fields, 1), permits: 0, sent: 0 };
                let mut consumers = connection.consumers.lock().expect("no panic");
                consumers.insert(number(&fields, 4), consumer);
            }
            FLOW => {
                let mut consumers = connection.consumers.lock().expect("no panic");
                if let Some(consumer) = consumers.get_mut(&number(&fields, 1)) {
                    consumer.permits += number(&fields, 2) as i64;
                }
                connection.granted.notify_one();
            }
            CLOSE_CONSUMER | UNSUBSCRIBE => {
                connection.consumers.lock().expect("no panic").remove(&number(&fields, 1));
            }
            _ => {}
        }
        let answers = answers(server, kind, &fields);
        if !answers.is_empty() && out.lock().expect("no panic").write_all(&answers).is_err() {
            return;
        }
    }
}

/// Reads a command: its number, its fields and the payload behind it.
fn read_command(input: &mut BufReader<TcpStream>) -> Option<(u64, Fields, Vec<u8>)> {
    let mut size = [0; 4];
    input.read_exact(&mut size).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(size) as usize];
    input.read_exact(&mut frame).ok()?;
    let command_bytes = u32::from_be_bytes(*frame.first_chunk()?) as usize;
    let base = wire::read(&frame[4..4 + command_bytes]);
    let kind = number(&base, 1);
    let command = base.get(&kind).map(|field| wire::read(&field.bytes)).unwrap_or_default();
    Some((kind, command, frame.split_off(4 + command_bytes)))
}

/// Returns what a command is answered with.
fn answers(server: &Server, kind: u64, fields: &Fields) -> Vec<u8> {
    let field = |tag| number(fields, tag);
    let success = |tag| Answer::new(13).number(1, field(tag)).frame(0);
    match kind {
        CONNECT => Answer::new(3).text(1, "replay").number(3, MESSAGE_BYTES_MAX).frame(0),
        PARTITIONS_OF => {
            Answer::new(22).number(1, server.partitions).number(2, field(2)).number(3, 0).frame(0)
        }
        LOOKUP => {
            let url = format!("pulsar://{}", server.address);
            let answer = Answer::new(24).text(1, &url).number(3, 1).number(4, field(2));
            answer.number(5, 1).frame(0)
        }
        PRODUCER => Answer::new(17).number(1, field(3)).text(2, "p").number(3, u64::MAX).frame(0),
        SEND => {
            let id = Answer::id(LEDGER, field(2));
            Answer::new(7).number(1, field(1)).number(2, field(2)).bytes(3, &id).frame(0)
        }
        SUBSCRIBE => {
            let mut answers = success(5);
            answers.extend(Answer::new(31).number(1, field(4)).number(2, 1).frame(0));
            answers
        }
        ACK => Answer::new(38).number(1, field(1)).number(6, field(8)).frame(0),
        PING => Answer::new(19).frame(0),
        LAST_MESSAGE_ID => {
            let last = Answer::id(LEDGER, u64::from(u32::MAX));
            Answer::new(30).bytes(1, &last).number(2, field(2)).frame(0)
        }
        CLOSE_PRODUCER | CLOSE_CONSUMER | UNSUBSCRIBE => success(2),
        _ => Vec::new(),
    }
}

/// Sends entries to the consumers of a connection in turn, as far as their permits go.
fn send_entries(server: &Server, connection: &Connection, out: &Mutex<TcpStream>) {
    // Nothing is kept any more once there are consumers.
    let mut entries: BTreeMap<String, Arc<Vec<Kept>>> = BTreeMap::new();
    loop {
        let mut due: Vec<(u64, u64, Arc<Vec<Kept>>, usize)> = Vec::new();
        {
            let mut consumers = connection.consumers.lock().expect("no panic");
            for (id, consumer) in consumers.iter_mut() {
                let kept = entries.entry(consumer.topic.clone()).or_insert_with(|| {
                    let kept = server.kept.lock().expect("no panic");
                    Arc::new(kept.get(&consumer.topic).cloned().unwrap_or_default())
                });
                let end = kept.len() as u64 * server.rounds;
                // A few of each, so that all partitions move on together.
                for _ in 0..4 {
                    if consumer.permits <= 0 || consumer.sent >= end {
                        break;
                    }
                    let at = (consumer.sent % kept.len() as u64) as usize;
                    consumer.permits -= kept[at].messages as i64;
                    due.push((*id, consumer.sent, kept.clone(), at));
                    consumer.sent += 1;
                }
            }
            if due.is_empty() {
                drop(connection.granted.wait(consumers).expect("no panic"));
                continue;
            }
        }
        let socket = out.lock().expect("no panic");
        let mut stream = BufWriter::with_capacity(WRITE_BYTES, &*socket);
        for (consumer, entry_id, kept, at) in due {
            let payload = &kept[at].payload;
            let message = Answer::new(9).number(1, consumer);
            let head = message.bytes(2, &Answer::id(LEDGER, entry_id)).frame(payload.len());
            if stream.write_all(&head).and_then(|()| stream.write_all(payload)).is_err() {
                return;
            }
        }
        if stream.flush().is_err() {
            return;
        }
    }
}
