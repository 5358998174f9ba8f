//! The raw messages of a lane, read again: from the broker by a reader of its own, from files, or
//! from a generator that makes the same ones again.
//!
//! It says what cannot be read again, and why. What the messages come to is not decided here.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use tidemill_engine::{
    port::{Entry, RawMessage, Source as _, SourceControl, SourceEvent},
    record::CommitRecord,
};
use tidemill_kernel::event::Position;
use tidemill_source::{pull::PullSource, pulsar::LogReader};

use crate::{
    assemble::{open_pulled, pulsar_source, random},
    config::{Config, Pace, Source},
};

/// How long one look for the next entry may take.
const POLL: Duration = Duration::from_secs(20);

/// Yields the entries of a lane in log order.
pub trait EntryLog {
    /// Returns the next entry; `None` at the end.
    ///
    /// # Errors
    /// If it cannot be read.
    fn next_entry(&mut self) -> Result<Option<Entry>, String>;
}

impl EntryLog for LogReader {
    fn next_entry(&mut self) -> Result<Option<Entry>, String> {
        LogReader::next_entry(self)
    }
}

/// One partition of a source that is asked for entries.
struct Pulled {
    source: PullSource,
    control: Arc<dyn SourceControl>,
    partition: Arc<str>,
    from: Position,
    began: bool,
}

impl EntryLog for Pulled {
    fn next_entry(&mut self) -> Result<Option<Entry>, String> {
        loop {
            // Partitions introduce themselves at once; only then there may be nothing for a while.
            let wait = if self.began { POLL } else { Duration::ZERO };
            match self.source.next(wait)? {
                Some(SourceEvent::Assigned(name)) if name == self.partition => {
                    self.began = true;
                    self.control.read_from(&self.partition, Some(self.from), false);
                }
                Some(SourceEvent::Entry(name, entry)) => {
                    self.control.credit(&name, entry.credit);
                    return Ok(Some(entry));
                }
                Some(SourceEvent::Failed(_, text)) => return Err(text),
                Some(SourceEvent::End(_) | SourceEvent::Exhausted) => return Ok(None),
                None if !self.began => {
                    return Err(format!("the source has no partition {:?}", &*self.partition));
                }
                None => return Err(format!("the source was silent for {POLL:?}")),
                Some(_) => {}
            }
        }
    }
}

/// Returns why the raw messages of a source cannot be read again; `None` if they can.
pub fn unreadable(source: &Source) -> Option<&'static str> {
    match source {
        Source::Stdin => Some("standard input cannot be read again"),
        Source::Generate(from) if from.pace == Pace::Real && from.start_ms.is_none() => Some(
            "the generator began at the time of its start: set source.generate.start to have the \
             same messages made again",
        ),
        _ => None,
    }
}

/// Opens the log of a lane at a position.
///
/// # Errors
/// If it cannot be read again, or not now.
pub fn open(config: &Config, partition: &str, from: Position) -> Result<Box<dyn EntryLog>, String> {
    if let Some(why) = unreadable(&config.source) {
        return Err(why.to_owned());
    }
    if let Source::Pulsar(source) = &config.source {
        let topic = source.topics.topic_of_lane(partition)?;
        let name = format!("tidemill-verify-{:016x}", random());
        let source = pulsar_source(config, source);
        return Ok(Box::new(LogReader::open(&source, &topic, &name, from)?));
    }
    let source = open_pulled(config, None)?;
    let control = source.control();
    Ok(Box::new(Pulled { source, control, partition: partition.into(), from, began: false }))
}

/// What a walk through a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Entries that were counted in.
    pub entries: u64,
    /// Messages from the first position to the last, both included.
    pub messages: u64,
    /// The first message, where it is not the one asked for: what lies before it is gone.
    pub began_late_at: Option<Position>,
    /// When the first message was published (ms).
    pub first_publish_ms: i64,
}

/// Gets the messages of a walk, entry by entry.
pub trait Visit {
    /// Takes messages of an entry, in log order.
    ///
    /// # Errors
    /// If the log is not what it should be.
    fn visit(&mut self, entry: &Entry, messages: &[RawMessage]) -> Result<(), String>;
}

