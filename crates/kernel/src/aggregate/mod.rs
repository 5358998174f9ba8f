//! What is kept of values: one file per aggregate.
//!
//! Every state is exact and order-free: any order, split or merge of the same values gives the
//! same result bits. Where a state needs to know whether there was a value at all, the window
//! counts the absent ones; states of sums take 0 for an absent value, which adds exactly nothing.

pub mod coverage;
pub mod first_last;
pub mod majority;
pub mod mean;
pub mod min_max;
pub mod most_frequent;
pub mod sum;
pub mod wide;
