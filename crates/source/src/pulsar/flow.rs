//! How many permits to grant: enough that the partition never waits, few enough that what is on
//! its way or waiting stays below a number of messages and about a number of bytes.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Permits granted before the size of messages is known. The broker takes a permit for an entry
/// until it has seen how many messages entries hold: 1,000 would bring up to 100 whole entries.
const FIRST_PERMITS: u32 = 1;

/// How many bytes each partition may have on its way or waiting: less, the more partitions this
/// process has.
#[derive(Debug)]
pub(super) struct QueueShare {
    partition_bytes_max: u64,
    total_bytes_max: u64,
    partition_count: AtomicU64,
}

impl QueueShare {
    pub(super) fn new(partition_bytes_max: u64, total_bytes_max: u64) -> QueueShare {
        QueueShare { partition_bytes_max, total_bytes_max, partition_count: AtomicU64::new(0) }
    }

    /// Notes that this process got a partition.
    pub(super) fn join(&self) {
        self.partition_count.fetch_add(1, Relaxed);
    }

    /// Notes that this process lost a partition.
    pub(super) fn leave(&self) {
        self.partition_count.fetch_sub(1, Relaxed);
    }

    fn bytes_max(&self) -> u64 {
        let count = self.partition_count.load(Relaxed).max(1);
        self.partition_bytes_max.min(self.total_bytes_max / count)
    }
}

/// The account of one subscription's permits.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    messages_max: u32,
    share: Arc<QueueShare>,
    /// Granted and not used, as the broker counts: it sends whole entries and many at once, so
    /// they may take more than there was, and what they took too much the next grants make up.
    granted: i64,
    /// Delivered and not processed.
    waiting: u32,
    /// Bytes of a message, a moving mean; 0 before the first entry.
    message_bytes: u64,
}

impl Flow {
    pub(super) fn new(messages_max: u32, share: Arc<QueueShare>) -> Flow {
        Flow { messages_max: messages_max.max(1), share, granted: 0, waiting: 0, message_bytes: 0 }
    }

    /// A new subscription: nothing is granted, nothing on its way.
    pub(super) fn reset(&mut self) {
        (self.granted, self.waiting) = (0, 0);
    }

    pub(super) fn delivered(&mut self, permits: u32, bytes: usize) {
        self.granted -= i64::from(permits);
        self.waiting = self.waiting.saturating_add(permits);
        let mean = bytes as u64 / u64::from(permits.max(1));
        self.message_bytes =
            if self.message_bytes == 0 { mean } else { (self.message_bytes * 7 + mean) / 8 };
    }

    pub(super) fn processed(&mut self, permits: u32) {
        self.waiting = self.waiting.saturating_sub(permits);
    }

    /// Returns the permits to grant now, 0 if it is too early.
    pub(super) fn grant(&mut self) -> u32 {
        let permits = self.due();
        self.granted += i64::from(permits);
        permits
    }

    fn due(&self) -> u32 {
        let target = if self.message_bytes == 0 {
            FIRST_PERMITS.min(self.messages_max)
        } else {
            let by_bytes = self.share.bytes_max() / self.message_bytes.max(1);
            u32::try_from(by_bytes).unwrap_or(u32::MAX).clamp(1, self.messages_max)
        };
        let missing = i64::from(target) - self.granted - i64::from(self.waiting);
        // Few large grants, but never none while nothing is on its way.
        if missing <= 0 || (missing < i64::from(target / 4) && self.granted > 0) {
            return 0;
        }
        u32::try_from(missing).unwrap_or(u32::MAX)
    }
}

/// An account that the task of a partition shares with whoever processes its messages, so that
/// the task need not be woken for each entry, only when permits are due.
#[derive(Clone, Debug)]
pub(super) struct SharedFlow(Arc<Mutex<Flow>>);

impl SharedFlow {
    pub(super) fn new(messages_max: u32, share: &Arc<QueueShare>) -> SharedFlow {
        SharedFlow(Arc::new(Mutex::new(Flow::new(messages_max, share.clone()))))
    }

