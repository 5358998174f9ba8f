//! What a decoder has learned from one message must not change the verdict on the next.

use std::sync::Arc;

use tidemill_decode::{DecodeLimits, JsonDecoder, RawMessage};
use tidemill_kernel::event::{EventBlock, Position, Reason};
use tidemill_kernel::key::parts;
use tidemill_kernel::schema::{Field, Role, Schema, ValueType};

/// Decodes all payloads with one decoder.
fn block_of(payloads: &[&str]) -> EventBlock {
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
    block
}

/// Decodes all payloads with one decoder; returns the first part of each key.
fn keys(payloads: &[&str]) -> Vec<String> {
    let block = block_of(payloads);
    let keys = (0..block.len()).map(|index| block.message(index).key());
    keys.map(|key| parts(key).next().expect("a key has a part").to_owned()).collect()
}

/// Decodes all payloads with one decoder; returns reason, floats and invalid count of each.
fn decode(payloads: &[&str]) -> Vec<(Option<Reason>, Vec<Option<f64>>, u32)> {
    let block = block_of(payloads);
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

/// Returns a buffer of messages, and where they lie, whose members come in the order that the
/// number of each turns them to.
fn turned(turns: impl Iterator<Item = usize>) -> (Vec<u8>, Vec<RawMessage>) {
    let (mut buffer, mut raw) = (Vec::new(), Vec::new());
    for (index, turn) in turns.enumerate() {
        let mut members: Vec<String> =
            ('b'..='y').map(|name| format!("\"{name}\":{}.5", index % 100)).collect();
        members.extend(["\"id\":\"a\"".into(), format!("\"time\":{}", 1_700_000_000 + index)]);
        let count = members.len();
        members.rotate_left(turn % count);
        members.swap(turn % 7, 9 + turn % 11);
        let text = format!("{{{}}}", members.join(","));
        raw.push(RawMessage {
            position: Position::new(0, index as u64, 0),
            start: buffer.len() as u32,
            length: text.len() as u32,
            publish_time_ms: 0,
            reject: None,
        });
        buffer.extend_from_slice(text.as_bytes());
    }
    buffer.extend_from_slice(&[b' '; 64]);
    (buffer, raw)
}

#[test]
fn names_in_any_order_are_not_left_to_the_judge() {
    let mut fields = vec![
        Field::new("id", ValueType::Text, Role::Key),
        Field::new("time", ValueType::Int, Role::Time),
    ];
    fields.extend(
        ('b'..='y').map(|name| Field::new(&name.to_string(), ValueType::Float, Role::Gauge)),
    );
    let schema = Arc::new(Schema::new(fields).expect("a valid schema"));
    let mut block = EventBlock::new(&schema);
    let mut decoder = JsonDecoder::new(schema, DecodeLimits::default());
    if !cfg!(target_arch = "x86_64") || !std::is_x86_feature_detected!("avx2") {
        return;
    }
    let (buffer, raw) = turned((0..2_000).map(|index| index * 7919 % 1_999));
    decoder.decode_all(&buffer, &raw, &mut block);
    let scattered = decoder.tally();
    assert!(scattered.judged < 100, "{scattered:?}");
    // One order again: it is learnt, and read in lock step.
    let (buffer, raw) = turned((0..20_000).map(|_| 0));
    decoder.decode_all(&buffer, &raw, &mut block);
    let settled = decoder.tally();
    assert!(settled.judged < scattered.judged + 20, "{settled:?}");
    assert!(settled.together > scattered.together + 10_000, "{settled:?}");
    assert!((0..block.len()).all(|index| block.message(index).is_complete()));
}

#[test]
fn numbers_of_another_form_than_all_before_are_still_read() {
    let forms = [
        ("1.5", Some(1.5)),
        ("-2.25", Some(-2.25)),
        ("7", Some(7.0)),
        ("-8", Some(-8.0)),
        ("1.5e3", Some(1500.0)),
        ("0.1234567890123456", Some(0.1234567890123456)),
        ("123456789012345", Some(123456789012345.0)),
    ];
    let message = |number: &str| format!(r#"{{"id":"a","time":1,"n":{number}}}"#);
    // Learnt from one form, widened by a second, met with a third, twice each.
    for (first, second, third) in (0..343).map(|at| (at / 49, at / 7 % 7, at % 7)) {
        let order = [first, first, first, second, second, third, third, first, second];
        let payloads = order.map(|form| message(forms[form].0));
        let found = decode(&payloads.each_ref().map(String::as_str));
        for (form, (reason, floats, invalid)) in order.iter().zip(found) {
            assert_eq!((reason, floats[1], invalid), (None, forms[*form].1, 0), "{order:?}");
        }
    }
    for broken in ["5,7", ".5", "1.", "01.5", "1.5.2", "-.5", "--1.5", "1,5"] {
        for form in forms {
            let (good, bad) = (message(form.0), message(broken));
            let found = decode(&[&good, &good, &good, &bad, &good]);
            assert_eq!(found[3].0, Some(Reason::Malformed), "{broken} behind {}", form.0);
            assert_eq!(found[4].1[1], form.1);
        }
    }
}

#[test]
fn keys_about_as_long_as_a_vector_are_read_whole() {
    for length in 29..36 {
        let key = "k".repeat(length);
        let message = format!(r#"{{"id":"{key}","time":1,"n":1.5}}"#);
        let found = keys(&[&message, &message, &message]);
        assert!(found.iter().all(|found| *found == key), "{length} bytes");
    }
}
