//! One line per decision of the decoder: a payload and what becomes of it.
//!
//! Each case is decoded four times: by a fresh decoder, twice more (which may guess), and by a
//! decoder that has learned another shape. All four must agree.

use std::sync::Arc;

use tidemill_decode::{DecodeLimits, JsonDecoder};
use tidemill_kernel::event::{EventBlock, Message, Position};
use tidemill_kernel::key::parts;
use tidemill_kernel::schema::{Field, Role, Schema, ValueType};

fn paths(paths: &[&[&str]]) -> Vec<Vec<String>> {
    paths.iter().map(|path| path.iter().map(|name| (*name).into()).collect()).collect()
}

fn schema(key_parts: usize) -> Arc<Schema> {
    let mut id = Field::new("id", ValueType::Text, Role::Key);
    id.aliases = paths(&[&["deviceId"], &["meta", "id"]]);
    let mut time = Field::new("time", ValueType::Text, Role::Time);
    time.aliases = paths(&[&["ts"]]);
    let mut f = Field::new("f", ValueType::Float, Role::Gauge);
    f.aliases = paths(&[&["F"], &["meta", "f"], &["f"]]);
    let mut r = Field::new("r", ValueType::Float, Role::Gauge);
    r.range = Some((-10.0, 50.5));
    let mut c = Field::new("c", ValueType::Int, Role::Code);
    c.words = vec![("ONLINE".into(), 1), ("ÄRGER".into(), 4), ("FAR".into(), 999)];
    let mut t = Field::new("t", ValueType::Text, Role::Attribute);
    t.aliases = paths(&[&["meta", "deep", "t"]]);
    let n = Field::new("n", ValueType::Int, Role::Counter);
    let b = Field::new("b", ValueType::Bool, Role::Flag);
    // A second field that reads the same name as `f`.
    let mut g = Field::new("g", ValueType::Text, Role::Attribute);
    g.path = vec!["meta".into(), "f".into()];
    let mut fields = vec![id, time, f, r, n, c, b, t, g];
    if key_parts == 2 {
        fields.push(Field::new("site", ValueType::Text, Role::Key));
    }
    Arc::new(Schema::new(fields).expect("a valid schema"))
}

/// Writes an event as `key @time name=value… !invalid`, or a reason.
fn render(message: Message<'_>) -> String {
    if let Some(reason) = message.reject() {
        return reason.name().into();
    }
    let key: Vec<&str> = parts(message.key()).collect();
    let mut out = format!("{} @{}", key.join("/"), message.time().as_ms());
    for (slot, name) in ["f", "r"].iter().enumerate() {
        if let Some(value) = message.float(slot as u16) {
            out += &format!(" {name}={value:?}");
        }
    }
    for (slot, name) in ["n", "c", "b"].iter().enumerate() {
        if let Some(value) = message.int(slot as u16) {
            out += &format!(" {name}={value}");
        }
    }
    for (slot, name) in ["t", "g"].iter().enumerate() {
        if let Some(value) = message.text(slot as u16) {
            out += &format!(" {name}={}", str::from_utf8(value).expect("always UTF-8"));
        }
    }
    if message.invalid_count() > 0 {
        out += &format!(" !{}", message.invalid_count());
    }
    out
}

fn check_bytes(payload: &[u8], key_parts: usize, limits: DecodeLimits, expected: &str) {
    let schema = schema(key_parts);
    let mut block = EventBlock::new(&schema);
    let mut decoder = JsonDecoder::new(Arc::clone(&schema), limits);
    for _ in 0..3 {
        decoder.decode(payload, Position::new(1, 2, 3), 4, &mut block);
    }
    let mut taught = JsonDecoder::new(schema, limits);
    let lesson = br#"{"id":"a","time":1700000000,"f":1.5,"r":2,"n":3,"c":1,"b":true,"t":"x"}"#;
    taught.decode(lesson, Position::default(), 0, &mut block);
    taught.decode(payload, Position::new(1, 2, 3), 4, &mut block);
    assert_eq!(block.len(), 5);
    for index in [0, 1, 2, 4] {
        let message = block.message(index);
        let text = String::from_utf8_lossy(payload);
        assert_eq!(render(message), expected, "decoding {index} of {text}");
        assert_eq!(message.position(), Position::new(1, 2, 3));
        assert_eq!(message.publish_time_ms(), 4);
    }
}

