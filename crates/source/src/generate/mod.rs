//! The deterministic stream of sensor messages: message i is a pure function of config and i.
//! Serves `tidemill generate`, the in-process source, the demo and tests. It reads no clock,
//! paces nothing, opens nothing and keeps no state between messages; callers do.

mod config;
mod digits;
mod draws;
mod faults;
mod malformed;
mod message;
mod physics;
mod shapes;
pub mod source;
#[cfg(test)]
mod tests;

pub use config::{
    DEVICE_PREFIX_BYTES_MAX, DEVICES_MAX, DISTANCE_MS_MAX, FAULT_RATIO_MAX, GenerateConfig,
    InvalidConfig, PUBLISH_MS_MAX, RATE_PER_S_MAX, RATE_PER_S_MIN, START_MS_MAX, START_MS_MIN,
    Shape, TimeFormat,
};
pub use malformed::Defect;
pub use message::FIELDS;

use draws::{Draws, hash};
use faults::Faults;
use malformed::{Whole, push_malformed};
use physics::Profile;

const PURPOSE_MESSAGE: u64 = 4;
const PURPOSE_CYCLE: u64 = 5;
const PURPOSE_STRIDE: u64 = 6;
/// How many orders of the devices a stream alternates between (times the device to begin with).
const STRIDES: usize = 16;
/// Up to this many devices, what never changes about them is kept as text (some 1 MiB);
/// beyond, it is derived anew for each message, which takes longer and no memory.
const KEPT_DEVICES_MAX: u32 = 4096;

/// What a message is meant to be to the pipeline that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// All fields, event time within the out-of-orderness before the publish time.
    Normal,
    /// All fields, event time exactly `late_by_ms` before the publish time.
    Late,
    /// No event: [`Generated::defect`] says what is wrong.
    Malformed,
    /// All fields, event time exactly `future_by_ms` after the publish time.
    Future,
}

/// What is known about a message besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generated {
    /// Position in the stream, from 0.
    pub index: u64,
    /// Number of the device, also of a malformed message: the message key's number.
    pub device: u32,
    /// `start_ms + index / rate`, rounded down, moved by bursts; never jittered, never falls.
    pub publish_time_ms: i64,
    /// The instant written in the time field; of a malformed message the one it would have had.
    pub event_time_ms: i64,
    /// What the message is meant to be.
    pub kind: Kind,
    /// What is wrong with it, exactly if the kind is malformed.
    pub defect: Option<Defect>,
    /// Whether it is the message before it once more. Then all but `index` and `publish_time_ms`
    /// are those of the original.
    pub is_duplicate: bool,
    /// How many of its fields are left out.
    pub missing_count: u8,
}

/// Writes the messages of a stream one by one, from any index on.
///
/// ```
/// use tidemill_source::generate::{GenerateConfig, Generator};
///
/// let config = GenerateConfig { seed: 7, ..GenerateConfig::default() };
/// let mut first = Generator::new(config.clone())?;
/// let mut bytes = Vec::new();
/// for _ in 0..100 {
///     bytes.clear();
///     first.next(&mut bytes);
/// }
/// let mut resumed = Generator::at(config, 99)?;
/// let mut again = Vec::new();
/// assert_eq!(resumed.next(&mut again).index, 99);
/// assert_eq!(again, bytes);
/// # Ok::<(), tidemill_source::generate::InvalidConfig>(())
/// ```
#[derive(Debug, Clone)]
pub struct Generator {
    config: GenerateConfig,
    index: u64,
    rate_per_1000_s: u64,
    /// Upper ends, in 2^-32, of the draws that make a message late, malformed, future.
    kind_ends: [u64; 3],
    strides: [u64; STRIDES],
    faults: Faults,
    kept: Vec<Device>,
}

/// What never changes about a device, and its text from the comma after the time on.
#[derive(Debug, Clone)]
struct Device {
    profile: Profile,
    attributes: Vec<u8>,
}

impl Generator {
    /// Begins at message 0.
    ///
    /// # Errors
    /// What [`GenerateConfig::validate`] finds.
    pub fn new(config: GenerateConfig) -> Result<Self, InvalidConfig> {
        Self::at(config, 0)
    }

