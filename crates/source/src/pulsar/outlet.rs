//! The way of events from the tasks of the partitions to the engine: in bundles, and at a measured
//! pace.
//!
//! Entries of a stream at its real pace are small and many. If each were passed on by itself, each
//! would put two threads to sleep and wake them, which costs more than what is done with it. So
//! what one turn of the runtime brings is passed on at its end, and after a turn that brought
//! little the runtime rests, so that the next one finds more. It knows nothing of what it passes
//! on but its size.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender},
    },
    time::Duration,
};

use tidemill_engine::port::{Inbox, SourceEvent};

/// So many bytes are passed on before the turn is at its end, for workers that wait for them.
const BUNDLE_BYTES: usize = 256 << 10;
/// A turn that brought so many bytes is not followed by a rest: there is more to do.
const BUSY_BYTES: usize = 512 << 10;
/// How long the runtime rests; no message waits longer for it. With twice as long the sensor job
/// takes an eighth less, with half as long two fifths more (docs/performance.md).
pub(super) const REST: Duration = Duration::from_millis(20);

/// Passes events on; all tasks of a source share it.
pub(super) struct Outlet {
    state: Mutex<State>,
}

struct State {
    /// Whoever asks the source for events gets them from here, unless there is an inbox.
    asked: Sender<SourceEvent>,
    inbox: Option<Arc<dyn Inbox>>,
    /// Nobody wants any more.
    is_closed: bool,
    bundle: Vec<SourceEvent>,
    bundle_bytes: usize,
    /// Bytes of the entries of this turn.
    turn_bytes: usize,
}

impl Outlet {
    pub(super) fn new(asked: Sender<SourceEvent>) -> Outlet {
        Outlet {
            state: Mutex::new(State {
                asked,
                inbox: None,
                is_closed: false,
                bundle: Vec::new(),
                bundle_bytes: 0,
                turn_bytes: 0,
            }),
        }
    }

    /// Passes an event on, an entry at the end of the turn at the latest. Returns false once
    /// nobody wants any more.
    pub(super) fn send(&self, event: SourceEvent) -> bool {
        let mut state = self.lock();
        let bytes = match &event {
            SourceEvent::Entry(_, entry) => entry.buffer.len(),
            // Rare, and somebody may wait for it and have orders then.
            _ => BUSY_BYTES,
        };
        state.bundle.push(event);
        state.bundle_bytes += bytes;
        state.turn_bytes += bytes;
        if state.bundle_bytes >= BUNDLE_BYTES {
            state.pass_on();
        }
        !state.is_closed
    }

    /// Passes on what there is; returns whether the turn brought something, but little.
    pub(super) fn end_turn(&self) -> bool {
        let mut state = self.lock();
        state.pass_on();
        let bytes = std::mem::take(&mut state.turn_bytes);
        (1..BUSY_BYTES).contains(&bytes)
    }

    /// Passes on to this inbox from now on; first what waits at `asked`.
    pub(super) fn attach(&self, inbox: Arc<dyn Inbox>, asked: &Receiver<SourceEvent>) {
        let mut state = self.lock();
        for event in asked.try_iter() {
            state.is_closed |= !inbox.put(event);
        }
        state.inbox = Some(inbox);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.end_turn();
    }
}

impl State {
    fn pass_on(&mut self) {
        self.bundle_bytes = 0;
        for event in self.bundle.drain(..) {
            let wanted = match &self.inbox {
                Some(inbox) => inbox.put(event),
                None => self.asked.send(event).is_ok(),
            };
            self.is_closed |= !wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tidemill_engine::port::Entry;
    use tidemill_kernel::event::Position;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<SourceEvent>>);

    impl Inbox for Kept {
        fn put(&self, event: SourceEvent) -> bool {
            let mut kept = self.0.lock().expect("no panic");
            kept.push(event);
            kept.len() < 6
        }
    }

    fn entry(offset: u64, bytes: usize) -> SourceEvent {
        let (buffer, messages) = (vec![b'x'; bytes].into(), Vec::new());
        let position = Position::new(0, offset, 0);
        SourceEvent::Entry("p".into(), Entry { position, buffer, messages, credit: 1 })
    }

    fn offsets(events: &[SourceEvent]) -> Vec<Option<u64>> {
        let offset = |event: &SourceEvent| match event {
            SourceEvent::Entry(_, entry) => Some(entry.position.offset),
            _ => None,
        };
        events.iter().map(offset).collect()
    }

    #[test]
    fn events_keep_their_order_whoever_takes_them() {
        let (asked, events) = channel();
        let outlet = Outlet::new(asked);
        assert!(!outlet.end_turn());
        assert!(outlet.send(entry(0, 10)));
        assert_eq!(events.try_iter().count(), 0, "before the end of the turn");
        assert!(outlet.end_turn(), "little");
        assert!(outlet.send(SourceEvent::Assigned("p".into())), "at once");
        assert!(outlet.send(entry(1, 10)));
        let kept = Arc::new(Kept::default());
        outlet.attach(kept.clone(), &events);
        assert!(!outlet.end_turn(), "somebody may have orders now");
        assert!(outlet.send(entry(2, BUNDLE_BYTES)), "as much as is passed on at once");
        assert_eq!(kept.0.lock().expect("no panic").len(), 4);
        assert!(outlet.end_turn(), "not yet much");
        assert!(outlet.send(entry(3, BUSY_BYTES)));
        assert!(!outlet.end_turn(), "much");
        assert!(!outlet.send(SourceEvent::End("p".into())), "no more is wanted");
        let found = offsets(&kept.0.lock().expect("no panic"));
        assert_eq!(found, [Some(0), None, Some(1), Some(2), Some(3), None]);
    }
}