fn check(payload: &str, expected: &str) {
    check_bytes(payload.as_bytes(), 1, DecodeLimits::default(), expected);
}

/// Checks members that follow a good key and time.
fn check_members(members: &str, expected: &str) {
    let payload = format!(r#"{{"id":"a","time":1700000000,{members}}}"#);
    check(&payload, format!("a @1700000000000 {expected}").trim_end());
}

#[test]
fn floats_are_rounded_once_and_nothing_else_is_a_float() {
    for (members, expected) in [
        (r#""f":22.5"#, "f=22.5"),
        (r#""f":0.1"#, "f=0.1"),
        (r#""f":-0"#, "f=0.0"),
        (r#""f":-0.0"#, "f=0.0"),
        (r#""f":-0e5"#, "f=0.0"),
        (r#""f":-1e-999"#, "f=0.0"),
        (r#""f":5e-324"#, "f=5e-324"),
        (r#""f":1.7976931348623157e308"#, "f=1.7976931348623157e308"),
        (r#""f":0.30000000000000004"#, "f=0.30000000000000004"),
        (r#""f":9007199254740993"#, "f=9007199254740992.0"),
        (r#""f":9007199254740993.00000000000000000001"#, "f=9007199254740994.0"),
        (r#""f":1E2"#, "f=100.0"),
        (r#""f":125e-2"#, "f=1.25"),
        (r#""f":1234567.1234567"#, "f=1234567.1234567"),
        (r#""f":1e309"#, "!1"),
        (r#""f":-1e99999999999999999999"#, "!1"),
        (r#""f":NaN"#, "!1"),
        (r#""f":Infinity"#, "!1"),
        (r#""f":-Infinity"#, "!1"),
        (r#""f":"22.5""#, "!1"),
        (r#""f":"""#, "!1"),
        (r#""f":true"#, "!1"),
        (r#""f":[1]"#, "!1"),
        (r#""f":{"x":1}"#, "!1"),
        (r#""f":null"#, ""),
        (r#""x":1"#, ""),
    ] {
        check_members(members, expected);
    }
}

#[test]
fn range_is_inclusive_and_values_outside_are_counted() {
    for (members, expected) in [
        (r#""r":50.5"#, "r=50.5"),
        (r#""r":50.50001"#, "!1"),
        (r#""r":-10"#, "r=-10.0"),
        (r#""r":-10.01"#, "!1"),
        (r#""c":0"#, "c=0"),
        (r#""c":255"#, "c=255"),
        (r#""c":256"#, "!1"),
        (r#""c":-1"#, "!1"),
    ] {
        check_members(members, expected);
    }
}

#[test]
fn integers_are_exact_and_words_stand_for_numbers() {
    for (members, expected) in [
        (r#""n":3"#, "n=3"),
        (r#""n":3.0"#, "n=3"),
        (r#""n":3e0"#, "n=3"),
        (r#""n":30e-1"#, "n=3"),
        (r#""n":0.3E+1"#, "n=3"),
        (r#""n":-0"#, "n=0"),
        (r#""n":3.5"#, "!1"),
        (r#""n":35e-1"#, "!1"),
        (r#""n":9223372036854775807"#, "n=9223372036854775807"),
        (r#""n":-9223372036854775808"#, "n=-9223372036854775808"),
        (r#""n":9223372036854775808"#, "!1"),
        (r#""n":9007199254740993"#, "n=9007199254740993"),
        (r#""n":1e19"#, "!1"),
        (r#""n":1e18"#, "n=1000000000000000000"),
        (r#""n":"3""#, "!1"),
        (r#""n":true"#, "!1"),
        (r#""n":NaN"#, "!1"),
        (r#""n":null"#, ""),
        (r#""c":"ONLINE""#, "c=1"),
        (r#""c":"O\u004eLINE""#, "c=1"),
        (r#""c":"\u00c4RGER""#, "c=4"),
        (r#""c":"ÄRGER""#, "c=4"),
        (r#""c":"online""#, "!1"),
        (r#""c":"FAR""#, "!1"),
        (r#""c":"""#, "!1"),
    ] {
        check_members(members, expected);
    }
}

#[test]
fn booleans_and_texts_take_their_kin() {
    for (members, expected) in [
        (r#""b":true"#, "b=1"),
        (r#""b":false"#, "b=0"),
        (r#""b":1"#, "b=1"),
        (r#""b":0.0"#, "b=0"),
        (r#""b":10e-1"#, "b=1"),
        (r#""b":2"#, "!1"),
        (r#""b":"true""#, "!1"),
        (r#""b":null"#, ""),
        (r#""t":"x y""#, "t=x y"),
        (r#""t":"""#, "t="),
        (r#""t":"\"\\\/\n\u0041""#, "t=\"\\/\nA"),
        (r#""t":"\ud83d\ude00""#, "t=😀"),
        (r#""t":"Füße""#, "t=Füße"),
        (r#""t":7"#, "t=7"),
        (r#""t":7.00"#, "t=7"),
        (r#""t":18446744073709551615"#, "t=18446744073709551615"),
        (r#""t":18446744073709551616"#, "!1"),
        (r#""t":7.5"#, "!1"),
        (r#""t":false"#, "!1"),
        (r#""t":NaN"#, "!1"),
        (r#""f":"x","r":"y","n":"z","c":1.5,"b":7,"t":[]"#, "!6"),
    ] {
        check_members(members, expected);
    }
}

#[test]
fn first_source_that_is_not_null_counts_whatever_the_order() {
    for (members, expected) in [
        (r#""F":2"#, "f=2.0"),
        (r#""F":2,"f":1"#, "f=1.0"),
        (r#""f":1,"F":2"#, "f=1.0"),
        (r#""f":null,"F":2"#, "f=2.0"),
        (r#""meta":{"f":3},"f":null,"F":null"#, "f=3.0 g=3"),
        (r#""meta":{"f":3},"F":2"#, "f=2.0 g=3"),
        (r#""F":2,"f":"bad""#, "!1"),
        (r#""f":1,"F":"bad""#, "f=1.0"),
        (r#""meta":{"deep":{"t":"x"},"other":1},"n":1"#, "n=1 t=x"),
        (r#""meta":{"deep":{"t":{"t":"x"}}}"#, "!1"),
        (r#""meta":[{"f":3}]"#, ""),
        (r#""meta":7"#, ""),
        (r#""meta":{}"#, ""),
        (r#""meta":null"#, ""),
        (r#""x":{"meta":{"f":3},"f":4},"deep":{"t":"no"}"#, ""),
        (r#""\u0066":1"#, "f=1.0"),
        (r#""m\u0065ta":{"\u0066":3}"#, "f=3.0 g=3"),
        (r#""f ":1,"ff":2,"":3"#, ""),
    ] {
        check_members(members, expected);
    }
}

#[test]
fn repeated_metric_is_invalid_once() {
    for (members, expected) in [
        (r#""f":1,"f":1"#, "!1"),
        (r#""f":1,"f":2,"f":3"#, "!1"),
        (r#""f":null,"f":2"#, "!1"),
        (r#""f":1,"\u0066":1"#, "!1"),
        (r#""f":1,"F":2,"F":3"#, "f=1.0"),
        (r#""F":2,"F":3"#, "!1"),
        (r#""meta":{"f":1},"meta":{"f":2}"#, "!2"),
        (r#""meta":{"f":1},"meta":{"deep":{"t":"x"}}"#, "f=1.0 t=x g=1"),
        (r#""x":1,"x":2,"y":{"x":1,"x":2}"#, ""),
    ] {
        check_members(members, expected);
    }
}

#[test]
fn keys_are_texts_or_whole_numbers() {
    for (key, expected) in [
        (r#""id":"sensor_1""#, "sensor_1"),
        (r#""id":17"#, "17"),
        (r#""id":17.0"#, "17"),
        (r#""id":17e0"#, "17"),
        (r#""id":-0"#, "0"),
        (r#""id":18446744073709551615"#, "18446744073709551615"),
        (r#""id":"\u00e4\ud83d\ude00""#, "ä😀"),
        (r#""id":"ä""#, "ä"),
        (r#""id":"a\u0000b""#, "a\0b"),
        (r#""id":null,"deviceId":"x""#, "x"),
        (r#""meta":{"id":5}"#, "5"),
        (r#""deviceId":"y","id":"x""#, "x"),
    ] {
        check(&format!(r#"{{{key},"ts":1700000000}}"#), &format!("{expected} @1700000000000"));
    }
    for (key, reason) in [
        (r#""x":1"#, "missing_key"),
        (r#""id":null"#, "missing_key"),
        (r#""id":null,"deviceId":null"#, "missing_key"),
        (r#""id":"a","id":"a""#, "duplicate_key"),
        (r#""id":"a","i\u0064":"b""#, "duplicate_key"),
        (r#""id":null,"id":"a""#, "duplicate_key"),
        (r#""meta":{"id":1},"meta":{"id":1}"#, "duplicate_key"),
        (r#""id":"""#, "invalid_key"),
        (r#""id":"","deviceId":"x""#, "invalid_key"),
        (r#""id":1.5"#, "invalid_key"),
        (r#""id":true"#, "invalid_key"),
        (r#""id":["a"]"#, "invalid_key"),
        (r#""id":{}"#, "invalid_key"),
        (r#""id":NaN"#, "invalid_key"),
        (r#""id":1e30"#, "invalid_key"),
    ] {
        check(&format!(r#"{{{key},"time":1700000000,"f":"bad"}}"#), reason);
        check(&format!(r#"{{"time":"bad",{key}}}"#), reason);
    }
}

#[test]
fn parts_of_the_key_come_in_the_schemas_order() {
    let check_two = |payload: &str, expected: &str| {
        check_bytes(payload.as_bytes(), 2, DecodeLimits::default(), expected);
    };
    check_two(r#"{"site":"s","time":1700000000,"id":4}"#, "4/s @1700000000000");
    check_two(r#"{"site":"s\u0021","time":1700000000,"id":"a\/b"}"#, "a/b/s! @1700000000000");
    check_two(r#"{"site":"","time":1700000000}"#, "missing_key");
    check_two(r#"{"site":"","time":1700000000,"id":"a"}"#, "invalid_key");
    check_two(r#"{"id":1.5,"time":1700000000}"#, "invalid_key");
    check_two(r#"{"id":"a","id":"a","time":1700000000}"#, "duplicate_key");
}

#[test]
fn times_are_floored_to_milliseconds() {
    for (time, ms) in [
        (r#""time":"2023-11-14T22:13:20Z""#, 1_700_000_000_000_i64),
        (r#""time":"2023-11-14T23:13:20.1239+01:00""#, 1_700_000_000_123),
        (r#""time":"2023-11-14 22:13:20.5""#, 1_700_000_000_500),
        (r#""time":"2023-11-14\u002022:13:20.5""#, 1_700_000_000_500),
        (r#""time":"1700000000""#, 1_700_000_000_000),
        (r#""time":1700000000"#, 1_700_000_000_000),
        (r#""time":1700000000.9996"#, 1_700_000_000_999),
        (r#""time":1700000000.999999999999999999999999"#, 1_700_000_000_999),
        (r#""time":1.7e9"#, 1_700_000_000_000),
        (r#""time":1700000000123"#, 1_700_000_000_123),
        (r#""time":1700000000123.99"#, 1_700_000_000_123),
        (r#""time":1700000000123999"#, 1_700_000_000_123),
        (r#""time":1700000000123999999"#, 1_700_000_000_123),
        (r#""time":0"#, 0),
        (r#""time":-0.0"#, 0),
        (r#""time":null,"ts":5"#, 5000),
        (r#""ts":6,"time":5"#, 5000),
    ] {
        check(&format!(r#"{{"id":"a",{time}}}"#), &format!("a @{ms}"));
    }
    for (time, reason) in [
        (r#""x":1"#, "missing_time"),
        (r#""time":null"#, "missing_time"),
        (r#""time":1,"time":1"#, "invalid_time"),
        (r#""time":null,"time":1"#, "invalid_time"),
        (r#""time":"soon","ts":1"#, "invalid_time"),
        (r#""time":"""#, "invalid_time"),
        (r#""time":-1"#, "invalid_time"),
        (r#""time":-0.0001"#, "invalid_time"),
        (r#""time":1e300"#, "invalid_time"),
        (r#""time":true"#, "invalid_time"),
        (r#""time":{}"#, "invalid_time"),
        (r#""time":NaN"#, "invalid_time"),
        (r#""time":"2023-02-29T00:00:00Z""#, "invalid_time"),
        (r#""time":4294967295"#, "invalid_time"),
    ] {
        check(&format!(r#"{{"id":"a",{time},"f":1}}"#), reason);
    }
}

#[test]
fn malformed_messages_are_found_to_the_last_byte() {
    for payload in [
        "[]",
        "\"a\"",
        "1",
        "null",
        "x",
        "{",
        "}",
        "{]",
        "{,}",
        "{\"id\"}",
        "{\"id\":}",
        r#"{"id":"a","time":1"#,
        r#"{"id":"a","time":1}}"#,
        r#"{"id":"a","time":1} x"#,
        r#"{"id":"a","time":1}{"#,
        r#"{"id":"a","time":1,}"#,
        r#"{"id":"a" "time":1}"#,
        r#"{"id":"a","time":1,"x":[1,]}"#,
        r#"{"id":"a","time":1,"x":[1 2]}"#,
        r#"{"id":"a","time":1,"x":{"y":1,}}"#,
        r#"{"id":"a","time":1,"x":{"y"}}"#,
        r#"{"id":"a","time":1,"x":[}"#,
        r#"{"id":"a","time":1,"x":{]}"#,
        r#"{"id":"a","time":1,"x":[1}}"#,
        r#"{"id":"a","time":1,"x":01}"#,
        r#"{"id":"a","time":1,"x":1.}"#,
        r#"{"id":"a","time":1,"x":.5}"#,
        r#"{"id":"a","time":1,"x":+1}"#,
        r#"{"id":"a","time":1,"f":1e}"#,
        r#"{"id":"a","time":1,"f":--1}"#,
        r#"{"id":"a","time":1,"f":-}"#,
        r#"{"id":"a","time":1,"f":1.5.2}"#,
        r#"{"id":"a","time":1,"f":0x10}"#,
        r#"{"id":"a","time":1,"x":truth}"#,
        r#"{"id":"a","time":1,"x":True}"#,
        r#"{"id":"a","time":1,"x":nul}"#,
        r#"{"id":"a","time":1,"x":nan}"#,
        r#"{"id":"a","time":1,"x":-NaN}"#,
        r#"{"id":"a","time":1,"x":Inf}"#,
        r#"{"id":"a","time":1,NaN:1}"#,
        r#"{"id":"a","time":1,x:1}"#,
        r#"{'id':"a","time":1}"#,
        r#"{"id":"a","time":1,"x":"\x41"}"#,
        r#"{"id":"a","time":1,"x":"\u12"}"#,
        r#"{"id":"a","time":1,"x":"\u12g4"}"#,
        r#"{"id":"a","time":1,"x":"\ud800"}"#,
        r#"{"id":"a","time":1,"x":"\udc00\ud800"}"#,
        r#"{"id":"a","time":1,"x":"\ud800\u0041"}"#,
        r#"{"id":"a","time":1,"\ud800":1}"#,
        r#"{"id":"a","time":1,"x":"open}"#,
        "{\"id\":\"a\",\"time\":1,\"x\":\"a\tb\"}",
        "{\"id\":\"a\",\"time\":1,\"x\":\"a\nb\"}",
        "{\"id\":\"a\",\"time\":1,\"x\":\"a\0b\"}",
        "\u{feff}{\"id\":\"a\",\"time\":1}",
        "{\"id\":\"a\",\u{a0}\"time\":1}",
        r#"{"id":"a","time":1 /* c */}"#,
        r#"{"id":"a","id":"a","time":1"#,
        r#"{"id":"a","time":1,"meta":{"f":1,}}"#,
        r#"{"id":"a","time":1,"meta":{"f":1}"#,
        r#"{"id":"a","time":1,"meta":{"f":1]}"#,
    ] {
        check(payload, "malformed");
    }
    for broken in [&b"\xff"[..], b"\xc3(", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xaf"] {
        for place in [
            r#"{"id":"a","time":1,"x":"ab~"}"#,
            r#"{"id":"a","time":1,"~":1}"#,
            r#"{"id":"~","time":1}"#,
            r#"{"id":"a","time":1,"t":"long enough ~ text"}"#,
            r#"{"id":"a","time":1}~"#,
        ] {
            let (before, after) = place.split_once('~').expect("a place is marked");
            let payload = [before.as_bytes(), broken, after.as_bytes()].concat();
            check_bytes(&payload, 1, DecodeLimits::default(), "malformed");
        }
    }
}

#[test]
fn white_space_and_unknown_values_do_not_matter() {
    check(" \r\n\t{ \"id\" : \"a\" ,\t\"time\"\n:1 , \"f\": 2\r} \n", "a @1000 f=2.0");
    let unknown = r#""x":[1,-2.5e3,{"y":[],"z":{}},"\u00e9",true,false,null,NaN,[[[]]]],"u":{}"#;
    check_members(&format!("{unknown},\"f\":1"), "f=1.0");
    check_members(r#""x":Infinity,"y":[-Infinity,NaN],"z":1e999,"t":"b""#, "t=b");
    check("{}", "missing_key");
    check("", "empty");
    check(" \n\t\r ", "empty");
}

#[test]
fn limits_hold_on_both_sides() {
    let nested = |levels: usize| {
        format!(r#"{{"id":"a","time":1,"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
    };
    check(&nested(31), "a @1000");
    check(&nested(32), "too_deep");
    check(&format!("{} x", nested(32)), "too_deep");
    check(&format!(r#"{{"id":"a",,"time":1,"x":{}"#, "[".repeat(99)), "malformed");
    check(&format!(r#"{{"id":"a","time":1,"x":{}"#, r#"{"a":"#.repeat(50_000)), "too_deep");
    check(&format!(r#"{{"x":{}}}"#, "[{\"a\":".repeat(16)), "too_deep");
    let limits =
        DecodeLimits { payload_bytes_max: 40, key_bytes_max: 3, text_bytes_max: 2, depth_max: 2 };
    let check_small = |payload: &str, expected| {
        check_bytes(payload.as_bytes(), 1, limits, expected);
    };
    check_small(r#"{"id":"abc","time":1}"#, "abc @1000");
    check_small(r#"{"id":"abcd","time":1}"#, "invalid_key");
    check_small(r#"{"id":1234,"time":1}"#, "invalid_key");
    check_small(r#"{"id":"\u00e4\u0041","time":1}"#, "äA @1000");
    check_small(r#"{"id":"ää","time":1}"#, "invalid_key");
    check_small(r#"{"id":"a","time":1,"t":"xy"}"#, "a @1000 t=xy");
    check_small(r#"{"id":"a","time":1,"t":"xyz"}"#, "a @1000 !1");
    check_small(r#"{"id":"a","time":1,"t":123}"#, "a @1000 !1");
    check_small(r#"{"time":1,"meta":{"id":"a"}}"#, "a @1000");
    check_small(r#"{"time":1,"meta":{"deep":{}}}"#, "too_deep");
    check_small(&format!("{:<40}", r#"{"id":"a","time":1}"#), "a @1000");
    check_small(&format!("{:<41}", r#"{"id":"a","time":1}"#), "too_large");
    check_small(&" ".repeat(41), "too_large");
    let zero = DecodeLimits {
        payload_bytes_max: 0,
        key_bytes_max: 0,
        text_bytes_max: 0,
        depth_max: usize::MAX,
    };
    let decoder = JsonDecoder::new(schema(1), zero);
    assert_eq!(decoder.limits().payload_bytes_max, 1);
    assert_eq!(decoder.limits().key_bytes_max, 1);
    assert_eq!(decoder.limits().depth_max, 1024);
}