    /// Begins at any message; what follows is the same as after `index` calls of [`Self::next`].
    ///
    /// # Errors
    /// What [`GenerateConfig::validate`] finds.
    pub fn at(config: GenerateConfig, index: u64) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let strides = strides(config.seed, config.devices);
        let kept_count = if config.devices <= KEPT_DEVICES_MAX { config.devices } else { 0 };
        let kept =
            (0..kept_count).map(|slot| Device::new(&config, config.first_device + slot)).collect();
        Ok(Self {
            index,
            rate_per_1000_s: (config.rate_per_s * 1000.0).round() as u64,
            kind_ends: kind_ends(&config),
            strides,
            faults: Faults::new(&config),
            kept,
            config,
        })
    }

    /// The config of this stream.
    pub fn config(&self) -> &GenerateConfig {
        &self.config
    }

    /// Index of the message that [`Self::next`] writes next.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Goes on at any message.
    pub fn seek(&mut self, index: u64) {
        self.index = index;
    }

    /// Publish time of any message in ms since 1970; stops growing at [`PUBLISH_MS_MAX`].
    pub fn publish_time_ms(&self, index: u64) -> i64 {
        let after_ms = match index.checked_mul(1_000_000) {
            Some(scaled) => scaled / self.rate_per_1000_s,
            None => {
                let scaled = u128::from(index) * 1_000_000 / u128::from(self.rate_per_1000_s);
                u64::try_from(scaled).unwrap_or(u64::MAX)
            }
        };
        let after_ms = self.faults.burst_ms(after_ms);
        self.config.start_ms.saturating_add_unsigned(after_ms).min(PUBLISH_MS_MAX)
    }

    /// Appends the message key of a device, which is also its `device_id`.
    pub fn push_key(&self, device: u32, out: &mut Vec<u8>) {
        message::push_name(out, &self.config, device);
    }

    /// Appends the next message without a newline and steps to the one after it.
    ///
    /// Appends at most 1 KiB: one JSON object, or no byte at all for [`Defect::Empty`]. The index
    /// wraps around after 2^64 messages.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Generated {
        let index = self.index;
        self.index = index.wrapping_add(1);
        let original = self.faults.original(index);
        let at_ms = || self.publish_time_ms(original);
        let slot = self.faults.speaker(self.slot(original), self.config.devices, at_ms);
        let mut generated = match self.kept.get(slot as usize) {
            Some(kept) => self.write(original, kept, out),
            None => {
                let device = Device::new(&self.config, self.config.first_device + slot);
                self.write(original, &device, out)
            }
        };
        if original != index {
            generated.index = index;
            generated.publish_time_ms = self.publish_time_ms(index);
            generated.is_duplicate = true;
        }
        generated
    }

    fn write(&self, index: u64, device: &Device, out: &mut Vec<u8>) -> Generated {
        let (config, profile) = (&self.config, &device.profile);
        let mut draws = Draws::new(config.seed, PURPOSE_MESSAGE, index);
        let kind = self.kind(draws.next_u32());
        let publish_time_ms = self.publish_time_ms(index);
        // Drawn for every kind, so that two shares of bad messages leave the other values alike.
        let jitter_ms = draws.below_u64(u64::from(config.out_of_orderness_ms) + 1);
        let event_time_ms = match kind {
            Kind::Normal | Kind::Malformed => publish_time_ms.saturating_sub_unsigned(jitter_ms),
            Kind::Late => publish_time_ms.saturating_sub_unsigned(config.late_by_ms),
            Kind::Future => publish_time_ms.saturating_add_unsigned(config.future_by_ms),
        };
        let event_time_ms =
            event_time_ms.saturating_add(self.faults.clock_error_ms(profile.device));
        let reading = profile.read(config.seed, event_time_ms, &mut draws);
        out.reserve(message::MESSAGE_BYTES_MAX);
        let start = out.len();
        let defect = (kind == Kind::Malformed).then(|| {
            let defect = Defect::ALL[draws.below(Defect::ALL.len() as u32) as usize];
            let whole = Whole { config, event_time_ms, profile, reading: &reading };
            push_malformed(out, &whole, defect, &mut draws);
            defect
        });
        if defect.is_none() {
            out.push(b'{');
            message::push_key(out, config, profile.device);
            out.push(b',');
            message::push_time(out, config, event_time_ms);
            out.extend_from_slice(&device.attributes);
            message::push_reading(out, config.shape, &reading);
        }
        let missing_count = match defect {
            None => self.faults.remove_fields(index, out, start),
            Some(_) => 0,
        };
        Generated {
            index,
            device: profile.device,
            publish_time_ms,
            event_time_ms,
            kind,
            defect,
            is_duplicate: false,
            missing_count,
        }
    }

    /// Which device sends a message: each once per cycle, in an order that changes by cycle.
    fn slot(&self, index: u64) -> u32 {
        let devices = u64::from(self.config.devices);
        let (cycle, position) = (index / devices, index % devices);
        let order = hash(self.config.seed, PURPOSE_CYCLE, cycle);
        let stride = self.strides[order as usize % STRIDES];
        let offset = order >> 40; // 24 bits suffice to begin with any of 10^7 devices
        ((position * stride + offset) % devices) as u32
    }

    fn kind(&self, draw: u32) -> Kind {
        let draw = u64::from(draw);
        let [late_end, malformed_end, future_end] = self.kind_ends;
        if draw >= future_end {
            Kind::Normal
        } else if draw < late_end {
            Kind::Late
        } else if draw < malformed_end {
            Kind::Malformed
        } else {
            Kind::Future
        }
    }
}

impl Device {
    fn new(config: &GenerateConfig, device: u32) -> Self {
        let profile = Profile::new(config.seed, device);
        let mut attributes = Vec::with_capacity(192);
        message::push_attributes(&mut attributes, config.shape, &profile);
        Self { profile, attributes }
    }
}

/// Ends of the shares on the scale of a 32-bit draw.
fn kind_ends(config: &GenerateConfig) -> [u64; 3] {
    let late = config.late_ratio;
    let malformed = late + config.malformed_ratio;
    let future = malformed + config.future_ratio;
    [late, malformed, future].map(|share| (share * 4_294_967_296.0).round() as u64)
}

/// Step widths that have no divisor in common with the number of devices, so that each of them
/// visits every device before it comes back to the first.
fn strides(seed: u64, devices: u32) -> [u64; STRIDES] {
    let devices = u64::from(devices);
    std::array::from_fn(|number| {
        let mut stride = 1 + hash(seed, PURPOSE_STRIDE, number as u64) % devices;
        while greatest_common_divisor(stride, devices) != 1 {
            stride += 1;
        }
        stride
    })
}

fn greatest_common_divisor(mut larger: u64, mut smaller: u64) -> u64 {
    while smaller != 0 {
        (larger, smaller) = (smaller, larger % smaller);
    }
    larger
}
