//! The lanes of a record that stands for several, as the text of one column.
//!
//! A JSON array with an object per lane (docs/formats.md); empty text where there are none.
//! Pipeline, generation and fingerprint are those of the whole record.

use serde_json::{Map, Value, json};
use tidemill_engine::{
    ledger::Ledger,
    record::{Closing, CommitId, CommitRecord, LaneId},
    settings::Transition,
};
use tidemill_kernel::event::Position;

/// Returns the lanes as text.
pub(crate) fn to_json(lanes: &[CommitRecord]) -> String {
    if lanes.is_empty() {
        return String::new();
    }
    let lane = |lane: &CommitRecord| {
        let Ledger { messages, aggregated, open, late, rejected, lost } = lane.ledger;
        let closing = |closing: &Closing| {
            let at = [json!(closing.until_ms), json!(closing.ordinal), position(closing.processed)];
            Value::from(at.to_vec())
        };
        json!({
            "partition": lane.lane.partition.as_ref(),
            "number": lane.id.number,
            "writer": lane.id.writer,
            "ordinal": lane.ordinal,
            "closed_until_ms": lane.closed_until_ms,
            "highest_event_time_ms": lane.highest_event_time_ms,
            "birth": position(lane.birth),
            "birth_ordinal": lane.birth_ordinal,
            "birth_generation": lane.birth_generation,
            "processed": position(lane.processed),
            "resume": position(lane.resume),
            "ledger": [messages, aggregated, open, late, rejected, lost],
            "closings": lane.closings.iter().map(closing).collect::<Vec<_>>(),
        })
    };
    Value::from(lanes.iter().map(lane).collect::<Vec<_>>()).to_string()
}

/// Returns the lanes that stand in the text of a record.
///
/// # Errors
/// The problem as text.
pub(crate) fn from_json(whole: &CommitRecord, text: &str) -> Result<Vec<CommitRecord>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let read = || -> Option<Vec<CommitRecord>> {
        let lanes: Vec<Map<String, Value>> = serde_json::from_str(text).ok()?;
        lanes.iter().map(|lane| read_lane(whole, lane)).collect()
    };
    read().ok_or_else(|| format!("{} has a commit record whose lanes cannot be read", whole.lane))
}

fn read_lane(whole: &CommitRecord, lane: &Map<String, Value>) -> Option<CommitRecord> {
    let number = |name: &str| lane.get(name)?.as_u64();
    let ledger: Vec<u64> =
        lane.get("ledger")?.as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?;
    let [messages, aggregated, open, late, rejected, lost] = ledger.try_into().ok()?;
    let closings = lane.get("closings")?.as_array()?.iter().map(read_closing);
    Some(CommitRecord {
        lane: LaneId {
            pipeline: whole.lane.pipeline.clone(),
            partition: lane.get("partition")?.as_str()?.into(),
        },
        id: CommitId { number: number("number")?, writer: number("writer")? },
        generation: whole.generation,
        fingerprint: whole.fingerprint.clone(),
        ordinal: number("ordinal")?,
        closed_until_ms: lane.get("closed_until_ms")?.as_i64()?,
        highest_event_time_ms: lane.get("highest_event_time_ms")?.as_i64()?,
        birth: read_position(lane.get("birth")?)?,
        birth_ordinal: number("birth_ordinal")?,
        birth_generation: u32::try_from(number("birth_generation")?).ok()?,
        processed: read_position(lane.get("processed")?)?,
        resume: read_position(lane.get("resume")?)?,
        ledger: Ledger { messages, aggregated, open, late, rejected, lost },
        closings: closings.collect::<Option<_>>()?,
        lanes: Vec::new(),
        turn: 0,
        transition: Transition::default(),
    })
}

fn read_closing(closing: &Value) -> Option<Closing> {
    let [until_ms, ordinal, processed] = closing.as_array()?.as_slice() else {
        return None;
    };
    Some(Closing {
        until_ms: until_ms.as_i64()?,
        ordinal: ordinal.as_u64()?,
        processed: read_position(processed)?,
    })
}

pub(crate) fn position(position: Option<Position>) -> Value {
    position.map_or(Value::Null, |at| json!([at.segment, at.offset, at.index]))
}

/// Returns `None` for what is no position, and `Some(None)` for one that is not there.
pub(crate) fn read_position(value: &Value) -> Option<Option<Position>> {
    if value.is_null() {
        return Some(None);
    }
    let [segment, offset, index] = value.as_array()?.as_slice() else {
        return None;
    };
    let index = u32::try_from(index.as_u64()?).ok()?;
    Some(Some(Position::new(segment.as_u64()?, offset.as_u64()?, index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(partition: &str) -> CommitRecord {
        CommitRecord {
            id: CommitId { number: 7, writer: u64::MAX },
            generation: 3,
            fingerprint: "window=1m".into(),
            ordinal: 12,
            closed_until_ms: i64::MIN,
            highest_event_time_ms: -5,
            birth: Some(Position::new(u64::MAX, 0, u32::MAX)),
            birth_ordinal: 1,
            birth_generation: 2,
            processed: Some(Position::new(1, 2, 3)),
            ledger: Ledger { messages: 12, aggregated: 5, open: 4, late: 1, rejected: 1, lost: 1 },
            closings: vec![
                Closing { until_ms: 60_000, ordinal: 3, processed: None },
                Closing { until_ms: 120_000, ordinal: 9, processed: Some(Position::new(1, 1, 1)) },
            ],
            ..CommitRecord::unborn(LaneId::new("p", partition))
        }
    }

    #[test]
    fn lanes_are_read_back_as_they_were_written() {
        let lanes = vec![lane("0"), lane("a \"b\"\n/1")];
        assert_eq!(from_json(&lane("*"), &to_json(&lanes)), Ok(lanes));
        assert_eq!(from_json(&lane("*"), &to_json(&[])), Ok(Vec::new()));
    }

    #[test]
    fn damaged_text_is_an_error_and_never_a_lane() {
        let text = to_json(&[lane("0")]);
        for end in 1..text.len() {
            assert!(from_json(&lane("*"), &text[..end]).is_err(), "cut at {end}");
        }
        for name in ["ordinal", "ledger", "closings", "birth"] {
            assert!(from_json(&lane("*"), &text.replace(name, "other")).is_err(), "{name}");
        }
    }
}
