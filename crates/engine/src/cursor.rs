//! Where a lane stands in its log: which entry comes next, which is a repeat, which shows that
//! entries are missing (rule 5), and up to where may be acknowledged (rule 8).
//!
//! It compares positions and never subtracts them.

use tidemill_kernel::event::Position;

use crate::{port::Continuity, record::CommitRecord};

/// How often a source is sent back in a row before the messages count as gone. More than once,
/// because somebody else's acknowledgement may move the broker's cursor again meanwhile.
pub(crate) const SEEKS_MAX: u32 = 4;

/// Where reading has to begin after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    /// With this message.
    From(Position),
    /// Behind the entry of this message, all of which is processed.
    Behind(Position),
    /// Behind this message, with whatever there is: the operator accepted that some is missing.
    Anywhere(Position),
}

/// The entry that was processed last.
#[derive(Clone, Copy, Debug)]
struct LastEntry {
    position: Position,
    /// Its first message that is not processed; `None` if all are.
    rest: Option<Position>,
}

/// What an entry is to the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one, or the one that is half done.
    Next,
    /// Processed already.
    Repeat,
    /// Entries before it are missing: the source has to go back to this position.
    GoBack(Position),
    /// They are still missing after going back.
    Gap { expected: Position, from_next: bool },
}

/// A lane's place in its log.
#[derive(Debug)]
pub(crate) struct Cursor {
    continuity: Continuity,
    needed: Option<Needed>,
    last: Option<LastEntry>,
    /// How often the source was sent back without a good entry since.
    seek_count: u32,
    /// For each newer segment: the last entry of the one before it.
    segment_ends: Vec<(u64, Position)>,
}

impl Cursor {
    pub(crate) fn new(continuity: Continuity, seek_count: u32) -> Cursor {
        Cursor { continuity, needed: None, last: None, seek_count, segment_ends: Vec::new() }
    }

    /// Continues from a record.
    pub(crate) fn restore(&mut self, record: &CommitRecord) {
        self.needed = match (record.resume, record.processed) {
            (Some(resume), _) => Some(Needed::From(resume)),
            (None, processed) if record.birth.is_none() => processed.map(Needed::Anywhere),
            (None, processed) => processed.map(Needed::Behind),
        };
    }

    /// Returns the first position to ask the source for; `None`: wherever it begins.
    pub(crate) fn from(&self) -> Option<Position> {
        self.needed.map(|needed| match needed {
            Needed::From(position) | Needed::Behind(position) | Needed::Anywhere(position) => {
                position
            }
        })
    }

    /// Returns the first message that a replay has to fold.
    pub(crate) fn replay_from(&self) -> Option<Position> {
        match self.needed {
            Some(Needed::From(position)) => Some(position),
            _ => None,
        }
    }

    pub(crate) fn seek_count(&self) -> u32 {
        self.seek_count
    }

    /// Judges the entry at `next`, and counts a good one or a step back.
    pub(crate) fn judge(&mut self, next: Position) -> Verdict {
        if self.continuity == Continuity::Growing {
            return Verdict::Next;
        }
        let (last, is_due) = match (self.last, self.needed) {
            (Some(last), _) => (last.position, last.rest.is_some()),
            (None, Some(Needed::From(from))) => (whole(from), true),
            (None, Some(Needed::Behind(processed))) => (whole(processed), false),
            (None, Some(Needed::Anywhere(processed))) if next < whole(processed) => {
                return Verdict::Repeat;
            }
            (None, Some(Needed::Anywhere(_))) => return Verdict::Next,
            (None, None) => return Verdict::Next,
        };
        if next < last || (next == last && !is_due) {
            return Verdict::Repeat;
        }
        let is_next = if next.segment == last.segment {
            next.offset == last.offset + 1
        } else {
            next.offset == 0
        };
        if next == last || (is_next && !is_due) {
            self.seek_count = 0;
            if next.segment != last.segment {
                self.segment_ends.push((next.segment, last));
            }
            return Verdict::Next;
        }
        if self.seek_count >= SEEKS_MAX {
            return Verdict::Gap { expected: last, from_next: !is_due };
        }
        self.seek_count += 1;
        Verdict::GoBack(last)
    }

    /// Notes that the entry was processed up to `rest`, its first message that is not, if any.
    pub(crate) fn processed(&mut self, entry: Position, rest: Option<Position>) {
        self.last = Some(LastEntry { position: entry, rest });
    }

    /// Returns the next message of an entry that is half done.
    pub(crate) fn rest(&self) -> Option<Position> {
        self.last.and_then(|last| last.rest)
    }

    /// Returns the entry before the one that holds the resume position; the last entry if nothing
    /// has to be read again.
    pub(crate) fn acknowledgeable(&self, resume: Option<Position>) -> Option<Position> {
        let Some(resume) = resume else {
            return self.last.map(|last| last.position);
        };
        if resume.offset > 0 {
            return Some(Position { offset: resume.offset - 1, ..whole(resume) });
        }
        let ends = self.segment_ends.iter();
        ends.rev().find(|(segment, _)| *segment == resume.segment).map(|(_, end)| *end)
    }

    /// Forgets what is only needed to acknowledge entries up to `through`.
    pub(crate) fn acknowledged(&mut self, through: Position) {
        self.segment_ends.retain(|(_, end)| *end >= through);
    }
}

fn whole(position: Position) -> Position {
    Position { index: 0, ..position }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, offset: u64) -> Position {
        Position::new(segment, offset, 0)
    }

    #[test]
    fn jump_sends_the_source_back_and_stops_only_after_several() {
        let mut cursor = Cursor::new(Continuity::Counted, 0);
        cursor.processed(at(1, 4), None);
        assert_eq!(cursor.judge(at(1, 4)), Verdict::Repeat);
        for _ in 0..SEEKS_MAX {
            assert_eq!(cursor.judge(at(1, 6)), Verdict::GoBack(at(1, 4)));
        }
        let gap = Verdict::Gap { expected: at(1, 4), from_next: true };
        assert_eq!(cursor.judge(at(1, 6)), gap);
        assert_eq!(cursor.judge(at(1, 5)), Verdict::Next);
        assert_eq!(cursor.seek_count(), 0);
    }

    #[test]
    fn entry_before_the_first_of_a_segment_is_the_last_one_seen_of_the_segment_before() {
        let mut cursor = Cursor::new(Continuity::Counted, 0);
        cursor.processed(at(1, 9), None);
        assert_eq!(cursor.judge(at(3, 0)), Verdict::Next);
        cursor.processed(at(3, 0), None);
        assert_eq!(cursor.acknowledgeable(Some(Position::new(3, 0, 5))), Some(at(1, 9)));
        assert_eq!(cursor.acknowledgeable(Some(at(7, 0))), None);
        assert_eq!(cursor.acknowledgeable(None), Some(at(3, 0)));
    }
}
