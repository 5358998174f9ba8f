//! Messages of the sensor preset: a decoder that has learned shapes against one that has not.
//!
//! The input is several messages, one per line. Whatever they are, each becomes exactly one
//! message of the block, within the limits, and the learned shapes change nothing.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use tidemill::config::Config;
use tidemill_decode::{DecodeLimits, JsonDecoder};
use tidemill_kernel::{
    event::{EventBlock, Message, Position},
    key,
    schema::Schema,
};

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    let text = "pipeline.name = \"fuzz\"\nschema.preset = \"sensor\"\n\
                source.file.paths = [\"a\"]\nsink.stdout = {}\n";
    Config::parse("fuzz", text, &|_| None).expect("this configuration is right").schema
});

fuzz_target!(|data: &[u8]| {
    let limits = DecodeLimits { payload_bytes_max: 4096, text_bytes_max: 64, ..Default::default() };
    let mut learned = JsonDecoder::new(SCHEMA.clone(), limits);
    let mut block = EventBlock::new(&SCHEMA);
    for (index, line) in data.split(|byte| *byte == b'\n').enumerate() {
        let position = Position::new(1, index as u64, 0);
        learned.decode(line, position, 7, &mut block);
        assert_eq!(block.len(), index + 1, "one message each");
        let mut alone = EventBlock::new(&SCHEMA);
        JsonDecoder::new(SCHEMA.clone(), limits).decode(line, position, 7, &mut alone);
        let (one, other) = (block.message(index), alone.message(0));
        assert_eq!(one.position(), position);
        assert_eq!(one.reject(), other.reject());
        if one.reject().is_none() {
            check(&one, &other, limits);
        }
    }
});

fn check(one: &Message<'_>, other: &Message<'_>, limits: DecodeLimits) {
    assert_eq!((one.time(), one.key()), (other.time(), other.key()));
    assert_eq!(one.invalid_count(), other.invalid_count());
    assert!(one.absent().eq(other.absent()), "presence");
    let parts: Vec<&str> = key::parts(one.key()).collect();
    assert_eq!(parts.len(), SCHEMA.key_count());
    assert!(parts.iter().all(|part| (1..=limits.key_bytes_max).contains(&part.len())));
    for slot in 0..SCHEMA.float_count() as u16 {
        let value = one.float(slot);
        assert_eq!(value.map(f64::to_bits), other.float(slot).map(f64::to_bits));
        assert!(value.is_none_or(|value| value.is_finite() && value.to_bits() != 1 << 63));
    }
    (0..SCHEMA.int_count() as u16).for_each(|slot| assert_eq!(one.int(slot), other.int(slot)));
    for slot in 0..SCHEMA.text_count() as u16 {
        assert_eq!(one.text(slot), other.text(slot));
        let fits = |text| std::str::from_utf8(text).is_ok_and(|t| t.len() <= limits.text_bytes_max);
        assert!(one.text(slot).is_none_or(fits));
    }
}
