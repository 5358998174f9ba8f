//! How a lane goes over to other values of time, as the text of a record's column.
//!
//! A JSON object (docs/formats.md); empty text where nothing is under way, which is nearly always.
//! Merged lanes have none, so it stands in the column of theirs.

use serde_json::{Map, Value, json};
use tidemill_engine::settings::Transition;
use tidemill_kernel::{
    rollup::{Change, Timing},
    time::DurationMs,
};

use crate::lanes::{position, read_position};

/// Returns the transition as text.
pub(crate) fn to_json(transition: &Transition) -> String {
    if transition.is_none() {
        return String::new();
    }
    let change = |change: &Change| {
        json!([change.edge_ms, position(Some(change.since)), values(change.timing)])
    };
    json!({
        "changes": transition.changes.iter().map(change).collect::<Vec<_>>(),
        "wanted": transition.wanted.map(values),
    })
    .to_string()
}

/// Returns the transition that stands in the text of a record, or `None` if that is none.
pub(crate) fn from_json(text: &str, closed_until_ms: i64) -> Option<Transition> {
    let object: Map<String, Value> = serde_json::from_str(text).ok()?;
    let changes = object.get("changes")?.as_array()?.iter().map(read_change);
    let wanted = match object.get("wanted")? {
        Value::Null => None,
        values => Some(read_values(values)?),
    };
    let transition = Transition { changes: changes.collect::<Option<_>>()?, wanted };
    transition.is_sound(closed_until_ms).then_some(transition)
}

fn values(timing: Timing) -> Value {
    let Timing { max_out_of_orderness, allowed_lateness, max_future_skew } = timing;
    json!([max_out_of_orderness.as_ms(), allowed_lateness.as_ms(), max_future_skew.as_ms()])
}

fn read_values(values: &Value) -> Option<Timing> {
    let [max_out_of_orderness, allowed_lateness, max_future_skew] = values.as_array()?.as_slice()
    else {
        return None;
    };
    let length = |value: &Value| value.as_i64().map(DurationMs::from_ms);
    Some(Timing {
        max_out_of_orderness: length(max_out_of_orderness)?,
        allowed_lateness: length(allowed_lateness)?,
        max_future_skew: length(max_future_skew)?,
    })
}

fn read_change(change: &Value) -> Option<Change> {
    let [edge_ms, since, timing] = change.as_array()?.as_slice() else {
        return None;
    };
    Some(Change {
        edge_ms: edge_ms.as_i64()?,
        since: read_position(since)??,
        timing: read_values(timing)?,
    })
}

#[cfg(test)]
mod tests {
    use tidemill_kernel::event::Position;

    use super::*;

    fn timing(ms: i64) -> Timing {
        let length = DurationMs::from_ms(ms);
        Timing {
            max_out_of_orderness: length,
            allowed_lateness: DurationMs::from_ms(ms + 1),
            max_future_skew: DurationMs::from_ms(ms + 2),
        }
    }

    fn transition() -> Transition {
        let change = |edge_ms| Change {
            edge_ms,
            since: Position::new(u64::MAX, 7, u32::MAX),
            timing: timing(edge_ms),
        };
        Transition { changes: vec![change(60_000), change(120_000)], wanted: Some(timing(5)) }
    }

    #[test]
    fn transition_is_read_back_as_it_was_written() {
        let text = to_json(&transition());
        assert_eq!(from_json(&text, 0), Some(transition()));
        let announced = Transition { changes: Vec::new(), wanted: Some(timing(5)) };
        assert_eq!(from_json(&to_json(&announced), i64::MIN), Some(announced));
        assert_eq!(to_json(&Transition::default()), "");
    }

    #[test]
    fn damaged_text_is_no_transition() {
        let text = to_json(&transition());
        for end in 0..text.len() {
            assert_eq!(from_json(&text[..end], 0), None, "cut at {end}");
        }
        assert_eq!(from_json(&text, 60_000), None, "an edge that is closed");
        for (found, other) in [("changes", "x"), ("wanted", "x"), ("120000,", "60000,")] {
            assert_eq!(from_json(&text.replace(found, other), 0), None, "{found}");
        }
    }
}