/// Walks through a log from the first position of `span` to the last. Where the log begins late,
/// the messages are counted and nobody is visited.
///
/// # Errors
/// If the log cannot be read, or the last position is not in it.
pub fn walk(
    log: &mut dyn EntryLog,
    span: &RangeInclusive<Position>,
    mut visitor: Option<&mut dyn Visit>,
) -> Result<Walk, String> {
    let (first, last) = (*span.start(), *span.end());
    let mut walk = Walk::default();
    while let Some(entry) = log.next_entry()? {
        let messages = &entry.messages[..];
        let begin = messages.partition_point(|message| message.position < first);
        let end = messages.partition_point(|message| message.position <= last);
        let wanted = &messages[begin..end.max(begin)];
        if let Some(message) = wanted.first() {
            if walk.messages == 0 {
                walk.first_publish_ms = message.publish_time_ms;
                walk.began_late_at = Some(message.position).filter(|found| *found != first);
            }
            walk.entries += 1;
            walk.messages += wanted.len() as u64;
            if let Some(visitor) = visitor.as_deref_mut().filter(|_| walk.began_late_at.is_none()) {
                visitor.visit(&entry, wanted)?;
            }
        }
        if wanted.last().is_some_and(|message| message.position == last) {
            return Ok(walk);
        }
        if messages.last().is_some_and(|message| message.position > last) {
            return Err(format!("the processed message at {} is gone", shown(last)));
        }
    }
    Err(format!("the log ends before the processed message at {}", shown(last)))
}

/// Returns the positions that a record covers; `None` if it covers no message.
pub fn span(record: &CommitRecord) -> Option<RangeInclusive<Position>> {
    let (birth, processed) = record.birth.zip(record.processed)?;
    // Reset, and nothing was processed since.
    (processed >= birth).then_some(birth..=processed)
}

/// Returns a position as people compare it with what broker and files say.
pub fn shown(position: Position) -> String {
    format!("{}:{}:{}", position.segment, position.offset, position.index)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    struct Entries(Vec<Entry>);

    impl EntryLog for Entries {
        fn next_entry(&mut self) -> Result<Option<Entry>, String> {
            Ok((!self.0.is_empty()).then(|| self.0.remove(0)))
        }
    }

    #[derive(Default)]
    struct Seen(Vec<Position>);

    impl Visit for Seen {
        fn visit(&mut self, _: &Entry, messages: &[RawMessage]) -> Result<(), String> {
            self.0.extend(messages.iter().map(|message| message.position));
            Ok(())
        }
    }

    /// Entries of three messages each, by their numbers.
    fn entries(numbers: &[u64]) -> Entries {
        let entry = |number: &u64| Entry {
            position: Position::new(7, *number, 0),
            buffer: Bytes::new(),
            messages: (0..3)
                .map(|index| RawMessage {
                    position: Position::new(7, *number, index),
                    start: 0,
                    length: 0,
                    publish_time_ms: *number as i64,
                    reject: None,
                })
                .collect(),
            credit: 3,
        };
        Entries(numbers.iter().map(entry).collect())
    }

    fn at(offset: u64, index: u32) -> Position {
        Position::new(7, offset, index)
    }

    #[test]
    fn messages_between_two_positions_are_counted_and_visited() {
        let mut seen = Seen::default();
        let span = at(1, 1)..=at(3, 0);
        let walk = walk(&mut entries(&[1, 2, 3, 4]), &span, Some(&mut seen)).expect("found");
        assert_eq!((walk.entries, walk.messages, walk.began_late_at), (3, 6, None));
        assert_eq!((seen.0[0], seen.0[5], seen.0.len()), (at(1, 1), at(3, 0), 6));
    }

    #[test]
    fn log_that_begins_late_is_counted_and_nobody_is_visited() {
        let mut seen = Seen::default();
        let span = at(1, 0)..=at(3, 2);
        let walk = walk(&mut entries(&[2, 3]), &span, Some(&mut seen)).expect("found");
        assert_eq!((walk.messages, walk.began_late_at), (6, Some(at(2, 0))));
        assert_eq!((walk.first_publish_ms, seen.0.len()), (2, 0));
    }

    #[test]
    fn log_without_the_processed_message_is_told() {
        let span = at(1, 0)..=at(3, 1);
        let gone = walk(&mut entries(&[1, 2, 4]), &span, None).expect_err("3 is gone");
        assert_eq!(gone, "the processed message at 7:3:1 is gone");
        let short = walk(&mut entries(&[1, 2]), &span, None).expect_err("it ends before");
        assert_eq!(short, "the log ends before the processed message at 7:3:1");
    }
}
