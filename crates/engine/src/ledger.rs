//! The account of a lane's messages, kept by the kernel and stored with each commit.

pub use tidemill_kernel::ledger::Ledger;