    /// See [`Flow::reset`].
    pub(super) fn reset(&self) {
        self.lock().reset();
    }

    /// See [`Flow::delivered`].
    pub(super) fn delivered(&self, permits: u32, bytes: usize) {
        self.lock().delivered(permits, bytes);
    }

    /// See [`Flow::processed`]; returns whether permits are due.
    pub(super) fn processed(&self, permits: u32) -> bool {
        let mut flow = self.lock();
        flow.processed(permits);
        flow.due() > 0
    }

    /// See [`Flow::grant`].
    pub(super) fn grant(&self) -> u32 {
        self.lock().grant()
    }

    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(bytes: u64) -> Arc<QueueShare> {
        Arc::new(QueueShare::new(bytes, u64::MAX))
    }

    #[test]
    fn partitions_share_what_all_may_have() {
        let share = Arc::new(QueueShare::new(1_000, 4_000));
        let grant = || {
            let mut flow = Flow::new(u32::MAX, share.clone());
            flow.grant();
            flow.delivered(1, 10);
            flow.processed(1);
            flow.grant()
        };
        assert_eq!(grant(), 100);
        (0..8).for_each(|_| share.join());
        assert_eq!(grant(), 50);
        (0..7).for_each(|_| share.leave());
        assert_eq!(grant(), 100);
    }

    #[test]
    fn what_is_on_its_way_stays_within_bytes_and_messages() {
        let mut flow = Flow::new(10_000, share(1 << 20));
        assert_eq!(flow.grant(), 1);
        assert_eq!(flow.grant(), 0);
        flow.delivered(1_000, 1_000 * 1_024);
        // 999 that the broker took too much, and 24 to go on with.
        assert_eq!(flow.grant(), 1_023);
        flow.delivered(24, 24 * 1_024);
        assert_eq!(flow.grant(), 0);
        flow.processed(1_000);
        assert_eq!(flow.grant(), 1_000);
        let mut small = Flow::new(5_000, share(1 << 30));
        small.grant();
        small.delivered(1_000, 10_000);
        assert_eq!(small.grant(), 4_999);
    }

    #[test]
    fn broker_that_sends_whole_entries_never_runs_dry() {
        let mut flow = Flow::new(1_000, share(1 << 30));
        let mut at_broker = i64::from(flow.grant());
        for _ in 0..1_000 {
            assert!(at_broker > 0, "the broker waits for permits and nobody grants any");
            // It reads as many entries as it has permits, at most 100.
            let entries = at_broker.clamp(1, 100) as u32;
            for _ in 0..entries {
                flow.delivered(726, 726 * 500);
                at_broker += i64::from(flow.grant()) - 726;
            }
            flow.processed(entries * 726);
            at_broker += i64::from(flow.grant());
        }
    }

    #[test]
    fn whoever_processes_learns_when_permits_are_due() {
        let flow = SharedFlow::new(1_000, &share(1 << 30));
        flow.grant();
        flow.delivered(1, 500);
        assert_eq!(flow.grant(), 999);
        for _ in 0..2 {
            flow.delivered(100, 50_000);
            assert_eq!(flow.grant(), 0);
            assert!(!flow.processed(100), "most of them are still on their way");
        }
        flow.delivered(100, 50_000);
        assert!(flow.processed(100));
        assert_eq!(flow.grant(), 300);
        flow.delivered(1_000, 500_000);
        assert_eq!(flow.grant(), 0);
        assert!(flow.processed(1), "nothing is on its way");
    }

    #[test]
    fn one_message_larger_than_the_bound_still_flows() {
        let mut flow = Flow::new(10, share(100));
        flow.grant();
        flow.delivered(1, 1_000_000);
        flow.reset();
        assert_eq!(flow.grant(), 1);
        flow.delivered(1, 1_000_000);
        assert_eq!(flow.grant(), 0);
        flow.processed(1);
        assert_eq!(flow.grant(), 1);
    }
}
