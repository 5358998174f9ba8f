//! Which of several processes has all partitions: the one that has the first.
//!
//! Exclusive subscriptions are one per partition, so two processes could have some each and wait
//! for the others for ever. Therefore nobody asks for a further partition before it has the first
//! one, and whoever loses the first gives all others back.

use tokio::sync::watch;

/// A partition's part in it.
#[derive(Debug)]
pub(super) enum Gate {
    /// Processes share the partitions; each stands for itself.
    None,
    /// The first partition, which opens and closes the gate.
    First(watch::Sender<bool>),
    /// Any other one.
    Behind(watch::Receiver<bool>),
}

impl Gate {
    /// Returns whether one process has all partitions.
    pub(super) fn is_exclusive(&self) -> bool {
        !matches!(self, Gate::None)
    }

    /// Tells the partitions behind whether this process has the first one.
    pub(super) fn set(&self, open: bool) {
        if let Gate::First(sender) = self {
            sender.send_replace(open);
        }
    }

    /// Waits until this partition may be asked for. Returns false if there is no more to wait for.
    pub(super) async fn opened(&mut self) -> bool {
        match self {
            Gate::Behind(open) => open.wait_for(|open| *open).await.is_ok(),
            _ => true,
        }
    }

    /// Waits until this partition has to be given back.
    pub(super) async fn closed(&mut self) {
        let closed = match self {
            Gate::Behind(open) => open.wait_for(|open| !*open).await.is_ok(),
            _ => false,
        };
        if !closed {
            std::future::pending::<()>().await;
        }
    }
}
