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

/// Numbers that are not as long as those before, and what is none.
const ODD: [&str; 20] = [
    "5",
    "-5.0",
    "-0.0",
    "0.0000000000000000000",
    "0.1234567890123456789",
    "-9007199254740993.0",
    "12345678901234567.25",
    "1234567.890123456789",
    "0.30000000000000004E-5",
    "1234567890.123456789e3",
    "1.0e-30",
    "3.141592653589793238462643383279",
    "null",
    "\"text\"",
    "NaN",
    "00.30000000000000004",
    "0.30000000000000004.5",
    "-",
    ".30000000000000004",
    "1234567890123456.",
];

#[test]
fn fields_of_long_floats_take_every_other_value() {
    let mut low = Field::new("x", ValueType::Float, Role::Gauge);
    low.range = Some((-1e6, 1e6));
    let schema = Arc::new(
        Schema::new(vec![
            Field::new("id", ValueType::Text, Role::Key),
            Field::new("time", ValueType::Int, Role::Time),
            low,
            Field::new("y", ValueType::Float, Role::Gauge),
        ])
        .expect("a valid schema"),
    );
    let usual = |index: usize| format!("{}{}", index as f64 / 8191.0 - 3.0, index % 10);
    let messages: Vec<String> = (0..8_000)
        .map(|index| {
            let odd = ODD[index / 13 % ODD.len()].to_string();
            let is_odd = |remainder| index > 500 && index % 13 == remainder;
            let value = if is_odd(0) { odd.clone() } else { usual(index) };
            // Nobody wants this one, but it has to be valid.
            let other = if is_odd(6) { odd } else { usual(index * 7) };
            let last = usual(index * 3);
            format!(r#"{{"id":"a","time":17,"x":{value},"other":{other},"y":{last}}}"#)
        })
        .collect();
    let together = assert_read_alike(&schema, DecodeLimits::default(), &messages);
    assert!(together > 6_000, "{together}");
}

/// Reads messages by one decoder, and each by one that has learned nothing; returns how many were
/// read in lock step, or as many as there are where none is.
fn assert_read_alike(schema: &Arc<Schema>, limits: DecodeLimits, messages: &[String]) -> u64 {
    let mut buffer = Vec::new();
    let mut raw = Vec::new();
    let mut alone = EventBlock::new(schema);
    for (index, text) in messages.iter().enumerate() {
        let (start, position) = (buffer.len() as u32, Position::new(0, index as u64, 0));
        let length = text.len() as u32;
        raw.push(RawMessage { position, start, length, publish_time_ms: 0, reject: None });
        buffer.extend_from_slice(text.as_bytes());
        let mut judge = JsonDecoder::new(schema.clone(), limits);
        judge.decode(text.as_bytes(), position, 0, &mut alone);
    }
    buffer.extend_from_slice(&[b' '; 64]);
    let mut together = EventBlock::new(schema);
    let mut decoder = JsonDecoder::new(schema.clone(), limits);
    decoder.decode_all(&buffer, &raw, &mut together);
    for (index, text) in messages.iter().enumerate() {
        let (found, expected) = (together.message(index), alone.message(index));
        assert_eq!(found.reject(), expected.reject(), "{text}");
        if expected.reject().is_some() {
            continue;
        }
        assert_eq!(found.invalid_count(), expected.invalid_count(), "{text}");
        assert_eq!(found.key(), expected.key(), "{text}");
        let bits = |value: Option<f64>| value.map(f64::to_bits);
        for slot in 0..schema.float_count() as u16 {
            assert_eq!(bits(found.float(slot)), bits(expected.float(slot)), "{text}");
        }
        for slot in 0..schema.text_count() as u16 {
            assert_eq!(found.text(slot), expected.text(slot), "{text}");
        }
    }
    let is_quick = cfg!(target_arch = "x86_64") && std::is_x86_feature_detected!("avx2");
    if is_quick { decoder.tally().together } else { messages.len() as u64 }
}

#[test]
fn texts_of_every_length_are_read_as_if_alone() {
    let schema = Arc::new(
        Schema::new(vec![
            Field::new("id", ValueType::Text, Role::Key),
            Field::new("time", ValueType::Int, Role::Time),
            Field::new("site", ValueType::Text, Role::Attribute),
        ])
        .expect("a valid schema"),
    );
    let limits = DecodeLimits { key_bytes_max: 58, text_bytes_max: 45, ..DecodeLimits::default() };
    let text = |length: usize, odd: Option<(usize, &str)>| {
        let mut text: String =
            ('0'..='z').filter(|c| c.is_alphanumeric()).cycle().take(length).collect();
        if let Some((at, odd)) = odd.filter(|(at, _)| *at < length) {
            text.replace_range(at..=at, odd);
        }
        text
    };
    let message = |texts: [String; 3]| {
        let [id, other, site] = texts;
        format!(r#"{{"id":"{id}","time":17,"other":"{other}","site":"{site}"}}"#)
    };
    let plain = || message([37, 36, 35].map(|length| text(length, None)));
    let mut messages = vec![plain(); 100];
    for length in 0..110 {
        messages.extend([
            message([37, length, 35].map(|length| text(length, None))),
            plain(),
            plain(),
        ]);
        messages.extend([message([37, 36, length].map(|length| text(length, None))), plain()]);
        messages.extend([message([length, 36, 35].map(|length| text(length, None))), plain()]);
    }
    for at in 0..70 {
        for odd in ["\\\"", "\\u00e9", "\u{e9}", "\u{1}", "\"", "\\x", "\\"] {
            for place in 0..3 {
                let mut texts = [48, 66, 40].map(|length| text(length, None));
                texts[place] = text(40 + place * 26 % 50, Some((at, odd)));
                messages.extend([plain(), message(texts), plain(), plain()]);
            }
        }
    }
    let together = assert_read_alike(&schema, limits, &messages);
    assert!(together > messages.len() as u64 / 3, "{together} of {}", messages.len());
}

#[test]
fn schemas_without_fields_of_some_type_are_read_together() {
    for counts in (0..27).map(|at| [at / 9, at / 3 % 3, at % 3].map(|count| [0, 1, 70][count])) {
        let mut fields = vec![
            Field::new("id", ValueType::Text, Role::Key),
            Field::new("time", ValueType::Int, Role::Time),
        ];
        let mut text = String::from(r#"{"id":"a","time":17"#);
        for (value_type, role, sample, count) in [
            (ValueType::Float, Role::Gauge, "2.5", counts[0]),
            (ValueType::Int, Role::Counter, "7", counts[1]),
            (ValueType::Text, Role::Attribute, "\"x\"", counts[2]),
        ] {
            for number in 0..count {
                let name = format!("{value_type:?}{number}");
                text += &format!(",\"{name}\":{sample}");
                fields.push(Field::new(&name, value_type, role));
            }
        }
        text += "}";
        let schema = Arc::new(Schema::new(fields).expect("a valid schema"));
        let messages = 40;
        let raw = (0..messages).map(|index| RawMessage {
            position: Position::new(0, index as u64, 0),
            start: (index * text.len()) as u32,
            length: text.len() as u32,
            publish_time_ms: 0,
            reject: None,
        });
        let buffer = [text.repeat(messages).as_bytes(), &[b' '; 64]].concat();
        let mut block = EventBlock::new(&schema);
        let mut decoder = JsonDecoder::new(schema, DecodeLimits::default());
        decoder.decode_all(&buffer, &raw.collect::<Vec<_>>(), &mut block);
        for message in (0..messages).map(|index| block.message(index)) {
            assert_eq!((message.reject(), message.is_complete()), (None, true), "{counts:?}");
            assert_eq!(message.floats(), vec![2.5; counts[0]]);
            assert_eq!(message.ints(), vec![7; counts[1]]);
            assert!((0..counts[2]).all(|slot| message.text(slot as u16) == Some(b"x")));
        }
    }
}

#[test]
fn neighbours_of_one_shape_are_read_together_among_others() {
    let schema = Arc::new(
        Schema::new(vec![
            Field::new("id", ValueType::Text, Role::Key),
            Field::new("time", ValueType::Int, Role::Time),
            Field::new("x", ValueType::Float, Role::Gauge),
        ])
        .expect("a valid schema"),
    );
    let mut state = 1_u64;
    let messages: Vec<String> = (0..4_000)
        .map(|index| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            match state >> 62 {
                0 => format!(r#"{{"id":"a","time":17,"x":{index}.5}}"#),
                1 => format!(r#"{{"time":17,"x":{index}.5,"id":"b"}}"#),
                2 => format!(r#"{{"x":{index}.5,"id":"c","time":17}}"#),
                // Begins as the first shape does.
                _ => format!(r#"{{"id":"d","x":{index}.5,"time":17}}"#),
            }
        })
        .collect();
    let together = assert_read_alike(&schema, DecodeLimits::default(), &messages);
    assert!(together > 500, "{together}");
}

#[test]
fn numbers_too_long_for_a_stage_hide_nothing_behind_them() {
    // A long name is compared in two parts, and the second may be as short as the end of any.
    for (length, between) in (20..40).flat_map(|length| (0..20).map(move |size| (length, size))) {
        let name = "n".repeat(length);
        let schema = Schema::new(vec![
            Field::new("id", ValueType::Text, Role::Key),
            Field::new("time", ValueType::Int, Role::Time),
            Field::new(&name, ValueType::Float, Role::Gauge),
            Field::new("x", ValueType::Float, Role::Gauge),
        ]);
        let schema = Arc::new(schema.expect("a valid schema"));
        let other = "o".repeat(between);
        let message = |digits: usize| {
            let number = "1234567890123456789012345678"[..digits].to_owned();
            format!(r#"{{"id":"a","time":17,"{name}":{number},"{other}":7,"x":971}}"#)
        };
        let messages: Vec<String> = (0..12)
            .map(|_| message(5))
            .chain((10..28).flat_map(|digits| [message(digits), message(5), message(4)]))
            .collect();
        assert_read_alike(&schema, DecodeLimits::default(), &messages);
    }
}

#[test]
fn message_that_is_cut_short_takes_no_texts_of_the_next() {
    let fields = (0..60).map(|at| Field::new(&format!("t{at}"), ValueType::Text, Role::Attribute));
    let id = Field::new("id", ValueType::Text, Role::Key);
    let time = Field::new("time", ValueType::Int, Role::Time);
    let schema = Schema::new([id, time].into_iter().chain(fields).collect());
    let schema = Arc::new(schema.expect("a valid schema"));
    let texts: String = (0..60).map(|at| format!(r#","t{at}":"{}""#, "x".repeat(63))).collect();
    let message = format!(r#"{{"id":"a","time":17{texts}}}"#);
    let buffer = [message.repeat(8).as_bytes(), &[b' '; 64]].concat();
    let raw = |index: usize, length: usize| RawMessage {
        position: Position::new(0, index as u64, 0),
        start: (index * message.len()) as u32,
        length: length as u32,
        publish_time_ms: 0,
        reject: None,
    };
    let mut decoder = JsonDecoder::new(schema.clone(), DecodeLimits::default());
    let whole: Vec<RawMessage> = (0..8).map(|index| raw(index, message.len())).collect();
    decoder.decode_all(&buffer, &whole, &mut EventBlock::new(&schema));
    // A block of its own, so that it has no more room than was made for these.
    let cut: Vec<RawMessage> = (0..8).map(|index| raw(index, 30)).collect();
    let mut block = EventBlock::new(&schema);
    decoder.decode_all(&buffer, &cut, &mut block);
    let reasons = (0..8).map(|index| block.message(index).reject());
    assert_eq!(reasons.collect::<Vec<_>>(), [Some(Reason::Malformed); 8]);
}
