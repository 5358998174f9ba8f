//! A small world of buildings: what a device is and what it measures at an instant.
//! Smooth functions of device and time plus noise, in whole numbers only: the same bytes on every
//! machine. Believable curves, not a simulation; nothing here remembers an earlier reading.
//! A suffix `_e1`, `_e2`, `_e4` means tenths, hundredths, ten-thousandths; `_e3` a share of 1000.

use super::draws::{Draws, hash};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Highs and lows follow each other in a bit more than four days.
const WEATHER_PERIOD_MS: i64 = 103 * HOUR_MS;
const DEVICES_PER_SITE: u32 = 10;
const SITES_PER_CUSTOMER: u32 = 4;

const PURPOSE_SITE: u64 = 1;
const PURPOSE_DEVICE: u64 = 2;
const PURPOSE_EPISODE: u64 = 3;

/// Values of `device_type`.
pub(super) const DEVICE_TYPES: [&str; 4] =
    ["environment", "air_quality", "occupancy", "edge_gateway"];

/// What never changes about a device.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub(super) device_type: &'static str,
    pub(super) customer: u32,
    pub(super) site: u32,
    pub(super) latitude_e4: i32,
    pub(super) longitude_e4: i32,
    pub(super) altitude_e1: i32,
    pub(super) device: u32,
    /// Shifts of the slow waves, in ms.
    weather_phase_ms: i64,
    device_phase_ms: i64,
    temperature_base_e2: i32,
    humidity_base_e2: i32,
    pressure_base_e2: i32,
    window_lux: i32,
    battery_period_ms: i64,
    signal_base: i32,
    memory_base_e2: i32,
    cpu_base_e2: i32,
}

/// What a device measures at one instant.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) temperature_e2: i32,
    pub(super) humidity_e2: i32,
    pub(super) pressure_e2: i32,
    pub(super) co2_level_e1: i32,
    pub(super) noise_level_e1: i32,
    pub(super) light_level_e1: i32,
    pub(super) battery_level_e2: i32,
    pub(super) signal_strength: i32,
    pub(super) memory_usage_e2: i32,
    pub(super) cpu_usage_e2: i32,
    pub(super) motion_detected: bool,
    pub(super) status: u32,
    pub(super) error_count: u32,
    pub(super) packets_sent: u32,
    pub(super) packets_received: u32,
    pub(super) bytes_sent: u32,
    pub(super) bytes_received: u32,
}

impl Profile {
    /// Derives a device from its number; ten devices share a site, four sites a customer.
    pub(super) fn new(seed: u64, device: u32) -> Self {
        let site = device / DEVICES_PER_SITE;
        let mut place = Draws::new(seed, PURPOSE_SITE, u64::from(site));
        let site_latitude_e4 = place.between(-450_000, 600_000);
        let site_longitude_e4 = place.between(-1_799_000, 1_799_000);
        let site_altitude_e1 = place.between(20, 7_500);
        let weather_phase_ms = i64::from(place.below(WEATHER_PERIOD_MS as u32));
        let site_humidity_e2 = place.between(-600, 600);

        let mut own = Draws::new(seed, PURPOSE_DEVICE, u64::from(device));
        let altitude_e1 = site_altitude_e1 + own.between(0, 600); // up to 60 m of floors
        Self {
            device_type: DEVICE_TYPES[own.below(4) as usize],
            customer: site / SITES_PER_CUSTOMER,
            site,
            latitude_e4: site_latitude_e4 + own.noise(12), // some 130 m
            longitude_e4: site_longitude_e4 + own.noise(12),
            altitude_e1,
            device,
            weather_phase_ms,
            device_phase_ms: i64::from(own.next_u32()),
            temperature_base_e2: own.between(1_950, 2_350),
            humidity_base_e2: 4_600 + site_humidity_e2 + own.between(-200, 200),
            // Near the ground the air loses some 0.117 hPa per metre.
            pressure_base_e2: 101_325 - altitude_e1 * 117 / 100,
            window_lux: own.between(100, 900),
            battery_period_ms: i64::from(own.between(90, 360)) * DAY_MS,
            signal_base: own.between(-80, -42),
            memory_base_e2: own.between(2_000, 5_500),
            cpu_base_e2: own.between(500, 1_800),
        }
    }

