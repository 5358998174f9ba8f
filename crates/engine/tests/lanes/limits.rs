//! Each bound of a lane, driven to its limit: what it does there is what the configuration says.

use tidemill_engine::{
    lane::{Action, Lane, LaneConfig},
    port::{Commit, StoreError},
};
use tidemill_kernel::event::Reason;

use crate::harness::{START_MS, config, entry, payloads};

/// A lane that reads.
fn running(config: LaneConfig) -> Lane {
    let mut lane = Lane::new(config, 7, 0);
    lane.start(None, 0, &mut Vec::new());
    lane
}

fn commits(actions: &[Action]) -> Vec<&Commit> {
    let commits = actions.iter().filter_map(|action| match action {
        Action::Commit { commit, .. } => Some(&**commit),
        _ => None,
    });
    commits.collect()
}

/// A good message of a device.
fn of_device(device: &str, second: i64) -> Vec<u8> {
    let time_ms = START_MS + second * 1000;
    format!("{{\"device\":\"{device}\",\"time\":{time_ms}}}").into_bytes()
}

#[test]
fn lane_with_as_many_commits_in_flight_as_allowed_takes_nothing() {
    let mut lane = running(LaneConfig { commits_in_flight_max: 2, ..config(0) });
    let mut actions = Vec::new();
    // The birth record and one by the clock.
    lane.take(&entry(1, 0, &[1]), 1, &mut actions);
    assert!(lane.accepts());
    lane.tick(2, &mut actions);
    assert_eq!(commits(&actions).len(), 2);
    assert!(!lane.accepts(), "the entry waits at the worker, and its credit with it");
    lane.committed(Ok(()), &mut actions);
    assert!(lane.accepts());
}

#[test]
fn dead_letters_force_a_commit_in_the_midst_of_an_entry() {
    let mut lane = running(LaneConfig { letters_per_commit_max: 256, ..config(0) });
    let mut actions = Vec::new();
    let broken: Vec<Vec<u8>> = (0..600).map(|_| b"{".to_vec()).collect();
    lane.take(&payloads(1, 0, &broken), 1, &mut actions);
    let letters: Vec<usize> = commits(&actions).iter().map(|commit| commit.letters.len()).collect();
    // A birth record, then one for each block; the rest waits for the clock.
    assert_eq!(letters, [0, 256, 256]);
    lane.tick(2, &mut actions);
    assert_eq!(commits(&actions).last().expect("by the clock").letters.len(), 88);
}

#[test]
fn payload_of_a_dead_letter_is_cut_and_its_length_is_kept() {
    let mut lane = running(LaneConfig { dead_letter_bytes_max: 4, ..config(0) });
    let mut actions = Vec::new();
    lane.take(&payloads(1, 0, &[b"abcdefgh".to_vec(), b"abcd".to_vec()]), 1, &mut actions);
    lane.tick(2, &mut actions);
    let letters = &commits(&actions).last().expect("by the clock").letters;
    assert_eq!((&letters[0].payload[..], letters[0].payload_bytes), (&b"abcd"[..], 8));
    assert_eq!((&letters[1].payload[..], letters[1].payload_bytes), (&b"abcd"[..], 4));
}

#[test]
fn message_and_key_may_be_as_long_as_allowed_and_no_longer() {
    let mut config = config(0);
    config.decode.payload_bytes_max = of_device("abcd", 1).len();
    config.decode.key_bytes_max = 3;
    let mut lane = running(config);
    let mut actions = Vec::new();
    let messages = [of_device("abc", 1), of_device("abcd", 1), of_device("abcde", 1)];
    lane.take(&payloads(1, 0, &messages), 1, &mut actions);
    lane.tick(2, &mut actions);
    let letters = &commits(&actions).last().expect("by the clock").letters;
    let reasons: Vec<Reason> = letters.iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, [Reason::InvalidKey, Reason::TooLarge]);
}

#[test]
fn window_holds_as_many_devices_as_allowed_and_rows_come_in_pieces() {
    let mut config = config(0);
    (config.rollup.devices_max, config.rollup.piece_rows_max) = (5, 2);
    let mut lane = running(config);
    let mut actions = Vec::new();
    let messages: Vec<_> = (0..7).map(|device| of_device(&device.to_string(), 1)).collect();
    lane.take(&payloads(1, 0, &messages), 1, &mut actions);
    lane.end(2, &mut actions);
    let commits = commits(&actions);
    let last = commits.last().expect("the end closes the window");
    let pieces: Vec<usize> = last.rows.iter().map(|piece| piece.row_count()).collect();
    assert_eq!(pieces, [2, 2, 1]);
    assert!(last.letters.iter().all(|letter| letter.reason == Reason::DeviceLimit));
    assert_eq!(last.letters.len(), 2);
}

#[test]
fn no_more_windows_are_open_than_the_configuration_was_checked_for() {
    let mut config = config(0);
    config.rollup.max_out_of_orderness = tidemill_kernel::time::DurationMs::from_ms(150_000);
    let open_windows_max = config.rollup.open_windows_max();
    assert_eq!(open_windows_max, 4);
    let mut lane = running(config);
    let (mut actions, mut most) = (Vec::new(), 0);
    // Forward by half a minute, and each time back as far as is not late.
    for step in 0..40_i64 {
        let seconds = step * 30;
        let back =
            [seconds, seconds - 30, seconds - 60, seconds - 90, seconds - 120, seconds - 149];
        let back: Vec<i64> = back.into_iter().filter(|second| *second >= 0).collect();
        lane.take(&entry(1, step as u64, &back), 1, &mut actions);
        most = most.max(lane.open_window_count());
    }
    assert_eq!(most as i64, open_windows_max);
}

#[test]
fn commit_that_the_store_refuses_stops_the_lane_and_nothing_is_taken_any_more() {
    let mut lane = running(config(0));
    let mut actions = Vec::new();
    lane.take(&entry(1, 0, &[1]), 1, &mut actions);
    lane.committed(Err(StoreError::Refused("no such column".into())), &mut actions);
    assert!(lane.is_stopped() && !lane.accepts());
    let before = actions.len();
    lane.take(&entry(1, 1, &[2]), 2, &mut actions);
    lane.tick(1_000, &mut actions);
    assert_eq!(actions.len(), before);
}

#[test]
fn what_was_read_is_committed_after_the_commit_interval_and_not_before() {
    let mut lane = running(LaneConfig { commit_interval_ms: 500, ..config(0) });
    let mut actions = Vec::new();
    lane.take(&entry(1, 0, &[1]), 10, &mut actions);
    for now_ms in [100, 499] {
        lane.tick(now_ms, &mut actions);
        assert_eq!(commits(&actions).len(), 1, "the birth record alone, at {now_ms}");
    }
    lane.tick(500, &mut actions);
    assert_eq!(commits(&actions).len(), 2);
    // Nothing was read since: there is nothing to say.
    lane.committed(Ok(()), &mut actions);
    lane.committed(Ok(()), &mut actions);
    lane.tick(5_000, &mut actions);
    assert_eq!(commits(&actions).len(), 2);
}
