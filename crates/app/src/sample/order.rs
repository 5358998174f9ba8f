//! Measures how far events lie behind each other and ahead of their publish time. A partition is a
//! lane, so events are only held against those of their own.

use std::collections::BTreeMap;

use tidemill_decode::time::{parse_number, parse_text};
use tidemill_kernel::schema::TimeUnit;

use super::observe::{Observed, Value};

/// What the times of a sample's messages are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// How far an event lies behind the newest one before it in its partition, at most (ms).
    pub disorder_ms: i64,
    /// The same for all but one of a thousand events (ms).
    pub usual_disorder_ms: i64,
    /// How far an event is ahead of its publish time, at most (ms).
    pub ahead_ms: i64,
}

/// Measures a sample by the field at that place, or by publish times if there is none.
pub(super) fn order(observed: &Observed, time: Option<(usize, TimeUnit)>) -> Order {
    let mut newest: BTreeMap<u32, i64> = BTreeMap::new();
    let mut behind = Vec::new();
    let mut ahead_ms = 0;
    for (message, (partition, published_ms)) in observed.messages.iter().zip(&observed.origins) {
        let event_ms = match time {
            Some((place, unit)) => event_time_ms(message, place, unit),
            None => Some(*published_ms),
        };
        let Some(event_ms) = event_ms else {
            continue;
        };
        ahead_ms = ahead_ms.max(event_ms.saturating_sub(*published_ms));
        let newest_ms = newest.entry(*partition).or_insert(event_ms);
        *newest_ms = event_ms.max(*newest_ms);
        behind.push(newest_ms.saturating_sub(event_ms));
    }
    behind.sort_unstable();
    let usual = behind.len().saturating_sub(1 + behind.len() / 1000);
    let usual_disorder_ms = behind.get(usual).copied().unwrap_or(0);
    Order { disorder_ms: behind.last().copied().unwrap_or(0), usual_disorder_ms, ahead_ms }
}

fn event_time_ms(message: &[(usize, Value)], place: usize, unit: TimeUnit) -> Option<i64> {
    let (_, value) = message.iter().find(|(at, _)| *at == place)?;
    let instant = match value {
        Value::Text(text) => parse_text(text.as_bytes(), unit),
        Value::Int(whole) => parse_number(*whole < 0, whole.unsigned_abs(), 0, unit),
        Value::Float(float) => parse_number(*float < 0.0, float.abs() as u64, 0, unit),
        _ => None,
    };
    instant.map(|instant| instant.as_ms())
}