    /// Measures at an event time; the draws are those of the message.
    pub(super) fn read(&self, seed: u64, at_ms: i64, draws: &mut Draws) -> Reading {
        // 360 degrees are one day: a ten-thousandth of a degree is 24 ms of solar time.
        let local_ms = at_ms + i64::from(self.longitude_e4) * 24;
        let busy_e3 = self.occupancy_e3(local_ms);
        let weather_e3 = wave_e3::<WEATHER_PERIOD_MS>(at_ms + self.weather_phase_ms);
        let warmth_e3 = wave_e3::<DAY_MS>(local_ms - 9 * HOUR_MS); // highest at 15:00
        let drift_e3 = wave_e3::<{ 7 * HOUR_MS }>(at_ms + self.device_phase_ms);

        let warming_e2 = (250 * warmth_e3 + 120 * weather_e3 + 60 * busy_e3) / 1000;
        let temperature_e2 = self.temperature_base_e2 + warming_e2 + draws.noise(30);
        let humidity_e2 = self.humidity_base_e2 - warming_e2 * 9 / 5 - 3 * weather_e3 / 10;
        let (status, error_count) = self.state(seed, at_ms, draws);
        let busy_packets = (busy_e3 / 25) as u32;
        let packets_sent = 8 + busy_packets + draws.below(16);
        let packets_received = packets_sent - draws.below(8);
        Reading {
            temperature_e2,
            humidity_e2: (humidity_e2 + draws.noise(80)).clamp(500, 9_500),
            pressure_e2: self.pressure_base_e2 + 6 * weather_e3 / 5 + draws.noise(15),
            co2_level_e1: 4_180 + 55 * busy_e3 / 10 + drift_e3 / 5 + draws.noise(120),
            noise_level_e1: 330 + 24 * busy_e3 / 100 + draws.noise(60),
            light_level_e1: self.light_e1(local_ms, busy_e3, draws),
            battery_level_e2: self.battery_e2(at_ms),
            signal_strength: (self.signal_base + 3 * drift_e3 / 1000 + draws.noise(4))
                .clamp(-90, -30),
            memory_usage_e2: self.memory_e2(at_ms) + draws.noise(90),
            cpu_usage_e2: self.cpu_e2(busy_e3, draws),
            motion_detected: draws.below(1000) < 15 + (busy_e3 * 7 / 10) as u32,
            status,
            error_count,
            packets_sent,
            packets_received,
            bytes_sent: packets_sent * (90 + draws.below(160)),
            bytes_received: packets_received * (60 + draws.below(90)),
        }
    }

    /// How full the building is: working hours with ramps of two hours, a tenth at weekends.
    fn occupancy_e3(&self, local_ms: i64) -> i32 {
        let shift_ms = self.device_phase_ms & 0x1f_ffff; // devices start up to 35 minutes apart
        let shifted_ms = local_ms + shift_ms;
        let minute = (shifted_ms.rem_euclid(DAY_MS) / MINUTE_MS) as i32;
        let arriving = ((minute - 7 * 60) * 1000 / 120).clamp(0, 1000);
        let leaving = ((19 * 60 - minute) * 1000 / 120).clamp(0, 1000);
        let weekday = (shifted_ms.div_euclid(DAY_MS) + 4).rem_euclid(7); // 1970-01-01: Thursday
        let full = arriving.min(leaving);
        if weekday == 0 || weekday == 6 { full / 10 } else { full }
    }

    /// Daylight through the window from 6 to 18 o'clock, lamps while somebody is in.
    fn light_e1(&self, local_ms: i64, busy_e3: i32, draws: &mut Draws) -> i32 {
        let daylight_e3 = wave_e3::<DAY_MS>(local_ms - 6 * HOUR_MS).max(0);
        let lamps_e1 = if busy_e3 > 50 { 3_200 } else { 0 };
        (self.window_lux * daylight_e3 / 100 + lamps_e1 + draws.noise(40)).max(0)
    }

    /// Drains from 100 % to 5 % over months, then is replaced.
    fn battery_e2(&self, at_ms: i64) -> i32 {
        let used_ms = (at_ms + self.device_phase_ms * 7).rem_euclid(self.battery_period_ms);
        10_000 - (9_500 * used_ms / self.battery_period_ms) as i32
    }

    /// Grows for eight hours until the firmware restarts.
    fn memory_e2(&self, at_ms: i64) -> i32 {
        const PERIOD_MS: i64 = 8 * HOUR_MS;
        let since_ms = (at_ms + self.device_phase_ms).rem_euclid(PERIOD_MS);
        self.memory_base_e2 + (1_800 * since_ms / PERIOD_MS) as i32
    }

