//! The account of a lane's messages.

use core::{iter::Sum, ops::AddAssign};

/// Where each message of a log prefix went. `messages` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// All messages up to the position.
    pub messages: u64,
    /// Folded into windows that are closed.
    pub aggregated: u64,
    /// Folded into windows that are open.
    pub open: u64,
    /// In the dead letters because their window was closed.
    pub late: u64,
    /// In the dead letters for any other reason.
    pub rejected: u64,
    /// Were in open windows when the operator accepted that the log no longer holds them.
    pub lost: u64,
}

impl Ledger {
    /// Returns whether every message is accounted for exactly once.
    pub fn balances(&self) -> bool {
        let counted = self.aggregated + self.open + self.late + self.rejected;
        self.messages == counted + self.lost
    }
}

impl AddAssign for Ledger {
    fn add_assign(&mut self, other: Ledger) {
        self.messages += other.messages;
        self.aggregated += other.aggregated;
        self.open += other.open;
        self.late += other.late;
        self.rejected += other.rejected;
        self.lost += other.lost;
    }
}

impl Sum for Ledger {
    fn sum<I: Iterator<Item = Ledger>>(ledgers: I) -> Ledger {
        ledgers.fold(Ledger::default(), |mut sum, ledger| {
            sum += ledger;
            sum
        })
    }
}
