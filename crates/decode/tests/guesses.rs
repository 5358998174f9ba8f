//! What a decoder has learned from one message must not change the verdict on the next.

use std::sync::Arc;

use tidemill_decode::{DecodeLimits, JsonDecoder};
use tidemill_kernel::event::{EventBlock, Position, Reason};
use tidemill_kernel::schema::{Field, Role, Schema, ValueType};

/// Decodes all payloads with one decoder; returns reason, floats and invalid count of each.
fn decode(payloads: &[&str]) -> Vec<(Option<Reason>, Vec<Option<f64>>, u32)> {
    let mut inner = Field::new("inner", ValueType::Float, Role::Gauge);
    inner.path = vec!["meta".into(), "f".into()];
    let mut deep = Field::new("deep", ValueType::Float, Role::Gauge);
    deep.path = vec!["only".into(), "f".into()];
    let schema = Schema::new(vec![
        Field::new("id", ValueType::Text, Role::Key),
        Field::new("time", ValueType::Int, Role::Time),
        inner,
        Field::new("n", ValueType::Float, Role::Gauge),
        // An object where `inner` stands, and a (bad) value itself.
        Field::new("meta", ValueType::Float, Role::Gauge),
        deep,
    ]);
    let schema = Arc::new(schema.expect("a valid schema"));
    let mut block = EventBlock::new(&schema);
    let mut decoder = JsonDecoder::new(schema, DecodeLimits::default());
    for payload in payloads {
        decoder.decode(payload.as_bytes(), Position::default(), 0, &mut block);
    }
    let messages = (0..block.len()).map(|index| block.message(index));
    messages
        .map(|message| {
            let floats = (0..2).map(|slot| message.float(slot)).collect();
            (message.reject(), floats, message.invalid_count())
        })
        .collect()
}

#[test]
fn absent_fields_are_never_those_that_open_an_object() {
    let lesson = r#"{"id":"a","time":1,"x":{"y":1},"other":2,"n":4}"#;
    assert_eq!(decode(&[lesson, r#"{"id":"a","time":1,"n":5}"#])[1].1[1], Some(5.0));
    let nested = r#"{"id":"a","time":1,"only":{"f":3},"n":4}"#;
    for broken in [
        r#"{"id":"a","time":1},"n":4}"#,
        r#"{"id":"a"},"n":4}"#,
        r#"{"id":"a","time":1}}"#,
        r#"},"n":4}"#,
    ] {
        assert_eq!(decode(&[nested, nested, broken])[2].0, Some(Reason::Malformed), "{broken}");
    }
}

#[test]
fn object_that_is_also_a_bad_value_counts_every_time() {
    let payload = r#"{"id":"a","time":1,"meta":{"f":3},"n":4}"#;
    for found in decode(&[payload, payload, payload]) {
        assert_eq!(found, (None, vec![Some(3.0), Some(4.0)], 1));
    }
}