    fn cpu_e2(&self, busy_e3: i32, draws: &mut Draws) -> i32 {
        let burst_e2 = if draws.below(50) == 0 { draws.between(1_500, 5_500) } else { 0 };
        let load_e2 = self.cpu_base_e2 + 2 * busy_e3 + burst_e2 + draws.noise(400);
        load_e2.clamp(0, 10_000)
    }

    /// Status and errors: 1 (online) but for one device-minute in 64, which is mostly 3
    /// (maintenance) or 4 (error), so that some rows have another most frequent status.
    fn state(&self, seed: u64, at_ms: i64, draws: &mut Draws) -> (u32, u32) {
        let minute = at_ms.div_euclid(MINUTE_MS) as u64;
        let own = u64::from(self.device) << 32;
        let episode = hash(seed, PURPOSE_EPISODE, own ^ minute);
        let draw = draws.below(1000);
        let status = if episode.is_multiple_of(64) && draw < 700 {
            3 + (episode >> 8 & 1) as u32
        } else {
            match draw {
                0..=2 => 2,
                3..=7 => 3,
                8..=13 => 4,
                _ => 1,
            }
        };
        let errors = draws.next_u32();
        let error_count = match status {
            4 => 1 + errors % 8,
            _ if errors.is_multiple_of(128) => 1,
            _ => 0,
        };
        (status, error_count)
    }
}

/// A sine of the given period in thousandths, by Bhaskara's rational approximation (error < 2).
fn wave_e3<const PERIOD_MS: i64>(at_ms: i64) -> i32 {
    let half_ms = PERIOD_MS / 2;
    let position_ms = at_ms.rem_euclid(PERIOD_MS);
    let (within_ms, sign) =
        if position_ms < half_ms { (position_ms, 1) } else { (position_ms - half_ms, -1) };
    let part = (within_ms * 1024 / half_ms) as u32; // 0..1024 over half a period
    let bow = part * (1024 - part); // at most 2^18
    let height = u64::from(bow) * 16_000 / u64::from((5 << 20) - 4 * bow);
    sign * height as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wave_is_near_a_sine() {
        for at_ms in (-DAY_MS..2 * DAY_MS).step_by(977_777) {
            let angle = at_ms as f64 / DAY_MS as f64 * std::f64::consts::TAU;
            let distance = f64::from(wave_e3::<DAY_MS>(at_ms)) - 1000.0 * angle.sin();
            assert!(distance.abs() < 6.0, "at {at_ms}: {distance}");
        }
    }

    #[test]
    fn days_are_warmer_drier_brighter_and_busier_than_nights() {
        let (mut day, mut night) = ([0i64; 4], [0i64; 4]);
        for device in 0..200 {
            let profile = Profile::new(5, device);
            // Thursday 2026-01-01, 00:00 in solar time at the device.
            let midnight_ms = 1_767_225_600_000 - i64::from(profile.longitude_e4) * 24;
            for (hour, totals) in [(14, &mut day), (2, &mut night)] {
                let mut draws = Draws::new(5, 99, u64::from(device));
                let reading = profile.read(5, midnight_ms + hour * HOUR_MS, &mut draws);
                totals[0] += i64::from(reading.temperature_e2);
                totals[1] -= i64::from(reading.humidity_e2);
                totals[2] += i64::from(reading.light_level_e1);
                totals[3] += i64::from(reading.co2_level_e1);
            }
        }
        for (high, low) in day.iter().zip(night) {
            assert!(*high > low, "{day:?} {night:?}");
        }
    }

    #[test]
    fn battery_drains_slowly_and_stays_in_range() {
        let profile = Profile::new(5, 7);
        let mut replacements = 0;
        for hour in 0..24 * 400 {
            let before_e2 = profile.battery_e2(1_767_225_600_000 + hour * HOUR_MS);
            let after_e2 = profile.battery_e2(1_767_225_600_000 + (hour + 1) * HOUR_MS);
            assert!((500..=10_000).contains(&after_e2));
            assert!(before_e2 - after_e2 < 10, "at most 0.1 % per hour");
            replacements += u32::from(after_e2 > before_e2);
        }
        assert!((1..=5).contains(&replacements), "{replacements} in 400 days");
    }
}
