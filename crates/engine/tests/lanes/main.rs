//! Lanes driven by hand: to their limits, and through an operator's reset.

mod harness;
mod junction;
mod late;
mod limits;
mod pipeline;
mod reload;
mod reset;
