//! How large the parts of a message may be. Values beyond the documented bounds are moved to the
//! nearest bound; checking a configuration and naming its lines is the app's business.

use tidemill_kernel::key::KEY_PART_BYTES_MAX;

/// The limits of one decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// The largest payload, 1 byte to 64 MiB; a larger one is rejected as `TooLarge`.
    pub payload_bytes_max: usize,
    /// The longest part of a group key in bytes of UTF-8, 1 to 65 535; a longer one is rejected
    /// as `InvalidKey`.
    pub key_bytes_max: usize,
    /// The longest text of an attribute in bytes of UTF-8, 1 byte to 64 MiB; a longer one is an
    /// invalid value.
    pub text_bytes_max: usize,
    /// The deepest nesting of objects and arrays, 1 to 1024; the message itself is level 1.
    /// A deeper one is rejected as `TooDeep`.
    pub depth_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> DecodeLimits {
        DecodeLimits {
            payload_bytes_max: 1 << 20,
            key_bytes_max: 256,
            text_bytes_max: 4096,
            depth_max: 32,
        }
    }
}

/// The largest payload any configuration may allow.
pub(crate) const PAYLOAD_BYTES_BOUND: usize = 64 << 20;
/// The deepest nesting any configuration may allow.
pub(crate) const DEPTH_BOUND: usize = 1024;

impl DecodeLimits {
    /// Returns the limits with each moved into its bounds.
    pub(crate) fn bounded(self) -> DecodeLimits {
        DecodeLimits {
            payload_bytes_max: self.payload_bytes_max.clamp(1, PAYLOAD_BYTES_BOUND),
            key_bytes_max: self.key_bytes_max.clamp(1, KEY_PART_BYTES_MAX),
            text_bytes_max: self.text_bytes_max.clamp(1, PAYLOAD_BYTES_BOUND),
            depth_max: self.depth_max.clamp(1, DEPTH_BOUND),
        }
    }
}
